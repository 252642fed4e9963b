"""Maximum, average and power-average pooling in any number of spatial dimensions, with torch's conventions for the
border. Each operation is written once, with the number of dimensions as its first argument; `max_pool1d` and its like
are that number filled in. Shapes are (N, C, *spatial) or (C, *spatial)."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._common import Array, IntOrTuple, per_axis, wide


class _Windows(NamedTuple):
    """Where the windows start along each axis, and what lies around the input."""

    sizes: tuple[int, ...]
    starts: list[range]
    kernel: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: list[tuple[int, int]]


def _pads(padding: Any, sizes: Sequence[int], kernel: Any, strides: Any, dilations: Any) -> list[tuple[int, int]]:
    """Return (low, high) for each axis: an int counts on both sides; "same" makes the output ceil(size / stride)."""
    if padding == "valid":
        padding = 0
    if not isinstance(padding, str):
        return [tuple(p) if isinstance(p, Sequence) else (p, p) for p in per_axis(padding, len(sizes))]
    pads = []
    for size, r, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((math.ceil(size / s) - 1) * s + d * (r - 1) + 1 - size, 0)
        pads.append((total // 2, total - total // 2)[:: -1 if padding == "same_lower" else 1])
    return pads


def _windows(
    sizes: Sequence[int],
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None,
    padding: Any,
    dilation: IntOrTuple,
    ceil_mode: bool,
) -> _Windows:
    """A window starts at every stride while it fits into the padded input. With `ceil_mode` the last may hang over the
    end, provided that it starts inside the input or the padding before it."""
    ndim = len(sizes)
    kernel, dilations = per_axis(kernel_size, ndim), per_axis(dilation, ndim)
    strides = kernel if stride is None else per_axis(stride, ndim)
    pads, starts = _pads(padding, sizes, kernel, strides, dilations), []
    for size, r, s, (low, high), d in zip(sizes, kernel, strides, pads, dilations, strict=True):
        end = size + high - d * (r - 1)
        starts.append(range(-low, min(end + s - 1, size) if ceil_mode else end, s))
    return _Windows(tuple(sizes), starts, kernel, dilations, pads)


def _meeting(starts: range, shift: int, size: int) -> tuple[slice, slice]:
    """Return which windows find a pixel at `shift` from their start, and which pixels those are."""
    met = [p for p, start in enumerate(starts) if 0 <= start + shift < size]
    if not met:
        return slice(0), slice(0)
    first, last = met[0], met[-1]
    return slice(first, last + 1), slice(starts[first] + shift, starts[last] + shift + 1, starts.step)


def _taps(w: _Windows) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield for each tap, in row-major order, the windows that meet the input with it, and the pixels they meet."""
    for tap in itertools.product(*map(range, w.kernel)):
        pairs = [
            _meeting(start, d * r, size) for start, r, d, size in zip(w.starts, tap, w.dilations, w.sizes, strict=True)
        ]
        yield (..., *(window for window, _ in pairs)), (..., *(pixel for _, pixel in pairs))


# ------------------------------------------------------------------------------------------------------------- maximum


