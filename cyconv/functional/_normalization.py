"""Normalisation: batch, instance, group and layer norm, and that of neighbouring channels.

The kernels keep their statistics in double precision; the forward functions return them on request, so that the
backward ones need not take them again.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _settings
from .._geometry import integer, real
from ..kernels import load
from ._activation import MOVE_WORK, like
from ._arrays import Array, array, empty_like, in_order, ordered, same_dtype
from ._twins import gradient_of

_kernel = load("normalization")
#: Mean and biased variance of every set of elements, float64: what forward returns and backward takes.
Statistics = tuple[Array, Array]


class _Sets(NamedTuple):
    """How an array is divided into sets of elements that share a mean, as the kernel takes it."""

    outer: int  # blocks of samples; each has a mean for each group of channels
    samples: int  # in a block
    channels: int
    space: int
    groups: int

    @property
    def size(self) -> int:
        """Elements of a set."""
        return self.samples * self.space * (self.channels // self.groups)


@functools.lru_cache(maxsize=1024)
def _sets(operation: str, shape: tuple[int, ...], samplewise: bool, groups: int = 0) -> _Sets:
    if len(shape) < 2:
        raise ValueError(f"{operation}: input must have shape (N, C, *spatial), got {shape}")
    n, channels = shape[:2]
    outer, samples = (n, 1) if samplewise else (1, n)
    return _Sets(outer, samples, channels, math.prod(shape[2:]), groups or channels)


def _eps(operation: str, eps: Any) -> float:
    return _number(operation, "eps", eps, 0.0)


def _number(operation: str, name: str, value: Any, minimum: float = -math.inf) -> float:
    if type(value) is float and value >= minimum and math.isfinite(value):
        return value
    number = real(operation, name, value)
    if not math.isfinite(number):
        raise ValueError(f"{operation}: {name} must be finite, got {value}")
    if number < minimum:
        raise ValueError(f"{operation}: {name} must be at least {minimum:g}, got {value}")
    return number


def _of_channels(operation: str, name: str, value: Any, x: Array) -> Array | None:
    """Return the values of channels side by side, checked; None for None."""
    if value is None:
        return None
    given = array(value, operation, name)
    if given.dtype is not x.dtype:
        same_dtype(operation, **{"input": x, name: given})
    if given.shape != (x.shape[1],):
        raise ValueError(f"{operation}: {name} must have shape ({x.shape[1]},), got {given.shape}")
    return given if given.flags.c_contiguous else np.ascontiguousarray(given)


def _running(operation: str, name: str, value: Any, x: Array, written: bool) -> Array | None:
    """Return running statistics; where they will be written into, they must be an array that can be."""
    if written and value is not None and not (isinstance(value, np.ndarray) and value.flags.writeable):
        raise TypeError(
            f"{operation}: {name} is updated in place: expected a writeable ndarray, got {type(value).__name__}"
        )
    return _of_channels(operation, name, value, x)


def _statistics_of(sets: _Sets, empty: bool) -> Statistics:
    """Return arrays for mean and variance; those of nothing are 0 and 1."""
    shape = (sets.outer, sets.groups)
    return (np.zeros(shape), np.ones(shape)) if empty else (np.empty(shape), np.empty(shape))


def batch_norm_scale_shift(
    running_mean: Any, running_var: Any, weight: Any, bias: Any, eps: float
) -> tuple[Array, Array]:
    """
    Return what batch norm in eval mode multiplies each channel by, and what it adds.

    With them ``batch_norm(x) = scale x + shift``, so that they can be folded into the weights of a layer before:

        scale = weight / sqrt(running_var + eps),  shift = bias - running_mean scale

    Parameters
    ----------
    running_mean, running_var : ndarray, (C,)
    weight, bias : ndarray, (C,), or None
    eps : float

    Returns
    -------
    scale, shift : ndarray of float64, (C,)
    """
    scale = 1 / np.sqrt(np.asarray(running_var, np.float64) + eps)
    if weight is not None:
        scale = scale * weight
    shift = -np.asarray(running_mean, np.float64) * scale
    return scale, shift if bias is None else shift + bias


# ------------------------------------------------------------------------------------------- statistics of channels


class _Moved(NamedTuple):
    """Running statistics that move towards what is found, as they were given."""

    mean: Any
    variance: Any
    momentum: float


def _reachable(running: Any, x: Array) -> Any:
    """Return running statistics as the kernel can write into them: aligned, in the machine's byte order; or a copy."""
    if running is None or (running.dtype is x.dtype and running.flags.aligned):
        return running
    return running.astype(x.dtype)


