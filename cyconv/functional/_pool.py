"""Maximum and average pooling."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from .. import _settings
from .._geometry import check_gradient
from .._pool_geometry import PoolGeometry, check_divisor, hashable, pool_geometry
from ..kernels import load
from ._arrays import Array, array, channels_last, empty, in_order, ordered, same_dtype

_kernel = load("pooling")
INT64 = np.dtype(np.int64)
#: What reading or writing an element is worth in floating-point operations when the number of threads is chosen.
WORK = 8


class _Plan(NamedTuple):
    geometry: PoolGeometry
    pool: Any
    batched: bool
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    batch: int
    channels: int
    work: int


# typed: 1, 1.0 and True are equal, and only one of them is an int.
@functools.lru_cache(maxsize=1024, typed=True)
def _cached_plan(
    operation: str,
    input_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    average: tuple[Any, Any] | None,
) -> _Plan:
    g = pool_geometry(operation, 2, input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    counts: tuple[Any, Any] = (None, None)
    if average is not None:
        count_include_pad, divisor_override = average
        if not isinstance(count_include_pad, bool):
            raise TypeError(f"{operation}: count_include_pad must be True or False, got {count_include_pad!r}")
        divisor = check_divisor(operation, divisor_override)
        counts = (g.places(0, count_include_pad), g.places(1, count_include_pad))
        if divisor is not None:
            counts = ((divisor,) * g.output[0], (1,) * g.output[1])
    low = tuple(pair[0] for pair in g.padding)
    pool = _kernel.Pool(g.input, g.output, g.kernel, g.stride, low, g.dilation, *counts)
    work = WORK * g.batch * g.channels * g.input[0] * g.input[1]
    return _Plan(g, pool, g.batched, g.input_shape, g.output_shape, g.batch, g.channels, work)


def _plan(
    operation: str,
    input_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    average: tuple[Any, Any] | None = None,
) -> _Plan:
    try:
        return _cached_plan(operation, input_shape, kernel_size, stride, padding, dilation, ceil_mode, average)
    except TypeError:
        if not any(isinstance(value, list) for value in (kernel_size, stride, padding, dilation)):
            raise
    return _cached_plan(
        operation,
        input_shape,
        hashable(kernel_size),
        hashable(stride),
        hashable(padding),
        hashable(dilation),
        ceil_mode,
        average,
    )


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """
    Take the largest value in each window. Padding counts as -inf; a NaN in the window is the result.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size, stride, padding, dilation : int or (int, int)
        `stride` None means `kernel_size`. The padding is at most half of the dilated kernel.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    return_indices : bool
        Return ``(output, indices)``.

    Returns
    -------
    output : ndarray, (N, C, P, Q) or (C, P, Q)
        In the dtype and memory order of `input`.
    indices : ndarray of int64, the same shape
        Where in the flattened H·W plane the maximum stands: the first of equals in row-major order, the last of NaNs;
        -1 for a window that meets no pixel.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.
    """
    x = array(input, "max_pool2d", "input")
    plan = _plan("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    if not plan.batched:
        x = x[np.newaxis]
    x, last = ordered(x)
    out = empty(plan.output_shape, x.dtype, last)
    indices = empty(plan.output_shape, INT64, last) if return_indices else None
    plan.pool.maximum(out, indices, x, plan.batch, plan.channels, last, _settings.threads_for(plan.work))
    if not plan.batched:
        out = out[0]
        indices = None if indices is None else indices[0]
    return out if indices is None else (out, indices)


def max_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_pool2d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, kernel_size, stride, padding, dilation, ceil_mode
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned. Without it the maxima are looked up again, which as a rule is as fast.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    operation = "max_pool2d_backward"
    x = array(input, operation, "input")
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    plan = _plan("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    check_gradient(operation, dy.shape, plan.output_shape if plan.batched else plan.output_shape[1:])
    places = None if indices is None else _places(operation, indices, dy.shape)
    if not plan.batched:
        x, dy = x[np.newaxis], dy[np.newaxis]
        places = None if places is None else places[np.newaxis]
    x, last = ordered(x)
    dy = in_order(dy, last)
    places = None if places is None else in_order(places, last)
    dx = empty(plan.input_shape, x.dtype, last)
    threads = _settings.threads_for(plan.work)
    if plan.pool.maximum_backward(dx, dy, x, places, plan.batch, plan.channels, last, threads):
        raise ValueError(f"{operation}: indices must lie in the plane of {plan.input_shape[2]} x {plan.input_shape[3]}")
    return (dx if plan.batched else dx[0],)


def _places(operation: str, indices: Any, shape: tuple[int, ...]) -> Array:
    places = np.asarray(indices)
    if places.dtype.kind not in "iu":
        raise TypeError(f"{operation}: indices must be integers, got {places.dtype}")
    if places.shape != shape:
        raise ValueError(f"{operation}: indices must have the shape of the output, {shape}, got {places.shape}")
    return np.require(places, dtype=INT64, requirements="A")


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """
    Take the mean of each window. Padding counts as zero.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size, stride, padding : int or (int, int)
        `stride` None means `kernel_size`. The padding is at most half of the kernel.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    count_include_pad : bool
        Whether the places of a window that lie in the padding count in the divisor. What hangs over never does.
    divisor_override : int, optional
        Divide by this instead of the number of places.

    Returns
    -------
    ndarray, (N, C, P, Q) or (C, P, Q), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.
    """
    x = array(input, "avg_pool2d", "input")
    average = (count_include_pad, divisor_override)
    plan = _plan("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode, average)
    if not plan.batched:
        x = x[np.newaxis]
    x, last = ordered(x)
    out = empty(plan.output_shape, x.dtype, last)
    plan.pool.average(out, x, plan.batch, plan.channels, last, _settings.threads_for(plan.work))
    return out if plan.batched else out[0]


def avg_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`avg_pool2d`: each gradient, divided as its window was, is added to its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    operation = "avg_pool2d_backward"
    x = array(input, operation, "input")
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    average = (count_include_pad, divisor_override)
    plan = _plan("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode, average)
    check_gradient(operation, dy.shape, plan.output_shape if plan.batched else plan.output_shape[1:])
    if not plan.batched:
        x, dy = x[np.newaxis], dy[np.newaxis]
    last = not x.flags.c_contiguous and channels_last(x)
    dy = in_order(dy, last)
    dx = empty(plan.input_shape, x.dtype, last)
    plan.pool.average_backward(dx, dy, plan.batch, plan.channels, last, _settings.threads_for(plan.work))
    return (dx if plan.batched else dx[0],)