def max_pool(
    ndim: int,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Any = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maximum over windows: ``y[n, c, p, q] = max over r, s of x[n, c, stride p + dilation r, stride q + ...]``.

    Padding counts as -inf. A NaN in the window is the result.

    Parameters
    ----------
    input : ndarray, (N, C, *spatial) or (C, *spatial)
    kernel_size, stride, dilation : int or sequence of int
        `stride` is `kernel_size` if None.
    padding : int, sequence of int or of (low, high), "valid", "same", "same_lower"
    ceil_mode : bool
        Also the last windows, which hang over the end of the padded input, if they start before its end.
    return_indices : bool

    Returns
    -------
    ndarray, (N, C, *windows) or (C, *windows), in the dtype of `input`
    ndarray of int64, the same shape, if `return_indices`
        Where in the flattened plane or volume the maximum stands: the first of equals in row-major order, the last of
        NaNs, as torch; -1 for a window that meets no pixel (its maximum is -inf).
    """
    w = _windows(input.shape[-ndim:], kernel_size, stride, padding, dilation, ceil_mode)
    place = np.arange(math.prod(w.sizes)).reshape(w.sizes)
    best = np.full((*input.shape[:-ndim], *map(len, w.starts)), -np.inf, input.dtype)
    winner = np.full(best.shape, -1, np.int64)
    for windows, pixels in _taps(w):
        value = input[pixels]
        better = (value > best[windows]) | np.isnan(value) | (winner[windows] < 0)
        best[windows] = np.where(better, value, best[windows])
        winner[windows] = np.where(better, place[pixels], winner[windows])
    return (best, winner) if return_indices else best


def add_at(ndim: int, grad_output: Array, indices: Array, input: Array) -> Array:
    """Return an array like `input` with each gradient added at its index of the flattened plane or volume."""
    pixels = math.prod(input.shape[-ndim:])
    planes = np.arange(math.prod(input.shape[:-ndim])).reshape(*input.shape[:-ndim], *[1] * ndim)
    met = indices >= 0
    dx = np.zeros(input.size, np.promote_types(input.dtype, np.float64))
    np.add.at(dx, (planes * pixels + indices)[met], wide(grad_output)[met])
    return dx.reshape(input.shape).astype(input.dtype)


def max_pool_backward(
    ndim: int,
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Any = 0,
    dilation: IntOrTuple = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
) -> tuple[Array]:
    """Return (d_input,) of `max_pool`: each gradient is added to the pixel that was the maximum.

    `indices`, if forward kept them, say which that was. `return_indices` changes nothing: it is here because backward
    takes the arguments of forward.
    """
    if indices is None:
        _, indices = max_pool(ndim, input, kernel_size, stride, padding, dilation, ceil_mode, True)
    return (add_at(ndim, grad_output, indices, input),)


# ------------------------------------------------------------------------------------------------------------- average


def _divisor(w: _Windows, count_include_pad: bool, divisor_override: int | None) -> Array:
    """Return by how much each window's sum is divided.

    The places of the window that lie in the input, or with `count_include_pad` in the padded input: what hangs over by
    `ceil_mode` never counts. The mean of no place at all is 0 / 1.
    """
    if divisor_override is not None:
        return np.array(float(divisor_override))
    counts = []
    for size, start, r, d, (low, high) in zip(w.sizes, w.starts, w.kernel, w.dilations, w.padding, strict=True):
        inside = range(-low, size + high) if count_include_pad else range(size)
        counts.append(np.array([sum(first + i * d in inside for i in range(r)) for first in start], float))
    places: Array = np.maximum(functools.reduce(np.multiply, np.ix_(*counts)), 1)
    return places


def avg_pool(
    ndim: int,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: IntOrTuple = 1,
) -> Array:
    """Mean over windows: their sum, padding counting as zero, divided by the number of their places.

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode, dilation
        As `max_pool` takes them.
    count_include_pad : bool
        Whether the places of a window that lie in the padding are counted. What hangs over beyond it never is.
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    ndarray, (N, C, *windows) or (C, *windows), in the dtype of `input`
    """
    w = _windows(input.shape[-ndim:], kernel_size, stride, padding, dilation, ceil_mode)
    x = wide(input)
    total = np.zeros((*x.shape[:-ndim], *map(len, w.starts)), x.dtype)
    for windows, pixels in _taps(w):
        total[windows] += x[pixels]
    return (total / _divisor(w, count_include_pad, divisor_override)).astype(input.dtype)


def avg_pool_backward(
    ndim: int,
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: IntOrTuple = 1,
) -> tuple[Array]:
    """Return (d_input,) of `avg_pool`: each gradient, divided as its window was, is added to the window's pixels."""
    w = _windows(input.shape[-ndim:], kernel_size, stride, padding, dilation, ceil_mode)
    share = wide(grad_output) / _divisor(w, count_include_pad, divisor_override)
    dx = np.zeros(input.shape, share.dtype)
    for windows, pixels in _taps(w):
        dx[pixels] += share[windows]
    return (dx.astype(input.dtype),)


# ------------------------------------------------------------------------------------------------------- power average


def _power_sums(ndim: int, input: Array, norm_type: float, how: tuple[Any, ...]) -> tuple[Array, int]:
    """Return the mean of x^p over each window times the window's places, as torch: what hangs over is made up for."""
    places = math.prod(per_axis(how[0], ndim))
    with np.errstate(invalid="ignore"):
        powers = wide(input) ** norm_type
    kernel_size, stride, ceil_mode, padding, dilation = how
    return avg_pool(ndim, powers, kernel_size, stride, padding, ceil_mode, dilation=dilation) * places, places


def lp_pool(
    ndim: int,
    input: Array,
    norm_type: float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: IntOrTuple = 1,
) -> Array:
    """``(sum over the window of x^p)^(1/p)``; with `ceil_mode`, of a window that hangs over the sum counts for as much
    as if it were whole. Powers of negative numbers are what NumPy makes of them."""
    sums, _ = _power_sums(ndim, input, norm_type, (kernel_size, stride, ceil_mode, padding, dilation))
    with np.errstate(invalid="ignore"):
        return (sums ** (1 / norm_type)).astype(input.dtype)


def lp_pool_backward(
    ndim: int,
    grad_output: Array,
    input: Array,
    norm_type: float,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: IntOrTuple = 1,
) -> tuple[Array]:
    """Return (d_input,) of `lp_pool`: dy (sum)^(1/p - 1) x^(p - 1); 0 where the sum is 0, as torch."""
    how = (kernel_size, stride, ceil_mode, padding, dilation)
    sums, places = _power_sums(ndim, input, norm_type, how)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(sums == 0, 0, wide(grad_output) * sums ** (1 / norm_type - 1)) * places
        slope = wide(input) ** (norm_type - 1)
        back = avg_pool_backward(ndim, share, wide(input), kernel_size, stride, padding, ceil_mode, dilation=dilation)
        return (np.where(back[0] == 0, 0, back[0] * slope).astype(input.dtype),)


max_pool1d, max_pool2d, max_pool3d = (functools.partial(max_pool, n) for n in (1, 2, 3))
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = (
    functools.partial(max_pool_backward, n) for n in (1, 2, 3)
)
avg_pool1d, avg_pool2d, avg_pool3d = (functools.partial(avg_pool, n) for n in (1, 2, 3))
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = (
    functools.partial(avg_pool_backward, n) for n in (1, 2, 3)
)
lp_pool1d, lp_pool2d, lp_pool3d = (functools.partial(lp_pool, n) for n in (1, 2, 3))
lp_pool1d_backward, lp_pool2d_backward, lp_pool3d_backward = (functools.partial(lp_pool_backward, n) for n in (1, 2, 3))
