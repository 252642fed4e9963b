"""Every check and every size of pooling, in one place; the formula of the output size is `_geometry.output_size`."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._geometry import AXES, LARGEST, check_total, output_size, pair


@dataclass(frozen=True, eq=False)
class PoolGeometry:
    """Sizes of one pooling operation; compared by identity, since equal arguments give the same object.

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

    operation: str
    batch: int
    channels: int
    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]
    batched: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, with a batch dimension."""
        return (self.batch, self.channels, *self.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, with a batch dimension."""
        return (self.batch, self.channels, *self.output)

    def places(self, axis: int, count_include_pad: bool) -> tuple[int, ...]:
        """Return how many places of each window along an axis an average counts.

        Those inside the input, or inside the padded input; what hangs over the end by ``ceil_mode`` never counts.
        """
        low, high = self.padding[axis] if count_include_pad else (0, 0)
        first, end = -low, self.input[axis] + high
        reach = range(0, self.kernel[axis] * self.dilation[axis], self.dilation[axis])
        starts = (window * self.stride[axis] - self.padding[axis][0] for window in range(self.output[axis]))
        return tuple(sum(first <= start + shift < end for shift in reach) for start in starts)


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
    axes = AXES[rank]
    if len(input_shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{operation}: input must have shape (N, C, {', '.join(axes)}) or (C, {', '.join(axes)}), got {input_shape}"
        )
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"{operation}: ceil_mode must be True or False, got {ceil_mode!r}")
    batched = len(input_shape) == rank + 2
    batch, channels, *spatial = input_shape if batched else (1, *input_shape)
    kernel = pair(operation, "kernel_size", kernel_size, rank, 1)
    strides = kernel if stride is None else pair(operation, "stride", stride, rank, 1)
    pads = pair(operation, "padding", padding, rank, 0)
    dilations = pair(operation, "dilation", dilation, rank, 1)
    output = []
    for axis, length, k, s, pad, d in zip(axes, spatial, kernel, strides, pads, dilations, strict=True):
        output.append(_checked_size(operation, axis, length, k, s, pad, d, ceil_mode))
    if math.prod(spatial) > LARGEST:
        raise ValueError(f"{operation}: a plane of the input has more than {LARGEST} pixels: {tuple(spatial)}")
    check_total(operation, "the output", (batch, channels, *output))
    return PoolGeometry(
        operation,
        batch,
        channels,
        tuple(spatial),
        kernel,
        strides,
        tuple((pad, pad) for pad in pads),
        dilations,
        tuple(output),
        batched,
    )


def _checked_size(
    operation: str, axis: str, length: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool
) -> int:
    extent = dilation * (kernel - 1) + 1
    dilated = f"kernel {kernel}" if dilation == 1 else f"kernel {kernel} (dilated to {extent})"
    if length < 1:
        raise ValueError(f"{operation}: the input has no pixels: its {axis} is 0")
    if 2 * pad > extent:
        raise ValueError(f"{operation}: padding {pad} exceeds half of {dilated}")
    size = output_size(length, kernel, stride, pad, pad, dilation, ceil_mode)
    if size < 1:
        raise ValueError(
            f"{operation}: {dilated} does not fit into the padded input of {axis} {length + 2 * pad} "
            f"({length} + 2·{pad})"
        )
    return size


def check_divisor(operation: str, divisor: Any) -> int | None:
    """Return ``divisor_override`` as an int other than 0, or None."""
    if divisor is None:
        return None
    if isinstance(divisor, bool) or not hasattr(divisor, "__index__"):
        raise TypeError(f"{operation}: divisor_override must be an int or None, got {divisor!r}")
    number = operator.index(divisor)
    if number == 0:
        raise ValueError(f"{operation}: divisor_override must not be 0")
    return number


def hashable(value: Any) -> Any:
    """Return lists as tuples, so that they can be part of a key."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
