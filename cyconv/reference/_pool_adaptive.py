"""Pooling over windows of unequal size (adaptive, global, fractional), and the way back from maxima to their places.
Each operation is written once, with the number of spatial dimensions as its first argument."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ._common import Array, IntOrTuple, per_axis, wide
from ._pool import add_at

Ranges = Sequence[Sequence[tuple[int, int]]]


def _adaptive(sizes: Sequence[int], output_size: Any) -> Ranges:
    """Window i of P over H pixels reaches from floor(i H / P) to ceil((i + 1) H / P); None: as many as pixels."""
    wanted = [size if p is None else p for size, p in zip(sizes, per_axis(output_size, len(sizes)), strict=True)]
    return [
        [(i * size // p, math.ceil((i + 1) * size / p)) for i in range(p)]
        for size, p in zip(sizes, wanted, strict=True)
    ]


def _each(ranges: Ranges) -> Iterator[tuple[Any, Any, int]]:
    """Yield of each window where it stands in the output, which pixels it has, and how many."""
    for at in itertools.product(*(range(len(axis)) for axis in ranges)):
        spans = [axis[i] for axis, i in zip(ranges, at, strict=True)]
        yield (..., *at), (..., *(slice(*span) for span in spans)), math.prod(end - begin for begin, end in spans)


def _largest(input: Array, ranges: Ranges, out: Any, places: Any) -> None:
    """Maximum of each window, and its place in the flattened input: the first of equals, the last of NaNs."""
    ndim = len(ranges)
    place = np.arange(math.prod(input.shape[-ndim:])).reshape(input.shape[-ndim:])
    for at, cut, pixels in _each(ranges):
        window = input[cut].reshape(*input.shape[:-ndim], pixels)
        nan = np.isnan(window)
        last = window.shape[-1] - 1 - nan[..., ::-1].argmax(-1)
        winner = np.where(nan.any(-1), last, np.where(nan, -np.inf, window).argmax(-1))
        out[at] = np.take_along_axis(window, winner[..., np.newaxis], -1)[..., 0]
        places[at] = place[cut].ravel()[winner]


def adaptive_avg_pool(ndim: int, input: Array, output_size: Any) -> Array:
    """Mean over each of `output_size` windows that cover the input."""
    ranges, x = _adaptive(input.shape[-ndim:], output_size), wide(input)
    out = np.empty((*x.shape[:-ndim], *map(len, ranges)), x.dtype)
    for at, cut, _ in _each(ranges):
        out[at] = x[cut].mean(tuple(range(-ndim, 0)))
    return out.astype(input.dtype)


def adaptive_avg_pool_backward(ndim: int, grad_output: Array, input: Array, output_size: Any) -> tuple[Array]:
    """Return (d_input,): each gradient, divided by the window's pixels, is added to all of them."""
    ranges = _adaptive(input.shape[-ndim:], output_size)
    dx = np.zeros(input.shape, np.promote_types(input.dtype, np.float64))
    for at, cut, pixels in _each(ranges):
        dx[cut] += (wide(grad_output)[at] / pixels)[(..., *[np.newaxis] * ndim)]
    return (dx.astype(input.dtype),)


