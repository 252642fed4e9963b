"""Pooling, activations, norms, shuffles, resizing: the table of what is measured, and the answers in float64."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

EPS = 1e-5  # of norms
NORMS = ("batch_norm", "batch_norm_relu", "group_norm", "layer_norm")
RESIZES = ("nearest", "bilinear")
MOVES = ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
LINEAR = ("linear", "linear_relu")
DROPPED = 0.5  # of what dropout gets


@dataclass(frozen=True)
class Operation:
    """One operation on one array; pooling has a square window, of the whole map where ``kernel`` is 0. That of others
    is their number: of groups, of a linear layer's outputs, or the factor of a shuffle or a resize."""

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
        if self.kind in ("pixel_shuffle", "pixel_unshuffle", *RESIZES):
            r, (n, c, h, w) = self.kernel, self.shape
            if self.kind == "pixel_unshuffle":
                return (n, c * r * r, h // r, w // r)
            return (n, c if self.kind in RESIZES else c // r**2, h * r, w * r)
        if self.kind in LINEAR:
            return (*self.shape[:-1], self.kernel)
        if self.kind == "cross_entropy":
            return ()
        if not self.kind.endswith("_pool"):
            return self.shape
        along = zip(self.shape[2:], self.window, strict=True)
        return (*self.shape[:2], *((h + 2 * self.padding - r) // self.stride + 1 for h, r in along))

    @property
    def geometry(self) -> str:
        text = "x".join(map(str, self.shape))
        if self.kind.endswith("_pool"):
            text += f" {'x'.join(map(str, self.window))} s{self.stride}" + (f" p{self.padding}" if self.padding else "")
        elif self.kernel:
            text += f" by {self.kernel}"
        return text

    def numbers(self, direction: str) -> int:
        """How many numbers are read and written at least, whatever a cache keeps: batch norm must read its input twice,
        once for the statistics; backward takes dy, and what else the gradient needs, to dx. Masks have bytes."""
        x, y = math.prod(self.shape), math.prod(self.out_shape)
        if self.kind in NORMS:
            return 3 * x if direction == "forward" else 5 * x
        if self.kind in LINEAR:  # the weights, and their gradient
            each = self.shape[-1] * self.kernel
            return x + y + each if direction == "forward" else 2 * (x + each) + y
        if self.kind == "dropout":
            return 2 * x + x // 4
        if self.kind == "cross_entropy":
            return x if direction == "forward" else 2 * x
        if direction == "forward":
            return x + y + (x if self.kind == "add_relu" else 0)
        if self.kind in (*MOVES, *RESIZES, "avg_pool"):
            return x + y
        # Where maxima stand is a byte each.
        return x + y + (y // 4 if self.kind == "max_pool" else y)


GROUPS = ("pooling", "activation", "normalization", "moving", "linear")


def _table() -> Iterator[Operation]:
    for name, kind, shape, kernel, stride, padding in [
        ("max 2x2 lenet b64", "max_pool", (64, 6, 28, 28), 2, 2, 0),
        ("max 2x2 vgg 64 224 b1", "max_pool", (1, 64, 224, 224), 2, 2, 0),
        ("max 2x2 vgg 64 32 b64", "max_pool", (64, 64, 32, 32), 2, 2, 0),
        ("max 2x2 vgg 512 4 b64", "max_pool", (64, 512, 4, 4), 2, 2, 0),
        ("max 2x2 lenet 16 8 b64", "max_pool", (64, 16, 8, 8), 2, 2, 0),
        ("max 3x3 28 b4", "max_pool", (4, 256, 28, 28), 3, 1, 1),
        ("max 3x3 s2 alexnet 55 b4", "max_pool", (4, 64, 55, 55), 3, 2, 0),
        ("max 3x3 s2 112 b1", "max_pool", (1, 64, 112, 112), 3, 2, 1),
        ("max 3x3 s2 112 b16", "max_pool", (16, 64, 112, 112), 3, 2, 1),
        ("avg 2x2 128 56 b1", "avg_pool", (1, 128, 56, 56), 2, 2, 0),
        ("avg 2x2 128 56 b16", "avg_pool", (16, 128, 56, 56), 2, 2, 0),
        ("avg 3x3 192 35 b1", "avg_pool", (1, 192, 35, 35), 3, 1, 1),
        ("avg 3x3 192 35 b16", "avg_pool", (16, 192, 35, 35), 3, 1, 1),
        ("avg 3x3 s2 64 56 b4", "avg_pool", (4, 64, 56, 56), 3, 2, 1),
        ("avg 8x8 256 56 b4", "avg_pool", (4, 256, 56, 56), 8, 8, 0),
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
    for name, kind, shape in [
        ("gelu 64 56 b16", "gelu", (16, 64, 56, 56)),
        ("silu 64 56 b16", "silu", (16, 64, 56, 56)),
        ("add relu 64 32 b64", "add_relu", (64, 64, 32, 32)),
    ]:
        yield Operation(name, "activation", kind, shape)
    for name, shape in [
        ("softmax 10 b64", (64, 10)),
        ("softmax 1000 b128", (128, 1000)),
        ("softmax 21 128 b4", (4, 21, 128, 128)),  # of pixels, over their classes
    ]:
        yield Operation(name, "activation", "softmax", shape)
    for name, kind, shape in [
        ("log softmax 10 b64", "log_softmax", (64, 10)),
        ("log softmax 1000 b128", "log_softmax", (128, 1000)),
        ("log softmax 21 128 b4", "log_softmax", (4, 21, 128, 128)),
        ("cross entropy 10 b64", "cross_entropy", (64, 10)),
        ("cross entropy 1000 b128", "cross_entropy", (128, 1000)),
        ("cross entropy 21 128 b4", "cross_entropy", (4, 21, 128, 128)),
        ("dropout 4096 b64", "dropout", (64, 4096)),
        ("dropout 64 32 b64", "dropout", (64, 64, 32, 32)),
    ]:
        yield Operation(name, "activation", kind, shape)
    for name, shape in [
        ("bn 16 32 b64", (64, 16, 32, 32)),
        ("bn 64 8 b64", (64, 64, 8, 8)),
        ("bn 512 4 b64", (64, 512, 4, 4)),
        ("bn 256 14 b16", (16, 256, 14, 14)),
        ("bn 64 112 b16", (16, 64, 112, 112)),
    ]:
        yield Operation(name, "normalization", "batch_norm", shape)
    yield Operation("bn relu 64 32 b64", "normalization", "batch_norm_relu", (64, 64, 32, 32))
    for name, kind, shape, number in [
        ("gn 32 64 56 b16", "group_norm", (16, 64, 56, 56), 32),
        ("gn 32 256 14 b16", "group_norm", (16, 256, 14, 14), 32),
        ("ln 256 b64", "layer_norm", (64, 128, 256), 0),
    ]:
        yield Operation(name, "normalization", kind, shape, number)
    for name, kind, shape, number in [
        ("pixel shuffle 64 56 b16", "pixel_shuffle", (16, 64, 56, 56), 2),
        ("pixel unshuffle 16 112 b16", "pixel_unshuffle", (16, 16, 112, 112), 2),
        ("channel shuffle 64 56 b16", "channel_shuffle", (16, 64, 56, 56), 4),
        ("nearest 64 56 b4", "nearest", (4, 64, 56, 56), 2),
        ("bilinear 64 56 b4", "bilinear", (4, 64, 56, 56), 2),
    ]:
        yield Operation(name, "moving", kind, shape, number)
    for net, features, outputs in [
        ("lenet f1", 400, 120),
        ("lenet f3", 84, 10),
        ("alexnet f1", 9216, 4096),
        ("alexnet f3", 4096, 1000),
        ("vgg f1", 25088, 4096),
    ]:
        for batch in (1, 64):
            kind = "linear" if net.endswith("f3") else "linear_relu"
            yield Operation(f"{net} b{batch}", "linear", kind, (batch, features), outputs)


OPERATIONS = tuple(_table())


def select(pattern: str | None, group: str) -> list[Operation]:
    """Operations of this group whose label matches the regular expression."""
    return [x for x in OPERATIONS if x.group == group and re.search(pattern or "", x.label)]


@dataclass(frozen=True)
class Arrays:
    """What one operation works on; ``weight`` and ``bias`` are a norm's or a linear layer's. What ``add_relu`` adds is
    ``dy``."""

    x: np.ndarray
    dy: np.ndarray
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def random(cls, operation: Operation, dtype: str, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        each = operation.shape[-1:] if operation.kind == "layer_norm" else operation.shape[1:2]
        sizes = (operation.shape, operation.out_shape, each, each)
        if operation.kind in LINEAR:
            sizes = (*sizes[:2], (operation.kernel, operation.shape[-1]), (operation.kernel,))
        made = cls(*(np.asarray(rng.standard_normal(size, dtype=np.float32), dtype) for size in sizes))
        if operation.kind in ("batch_norm_relu", "linear_relu"):
            # No gradient where rounding decides whether the ReLU lets it through.
            y = answer(replace(operation, kind=operation.kind.removesuffix("_relu")), "forward", made)[0]
            made.dy[np.abs(y) < 1e-4 * np.abs(y).max()] = 0
        return made


def labels(operation: Operation) -> np.ndarray:
    """The classes that cross-entropy is told, one for each sample or pixel."""
    samples = (operation.shape[0], *operation.shape[2:])
    return np.random.default_rng(1).integers(0, operation.shape[1], samples)


def kept(operation: Operation) -> np.ndarray:
    """The mask of a gradient of dropout."""
    return np.random.default_rng(1).random(operation.shape, np.float32) >= DROPPED


def undropped(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """What can be foreseen of dropout's result: how what it keeps is scaled, and whether it keeps about its share."""
    share, slack = np.mean(y != 0), 5 * math.sqrt(DROPPED * (1 - DROPPED) / y.size)
    return np.where(y == 0, x / (1 - DROPPED), y), np.array(float(abs(share - (1 - DROPPED)) <= slack))


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


def _normalized(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    # Seen as (N, groups, channels of one, space), or (rows, elements); `axes` have a mean in common, `summed` a weight.
    shape = operation.shape
    if operation.kind == "layer_norm":
        seen, column = (-1, shape[-1]), (1, -1)
        axes, summed = (1,), (0,)
    else:
        groups = operation.kernel or shape[1]
        seen, column = (shape[0], groups, shape[1] // groups, -1), (1, groups, -1, 1)
        axes, summed = (2, 3) if operation.kind == "group_norm" else (0, 2, 3), (0, 3)
    x, dy = (a.astype(np.float64).reshape(seen) for a in (data.x, data.dy))
    scale = 1 / np.sqrt(x.var(axes, keepdims=True) + EPS)
    normal = (x - x.mean(axes, keepdims=True)) * scale
    weight, bias = (a.astype(np.float64).reshape(column) for a in (data.weight, data.bias))
    y = normal * weight + bias
    if operation.kind.endswith("_relu"):
        dy, y = dy * (y > 0), np.maximum(y, 0)
    if direction == "forward":
        return (y.reshape(shape),)
    g = dy * weight
    dx = scale * (g - g.mean(axes, keepdims=True) - normal * (g * normal).mean(axes, keepdims=True))
    return dx.reshape(shape), (dy * normal).sum(summed).ravel(), dy.sum(summed).ravel()


def _moved(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    """Shuffles, by axes that change places."""
    n, c, h, w = operation.shape
    r, kind = operation.kernel, operation.kind
    if kind == "channel_shuffle":
        seen, order = (n, r, c // r, h, w), (0, 2, 1, 3, 4)
    elif kind == "pixel_shuffle":
        seen, order = (n, c // r**2, r, r, h, w), (0, 1, 4, 2, 5, 3)
    else:
        seen, order = (n, c, h // r, r, w // r, r), (0, 1, 3, 5, 2, 4)
    if direction == "forward":
        return (data.x.reshape(seen).transpose(order).reshape(operation.out_shape),)
    dy = data.dy.reshape([seen[axis] for axis in order])
    return (dy.transpose(np.argsort(order)).reshape(operation.shape),)


def _resized(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    """By a matrix for the rows and one for the columns: what each pixel of the output takes from those of the input."""

    def shares(size: int) -> np.ndarray:
        at = (np.arange(size * operation.kernel) + 0.5) / operation.kernel - 0.5
        if operation.kind == "nearest":
            return np.eye(size)[np.rint(at).astype(int)]
        at = at.clip(0, size - 1)
        return np.maximum(0, 1 - np.abs(at[:, np.newaxis] - np.arange(size)))

    rows, columns = shares(operation.shape[2]), shares(operation.shape[3])
    if direction == "forward":
        return (rows @ data.x.astype(np.float64) @ columns.T,)
    return (rows.T @ data.dy.astype(np.float64) @ columns,)


def _unit(kind: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An activation and its derivative at x."""
    if kind == "relu":
        return np.maximum(x, 0), x > 0
    if kind == "silu":
        share = 1 / (1 + np.exp(-x))
        return x * share, share * (1 + x * (1 - share))
    share = special.ndtr(x)
    return x * share, share + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _classified(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    """Softmax, its logarithm, and the mean of cross-entropies."""
    x, dy = data.x.astype(np.float64), data.dy.astype(np.float64)
    shifted = x - x.max(1, keepdims=True)
    logarithm = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    y = np.exp(logarithm)
    if operation.kind == "softmax":
        return (y,) if direction == "forward" else (y * (dy - (dy * y).sum(1, keepdims=True)),)
    if operation.kind == "log_softmax":
        return (logarithm,) if direction == "forward" else (dy - y * dy.sum(1, keepdims=True),)
    right = np.moveaxis(np.eye(x.shape[1])[labels(operation)], -1, 1)
    samples = x.size // x.shape[1]
    if direction == "forward":
        return (-(logarithm * right).sum() / samples,)
    return (dy * (y - right) / samples,)


def _multiplied(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    """A linear layer, followed by a ReLU or not."""
    x, dy, w = (a.astype(np.float64) for a in (data.x, data.dy, data.weight))
    if direction == "forward" or operation.kind == "linear_relu":
        y = x @ w.T + data.bias.astype(np.float64)
        if operation.kind == "linear_relu":
            dy, y = dy * (y > 0), np.maximum(y, 0)
    return (y,) if direction == "forward" else (dy @ w, dy.T @ x, dy.sum(0))


def _dropped(operation: Operation, data: Arrays, direction: str) -> tuple[np.ndarray, ...]:
    if direction == "forward":
        return data.x.astype(np.float64) / (1 - DROPPED), np.array(1.0)
    return (data.dy.astype(np.float64) * kept(operation) / (1 - DROPPED),)


def answer(operation: Operation, direction: str, data: Arrays) -> tuple[np.ndarray, ...]:
    """The output, or the gradients of the array arguments, in float64."""
    if operation.kind.endswith("_pool"):
        return _pooled(operation, data, direction)
    if operation.kind in NORMS:
        return _normalized(operation, data, direction)
    if operation.kind in MOVES:
        return _moved(operation, data, direction)
    if operation.kind in RESIZES:
        return _resized(operation, data, direction)
    if operation.kind in ("softmax", "log_softmax", "cross_entropy"):
        return _classified(operation, data, direction)
    if operation.kind in LINEAR:
        return _multiplied(operation, data, direction)
    if operation.kind == "dropout":
        return _dropped(operation, data, direction)
    x, dy = data.x.astype(np.float64), data.dy.astype(np.float64)
    added = operation.kind == "add_relu"
    y, slope = _unit("relu", x + dy) if added else _unit(operation.kind, x)
    return (y,) if direction == "forward" else (dy * slope,)
