"""Maximum and average pooling in any number of spatial dimensions, with torch's conventions for the border."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ._common import Array, IntOrTuple, per_axis, wide


def _starts(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: bool,
) -> list[range]:
    """Return for each axis where the windows start.

    A window starts at every stride while it fits into the padded input. With `ceil_mode` the last may hang over the
    end, provided that it starts inside the input or the padding before it.
    """
    starts = []
    for size, r, s, pad, d in zip(sizes, kernel, strides, padding, dilations, strict=True):
        end = size + pad - d * (r - 1)
        starts.append(range(-pad, min(end + s - 1, size) if ceil_mode else end, s))
    return starts


def _meeting(starts: range, shift: int, size: int) -> tuple[slice, slice]:
    """Return which windows find a pixel at `shift` from their start, and which pixels those are."""
    met = [p for p, start in enumerate(starts) if 0 <= start + shift < size]
    if not met:
        return slice(0), slice(0)
    first, last = met[0], met[-1]
    return slice(first, last + 1), slice(starts[first] + shift, starts[last] + shift + 1, starts.step)


def _taps(
    sizes: Sequence[int], starts: Sequence[range], kernel: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield for each tap, in row-major order, the windows that meet the input with it, and the pixels they meet."""
    for tap in itertools.product(*map(range, kernel)):
        pairs = [_meeting(start, d * r, size) for start, r, d, size in zip(starts, tap, dilations, sizes, strict=True)]
        yield (..., *(window for window, _ in pairs)), (..., *(pixel for _, pixel in pairs))


