"""Every check and every size of pooling, in one place; the formula of the output size is `_geometry.output_size`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._geometry import (
    AXES,
    LARGEST,
    _index,
    check_memory,
    check_padding_argument,
    integer,
    output_size,
    pair,
    real,
    same_padding,
)


@dataclass(frozen=True, eq=False)
class _Shapes:
    """What all pools have: sizes before and after; compared by identity."""

    operation: str
    batch: int
    channels: int
    input: tuple[int, ...]
    output: tuple[int, ...]
    batched: bool

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.input)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, with a batch dimension."""
        return (self.batch, self.channels, *self.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, with a batch dimension."""
        return (self.batch, self.channels, *self.output)


@dataclass(frozen=True, eq=False)
class PoolGeometry(_Shapes):
    """Sizes of one pooling operation whose windows are a kernel, laid at every stride.

    Attributes
    ----------
    batch, channels : int
    input, kernel, stride, dilation, output : tuple of int
        One number for each spatial dimension.
    padding : tuple of (int, int)
        Low and high padding of each spatial dimension.
    batched : bool
        Whether the input has a batch dimension.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class AdaptiveGeometry(_Shapes):
    """Sizes of adaptive pooling: window i of P over H pixels reaches from ⌊i·H/P⌋ to ⌈(i + 1)·H/P⌉."""

    def formula(self, axis: int) -> str:
        """Return what the output size along a spatial axis is, in words."""
        return f"{self.input[axis]} in {self.output[axis]} windows"


@dataclass(frozen=True, eq=False)
class FractionalGeometry(_Shapes):
    """Sizes of fractional pooling: windows of one size at pseudo-random distances."""

    kernel: tuple[int, ...]

    def formula(self, axis: int) -> str:
        """Return what the output size along a spatial axis is, in words."""
        return f"{self.input[axis]} in {self.output[axis]} windows"


def _sizes(operation: str, rank: int, shape: tuple[int, ...]) -> tuple[bool, int, int, tuple[int, ...]]:
    """Return whether there is a batch, its size, the channels and the spatial sizes of an input."""
    axes = AXES[rank]
    if len(shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{operation}: input must have shape (N, C, {', '.join(axes)}) or (C, {', '.join(axes)}), got {shape}"
        )
    batched = len(shape) == rank + 2
    batch, channels, *spatial = shape if batched else (1, *shape)
    for axis, length in zip(axes, spatial, strict=True):
        if length < 1:
            raise ValueError(f"{operation}: the input has no pixels: its {axis} is 0")
    if math.prod(spatial) > LARGEST:
        raise ValueError(f"{operation}: a plane of the input has more than {LARGEST} pixels: {tuple(spatial)}")
    return batched, batch, channels, tuple(spatial)


def flag(operation: str, argument: str, value: Any) -> bool:
    """Return ``value``; TypeError unless it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{operation}: {argument} must be True or False, got {value!r}")
    return value


def frozen_windows(
    operation: str, rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> tuple[Any, Any, Any, Any]:
    """Return the four arguments as tuples of ints (or words), whatever kind of integers they came as."""
    return (
        pair(operation, "kernel_size", kernel_size, rank, 1),
        None if stride is None else pair(operation, "stride", stride, rank, 1),
        check_padding_argument(operation, padding, rank),
        pair(operation, "dilation", dilation, rank, 1),
    )


def pool_geometry(
    operation: str,
    rank: int,
    input_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
) -> PoolGeometry:
    """Check all arguments of a pooling operation and return its sizes.

    Raises
    ------
    ValueError
        A value or shape is not possible; the message has the arithmetic.
    TypeError
        An argument has the wrong type.
    MemoryError
        The output could not be addressed.
    """
    batched, batch, channels, spatial = _sizes(operation, rank, input_shape)
    flag(operation, "ceil_mode", ceil_mode)
    kernel, strides, pads, dilations = frozen_windows(operation, rank, kernel_size, stride, padding, dilation)
    strides = kernel if strides is None else strides
    if pads == "valid":
        pads = ((0, 0),) * rank
    if isinstance(pads, str):
        pads = tuple(
            same_padding(length, k, s, d, lower=pads == "same_lower")
            for length, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
        )
    output = []
    for axis, length, k, s, sides, d in zip(AXES[rank], spatial, kernel, strides, pads, dilations, strict=True):
        output.append(_checked_size(operation, axis, length, k, s, sides, d, ceil_mode))
    check_memory(operation, "the output", (batch, channels, *output))
    return PoolGeometry(operation, batch, channels, spatial, tuple(output), batched, kernel, strides, pads, dilations)


def _checked_size(
    operation: str,
    axis: str,
    length: int,
    kernel: int,
    stride: int,
    sides: tuple[int, int],
    dilation: int,
    ceil_mode: bool,
) -> int:
    """Return the output size. No more padding than the kernel reaches over: each window begins and ends near pixels,
    and there are at most as many windows as pixels, and one."""
    low, high = sides
    extent = dilation * (kernel - 1) + 1
    dilated = f"kernel {kernel}" if dilation == 1 else f"kernel {kernel} (dilated to {extent})"
    if low == high and 2 * low > extent:
        raise ValueError(f"{operation}: padding {low} exceeds half of {dilated}")
    if low + high > extent or max(low, high) >= extent > 1 or (extent == 1 and low + high):
        raise ValueError(
            f"{operation}: padding {low} and {high} of the {axis} must be less than {dilated} on each side, "
            f"and no more than it in all"
        )
    size = output_size(length, kernel, stride, low, high, dilation, ceil_mode)
    if size < 1:
        pads = f"{length} + 2·{low}" if low == high else f"{length} + {low} + {high}"
        raise ValueError(
            f"{operation}: {dilated} does not fit into the padded input of {axis} {length + low + high} ({pads})"
        )
    return size


def adaptive_geometry(
    operation: str, rank: int, input_shape: tuple[int, ...], output: Any
) -> PoolGeometry | AdaptiveGeometry:
    """Check the arguments of adaptive pooling; sizes that divide the input's are those of ordinary windows.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `pool_geometry`.
    """
    batched, batch, channels, spatial = _sizes(operation, rank, input_shape)
    wanted = list(output) if isinstance(output, Sequence) and not isinstance(output, str | bytes) else [output]
    if len(wanted) not in (1, rank):
        raise ValueError(f"{operation}: output_size must be an int or {rank} ints, got {output!r}")
    wanted *= rank // len(wanted)
    sizes = tuple(
        length if size is None else integer(operation, "output_size", size, 1)
        for length, size in zip(spatial, wanted, strict=True)
    )
    check_memory(operation, "the output", (batch, channels, *sizes))
    if any(length % size for length, size in zip(spatial, sizes, strict=True)):
        return AdaptiveGeometry(operation, batch, channels, spatial, sizes, batched)
    kernel = tuple(length // size for length, size in zip(spatial, sizes, strict=True))
    nothing = ((0, 0),) * rank
    return PoolGeometry(operation, batch, channels, spatial, sizes, batched, kernel, kernel, nothing, (1,) * rank)


def fractional_geometry(
    operation: str, rank: int, input_shape: tuple[int, ...], kernel_size: Any, size: Any, ratio: Any
) -> FractionalGeometry:
    """Check the arguments of fractional pooling and return its sizes.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `pool_geometry`.
    """
    batched, batch, channels, spatial = _sizes(operation, rank, input_shape)
    kernel = pair(operation, "kernel_size", kernel_size, rank, 1)
    if (size is None) == (ratio is None):
        raise ValueError(f"{operation}: exactly one of output_size and output_ratio is needed")
    if size is not None:
        windows = pair(operation, "output_size", size, rank, 1)
    else:
        windows = tuple(
            int(length * r)
            for length, r in zip(spatial, fractions(operation, "output_ratio", ratio, rank), strict=True)
        )
    for axis, length, k, p in zip(AXES[rank], spatial, kernel, windows, strict=True):
        if p < 1:
            raise ValueError(f"{operation}: output_ratio leaves no window of the {axis} {length}")
        if p + k - 1 > length:
            raise ValueError(
                f"{operation}: {p} windows of {k} do not fit into the {axis} {length}: "
                f"at least {p} + {k} − 1 = {p + k - 1} is needed"
            )
    check_memory(operation, "the output", (batch, channels, *windows))
    return FractionalGeometry(operation, batch, channels, spatial, windows, batched, kernel)


def fractions(operation: str, argument: str, value: Any, rank: int) -> tuple[float, ...]:
    """Return a number, or a sequence of ``rank``, as that many floats between 0 and 1."""
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if len(items) not in (1, rank):
        raise ValueError(f"{operation}: {argument} must be a number or {rank} numbers, got {value!r}")
    for item in items:
        if not 0 < real(operation, argument, item, f"a number or {rank} numbers") < 1:
            raise ValueError(f"{operation}: {argument} must be between 0 and 1, got {value!r}")
    return tuple(real(operation, argument, item) for item in items) * (rank // len(items))


def unpool_geometry(
    operation: str, rank: int, input_shape: tuple[int, ...], kernel_size: Any, stride: Any, padding: Any, size: Any
) -> PoolGeometry:
    """Check the arguments of the way back from maxima; ``output`` of the result is the larger shape.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `pool_geometry`.
    """
    batched, batch, channels, spatial = _sizes(operation, rank, input_shape)
    kernel = pair(operation, "kernel_size", kernel_size, rank, 1)
    strides = kernel if stride is None else pair(operation, "stride", stride, rank, 1)
    pads = pair(operation, "padding", padding, rank, 0)
    usual = tuple((p - 1) * s - 2 * pad + k for p, s, pad, k in zip(spatial, strides, pads, kernel, strict=True))
    if size is None:
        output = usual
    else:
        given = tuple(size)[2:] if isinstance(size, Sequence) and len(size) == rank + 2 else size
        output = pair(operation, "output_size", given, rank, 1)
    for axis, length, u, s in zip(AXES[rank], output, usual, strides, strict=True):
        if length < 1:
            raise ValueError(f"{operation}: nothing is left of the {axis}: its size would be {length}")
        if not u - s < length < u + s:
            raise ValueError(
                f"{operation}: output_size must be between {u - s} and {u + s} (exclusive) for the {axis}, got {length}"
            )
    check_memory(operation, "the output", (batch, channels, *output))
    if math.prod(output) > LARGEST:
        raise ValueError(f"{operation}: a plane of the output would have more than {LARGEST} pixels: {output}")
    sides = tuple((pad, pad) for pad in pads)
    return PoolGeometry(operation, batch, channels, spatial, output, batched, kernel, strides, sides, (1,) * rank)


def check_divisor(operation: str, divisor: Any) -> int | None:
    """Return ``divisor_override`` as an int other than 0, or None."""
    if divisor is None:
        return None
    number = _index(divisor)
    if number is None:
        raise TypeError(f"{operation}: divisor_override must be an int or None, got {divisor!r}")
    if number == 0:
        raise ValueError(f"{operation}: divisor_override must not be 0")
    if abs(number) > LARGEST:
        raise ValueError(f"{operation}: divisor_override must be at most {LARGEST} in size, got {number}")
    return number


def check_norm(operation: str, norm_type: Any) -> float:
    """Return the exponent of a power average; it must be a finite number above 0."""
    number = real(operation, "norm_type", norm_type)
    if not 0 < number < math.inf:
        raise ValueError(
            f"{operation}: norm_type must be finite and above 0, got {norm_type!r}; the limit at infinity is a maximum"
        )
    return number


def frozen(value: Any) -> Any:
    """Return ints, words and None as they are, lists as tuples; TypeError for all else: 1.0 and True equal 1, too."""
    kind = type(value)
    if kind is int or value is None or kind is str:
        return value
    if kind is tuple or kind is list:
        return tuple([frozen(item) for item in value])
    raise TypeError