def adaptive_max_pool(ndim: int, input: Array, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over each of `output_size` windows that cover the input, and where it stands."""
    ranges = _adaptive(input.shape[-ndim:], output_size)
    out = np.empty((*input.shape[:-ndim], *map(len, ranges)), input.dtype)
    places = np.empty(out.shape, np.int64)
    _largest(input, ranges, out, places)
    return (out, places) if return_indices else out


def adaptive_max_pool_backward(
    ndim: int,
    grad_output: Array,
    input: Array,
    output_size: Any,
    return_indices: bool = False,
    *,
    indices: Array | None = None,
) -> tuple[Array]:
    """Return (d_input,): each gradient is added to the pixel that was the maximum."""
    if indices is None:
        _, indices = adaptive_max_pool(ndim, input, output_size, True)
    return (add_at(ndim, grad_output, indices, input),)


def global_avg_pool(ndim: int, input: Array) -> Array:
    """Mean over all pixels of a plane or volume, (N, C, 1, ...)."""
    return adaptive_avg_pool(ndim, input, 1)


def global_avg_pool_backward(ndim: int, grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,) of `global_avg_pool`."""
    return adaptive_avg_pool_backward(ndim, grad_output, input, 1)


def global_max_pool(ndim: int, input: Array, return_indices: bool = False) -> Any:
    """Maximum over all pixels of a plane or volume, (N, C, 1, ...)."""
    return adaptive_max_pool(ndim, input, 1, return_indices)


def global_max_pool_backward(
    ndim: int, grad_output: Array, input: Array, return_indices: bool = False, *, indices: Array | None = None
) -> tuple[Array]:
    """Return (d_input,) of `global_max_pool`."""
    return adaptive_max_pool_backward(ndim, grad_output, input, 1, indices=indices)


# ---------------------------------------------------------------------------------------------------------- fractional


def _starts(sample: Any, size: int, windows: int, kernel: int) -> list[int]:
    """Pseudo-random starts of windows (Graham 2014), from one number in [0, 1), in that number's precision."""
    number = type(sample)
    if windows == 1:
        return [size - kernel]
    alpha = number(size - kernel) / number(windows - 1)
    return [int((number(i) + sample) * alpha) - int(sample * alpha) for i in range(windows - 1)] + [size - kernel]


def fractional_max_pool(
    ndim: int,
    input: Array,
    kernel_size: IntOrTuple,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Maximum over `output_size` windows whose distances change at random; torch's windows for the same samples.

    `_random_samples` is (N, C, ndim) in the dtype of `input`; as torch has it, the first number of a plane belongs to
    the last axis in two dimensions, and to the first axis in three.
    """
    sizes, kernel = input.shape[-ndim:], per_axis(kernel_size, ndim)
    if output_size is None:
        output_size = [int(size * r) for size, r in zip(sizes, per_axis(output_ratio, ndim), strict=True)]
    windows = per_axis(output_size, ndim)
    planes = input.reshape(math.prod(input.shape[:-ndim]), *sizes)
    samples = np.asarray(_random_samples, input.dtype).reshape(len(planes), ndim)
    out = np.empty((len(planes), *windows), input.dtype)
    places = np.empty(out.shape, np.int64)
    for plane, sample, to, where in zip(planes, samples, out, places, strict=True):
        mine = sample[::-1] if ndim == 2 else sample
        ranges = [
            [(start, start + k) for start in _starts(u, size, p, k)]
            for u, size, p, k in zip(mine, sizes, windows, kernel, strict=True)
        ]
        _largest(plane, ranges, to, where)
    shape = (*input.shape[:-ndim], *windows)
    return (out.reshape(shape), places.reshape(shape)) if return_indices else out.reshape(shape)


def fractional_max_pool_backward(
    ndim: int,
    grad_output: Array,
    input: Array,
    kernel_size: IntOrTuple,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    indices: Array | None = None,
) -> tuple[Array]:
    """Return (d_input,): each gradient is added to the pixel that was the maximum."""
    if indices is None:
        how = (kernel_size, output_size, output_ratio, True, _random_samples)
        _, indices = fractional_max_pool(ndim, input, *how)
    return (add_at(ndim, grad_output, indices, input),)


# -------------------------------------------------------------------------------------------------------------- unpool


def max_unpool(
    ndim: int,
    input: Array,
    indices: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Any = None,
) -> Array:
    """Zeros, and each number at its index of the flattened plane or volume; of several the last in row-major order."""
    kernel, pads = per_axis(kernel_size, ndim), per_axis(padding, ndim)
    strides = kernel if stride is None else per_axis(stride, ndim)
    sizes = (
        tuple(output_size)[-ndim:]
        if output_size is not None
        else tuple(
            (p - 1) * s - 2 * pad + k for p, s, pad, k in zip(input.shape[-ndim:], strides, pads, kernel, strict=True)
        )
    )
    out = np.zeros((math.prod(input.shape[:-ndim]), math.prod(sizes)), input.dtype)
    flat = (len(out), math.prod(input.shape[-ndim:]))
    for plane, values, places in zip(out, input.reshape(flat), indices.reshape(flat), strict=True):
        for value, place in zip(values, places, strict=True):
            plane[place] = value
    return out.reshape(*input.shape[:-ndim], *sizes)


def max_unpool_backward(
    ndim: int,
    grad_output: Array,
    input: Array,
    indices: Array,
    kernel_size: IntOrTuple,
    stride: IntOrTuple | None = None,
    padding: IntOrTuple = 0,
    output_size: Any = None,
) -> tuple[Array]:
    """Return (d_input,): the gradient at each index."""
    planes = math.prod(input.shape[:-ndim])
    flat = grad_output.reshape(planes, math.prod(grad_output.shape[-ndim:]))
    places = indices.reshape(planes, math.prod(input.shape[-ndim:]))
    return (np.take_along_axis(flat, places, 1).reshape(input.shape),)


def _by_rank(operation: Any, ranks: Sequence[int] = (1, 2, 3)) -> tuple[Any, ...]:
    return tuple(functools.partial(operation, n) for n in ranks)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = _by_rank(adaptive_avg_pool)
adaptive_avg_pool1d_backward, adaptive_avg_pool2d_backward, adaptive_avg_pool3d_backward = _by_rank(
    adaptive_avg_pool_backward
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = _by_rank(adaptive_max_pool)
adaptive_max_pool1d_backward, adaptive_max_pool2d_backward, adaptive_max_pool3d_backward = _by_rank(
    adaptive_max_pool_backward
)
global_avg_pool1d, global_avg_pool2d, global_avg_pool3d = _by_rank(global_avg_pool)
global_avg_pool1d_backward, global_avg_pool2d_backward, global_avg_pool3d_backward = _by_rank(global_avg_pool_backward)
global_max_pool1d, global_max_pool2d, global_max_pool3d = _by_rank(global_max_pool)
global_max_pool1d_backward, global_max_pool2d_backward, global_max_pool3d_backward = _by_rank(global_max_pool_backward)
fractional_max_pool2d, fractional_max_pool3d = _by_rank(fractional_max_pool, (2, 3))
fractional_max_pool2d_backward, fractional_max_pool3d_backward = _by_rank(fractional_max_pool_backward, (2, 3))
max_unpool1d, max_unpool2d, max_unpool3d = _by_rank(max_unpool)
max_unpool1d_backward, max_unpool2d_backward, max_unpool3d_backward = _by_rank(max_unpool_backward)