def _max_pool(
    input: Array,
    ndim: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> tuple[Array, Array]:
    sizes, kernel, dilations = input.shape[-ndim:], per_axis(kernel_size, ndim), per_axis(dilation, ndim)
    strides = kernel if stride is None else per_axis(stride, ndim)
    starts = _starts(sizes, kernel, strides, per_axis(padding, ndim), dilations, ceil_mode)
    place = np.arange(math.prod(sizes)).reshape(sizes)
    best = np.full((*input.shape[:-ndim], *map(len, starts)), -np.inf, input.dtype)
    winner = np.full(best.shape, -1, np.int64)
    for windows, pixels in _taps(sizes, starts, kernel, dilations):
        value = input[pixels]
        better = (value > best[windows]) | np.isnan(value) | (winner[windows] < 0)
        best[windows] = np.where(better, value, best[windows])
        winner[windows] = np.where(better, place[pixels], winner[windows])
    return best, winner


def _max_pool_backward(
    grad_output: Array,
    input: Array,
    ndim: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    dilation: IntOrTuple,
    ceil_mode: bool,
    indices: Array | None,
) -> tuple[Array]:
    if indices is None:
        _, indices = _max_pool(input, ndim, kernel_size, stride, padding, dilation, ceil_mode)
    pixels = math.prod(input.shape[-ndim:])
    planes = np.arange(math.prod(input.shape[:-ndim])).reshape(*input.shape[:-ndim], *[1] * ndim)
    met = indices >= 0
    dx = np.zeros(input.size, np.promote_types(input.dtype, np.float64))
    np.add.at(dx, (planes * pixels + indices)[met], wide(grad_output)[met])
    return (dx.reshape(input.shape).astype(input.dtype),)


def _divisor(
    sizes: Sequence[int],
    starts: Sequence[range],
    kernel: Sequence[int],
    padding: Sequence[int],
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Return by how much each window's sum is divided.

    The places of the window that lie in the input, or with `count_include_pad` in the padded input: what hangs over by
    `ceil_mode` never counts.
    """
    if divisor_override is not None:
        return np.array(float(divisor_override))
    counts = []
    for size, start, r, pad in zip(sizes, starts, kernel, padding, strict=True):
        low, high = (-pad, size + pad) if count_include_pad else (0, size)
        counts.append(np.array([len(range(max(first, low), min(first + r, high))) for first in start], float))
    return functools.reduce(np.multiply, np.ix_(*counts))


def _avg_pool(
    input: Array,
    ndim: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    sizes, kernel, pads = input.shape[-ndim:], per_axis(kernel_size, ndim), per_axis(padding, ndim)
    strides, ones = kernel if stride is None else per_axis(stride, ndim), (1,) * ndim
    starts = _starts(sizes, kernel, strides, pads, ones, ceil_mode)
    x = wide(input)
    total = np.zeros((*x.shape[:-ndim], *map(len, starts)), x.dtype)
    for windows, pixels in _taps(sizes, starts, kernel, ones):
        total[windows] += x[pixels]
    return (total / _divisor(sizes, starts, kernel, pads, count_include_pad, divisor_override)).astype(input.dtype)


def _avg_pool_backward(
    grad_output: Array,
    input: Array,
    ndim: int,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: IntOrTuple,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> tuple[Array]:
    sizes, kernel, pads = input.shape[-ndim:], per_axis(kernel_size, ndim), per_axis(padding, ndim)
    strides, ones = kernel if stride is None else per_axis(stride, ndim), (1,) * ndim
    starts = _starts(sizes, kernel, strides, pads, ones, ceil_mode)
    share = wide(grad_output) / _divisor(sizes, starts, kernel, pads, count_include_pad, divisor_override)
    dx = np.zeros(input.shape, share.dtype)
    for windows, pixels in _taps(sizes, starts, kernel, ones):
        dx[pixels] += share[windows]
    return (dx.astype(input.dtype),)


def max_pool1d(
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Maximum over windows of (N, C, W) or (C, W); see `max_pool2d`."""
    both = _max_pool(input, 1, kernel_size, stride, padding, dilation, ceil_mode)
    return both if return_indices else both[0]


def max_pool1d_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
) -> tuple[Array]:
    """Return (d_input,) of `max_pool1d`; see `max_pool2d_backward`."""
    return _max_pool_backward(grad_output, input, 1, kernel_size, stride, padding, dilation, ceil_mode, indices)


def max_pool2d(
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Maximum over windows: ``y[n, c, p, q] = max over r, s of x[n, c, stride p + dilation r, stride q + ...]``.

    Padding counts as -inf. A NaN in the window is the result.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, dilation : int or (int, int)
        `stride` is `kernel_size` if None.
    ceil_mode : bool
        Also the last windows, which hang over the bottom and right of the padded input, if they start before its end.
    return_indices : bool

    Returns
    -------
    ndarray, (N, C, P, Q) or (C, P, Q), in the dtype of `input`
    ndarray of int64, the same shape, if `return_indices`
        Where in the flattened H*W plane the maximum stands: the first of equals in row-major order, the last of NaNs,
        as torch; -1 for a window that meets no pixel (its maximum is -inf).
    """
    both = _max_pool(input, 2, kernel_size, stride, padding, dilation, ceil_mode)
    return both if return_indices else both[0]


def max_pool2d_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
) -> tuple[Array]:
    """Return (d_input,) of `max_pool2d`: each gradient is added to the pixel that was the maximum.

    `indices`, if forward kept them, say which that was. `return_indices` changes nothing: it is here because backward
    takes the arguments of forward.
    """
    return _max_pool_backward(grad_output, input, 2, kernel_size, stride, padding, dilation, ceil_mode, indices)


def max_pool3d(
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Array | tuple[Array, Array]:
    """Maximum over windows of (N, C, D, H, W) or (C, D, H, W); see `max_pool2d`."""
    both = _max_pool(input, 3, kernel_size, stride, padding, dilation, ceil_mode)
    return both if return_indices else both[0]


def max_pool3d_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
) -> tuple[Array]:
    """Return (d_input,) of `max_pool3d`; see `max_pool2d_backward`."""
    return _max_pool_backward(grad_output, input, 3, kernel_size, stride, padding, dilation, ceil_mode, indices)


def avg_pool1d(
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean over windows of (N, C, W) or (C, W); see `avg_pool2d`."""
    return _avg_pool(input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool1d_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array]:
    """Return (d_input,) of `avg_pool1d`; see `avg_pool2d_backward`."""
    return _avg_pool_backward(grad_output, input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Mean over windows: their sum, padding counting as zero, divided by the number of their places.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding : int or (int, int)
        `stride` is `kernel_size` if None.
    ceil_mode : bool
        Also the last windows, which hang over the bottom and right of the padded input, if they start before its end.
    count_include_pad : bool
        Whether the places of a window that lie in the padding are counted. What hangs over beyond it never is.
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    ndarray, (N, C, P, Q) or (C, P, Q), in the dtype of `input`
    """
    return _avg_pool(input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool2d_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Array]:
    """Return (d_input,) of `avg_pool2d`: each gradient, divided as its window was, is added to the window's pixels."""
    return _avg_pool_backward(
        grad_output, input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """Mean over windows of (N, C, D, H, W) or (C, D, H, W); see `avg_pool2d`."""
    return _avg_pool(input, 3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d_backward(
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Array]:
    """Return (d_input,) of `avg_pool3d`; see `avg_pool2d_backward`."""
    return _avg_pool_backward(
        grad_output, input, 3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
