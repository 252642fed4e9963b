"""What all pools share: plans, kept by their arguments, and the ways from arrays to kernels and back."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np

from .. import _settings
from .._geometry import check_gradient
from .._pool_geometry import (
    AdaptiveGeometry,
    PoolGeometry,
    adaptive_geometry,
    flag,
    frozen,
    frozen_windows,
    pool_geometry,
)
from ..kernels import load
from ._activation import relu_backward
from ._arrays import Array, any_array, array, channels_last, empty, in_order, ordered, same_dtype

_kernel = load("pooling")
_gradient = load("pooling_gradient")
_places = load("pooling_places")
INT64 = np.dtype(np.int64)
UINT8 = np.dtype(np.uint8)
#: What reading or writing an element is worth in floating-point operations when the number of threads is chosen.
WORK = 8
#: Plans have tables as long as an axis: of longer ones fewer are kept.
LONG_AXIS = 1 << 16
#: Whether padding counts in an average, and its divisor (0: the number of places).
Average = tuple[bool, int] | None


class Plan:
    """One pool, ready to run."""

    def __init__(self, geometry: PoolGeometry | AdaptiveGeometry, average: Average) -> None:
        g = self.geometry = geometry
        self.batched = g.batched
        self.batch, self.channels = g.batch, g.channels
        self.input_shape, self.output_shape = g.input_shape, g.output_shape
        self.grad_shape = g.output_shape if g.batched else g.output_shape[1:]
        self.work = WORK * g.batch * g.channels * max(int(np.prod(g.input)), int(np.prod(g.output)))
        self._windows: tuple[Any, ...]
        if isinstance(g, PoolGeometry):
            self._windows = (g.input, g.output, g.kernel, g.stride, g.padding, g.dilation)
        else:
            self._windows = (g.input, g.output, None, None, None, None)
        self._average = average
        self.forward = _kernel.Pool(*self._windows, average)

    @functools.cached_property
    def gradient(self) -> Any:
        """The kernel of the gradient."""
        finder = self.forward if self._average is None else None
        return _gradient.PoolGradient(*self._windows, self._average, finder)

    @functools.cached_property
    def places(self) -> Any:
        """The kernel that finds maxima of windows of any kind and their places, and goes back by places."""
        return _places.Windows(*self._windows, self.forward if self.forward.finds_places(False) else None)

    def finder(self, last: bool) -> Any:
        """Return the kernel that finds places fastest."""
        return self.forward if self.forward.finds_places(last) else self.places


def _windows_plan(
    operation: str,
    rank: int,
    shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    average: Average,
) -> Plan:
    return Plan(pool_geometry(operation, rank, shape, kernel_size, stride, padding, dilation, ceil_mode), average)


def _adaptive_plan(operation: str, rank: int, shape: tuple[int, ...], output_size: Any, average: Average) -> Plan:
    return Plan(adaptive_geometry(operation, rank, shape, output_size), average)


_cached = functools.lru_cache(maxsize=1024)(_windows_plan)
_cached_long = functools.lru_cache(maxsize=4)(_windows_plan)
_cached_adaptive = functools.lru_cache(maxsize=256)(_adaptive_plan)
_cached_adaptive_long = functools.lru_cache(maxsize=4)(_adaptive_plan)


def plan(
    operation: str,
    rank: int,
    shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    average: Average = None,
) -> Plan:
    """Return the plan of a pool whose windows are a kernel; the same object for the same arguments."""
    if ceil_mode is not False and ceil_mode is not True:
        flag(operation, "ceil_mode", ceil_mode)
    how = (kernel_size, stride, padding, dilation)
    if type(kernel_size) is not int or type(stride) is not int or type(padding) is not int or type(dilation) is not int:
        try:
            how = (frozen(kernel_size), frozen(stride), frozen(padding), frozen(dilation))
        except TypeError:
            # Integers of other kinds become ints; what is no integer is told so.
            how = frozen_windows(operation, rank, kernel_size, stride, padding, dilation)
    keep = _cached if max(shape, default=0) < LONG_AXIS else _cached_long
    return keep(operation, rank, shape, *how, ceil_mode, average)


def plan_adaptive(operation: str, rank: int, shape: tuple[int, ...], output_size: Any, average: Average = None) -> Plan:
    """Return the plan of a pool with a given output size; the same object for the same arguments."""
    try:
        size = frozen(output_size)
    except TypeError:
        return _adaptive_plan(operation, rank, shape, output_size, average)
    keep = _cached_adaptive if max(shape, default=0) < LONG_AXIS else _cached_adaptive_long
    return keep(operation, rank, shape, size, average)


def maximum(plan: Plan, x: Array, return_indices: bool) -> Any:
    """Return the maxima of ``x``, and where they stand if asked for."""
    if not plan.batched:
        x = x[np.newaxis]
    x, last = ordered(x)
    out = empty(plan.output_shape, x.dtype, last)
    threads = _settings.threads_for(plan.work)
    if not return_indices:
        plan.forward.maximum(out, None, x, plan.batch, plan.channels, last, threads)
        return out if plan.batched else out[0]
    indices = empty(plan.output_shape, INT64, last)
    plan.finder(last).maximum(out, indices, x, plan.batch, plan.channels, last, threads)
    return (out, indices) if plan.batched else (out[0], indices[0])


def maximum_backward(operation: str, plan: Plan, x: Array, grad_output: Any, indices: Any) -> tuple[Array]:
    """Return the gradient of the maxima of ``x``, by ``indices`` or by searching again."""
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    check_gradient(operation, dy.shape, plan.grad_shape)
    if indices is not None:
        return scatter(operation, x, dy, places(operation, indices, dy.shape, "the output"), plan.geometry.input)
    if not plan.batched:
        x, dy = x[np.newaxis], dy[np.newaxis]
    x, last = ordered(x)
    dy = in_order(dy, last)
    dx = empty(plan.input_shape, x.dtype, last)
    back = plan.gradient if plan.forward.goes_back(last) else plan.places
    back.maximum_backward(dx, dy, x, None, plan.batch, plan.channels, last, _settings.threads_for(plan.work))
    return (dx if plan.batched else dx[0],)


#: stride, padding, dilation, ceil_mode
_DEFAULTS = (None, 0, 1, False)


class Maxima:
    """What the gradient of maxima needs of the forward pass: by which tap (a byte each) or at which place they are."""

    __slots__ = ("_codes", "_dtype", "_indices", "_last", "_name", "_output", "_plan", "_source")

    def __init__(self, name: str, plan: Plan, dtype: Any, last: bool) -> None:
        self._name, self._plan, self._dtype, self._last = f"{name}_backward", plan, dtype, last
        self._codes: Array | None = None
        self._indices: Array | None = None
        self._output: Array | None = None
        self._source: Any = None

    def are_of(self, x: Any) -> bool:
        """Whether ``x`` is the array that the function was given."""
        return x is not None and self._source() is x

    def find(self, x: Array, given: Array) -> Array:
        """Return the maxima of ``x``, which is ``given`` batched and in order, and remember where they stand."""
        self._source = weakref.ref(given)
        plan, last = self._plan, self._last
        out = empty(plan.output_shape, x.dtype, last)
        threads = _settings.threads_for(plan.work)
        if plan.forward.finds_codes(last):
            self._codes = empty((out.size,), UINT8)
            plan.forward.coded(out, self._codes, x, plan.batch, plan.channels, last, threads)
        else:
            self._indices = empty(plan.output_shape, INT64, last)
            plan.finder(last).maximum(out, self._indices, x, plan.batch, plan.channels, last, threads)
        self._output = out if plan.batched else out[0]
        return self._output

    def backward(self, grad_output: Any, rectified: bool = False) -> Array:
        """Return the gradient of the input; ``rectified``: and through the ReLU that gave it, which let those maxima
        through that are not 0."""
        plan, last = self._plan, self._last
        dy = array(grad_output, self._name, "grad_output")
        if dy.dtype != self._dtype:
            same_dtype(self._name, grad_output=dy, input=np.empty(0, self._dtype))
        check_gradient(self._name, dy.shape, plan.grad_shape)
        if rectified:
            dy = relu_backward(dy, None, output=self._output)[0]
        dy = in_order(dy if plan.batched else dy[np.newaxis], last)
        dx = empty(plan.input_shape, dy.dtype, last)
        threads = _settings.threads_for(plan.work)
        if self._codes is not None:
            plan.gradient.coded_backward(dx, dy, self._codes, plan.batch, plan.channels, last, threads)
        else:
            plan.places.maximum_backward(dx, dy, None, self._indices, plan.batch, plan.channels, last, threads)
        return dx if plan.batched else dx[0]


def keep_maxima(name: str, input: Any, *arguments: Any) -> tuple[Array, Maxima]:
    """
    Return what the function ``name`` returns, without indices, and what its gradient needs.

    Parameters
    ----------
    name : str
        Of a function that takes maxima: max_pool2d, adaptive_max_pool2d, global_max_pool2d, ...
    input, *arguments
        As that function takes them, up to ``ceil_mode`` or ``output_size``.

    Returns
    -------
    output : ndarray
    kept : Maxima
        ``kept.backward(grad_output)`` is the gradient of the input, which need not be at hand any more.

    Raises
    ------
    TypeError, ValueError
        As that function.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import keep_maxima
    >>> y, kept = keep_maxima("max_pool1d", np.array([[1.0, 5, 2, 3]]), 2)
    >>> y, kept.backward(np.array([[10.0, 20]]))
    (array([[5., 3.]]), array([[ 0., 10.,  0., 20.]]))
    """
    x = array(input, name, "input")
    rank = int(name[-2])
    if name.startswith("max_pool"):
        pool = plan(name, rank, x.shape, *arguments, *_DEFAULTS[len(arguments) - 1 :])
    else:
        pool = plan_adaptive(name, rank, x.shape, *(arguments or (1,)))
    ready, last = ordered(x if pool.batched else x[np.newaxis])
    kept = Maxima(name, pool, x.dtype, last)
    return kept.find(ready, x), kept


def average(plan: Plan, x: Array) -> Array:
    """Return the means of ``x``."""
    if not plan.batched:
        x = x[np.newaxis]
    x, last = ordered(x)
    out = empty(plan.output_shape, x.dtype, last)
    plan.forward.average(out, x, plan.batch, plan.channels, last, _settings.threads_for(plan.work))
    return out if plan.batched else out[0]


def average_backward(operation: str, plan: Plan, x: Array, grad_output: Any) -> tuple[Array]:
    """Return the gradient of the means of ``x``, of which only dtype and memory order matter."""
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    check_gradient(operation, dy.shape, plan.grad_shape)
    if not plan.batched:
        x, dy = x[np.newaxis], dy[np.newaxis]
    last = not x.flags.c_contiguous and channels_last(x)
    dy = in_order(dy, last)
    dx = empty(plan.input_shape, x.dtype, last)
    plan.gradient.average_backward(dx, dy, plan.batch, plan.channels, last, _settings.threads_for(plan.work))
    return (dx if plan.batched else dx[0],)


def places(operation: str, indices: Any, shape: tuple[int, ...], what: str) -> Array:
    """Return ``indices`` as an aligned int64 array of the given shape."""
    found = any_array(indices, operation, "indices")
    if found.dtype.kind not in "iu":
        raise TypeError(f"{operation}: indices must be integers, got {found.dtype}")
    if found.shape != shape:
        raise ValueError(f"{operation}: indices must have the shape of {what}, {shape}, got {found.shape}")
    return np.require(found, dtype=INT64, requirements="A")


def outside(operation: str, sizes: tuple[int, ...]) -> ValueError:
    """Return the error of indices that point nowhere."""
    kind = {1: "row", 2: "plane", 3: "volume"}[len(sizes)]
    return ValueError(f"{operation}: indices must lie in the {kind} of {' x '.join(map(str, sizes))}")


def scatter(operation: str, x: Array, dy: Array, indices: Array, sizes: tuple[int, ...]) -> tuple[Array]:
    """Return an array like ``x`` to which each gradient is added at its index."""
    batched = x.ndim == len(sizes) + 2
    if not batched:
        x, dy, indices = x[np.newaxis], dy[np.newaxis], indices[np.newaxis]
    last = not x.flags.c_contiguous and channels_last(x)
    dy, indices = in_order(dy, last), in_order(indices, last)
    dx = empty(x.shape, x.dtype, last)
    area, out_area = int(np.prod(sizes)), int(np.prod(dy.shape[2:]))
    threads = _settings.threads_for(WORK * dx.size)
    if _places.add_at(dx, dy, indices, area, out_area, x.shape[0], x.shape[1], last, threads):
        raise outside(operation, sizes)
    return (dx if batched else dx[0],)