def _normalized(x: Array, sets: _Sets, found: Statistics, given: bool, weight: Array | None, bias: Array | None,
                eps: float, last: bool, rectified: bool = False, other: Array | None = None,
                moved: _Moved | None = None) -> Array:  # fmt: skip
    y = empty_like(x)
    if x.size == 0:
        return y
    threads = _settings.threads_for(x.size * MOVE_WORK)
    if moved is None:
        _kernel.normalize(y, x, *found, weight, bias, eps, given, *sets, last, threads, rectified, other)
        return y
    mean, variance = _reachable(moved.mean, x), _reachable(moved.variance, x)
    _kernel.normalize(
        y, x, *found, weight, bias, eps, given, *sets, last, threads, rectified, other, mean, variance, moved.momentum
    )
    for own, used in ((moved.mean, mean), (moved.variance, variance)):
        if own is not used:
            own[...] = used
    return y


def _statistics(x: Array, sets: _Sets, last: bool, statistics: Statistics | None, operation: str) -> Statistics:
    """Return what forward found, or find it again."""
    if statistics is not None:
        return _given_statistics(operation, statistics, (sets.outer, sets.groups))
    found = _statistics_of(sets, x.size == 0)
    if x.size:
        threads = _settings.threads_for(x.size * MOVE_WORK)
        _kernel.normalize(None, x, *found, None, None, 0.0, False, *sets, last, threads)
    return found


def _given_statistics(operation: str, statistics: Any, shape: tuple[int, ...]) -> Statistics:
    mean, variance = statistics
    if not (isinstance(mean, np.ndarray) and isinstance(variance, np.ndarray)) or not (
        mean.dtype == variance.dtype == np.float64 and mean.flags.c_contiguous and variance.flags.c_contiguous
    ):
        mean, variance = (np.ascontiguousarray(values, np.float64) for values in statistics)
    if mean.shape != shape or variance.shape != shape:
        raise ValueError(
            f"{operation}: statistics must be what forward returned, two arrays of shape {shape}, "
            f"got {mean.shape} and {variance.shape}"
        )
    return mean, variance


def _gradient(
    operation: str,
    grad_output: Any,
    x: Array,
    last: bool,
    sets: _Sets,
    found: Statistics,
    given: bool,
    weight: Any,
    bias: Any,
    eps: float,
    input_grad: bool,
    rectified: bool = False,
    out: Any = None,
) -> tuple[Array | None, ...]:
    """Return (d_input[, d_weight][, d_bias]) of everything that has a weight for each channel."""
    dy = in_order(_gradient_of(operation, grad_output, x), last)
    weights, biases = _of_channels(operation, "weight", weight, x), _of_channels(operation, "bias", bias, x)
    # Brought into order, the gradient is a copy, which may be written into as well.
    dx = None if not input_grad else dy if out is not None and dy.flags.writeable else empty_like(x)
    fresh = np.empty if x.size else np.zeros
    dw = None if weights is None else fresh(sets.channels, x.dtype)
    db = None if biases is None else fresh(sets.channels, x.dtype)
    if x.size:
        threads = _settings.threads_for(x.size * 2 * MOVE_WORK)
        _kernel.normalize_backward(
            dx, dw, db, dy, x, *found, weights, biases, eps, given, *sets, last, threads, rectified
        )
    return (dx, *(total for total in (dw, db) if total is not None))


