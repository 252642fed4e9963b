"""Every check and every size of a transposed convolution, in one place.

It is the input gradient of a convolution, so its geometry is that convolution's, seen from the other end:

    output = (P − 1)·S − 2·padding + D(K−1) + 1 + output_padding

(P rows of input, stride S, dilation D, kernel K) is the length of a convolution's input that leads to P rows of output;
there are S such lengths, and ``output_padding`` says which. The formula stands in `transposed_size`, and nowhere else.

Near its ends the output meets taps of the kernel that come from rows before the first of the input or behind the last:
`reach` counts them. A padding mode says what these rows hold.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ._geometry import (
    AXES,
    ConvGeometry,
    _is_sequence,
    _plain,
    check_conv_channels,
    check_memory,
    check_padding_argument,
    check_padding_mode,
    check_reach,
    integer,
    padding_edges,
    pair,
    same_padding,
)


def transposed_size(length: int, kernel: int, stride: int, pad_low: int, pad_high: int, dilation: int) -> int:
    """Return (P − 1)·S − 2·padding + D(K−1) + 1, the smallest output; below 1 when padding takes all there is."""
    return (length - 1) * stride - pad_low - pad_high + dilation * (kernel - 1) + 1


def reach(length: int, kernel: int, stride: int, pad_low: int, dilation: int, output: int) -> tuple[int, int]:
    """Return how many rows before the first and behind the last of the input would reach into the output.

    Row p reaches the rows p·S + r·D − padding of the output (tap r): those before the first so far as their last tap
    does, those behind the last so far as their first.
    """
    before = (dilation * (kernel - 1) - pad_low) // stride
    behind = (output - 1 + pad_low) // stride - (length - 1)
    return max(before, 0), max(behind, 0)


@dataclass(frozen=True, eq=False)
class ConvTransposeGeometry:
    """Sizes of one transposed convolution; compared by identity, since equal arguments give the same object.

    Attributes
    ----------
    convolution : ConvGeometry
        The convolution whose input gradient this is: from this one's output to its input.
    output_padding : tuple of int
        Rows of the output behind the last that the input reaches with ``padding`` taken off, for each dimension.
    extension : tuple of (int, int)
        Rows before and behind the input that would reach into the output; what they hold says ``padding_mode``.
    """

    convolution: ConvGeometry
    output_padding: tuple[int, ...]
    extension: tuple[tuple[int, int], ...]

    @property
    def padding_mode(self) -> str:
        """What stands around the input."""
        return self.convolution.padding_mode

    @property
    def operation(self) -> str:
        """What messages name."""
        return self.convolution.operation

    @property
    def batch(self) -> int:
        """Number of examples."""
        return self.convolution.batch

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.convolution.out_channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.convolution.in_channels

    @property
    def groups(self) -> int:
        """Transposed convolutions side by side."""
        return self.convolution.groups

    @property
    def input(self) -> tuple[int, ...]:
        """Lengths of the input."""
        return self.convolution.output

    @property
    def output(self) -> tuple[int, ...]:
        """Lengths of the output."""
        return self.convolution.input

    @property
    def kernel(self) -> tuple[int, ...]:
        """Lengths of the kernel."""
        return self.convolution.kernel

    @property
    def stride(self) -> tuple[int, ...]:
        """Distance, in the output, of what neighbouring pixels of the input reach."""
        return self.convolution.asked

    @property
    def asked(self) -> tuple[int, ...]:
        """The stride as it was given."""
        return self.convolution.asked

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """What is taken off the output at the low and high end of each dimension."""
        return self.convolution.padding

    @property
    def dilation(self) -> tuple[int, ...]:
        """Distance of the taps."""
        return self.convolution.dilation

    @property
    def batched(self) -> bool:
        """Whether the input has a batch dimension."""
        return self.convolution.batched

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return self.convolution.rank

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, with a batch dimension."""
        return self.convolution.output_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, with a batch dimension."""
        return self.convolution.input_shape

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights: (C, K / groups, *kernel)."""
        return self.convolution.weight_shape

    @property
    def taps(self) -> int:
        """Pixels under the kernel."""
        return self.convolution.taps

    @property
    def windows(self) -> int:
        """Places at which the kernel is laid: every pixel of the input."""
        return self.convolution.windows

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass by direct summation: every pixel of the input times the whole kernel."""
        return self.convolution.macs

    def formula(self, axis: int) -> str:
        """Return the arithmetic of the output size along a spatial axis."""
        low, high = self.padding[axis]
        padding = f"2·{low}" if low == high else f"{low} − {high}"
        more = f" + {self.output_padding[axis]}" if self.output_padding[axis] else ""
        return (
            f"({self.input[axis]}−1)·{self.stride[axis]} − {padding} + {self.dilation[axis]}·({self.kernel[axis]}−1) "
            f"+ 1{more} = {self.output[axis]}"
        )


#: A convolution or a transposed one: what both have has the same names.
AnyConvGeometry: TypeAlias = ConvGeometry | ConvTransposeGeometry


def check_output_padding(operation: str, value: Any, stride: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return ``output_padding`` as one int for each dimension, each smaller than the stride or the dilation there."""
    found = pair(operation, "output_padding", value, len(stride), 0)
    for axis, extra, s, d in zip(AXES[len(stride)], found, stride, dilation, strict=True):
        if extra >= max(s, d):
            raise ValueError(
                f"{operation}: output_padding must be smaller than the stride or the dilation, got {extra} for the "
                f"{axis} with stride {s} and dilation {d}"
            )
    return found


