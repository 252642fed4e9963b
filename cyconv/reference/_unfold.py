"""Unfold and fold: the windows of a convolution side by side as columns, and columns added back to where they lay.

With R taps in a kernel, tap r = (r_1, r_2, ...) of channel c is row c R + r of the columns; l counts outputs::

    unfold   y[n, c R + r, l]          = x[n, c, s l + d r]          x padded
    fold     x[n, c, s l + d r]       += y[n, c R + r, l]            the adjoint of it, without the padding
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._common import Array, IntOrTuple, batched, per_axis, wide
from ._conv import Padding, _conv_walk, _pad, _taps, _unpad


def _rank(*sizes: IntOrTuple) -> int:
    """How many spatial axes: as many as the first of the arguments that is a sequence has; two where none is."""
    return next((len(size) for size in sizes if isinstance(size, Sequence)), 2)


def unfold(
    input: Array, kernel_size: IntOrTuple, dilation: IntOrTuple = 1, padding: Padding = 0, stride: IntOrTuple = 1
) -> Array:
    """Return the windows of (N, C, *spatial) or (C, *spatial) as columns: (N, C R, L) or (C R, L)."""
    ndim = _rank(kernel_size)
    kernel, x = per_axis(kernel_size, ndim), batched(input, ndim)
    maps, outputs, strides, dilations = _conv_walk(
        x.shape[2:], np.empty((1, 1, *kernel)), stride, padding, dilation, "zeros"
    )
    padded = _pad(x, maps)
    taps = [padded[place] for _, place in _taps(kernel, outputs, strides, dilations)]
    y = np.stack(taps, 2).reshape(len(x), x.shape[1] * math.prod(kernel), math.prod(outputs))
    return y if input.ndim == x.ndim else y[0]


def unfold_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    dilation: IntOrTuple = 1,
    padding: Padding = 0,
    stride: IntOrTuple = 1,
) -> tuple[Array]:
    """Return (d_input,) of `unfold`: fold."""
    sizes = input.shape[-_rank(kernel_size) :]
    return (fold(grad_output, sizes, kernel_size, dilation, padding, stride),)


def fold(
    input: Array,
    output_size: IntOrTuple,
    kernel_size: IntOrTuple,
    dilation: IntOrTuple = 1,
    padding: Padding = 0,
    stride: IntOrTuple = 1,
) -> Array:
    """Add the columns (N, C R, L) or (C R, L) up to images (N, C, *output_size) or (C, *output_size)."""
    ndim = _rank(output_size, kernel_size)
    kernel, sizes = per_axis(kernel_size, ndim), per_axis(output_size, ndim)
    maps, outputs, strides, dilations = _conv_walk(sizes, np.empty((1, 1, *kernel)), stride, padding, dilation, "zeros")
    columns = wide(input if input.ndim == 3 else input[np.newaxis])
    channels = columns.shape[1] // math.prod(kernel)
    taps = columns.reshape(len(columns), channels, math.prod(kernel), *outputs)
    padded = np.zeros((*taps.shape[:2], *map(len, maps)), columns.dtype)
    for r, (_, place) in enumerate(_taps(kernel, outputs, strides, dilations)):
        padded[place] += taps[:, :, r]
    images = _unpad(padded, maps, sizes).astype(input.dtype)
    return images if input.ndim == 3 else images[0]


def fold_backward(
    grad_output: Array,
    input: Array,
    output_size: IntOrTuple,
    kernel_size: IntOrTuple,
    dilation: IntOrTuple = 1,
    padding: Padding = 0,
    stride: IntOrTuple = 1,
) -> tuple[Array]:
    """Return (d_input,) of `fold`: unfold."""
    kernel = per_axis(kernel_size, _rank(output_size, kernel_size))
    return (unfold(grad_output, kernel, dilation, padding, stride),)