def _gradient_of(operation: str, grad_output: Any, x: Array) -> Array:
    return _fitting(operation, "grad_output", grad_output, x)


def _fitting(operation: str, name: str, value: Any, x: Array) -> Array:
    """Return an array in the shape and dtype of the input."""
    given = array(value, operation, name)
    if given.dtype is not x.dtype:
        same_dtype(operation, **{name: given, "input": x})
    if given.shape != x.shape:
        raise ValueError(f"{operation}: {name} must have the shape of input, {x.shape}, got {given.shape}")
    return given


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
    rectified: bool = False,
    other: Any = None,
) -> Any:
    """
    Normalise each channel: y = (x - mean) / sqrt(variance + eps) · weight + bias.

    In training, mean and (biased) variance are the batch's, over N and space, and the running statistics move towards
    them: ``running = (1 - momentum) running + momentum value``, for the variance with the unbiased value. Else they are
    the running statistics. Ioffe & Szegedy 2015.

    Parameters
    ----------
    input : ndarray, (N, C) or (N, C, *spatial), float32 or float64
    running_mean, running_var : ndarray, (C,), or None
        In the dtype of `input`; in training updated in place, or None.
    weight, bias : ndarray, (C,), optional
    training : bool
    momentum : float
    eps : float, at least 0
    return_statistics : bool
        Return ``(output, statistics)``; the backward function takes them.
    rectified : bool
        Pass the output through a ReLU in the same pass over memory.
    other : ndarray in the shape and dtype of `input`, optional
        Is added to the output, before the ReLU: the end of a residual block. Its gradient is the output's.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    statistics : pair of ndarray
        Mean and biased variance that were used, (1, C), float64.

    Raises
    ------
    TypeError
        An array has the wrong dtype, dtypes differ, or a running statistic cannot be updated.
    ValueError
        Shapes do not fit together, there is one value per channel in training, or no running statistics in eval.

    Notes
    -----
    Sums of a few thousand elements are taken in the dtype of `input`, about their own mean, and put together in
    double precision: in float32 the relative error of the variance is below 1e-6, however large the mean is.

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> batch_norm(x, None, None, training=True, eps=0.0)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    operation = "batch_norm"
    x = array(input, operation, "input")
    sets = _sets(operation, x.shape, False)
    eps, momentum = _eps(operation, eps), _number(operation, "momentum", momentum)
    mean = _running(operation, "running_mean", running_mean, x, training)
    var = _running(operation, "running_var", running_var, x, training)
    weights, biases = _of_channels(operation, "weight", weight, x), _of_channels(operation, "bias", bias, x)
    x, last = ordered(x)
    added = None if other is None else like(_fitting(operation, "other", other, x), x)
    if training:
        _check_count(operation, sets, x)
        found = _statistics_of(sets, x.size == 0)
    else:
        found = _fixed(operation, mean, var)
    moved = _Moved(running_mean, running_var, momentum) if training else None
    y = _normalized(x, sets, found, not training, weights, biases, eps, last, rectified, added, moved)
    return (y, found) if return_statistics else y


def _check_count(operation: str, sets: _Sets, x: Array) -> None:
    if sets.samples * sets.space == 1:
        raise ValueError(
            f"{operation}: expected more than 1 value per channel when training, got input of shape {x.shape}"
        )


def _fixed(operation: str, mean: Array | None, var: Array | None) -> Statistics:
    if mean is None or var is None:
        raise ValueError(f"{operation}: running_mean and running_var must be given where the batch's are not used")
    return mean[np.newaxis].astype(np.float64), var[np.newaxis].astype(np.float64)


@gradient_of(
    batch_norm,
    "F.batch_norm_backward(np.ones((2, 1)), np.eye(2)[:, :1], np.zeros(1), np.ones(1), eps=0.0)[0].tolist()",
    "[[1.0], [1.0]]",
)
def batch_norm_backward(
    grad_output: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    statistics: Statistics | None = None,
    input_grad: bool = True,
    rectified: bool = False,
    out: Any = None,
) -> tuple[Array | None, ...]:
    """
    Return ``(d_input[, d_weight][, d_bias])`` of :func:`batch_norm`; of arguments that are None there is none.

    With x^ = (x - mean) / sqrt(variance + eps), g = dy · weight and means over a channel,
    d_input = (g - mean(g) - x^ mean(g x^)) / sqrt(variance + eps) in training, else g / sqrt(variance + eps).

    Parameters
    ----------
    grad_output : ndarray in the shape and dtype of `input`
    input, running_mean, running_var, weight, bias, training, momentum, eps
        As forward took them; the running statistics are not changed.
    statistics : pair of ndarray, optional
        What forward returned; None: take them again (in training).
    input_grad : bool
        False leaves out d_input, which is None then.
    rectified : bool
        As forward took it: `grad_output` is the gradient of what the ReLU gave. Which elements it let through is
        found again from `input`; not for an output to which `other` was added.
    out : ndarray, optional
        Where to put d_input: `grad_output` itself, if nobody else goes on using it. It is taken where its memory
        order is that of `input`; the array that is returned tells.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output`, `statistics` or `out` do not fit.
    """
    operation = "batch_norm_backward"
    x = array(input, operation, "input")
    if out is not None and out is not grad_output:
        raise ValueError(f"{operation}: out must be grad_output itself, got another array")
    sets = _sets(operation, x.shape, False)
    eps = _eps(operation, eps)
    mean = _running(operation, "running_mean", running_mean, x, False)
    var = _running(operation, "running_var", running_var, x, False)
    x, last = ordered(x)
    if training:
        _check_count(operation, sets, x)
        found = _statistics(x, sets, last, statistics, operation)
    else:
        found = _fixed(operation, mean, var)
    return _gradient(
        operation, grad_output, x, last, sets, found, not training, weight, bias, eps, input_grad, rectified, out
    )


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
) -> Any:
    """
    Normalise each channel of each sample: :func:`batch_norm` with mean and variance over space alone.

    Running statistics move towards the means of the samples' statistics; without `use_input_stats` they are used
    instead of the input's. Ulyanov, Vedaldi & Lempitsky 2016.

    Parameters
    ----------
    input : ndarray, (N, C, *spatial), float32 or float64
    running_mean, running_var, weight, bias : ndarray, (C,), optional
        In the dtype of `input`.
    use_input_stats : bool
    momentum : float
    eps : float, at least 0
    return_statistics : bool
        Return ``(output, statistics)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    statistics : pair of ndarray
        Mean and biased variance that were used, (N, C) or (1, C), float64.

    Raises
    ------
    TypeError
        An array has the wrong dtype, dtypes differ, or a running statistic cannot be updated.
    ValueError
        Shapes do not fit together, there is one spatial element, or no statistics at all.

    Examples
    --------
    >>> instance_norm(np.array([[[1.0, 3.0], [10.0, 30.0]]]), eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    operation = "instance_norm"
    x = array(input, operation, "input")
    sets = _sets(operation, x.shape, bool(use_input_stats))
    eps, momentum = _eps(operation, eps), _number(operation, "momentum", momentum)
    mean = _running(operation, "running_mean", running_mean, x, use_input_stats)
    var = _running(operation, "running_var", running_var, x, use_input_stats)
    weights, biases = _of_channels(operation, "weight", weight, x), _of_channels(operation, "bias", bias, x)
    x, last = ordered(x)
    if use_input_stats:
        _check_space(operation, sets, x)
        found = _statistics_of(sets, x.size == 0)
    else:
        found = _fixed(operation, mean, var)
    moved = _Moved(running_mean, running_var, momentum) if use_input_stats else None
    y = _normalized(x, sets, found, not use_input_stats, weights, biases, eps, last, moved=moved)
    return (y, found) if return_statistics else y


def _check_space(operation: str, sets: _Sets, x: Array) -> None:
    if sets.space == 1:
        raise ValueError(f"{operation}: expected more than 1 spatial element, got input of shape {x.shape}")


@gradient_of(
    instance_norm,
    "F.instance_norm_backward(np.array([[[1.0, 0.0]]]), np.array([[[1.0, 3.0]]]), eps=1.0)[0].round(3).tolist()",
    "[[[0.177, -0.177]]]",
)
def instance_norm_backward(
    grad_output: Any,
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    statistics: Statistics | None = None,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """
    Return ``(d_input[, d_weight][, d_bias])`` of :func:`instance_norm`.

    The formula is that of :func:`batch_norm_backward`, with means over space.
    """
    operation = "instance_norm_backward"
    x = array(input, operation, "input")
    sets = _sets(operation, x.shape, bool(use_input_stats))
    eps = _eps(operation, eps)
    mean = _running(operation, "running_mean", running_mean, x, False)
    var = _running(operation, "running_var", running_var, x, False)
    x, last = ordered(x)
    if use_input_stats:
        _check_space(operation, sets, x)
        found = _statistics(x, sets, last, statistics, operation)
    else:
        found = _fixed(operation, mean, var)
    return _gradient(operation, grad_output, x, last, sets, found, not use_input_stats, weight, bias, eps, input_grad)


def _groups(operation: str, x: Array, num_groups: Any) -> _Sets:
    groups = integer(operation, "num_groups", num_groups, 1)
    sets = _sets(operation, x.shape, True, groups)
    if sets.channels % groups:
        raise ValueError(f"{operation}: num_groups must divide the {sets.channels} channels of input, got {groups}")
    if sets.outer * sets.size == 1:
        raise ValueError(f"{operation}: expected more than 1 value per channel, got input of shape {x.shape}")
    return sets


def group_norm(
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
) -> Any:
    """
    Normalise each group of neighbouring channels of each sample, over its channels and space.

    y = (x - mean) / sqrt(variance + eps) · weight + bias, the last two for each channel. Wu & He 2018.

    Parameters
    ----------
    input : ndarray, (N, C) or (N, C, *spatial), float32 or float64
    num_groups : int
        Divides C.
    weight, bias : ndarray, (C,), optional
        In the dtype of `input`.
    eps : float, at least 0
    return_statistics : bool
        Return ``(output, statistics)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    statistics : pair of ndarray
        Mean and biased variance, (N, num_groups), float64.

    Raises
    ------
    TypeError
        An array has the wrong dtype, or the dtypes differ.
    ValueError
        Shapes do not fit together, or all there is to normalise is one value.

    Examples
    --------
    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), 2, eps=0.0)
    array([[-1.,  1., -1.,  1.]])
    """
    operation = "group_norm"
    x = array(input, operation, "input")
    sets = _groups(operation, x, num_groups)
    eps = _eps(operation, eps)
    weights, biases = _of_channels(operation, "weight", weight, x), _of_channels(operation, "bias", bias, x)
    x, last = ordered(x)
    found = _statistics_of(sets, x.size == 0)
    y = _normalized(x, sets, found, False, weights, biases, eps, last)
    return (y, found) if return_statistics else y


@gradient_of(
    group_norm,
    "F.group_norm_backward(np.array([[1.0, 0.0]]), np.array([[1.0, 3.0]]), 1, eps=1.0)[0].round(3).tolist()",
    "[[0.177, -0.177]]",
)
def group_norm_backward(
    grad_output: Any,
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    statistics: Statistics | None = None,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """
    Return ``(d_input[, d_weight][, d_bias])`` of :func:`group_norm`.

    The formula is that of :func:`batch_norm_backward`, with means over a group.
    """
    operation = "group_norm_backward"
    x = array(input, operation, "input")
    sets = _groups(operation, x, num_groups)
    eps = _eps(operation, eps)
    x, last = ordered(x)
    found = _statistics(x, sets, last, statistics, operation)
    return _gradient(operation, grad_output, x, last, sets, found, False, weight, bias, eps, input_grad)