def check_output_size(operation: str, value: Any, rank: int) -> tuple[int, ...] | None:
    """Return ``output_size`` as ``rank`` ints, or None; of a whole shape the last ones count, as in torch."""
    if value is None:
        return None
    if _is_sequence(value):
        if not rank <= len(value) <= rank + 2:
            ints = "an int" if rank == 1 else f"an int, {rank} ints"
            raise ValueError(
                f"{operation}: output_size must be {ints}, or a whole shape that ends with them, got {value!r}"
            )
        value = tuple(value)[-rank:]
    return pair(operation, "output_size", value, rank, 1)


def conv_transpose_geometry(
    operation: str,
    rank: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    padding_mode: Any,
    output_size: Any = None,
) -> ConvTransposeGeometry:
    """Check all arguments of a transposed convolution and return its sizes; the same object for the same arguments.

    Raises
    ------
    ValueError
        A value or shape is not possible; the message has the arithmetic.
    TypeError
        An argument has the wrong type.
    MemoryError
        The output could not be addressed.
    """
    try:
        arguments = tuple(map(_plain, (stride, padding, output_padding, groups, dilation, padding_mode)))
    except TypeError:
        # Integers of other kinds become ints; what is no integer is told so.
        strides, dilations = pair(operation, "stride", stride, rank, 1), pair(operation, "dilation", dilation, rank, 1)
        arguments = (
            strides,
            check_padding_argument(operation, padding, rank),
            check_output_padding(operation, output_padding, strides, dilations),
            integer(operation, "groups", groups, 1),
            dilations,
            check_padding_mode(operation, padding_mode),
        )
    wanted = check_output_size(operation, output_size, rank)
    return _conv_transpose_geometry(operation, rank, input_shape, weight_shape, bias_shape, *arguments, wanted)


@functools.lru_cache(maxsize=4096)
def _conv_transpose_geometry(
    operation: str,
    rank: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    padding_mode: Any,
    output_size: tuple[int, ...] | None,
) -> ConvTransposeGeometry:
    channels, out_channels, groups = _check_shapes(operation, rank, input_shape, weight_shape, bias_shape, groups)
    batched = len(input_shape) == rank + 2
    spatial, kernel = input_shape[-rank:], weight_shape[2:]
    batch = input_shape[0] if batched else 1
    strides = pair(operation, "stride", stride, rank, 1)
    dilations = pair(operation, "dilation", dilation, rank, 1)
    extra = check_output_padding(operation, output_padding, strides, dilations)
    mode = check_padding_mode(operation, padding_mode)
    for axis, length in zip(AXES[rank], spatial, strict=True):
        if length < 1:
            raise ValueError(f"{operation}: the input has no pixels: its {axis} is 0")
    if output_size is not None and any(extra):
        raise ValueError(
            f"{operation}: output_padding and output_size say the same in two ways; give one of them, "
            f"got {output_padding!r} and {output_size!r}"
        )
    pads = check_padding_argument(operation, padding, rank)
    sides, output = _sides_and_output(operation, pads, spatial, kernel, strides, dilations, extra, output_size)
    lows = [low for low, _ in sides]
    extension = tuple(map(reach, spatial, kernel, strides, lows, dilations, output))
    edges = None
    if min(output) > 0:
        check_memory(operation, "the output", (batch, out_channels, *output))
        edges = padding_edges(operation, spatial, extension, mode, "reach of the kernel beyond the input")
    # Around this convolution's input there are zeros: what is taken off the output has no part in it.
    step = strides
    if min(output) > 0:
        step = check_reach(operation, max(channels, out_channels), output, sides, strides)
    convolution = ConvGeometry(
        operation, batch, out_channels, channels, groups, output, kernel, step, sides, dilations, spatial, mode,
        batched, None, edges, strides,
    )  # fmt: skip
    # With "same" and a kernel smaller than the stride, the last rows are reached by nothing.
    behind = tuple(
        size - transposed_size(length, k, s, low, high, d)
        for size, length, k, s, (low, high), d in zip(output, spatial, kernel, strides, sides, dilations, strict=True)
    )
    found = ConvTransposeGeometry(convolution, behind, extension)
    for i, axis in enumerate(AXES[rank]):
        if output[i] < 1:
            raise ValueError(
                f"{operation}: the padding leaves no pixels of the output: its {axis} would be {found.formula(i)}"
            )
    return found


