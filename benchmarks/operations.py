"""Pooling, ReLU, batch norm and softmax: the table of what is measured, and the answers in float64 by NumPy."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

EPS = 1e-5  # of batch norm


@dataclass(frozen=True)
class Operation:
    """One operation on one array; pooling has a square window, of the whole map where ``kernel`` is 0."""

    label: str
    group: str
    kind: str
    shape: tuple[int, ...]
    kernel: int = 0
    stride: int = 1
    padding: int = 0

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of a pooling window."""
        return (self.kernel, self.kernel) if self.kernel else (self.shape[2], self.shape[3])

    @property
    def out_shape(self) -> tuple[int, ...]:
        if not self.kind.endswith("_pool"):
            return self.shape
        along = zip(self.shape[2:], self.window, strict=True)
        return (*self.shape[:2], *((h + 2 * self.padding - r) // self.stride + 1 for h, r in along))

    @property
    def geometry(self) -> str:
        text = "x".join(map(str, self.shape))
        if self.kind.endswith("_pool"):
            text += f" {'x'.join(map(str, self.window))} s{self.stride}" + (f" p{self.padding}" if self.padding else "")
        return text

    def numbers(self, direction: str) -> int:
        """How many numbers are read and written at least, whatever a cache keeps: batch norm must read its input twice,
        once for the statistics; backward takes dy, and what else the gradient needs, to dx."""
        x, y = math.prod(self.shape), math.prod(self.out_shape)
        if self.kind == "batch_norm":
            return 3 * x if direction == "forward" else 5 * x
        if direction == "forward":
            return x + y
        # Where maxima stand is a byte each.
        return x + y + {"max_pool": y // 4, "avg_pool": 0, "relu": y, "softmax": y}[self.kind]


GROUPS = ("pooling", "activation", "normalization")


def _table() -> Iterator[Operation]:
    for name, kind, shape, kernel, stride, padding in [
        ("max 2x2 lenet b64", "max_pool", (64, 6, 28, 28), 2, 2, 0),
        ("max 2x2 vgg 64 224 b1", "max_pool", (1, 64, 224, 224), 2, 2, 0),
        ("max 2x2 vgg 64 32 b64", "max_pool", (64, 64, 32, 32), 2, 2, 0),
        ("max 2x2 vgg 512 4 b64", "max_pool", (64, 512, 4, 4), 2, 2, 0),
        ("max 3x3 s2 112 b1", "max_pool", (1, 64, 112, 112), 3, 2, 1),
        ("max 3x3 s2 112 b16", "max_pool", (16, 64, 112, 112), 3, 2, 1),
        ("avg 2x2 128 56 b1", "avg_pool", (1, 128, 56, 56), 2, 2, 0),
        ("avg 2x2 128 56 b16", "avg_pool", (16, 128, 56, 56), 2, 2, 0),
        ("avg 3x3 192 35 b1", "avg_pool", (1, 192, 35, 35), 3, 1, 1),
        ("avg 3x3 192 35 b16", "avg_pool", (16, 192, 35, 35), 3, 1, 1),
        ("avg 7x7 2048 7 b1", "avg_pool", (1, 2048, 7, 7), 7, 7, 0),
        ("avg 7x7 2048 7 b16", "avg_pool", (16, 2048, 7, 7), 7, 7, 0),
        ("global 64 8 b64", "avg_pool", (64, 64, 8, 8), 0, 1, 0),
        ("global 256 56 b16", "avg_pool", (16, 256, 56, 56), 0, 1, 0),
    ]:
        yield Operation(name, "pooling", kind, shape, kernel, stride, padding)
    for name, shape in [
        ("relu lenet b64", (64, 6, 28, 28)),
        ("relu 64 112 b1", (1, 64, 112, 112)),
        ("relu 64 32 b64", (64, 64, 32, 32)),
        ("relu 64 112 b16", (16, 64, 112, 112)),
    ]:
        yield Operation(name, "activation", "relu", shape)
    for name, shape in [
        ("softmax 10 b64", (64, 10)),
        ("softmax 1000 b128", (128, 1000)),
        ("softmax 21 128 b4", (4, 21, 128, 128)),  # of pixels, over their classes
    ]:
        yield Operation(name, "activation", "softmax", shape)
    for name, shape in [
        ("bn 16 32 b64", (64, 16, 32, 32)),
        ("bn 64 8 b64", (64, 64, 8, 8)),
        ("bn 512 4 b64", (64, 512, 4, 4)),
        ("bn 256 14 b16", (16, 256, 14, 14)),
        ("bn 64 112 b16", (16, 64, 112, 112)),
    ]:
        yield Operation(name, "normalization", "batch_norm", shape)


OPERATIONS = tuple(_table())


def select(pattern: str | None, group: str) -> list[Operation]:
    """Operations of this group whose label matches the regular expression."""
    return [x for x in OPERATIONS if x.group == group and re.search(pattern or "", x.label)]


@dataclass(frozen=True)
class Arrays:
    """What one operation works on; ``weight`` and ``bias`` are batch norm's."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def random(cls, operation: Operation, dtype: str, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        sizes = (operation.shape, operation.out_shape, operation.shape[1:2], operation.shape[1:2])
        return cls(*(rng.standard_normal(size, dtype=np.float32).astype(dtype, copy=False) for size in sizes))


def _taps(operation: Operation) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Number of each tap of the window, and what it meets in the padded input."""
    p, q = operation.out_shape[2:]
    step = operation.stride
    for t, (r, s) in enumerate(itertools.product(*map(range, operation.window))):
        rows, columns = (slice(first, first + (n - 1) * step + 1, step) for first, n in ((r, p), (s, q)))
        yield t, (slice(None), slice(None), rows, columns)


def _pooled(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    pad, largest = operation.padding, operation.kind == "max_pool"
    widths = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    xp = np.pad(data.x.astype(np.float64), widths, constant_values=-np.inf if largest else 0)
    best, where = np.full(operation.out_shape, -np.inf), np.zeros(operation.out_shape, np.int32)
    total, count = np.zeros(operation.out_shape), math.prod(operation.window)
    for t, met in _taps(operation):
        if largest:
            where[xp[met] > best] = t
            np.maximum(best, xp[met], out=best)
        else:
            total += xp[met]
    if direction == "forward":
        return (best if largest else total / count,)
    dxp = np.zeros_like(xp)
    for t, met in _taps(operation):
        dxp[met] += np.where(where == t, data.dy, 0) if largest else data.dy / count
    h, w = operation.shape[2:]
    return (dxp[:, :, pad : pad + h, pad : pad + w],)


def _normalized(data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    x, dy = data.x.astype(np.float64), data.dy.astype(np.float64)
    axes, column = (0, 2, 3), (1, -1, 1, 1)
    scale = 1 / np.sqrt(x.var(axes, keepdims=True) + EPS)
    normal = (x - x.mean(axes, keepdims=True)) * scale
    weight, bias = (a.astype(np.float64).reshape(column) for a in (data.weight, data.bias))
    if direction == "forward":
        return (normal * weight + bias,)
    along = (dy * normal).mean(axes, keepdims=True)
    dx = weight * scale * (dy - dy.mean(axes, keepdims=True) - normal * along)
    return dx, (dy * normal).sum(axes), dy.sum(axes)


def answer(operation: Operation, direction: str, data: Arrays) -> tuple[np.ndarray, ...]:
    """The output, or the gradients of the array arguments, in float64."""
    if operation.kind.endswith("_pool"):
        return _pooled(operation, data, direction)
    if operation.kind == "batch_norm":
        return _normalized(data, direction)
    x, dy = data.x.astype(np.float64), data.dy.astype(np.float64)
    if operation.kind == "relu":
        return (np.maximum(x, 0),) if direction == "forward" else (dy * (x > 0),)
    powers = np.exp(x - x.max(1, keepdims=True))
    y = powers / powers.sum(1, keepdims=True)
    return (y,) if direction == "forward" else (y * (dy - (dy * y).sum(1, keepdims=True)),)
