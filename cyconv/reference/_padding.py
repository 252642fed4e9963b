"""Padding of arrays, one dimension after the other, and its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ._common import Array
from ._conv import _index_map


def _maps(shape: Sequence[int], pad: Sequence[int], mode: str) -> Iterator[tuple[int, Array]]:
    """Yield each padded axis with the place of the input that each place of the output repeats, or -1."""
    for i in range(len(pad) // 2):
        axis, (low, high) = len(shape) - 1 - i, pad[2 * i : 2 * i + 2]
        wide = _index_map(shape[axis], max(low, 0), max(high, 0), "zeros" if mode == "constant" else mode)
        yield axis, wide[max(-low, 0) : len(wide) - max(-high, 0)]


def pad(input: Array, pad: Sequence[int], mode: str = "constant", value: float | None = 0.0) -> Array:
    """Pad an array: (low, high) of the last dimension, then of the one before it; negative widths take off.

    Parameters
    ----------
    input : ndarray
    pad : sequence of int
    mode : "constant", "reflect", "replicate" or "circular"
    value : float
        What "constant" fills in.

    Returns
    -------
    ndarray, in the dtype of `input`
    """
    x = input
    for axis, index in _maps(input.shape, pad, mode):
        rows = np.full((len(index), *np.moveaxis(x, axis, 0).shape[1:]), value or 0, x.dtype)
        rows[index >= 0] = np.moveaxis(x, axis, 0)[index[index >= 0]]
        x = np.moveaxis(rows, 0, axis)
    return x.copy() if x is input else x


def pad_backward(
    grad_output: Array, input: Array, pad: Sequence[int], mode: str = "constant", value: float | None = 0.0
) -> tuple[Array]:
    """Return (d_input,) of `pad`: each place adds its gradient to that of the pixel it repeats."""
    grad = grad_output.astype(np.promote_types(grad_output.dtype, np.float64))
    for axis, index in _maps(input.shape, pad, mode):
        rows = np.zeros((input.shape[axis], *np.moveaxis(grad, axis, 0).shape[1:]), grad.dtype)
        np.add.at(rows, index[index >= 0], np.moveaxis(grad, axis, 0)[index >= 0])
        grad = np.moveaxis(rows, 0, axis)
    return (grad.astype(input.dtype),)