def _check_shapes(
    operation: str,
    rank: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    groups: Any,
) -> tuple[int, int, int]:
    """Return (input channels, output channels, groups)."""
    axes = AXES[rank]
    if len(input_shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{operation}: input must have shape (N, C, {', '.join(axes)}) or (C, {', '.join(axes)}), got {input_shape}"
        )
    if len(weight_shape) != rank + 2:
        raise ValueError(
            f"{operation}: weight must have shape (in_channels, out_channels/groups, "
            f"{', '.join('kernel ' + axis for axis in axes)}), got {weight_shape}"
        )
    channels = input_shape[-rank - 1]
    groups = integer(operation, "groups", groups, 1)
    out_channels = weight_shape[1] * groups
    if channels != weight_shape[0]:
        raise ValueError(
            f"{operation}: weight of shape {weight_shape} takes {weight_shape[0]} input channels, but the input of "
            f"shape {input_shape} has {channels}"
        )
    if min(weight_shape) < 1:
        raise ValueError(f"{operation}: weight has an empty axis: {weight_shape}")
    check_conv_channels(operation, channels, out_channels, groups)
    if bias_shape is not None and bias_shape != (out_channels,):
        raise ValueError(f"{operation}: bias must have shape ({out_channels},), got {bias_shape}")
    return channels, out_channels, groups


def _sides_and_output(
    operation: str,
    padding: Any,
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    extra: tuple[int, ...],
    wanted: tuple[int, ...] | None,
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Return the padding and the length of the output of each dimension.

    "same" is the padding that a convolution of the output has: it leads from S(P−1)+1 to S·P rows to P, so that each
    of these can be asked for by ``output_size``; without it there are S·P, and behind them ``output_padding``.
    """
    if padding == "valid":
        padding = ((0, 0),) * len(spatial)
    if not isinstance(padding, str):
        least = tuple(map(transposed_size, spatial, kernel, stride, *zip(*padding, strict=True), dilation))
        if wanted is not None:
            return padding, _attainable(operation, wanted, least, spatial, stride)
        return padding, tuple(map(operator.add, least, extra))
    output = tuple(map(operator.mul, spatial, stride))
    if wanted is not None:
        least = tuple(size - s + 1 for size, s in zip(output, stride, strict=True))
        output = _attainable(operation, wanted, least, spatial, stride)
    sides = tuple(
        same_padding(size, k, s, d, lower=padding == "same_lower")
        for size, k, s, d in zip(output, kernel, stride, dilation, strict=True)
    )
    return sides, tuple(map(operator.add, output, extra))


def _attainable(
    operation: str, wanted: tuple[int, ...], least: Sequence[int], spatial: Sequence[int], stride: Sequence[int]
) -> tuple[int, ...]:
    """Return ``wanted``; ValueError unless the convolution of the same arguments leads from it to ``spatial``."""
    if not all(low <= size < low + s for size, low, s in zip(wanted, least, stride, strict=True)):
        axes = AXES[len(stride)]
        given = " and ".join(f"{axis} {length}" for axis, length in zip(axes, spatial, strict=True))
        sizes = " and ".join(
            f"{axis} {low}" + (f" to {low + s - 1}" if s > 1 else "")
            for axis, low, s in zip(axes, least, stride, strict=True)
        )
        raise ValueError(
            f"{operation}: output_size {wanted} cannot be: an input of {given} with stride {tuple(stride)} gives "
            f"{sizes}"
        )
    return wanted
