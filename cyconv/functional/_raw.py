"""Convolution and pooling for callers that hold pointers: every check on numbers alone, and the kernels to call."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._geometry import (
    ALGORITHMS,
    check_conv_channels,
    check_total,
    conv_geometry,
    integer,
    physical_memory,
)
from .._pool_geometry import AdaptiveGeometry, PoolGeometry, check_divisor
from . import _pool
from ._conv import engine

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
#: Taps of a kernel, and taps times input channels of a group, for which tables are made. Where arrays are at hand,
#: their memory is bound enough; here nothing else is.
MOST_TAPS, MOST_TERMS = 1 << 22, 1 << 26
#: Windows along an axis, for each of which pooling has entries in tables.
MOST_WINDOWS = 1 << 24

Numbers = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class ConvWalks(NamedTuple):
    """What computes one convolution: (images, kernel) of each pass."""

    geometry: Any
    algorithm: str
    forward: tuple[int, Any]
    input_gradient: tuple[int, Any]
    weight_gradient: tuple[int, Any]
    mirrored: bool  #: the input gradient takes the taps in reverse order


class PoolWalk(NamedTuple):
    """What computes one pooling operation."""

    geometry: PoolGeometry | AdaptiveGeometry
    kernels: tuple[Any, Any, Any, Any]  #: values, values and indices; gradients by values, by indices
    work: int


def _flag(operation: str, argument: str, value: int) -> bool:
    if value not in (0, 1):
        raise ValueError(f"{operation}: {argument} must be 0 or 1, got {value}")
    return bool(value)


def _choice(operation: str, argument: str, value: int, choices: tuple[Any, ...]) -> Any:
    if not 0 <= value < len(choices):
        raise ValueError(f"{operation}: {argument} must be one of 0 to {len(choices) - 1}, got {value}")
    return choices[value]


def _rank(operation: str, rank: int) -> int:
    if rank not in (1, 2, 3):
        raise ValueError(f"{operation}: rank must be 1, 2 or 3, got {rank}")
    return rank


def _padded(input: Numbers, padding: Pairs) -> Numbers:
    return tuple(length + low + high for length, (low, high) in zip(input, padding, strict=True))


def _check_taps(operation: str, kernel: Numbers, channels: int) -> None:
    taps = math.prod(kernel)
    if taps > MOST_TAPS or taps * channels > MOST_TERMS:
        raise MemoryError(
            f"{operation}: a kernel of shape {kernel} over {channels} channels has more than {MOST_TAPS} taps or "
            f"{MOST_TERMS} terms"
        )


def conv_walks(
    *,
    rank: int,
    batch: int,
    in_channels: int,
    out_channels: int,
    groups: int,
    input: Numbers,
    kernel: Numbers,
    stride: Numbers,
    dilation: Numbers,
    padding: Pairs,
    dtype: int,
    channels_last: int,
    algorithm: int,
    keep_weights: int,
) -> ConvWalks:
    """
    Check the numbers of a convolution, choose its algorithm as ``convNd`` does, and return its kernels.

    Raises
    ------
    ValueError
        A number is not possible, or the algorithm cannot compute this convolution, or runs in Python.
    MemoryError
        An array of these sizes could not be addressed, or its weights do not fit into this machine.
    """
    operation = f"conv{_rank('convolution', rank)}d"
    real = _choice(operation, "dtype", dtype, DTYPES)
    last = _flag(operation, "channels_last", channels_last)
    name = _choice(operation, "algorithm", algorithm, ALGORITHMS[:-1])
    fresh = not _flag(operation, "keep_weights", keep_weights)
    integer(operation, "batch", batch, 0)
    check_conv_channels(operation, in_channels, out_channels, groups)
    for size in kernel:
        integer(operation, "kernel", size, 1)
    for sizes in (input, stride, dilation, *padding):
        for size in sizes:
            integer(operation, "a size", size, 0)
    weight = (out_channels, in_channels // groups, *kernel)
    _check_taps(operation, kernel, weight[1])
    if math.prod(weight) * real.itemsize > physical_memory():
        raise MemoryError(f"{operation}: weights of shape {weight} do not fit into this machine's memory")
    check_total(operation, "the input", (batch, in_channels, *input))
    shape = (batch, in_channels, *input)
    geometry = conv_geometry(operation, rank, shape, weight, None, stride, padding, dilation, groups, "zeros")
    work = engine(geometry, real, last, name, fresh)
    if not hasattr(work, "forward_walk"):
        raise ValueError(f"{operation}: algorithm {work.name!r} runs in Python, which a caller of pointers is without")
    return ConvWalks(
        geometry, work.name, work.forward_walk(), work.transposed_walk(), work.weight_walk(), work.mirrored
    )


def pool_walk(
    *,
    rank: int,
    batch: int,
    channels: int,
    input: Numbers,
    kernel: Numbers,
    stride: Numbers,
    dilation: Numbers,
    padding: Pairs,
    ceil_mode: int,
    kind: int,
    count_include_pad: int,
    divisor_override: int,
    dtype: int,
    channels_last: int,
) -> PoolWalk:
    """
    Check the numbers of a pooling operation and return its kernel.

    Raises
    ------
    ValueError
        A number is not possible.
    MemoryError
        An array of these sizes could not be addressed.
    """
    average = _choice("pooling", "kind", kind, (False, True))
    operation = f"{'avg' if average else 'max'}_pool{_rank('pooling', rank)}d"
    real = _choice(operation, "dtype", dtype, DTYPES)
    last = _flag(operation, "channels_last", channels_last)
    ceil = _flag(operation, "ceil_mode", ceil_mode)
    include = _flag(operation, "count_include_pad", count_include_pad)
    integer(operation, "batch", batch, 0)
    integer(operation, "channels", channels, 0)
    for sizes in (input, stride, dilation, *padding):
        for size in sizes:
            integer(operation, "a size", size, 0)
    for size in kernel:
        integer(operation, "kernel", size, 1)
    _check_taps(operation, kernel, 1)
    check_total(operation, "the input", (batch, channels, *input))
    padded = _padded(input, padding)
    if math.prod(padded) * real.itemsize > physical_memory():
        raise MemoryError(f"{operation}: a padded plane of {input} does not fit into this machine's memory")
    stride = tuple(step or size for step, size in zip(stride, kernel, strict=True))
    if any(length // step > MOST_WINDOWS for length, step in zip(padded, stride, strict=True)):
        raise MemoryError(f"{operation}: an axis of {input} with strides {stride} has more than {MOST_WINDOWS} windows")
    mean = (include, check_divisor(operation, divisor_override or None) or 0) if average else None
    return _planned(operation, rank, (batch, channels), input, kernel, stride, dilation, padding, ceil, mean, last)


def _planned(
    operation: str,
    rank: int,
    outer: Numbers,
    input: Numbers,
    kernel: Numbers,
    stride: Numbers,
    dilation: Numbers,
    padding: Pairs,
    ceil_mode: bool,
    average: tuple[bool, int] | None,
    last: bool,
) -> PoolWalk:
    """The one place that knows how pooling is planned."""
    plan = _pool.plan(operation, rank, (*outer, *input), kernel, stride, padding, dilation, ceil_mode, average)
    if average is not None:
        kernels = (plan.forward, plan.forward, plan.gradient, plan.gradient)
    else:
        back = plan.gradient if plan.forward.goes_back(last) else plan.places
        kernels = (plan.forward, plan.finder(last), back, plan.places)
    return PoolWalk(plan.geometry, kernels, plan.work)
