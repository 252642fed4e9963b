"""Convolution and its gradients in float64 by windows and matrix products: what every contender is checked against.

Independent of cyconv, and bounded in memory: output rows are taken in blocks whose windows fill about 64 MiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .layers import Layer

_BLOCK_BYTES = 64 << 20
_ALL = slice(None)


def _padded(x: np.ndarray, layer: Layer) -> np.ndarray:
    return np.pad(x.astype(np.float64), ((0, 0), (0, 0), *((pad, pad) for pad in layer.padding)))


def _windows(xp: np.ndarray, layer: Layer, p0: int, p1: int) -> np.ndarray:
    """Every window of output rows p0..p1 of one padded image, as (G, C/G * taps, output pixels).

    A row is what lies at one place of the first spatial dimension: a number of a signal, a plane of a volume.
    """
    out = (p1 - p0, *layer.out_size[1:])
    channel, *along = xp.strides
    taps = (a * d for a, d in zip(along, layer.dilation, strict=True))
    steps = (a * s for a, s in zip(along, layer.stride, strict=True))
    view = np.lib.stride_tricks.as_strided(
        xp[:, p0 * layer.stride[0] :], (layer.c, *layer.kernel, *out), (channel, *taps, *steps), writeable=False
    )
    return view.reshape(layer.groups, -1, math.prod(out))


def _row_blocks(layer: Layer) -> Iterator[tuple[int, int]]:
    p, *rest = layer.out_size
    rows = max(1, _BLOCK_BYTES // (8 * layer.c * math.prod(layer.kernel) * math.prod(rest)))
    for p0 in range(0, p, rows):
        yield p0, min(p, p0 + rows)


def forward(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y, in float64."""
    if layer.transposed:  # the adjoint of its mirror
        y, _, _ = backward(layer.mirror, x, np.zeros(layer.output_shape), w)
        return y + b.astype(np.float64).reshape(-1, *(1,) * layer.rank)
    p, *rest = layer.out_size
    w64 = w.astype(np.float64).reshape(layer.groups, layer.k // layer.groups, -1)
    y = np.empty((layer.n, layer.groups, layer.k // layer.groups, p, *rest))
    for n, image in enumerate(_padded(x, layer)):
        for p0, p1 in _row_blocks(layer):
            y[n, :, :, p0:p1] = (w64 @ _windows(image, layer, p0, p1)).reshape(layer.groups, -1, p1 - p0, *rest)
    return y.reshape(layer.output_shape) + b.astype(np.float64).reshape(-1, *(1,) * layer.rank)


def backward(layer: Layer, dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dw and db, in float64."""
    if layer.transposed:
        mirror = layer.mirror
        _, dw, _ = backward(mirror, x, dy, w)
        db = dy.astype(np.float64).sum((0, *range(2, dy.ndim)))
        return forward(mirror, dy, w, np.zeros(mirror.k)), dw, db
    w64 = w.astype(np.float64).reshape(layer.groups, layer.k // layer.groups, -1)
    dy64 = dy.astype(np.float64)
    xp = _padded(x, layer)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w64)
    for n, image in enumerate(xp):
        for p0, p1 in _row_blocks(layer):
            rows = dy64[n, :, p0:p1].reshape(layer.groups, layer.k // layer.groups, -1)
            dw += rows @ _windows(image, layer, p0, p1).transpose(0, 2, 1)
            out = (p1 - p0, *layer.out_size[1:])
            taps = (w64.transpose(0, 2, 1) @ rows).reshape(layer.c, *layer.kernel, *out)
            for tap in np.ndindex(*layer.kernel):
                first = [i * d for i, d in zip(tap, layer.dilation, strict=True)]
                first[0] += p0 * layer.stride[0]
                met = zip(first, layer.stride, out, strict=True)
                dxp[(n, _ALL, *(slice(f, f + (o - 1) * s + 1, s) for f, s, o in met))] += taps[(_ALL, *tap)]
    inside = (slice(pad, pad + h) for pad, h in zip(layer.padding, layer.size, strict=True))
    return dxp[(_ALL, _ALL, *inside)], dw.reshape(layer.weight_shape), dy64.sum((0, *range(2, dy64.ndim)))


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """max|got - want| / max|want|; infinite where the shapes differ or a NaN hides."""
    if got.shape != want.shape:
        return float("inf")
    error = float(np.max(np.abs(got - want), initial=0.0) / max(np.max(np.abs(want), initial=0.0), 1e-300))
    return error if error == error else float("inf")
