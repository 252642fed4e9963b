"""Convolution and its gradients in float64 by windows and matrix products: what every contender is checked against.

Independent of cyconv, and bounded in memory: output rows are taken in blocks whose windows fill about 64 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .layers import Layer

_BLOCK_BYTES = 64 << 20


def _padded(x: np.ndarray, layer: Layer) -> np.ndarray:
    ph, pw = layer.padding
    return np.pad(x.astype(np.float64), ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def _windows(xp: np.ndarray, layer: Layer, p0: int, p1: int) -> np.ndarray:
    """Every window of output rows p0..p1 of one padded image, as (G, C/G * R * S, rows * Q)."""
    (r, s), (_, q) = layer.kernel, layer.out_size
    sc, sh, sw = xp.strides
    step, dil = layer.stride, layer.dilation
    view = np.lib.stride_tricks.as_strided(
        xp[:, p0 * step :], (layer.c, r, s, p1 - p0, q), (sc, sh * dil, sw * dil, sh * step, sw * step), writeable=False
    )
    return view.reshape(layer.groups, -1, (p1 - p0) * q)


def _row_blocks(layer: Layer) -> Iterator[tuple[int, int]]:
    (r, s), (p, q) = layer.kernel, layer.out_size
    rows = max(1, _BLOCK_BYTES // (8 * layer.c * r * s * q))
    for p0 in range(0, p, rows):
        yield p0, min(p, p0 + rows)


def forward(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y, in float64."""
    p, q = layer.out_size
    w64 = w.astype(np.float64).reshape(layer.groups, layer.k // layer.groups, -1)
    y = np.empty((layer.n, layer.groups, layer.k // layer.groups, p, q))
    for n, image in enumerate(_padded(x, layer)):
        for p0, p1 in _row_blocks(layer):
            y[n, :, :, p0:p1] = (w64 @ _windows(image, layer, p0, p1)).reshape(layer.groups, -1, p1 - p0, q)
    return y.reshape(layer.output_shape) + b.astype(np.float64)[:, None, None]


def backward(layer: Layer, dy: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dw and db, in float64."""
    (r, s), (ph, pw), (h, width) = layer.kernel, layer.padding, layer.size
    _, q = layer.out_size
    step, dil = layer.stride, layer.dilation
    w64 = w.astype(np.float64).reshape(layer.groups, layer.k // layer.groups, -1)
    dy64 = dy.astype(np.float64)
    xp = _padded(x, layer)
    dxp, dw = np.zeros_like(xp), np.zeros_like(w64)
    for n, image in enumerate(xp):
        for p0, p1 in _row_blocks(layer):
            rows = dy64[n, :, p0:p1].reshape(layer.groups, -1, (p1 - p0) * q)
            dw += rows @ _windows(image, layer, p0, p1).transpose(0, 2, 1)
            taps = (w64.transpose(0, 2, 1) @ rows).reshape(layer.c, r, s, p1 - p0, q)
            for i in range(r):
                for j in range(s):
                    top, left = p0 * step + i * dil, j * dil
                    dxp[n, :, top : top + (p1 - p0 - 1) * step + 1 : step, left : left + (q - 1) * step + 1 : step] += (
                        taps[:, i, j]
                    )
    return dxp[:, :, ph : ph + h, pw : pw + width], dw.reshape(layer.weight_shape), dy64.sum((0, 2, 3))


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """max|got - want| / max|want|; infinite where the shapes differ or a NaN hides."""
    if got.shape != want.shape:
        return float("inf")
    error = float(np.max(np.abs(got - want), initial=0.0) / max(np.max(np.abs(want), initial=0.0), 1e-300))
    return error if error == error else float("inf")
