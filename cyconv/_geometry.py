"""Every check and every size of a convolution, in one place: what an int or tuple means, what fits, how large it gets.

    output = (H + 2P − D(K−1) − 1)/S + 1

stands in `output_size`, and nowhere else.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

#: No argument may be larger: offsets inside kernels are computed in 64 bits from products of two of them.
LARGEST = 2**31 - 1
#: No array may have more elements (of 8 bytes): what 47 bits of address space hold.
LARGEST_ARRAY = 2**44

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
#: For each axis the pixels that stand before the first one, and behind the last, in their order.
Edges: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
ALGORITHMS = ("auto", "direct", "winograd_f2", "winograd_f4", "depthwise", "im2col", "reference")
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _index(value: Any) -> int | None:
    """Return an int, or anything that stands for one, as an int; None for all else (True and 1.0 too)."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def any_integer(operation: str, argument: str, value: Any) -> int:
    """Return ``value`` as an int; TypeError if it stands for none, as True, 1.0 and an array of one int do not."""
    number = _index(value)
    if number is None:
        raise TypeError(f"{operation}: {argument} must be an int, got {value!r}")
    return number


def real(operation: str, argument: str, value: Any, legal: str = "a number") -> float:
    """Return a real number, or an array of no axes that holds one, as the float next to it (infinity for 10^400, as for
    1e400); TypeError that says what is ``legal`` if it is none, as True and 1j are."""
    if type(value) is float:
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "__getitem__"):
        value = value[()]
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"{operation}: {argument} must be {legal}, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def integer(operation: str, argument: str, value: Any, minimum: int) -> int:
    """Return ``value`` as an int of at least ``minimum``; TypeError or ValueError that says what came otherwise."""
    number = any_integer(operation, argument, value)
    if not minimum <= number <= LARGEST:
        bound = f"at least {minimum}" if number < minimum else f"at most {LARGEST}"
        raise ValueError(f"{operation}: {argument} must be {bound}, got {number}")
    return number


def pair(operation: str, argument: str, value: Any, n: int, minimum: int) -> tuple[int, ...]:
    """Return an int or a sequence of ``n`` ints (or of one) as a tuple of ``n`` ints of at least ``minimum`` each."""
    if _is_sequence(value):
        if len(value) not in (1, n):
            raise ValueError(f"{operation}: {argument} must be an int or {n} ints, got {value!r}")
        numbers = tuple(integer(operation, argument, item, minimum) for item in value)
        return numbers * n if len(numbers) == 1 else numbers
    number = _index(value)
    if number is None:
        raise TypeError(f"{operation}: {argument} must be an int or {n} ints, got {value!r}")
    return (integer(operation, argument, number, minimum),) * n


def output_size(
    length: int, kernel: int, stride: int, pad_low: int, pad_high: int, dilation: int, ceil_mode: bool = False
) -> int:
    """Return (H + 2P − D(K−1) − 1)/S + 1, with a padding for each side; below 1 when the kernel does not fit.

    With ``ceil_mode`` the division rounds up, but the last window still begins inside the input or the low padding.
    """
    span = length + pad_low + pad_high - dilation * (kernel - 1) - 1
    if span < 0:
        return 0
    if not ceil_mode:
        return span // stride + 1
    size = -(-span // stride) + 1
    return size - 1 if (size - 1) * stride >= length + pad_low else size


def same_padding(length: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    """Return the padding that makes the output ceil(length / stride) long; an odd one is larger at the end, or
    at the beginning where ``lower``."""
    total = max((-(-length // stride) - 1) * stride + dilation * (kernel - 1) + 1 - length, 0)
    small = total // 2
    return (total - small, small) if lower else (small, total - small)


def check_total(operation: str, what: str, shape: Sequence[int]) -> None:
    """MemoryError when an array of that shape could not be addressed."""
    if math.prod(shape) > LARGEST_ARRAY:
        raise MemoryError(f"{operation}: {what} of shape {tuple(shape)} has more than {LARGEST_ARRAY} elements")


@functools.cache
def physical_memory() -> float:
    """Return the bytes of this machine's memory; infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def check_memory(operation: str, what: str, shape: Sequence[int]) -> None:
    """MemoryError when a new array of that shape could not be addressed, or fits no memory even as float32."""
    check_total(operation, what, shape)
    nbytes = 4 * math.prod(shape)
    if nbytes > physical_memory():
        raise MemoryError(
            f"{operation}: {what} of shape {tuple(shape)} takes {nbytes:,} bytes as float32, and this machine has "
            f"{physical_memory():,.0f}"
        )


@dataclass(frozen=True, eq=False)
class ConvGeometry:
    """Sizes of one convolution; compared by identity, since equal arguments give the same object.

    Attributes
    ----------
    batch, in_channels, out_channels, groups : int
    input, kernel, stride, dilation, output : tuple of int
        One number for each spatial dimension. A stride past the padded input leads to one window, however long it is,
        and stands here as the shortest that does.
    asked : tuple of int
        The stride as it was given.
    padding : tuple of (int, int)
        Low and high padding of each spatial dimension.
    padding_mode : str
        Of the operation, be it a convolution or a transposed one.
    batched : bool
        Whether the input has a batch dimension.
    edges : tuple or None
        For each dimension the pixels that the low and the high padding repeat; None where padding holds zeros.
    output_edges : tuple or None
        Likewise around the output, as a transposed convolution reads it.
    """

    operation: str
    batch: int
    in_channels: int
    out_channels: int
    groups: int
    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]
    padding_mode: str
    batched: bool
    edges: Edges | None = None
    output_edges: Edges | None = None
    asked: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.input)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, with a batch dimension."""
        return (self.batch, self.in_channels, *self.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, with a batch dimension."""
        return (self.batch, self.out_channels, *self.output)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def taps(self) -> int:
        """Pixels under the kernel."""
        return math.prod(self.kernel)

    @property
    def windows(self) -> int:
        """Places at which the kernel is laid: every pixel of the output."""
        return self.batch * math.prod(self.output)

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass by direct summation (a multiply-add is two floating-point operations)."""
        return math.prod(self.output_shape) * (self.in_channels // self.groups) * self.taps

    def formula(self, axis: int) -> str:
        """Return the arithmetic of the output size along a spatial axis, as the textbook has it."""
        low, high = self.padding[axis]
        padding = f"2·{low}" if low == high else f"{low} + {high}"
        return (
            f"({self.input[axis]} + {padding} − {self.dilation[axis]}·({self.kernel[axis]}−1) − 1)/{self.asked[axis]}"
            f" + 1 = {self.output[axis]}"
        )


def check_conv_channels(operation: str, in_channels: Any, out_channels: Any, groups: Any) -> tuple[int, int, int]:
    """Return the three as ints; each positive, and both channel counts divisible by ``groups``."""
    in_channels = integer(operation, "in_channels", in_channels, 1)
    out_channels = integer(operation, "out_channels", out_channels, 1)
    groups = integer(operation, "groups", groups, 1)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ValueError(f"{operation}: {name} must be divisible by groups, got {channels} and {groups} groups")
    return in_channels, out_channels, groups


def check_padding_argument(operation: str, value: Any, rank: int) -> Any:
    """Return ``padding`` as a word or as ``rank`` (low, high) pairs."""
    words = ("valid", "same", "same_lower")
    if isinstance(value, str):
        if value not in words:
            raise ValueError(f"{operation}: padding must be ints, pairs or one of {', '.join(words)}, got {value!r}")
        return value
    if _is_sequence(value) and any(isinstance(item, Sequence) for item in value):
        if len(value) != rank or not all(_is_sequence(item) and len(item) == 2 for item in value):
            raise ValueError(f"{operation}: padding by sides needs {rank} (low, high) pairs, got {value!r}")
        return tuple(
            (integer(operation, "padding", low, 0), integer(operation, "padding", high, 0)) for low, high in value
        )
    return tuple((size, size) for size in pair(operation, "padding", value, rank, 0))


def check_algorithm(operation: str, algorithm: Any) -> str:
    """Return ``algorithm``; ValueError unless there is one of that name."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"{operation}: algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    return str(algorithm)


def check_padding_mode(operation: str, mode: Any) -> str:
    """Return ``mode``; ValueError unless the convolution has it."""
    if not isinstance(mode, str) or mode not in PADDING_MODES:
        raise ValueError(f"{operation}: padding_mode must be one of {', '.join(PADDING_MODES)}, got {mode!r}")
    return str(mode)


def repeated(length: int, low: int, high: int, mode: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which pixels of an axis padding repeats before the first and behind the last; "reflect" does not repeat
    the outermost pixel, "replicate" repeats nothing else, and "circular" begins anew at the other end."""
    before, behind = range(-low, 0), range(length, length + high)
    if mode == "reflect":
        return tuple(-i for i in before), tuple(2 * (length - 1) - i for i in behind)
    if mode == "circular":
        return tuple(i % length for i in before), tuple(i % length for i in behind)
    return (0,) * low, (length - 1,) * high


def padding_edges(
    operation: str, lengths: Sequence[int], padding: Sequence[tuple[int, int]], mode: str, what: str = "padding"
) -> Edges | None:
    """Return what the padding of each axis repeats, or None where it holds zeros or there is none.

    ValueError where it would take more pixels than there are; ``what``: what reaches beyond the input.
    """
    if mode == "zeros" or not any(map(any, padding)):
        return None
    for axis, length, sides in zip(AXES[len(lengths)], lengths, padding, strict=True):
        most = {"reflect": length - 1, "circular": length}.get(mode)
        if most is not None and max(sides) > most:
            raise ValueError(
                f"{operation}: padding_mode {mode!r} repeats at most {most} of the {length} pixels along the {axis}, "
                f"but the {what} there is {sides}"
            )
    return tuple(repeated(length, *sides, mode) for length, sides in zip(lengths, padding, strict=True))


def _plain(value: Any) -> Any:
    """Return ints and words as they are and lists as tuples; TypeError for all else: 1.0 and True equal 1, too."""
    if type(value) is int or type(value) is str:
        return value
    if type(value) is tuple or type(value) is list:
        return tuple([_plain(item) for item in value])
    raise TypeError


def conv_geometry(
    operation: str,
    rank: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
) -> ConvGeometry:
    """Check all arguments of a convolution and return its sizes; the same object for the same arguments.

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
        arguments = (_plain(stride), _plain(padding), _plain(dilation), _plain(groups), _plain(padding_mode))
    except TypeError:
        # Integers of other kinds become ints; what is no integer is told so.
        arguments = (
            pair(operation, "stride", stride, rank, 1),
            check_padding_argument(operation, padding, rank),
            pair(operation, "dilation", dilation, rank, 1),
            integer(operation, "groups", groups, 1),
            check_padding_mode(operation, padding_mode),
        )
    return _conv_geometry(operation, rank, input_shape, weight_shape, bias_shape, *arguments)


@functools.lru_cache(maxsize=4096)
def _conv_geometry(
    operation: str,
    rank: int,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
) -> ConvGeometry:
    axes = AXES[rank]
    if len(input_shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{operation}: input must have shape (N, C, {', '.join(axes)}) or (C, {', '.join(axes)}), got {input_shape}"
        )
    if len(weight_shape) != rank + 2:
        raise ValueError(
            f"{operation}: weight must have shape (out_channels, in_channels/groups, "
            f"{', '.join('kernel ' + axis for axis in axes)}), got {weight_shape}"
        )
    batched = len(input_shape) == rank + 2
    batch, channels, *spatial = input_shape if batched else (1, *input_shape)
    out_channels, group_in, *kernel = weight_shape
    _, _, groups = check_conv_channels(operation, max(channels, 1), max(out_channels, 1), groups)
    if channels != group_in * groups:
        raise ValueError(
            f"{operation}: weight of shape {weight_shape} with {groups} groups takes {group_in * groups} "
            f"input channels, but the input of shape {input_shape} has {channels}"
        )
    if min(out_channels, group_in, *kernel) < 1:
        raise ValueError(f"{operation}: weight has an empty axis: {weight_shape}")
    if bias_shape is not None and bias_shape != (out_channels,):
        raise ValueError(f"{operation}: bias must have shape ({out_channels},), got {bias_shape}")
    strides = pair(operation, "stride", stride, rank, 1)
    dilations = pair(operation, "dilation", dilation, rank, 1)
    mode = check_padding_mode(operation, padding_mode)
    pads = _padding_pairs(check_padding_argument(operation, padding, rank), spatial, kernel, strides, dilations)
    output = _checked_output(operation, axes, spatial, kernel, strides, pads, dilations)
    check_memory(operation, "the output", (batch, out_channels, *output))
    step = check_reach(operation, max(channels, out_channels), spatial, pads, strides)
    edges = padding_edges(operation, spatial, pads, mode)
    return ConvGeometry(
        operation,
        batch,
        channels,
        out_channels,
        groups,
        tuple(spatial),
        tuple(kernel),
        step,
        pads,
        dilations,
        output,
        mode,
        batched,
        edges,
        asked=strides,
    )


def check_reach(
    operation: str,
    channels: int,
    spatial: Sequence[int],
    padding: Sequence[tuple[int, int]],
    stride: Sequence[int],
) -> tuple[int, ...]:
    """Return the strides, those past the padded input shortened, with which there is one window as well.

    MemoryError where kernels could not count the places between windows, or between the taps of one.
    """
    padded = tuple(length + low + high for length, (low, high) in zip(spatial, padding, strict=True))
    check_total(operation, "the padded input", (channels, *padded))
    return tuple(min(s, length + 1) for s, length in zip(stride, padded, strict=True))


def _padding_pairs(
    padding: Any, spatial: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * len(spatial)
    if isinstance(padding, str):
        return tuple(
            same_padding(length, k, s, d, lower=padding == "same_lower")
            for length, k, s, d in zip(spatial, kernel, stride, dilation, strict=True)
        )
    return tuple(padding)


def _checked_output(
    operation: str,
    axes: Sequence[str],
    spatial: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    sizes = []
    for axis, length, k, s, (low, high), d in zip(axes, spatial, kernel, stride, padding, dilation, strict=True):
        size = output_size(length, k, s, low, high, d)
        if length < 1:
            raise ValueError(f"{operation}: the input has no pixels: its {axis} is 0")
        if size < 1:
            dilated = f"kernel {k}" if d == 1 else f"kernel {k} (dilated to {d * (k - 1) + 1})"
            pads = f"{length} + 2·{low}" if low == high else f"{length} + {low} + {high}"
            raise ValueError(
                f"{operation}: {dilated} does not fit into the padded input of {axis} {length + low + high} ({pads})"
            )
        sizes.append(size)
    return tuple(sizes)


def check_gradient(operation: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """ValueError unless grad_output has the shape of the output."""
    if shape != expected:
        raise ValueError(f"{operation}: grad_output must have the shape of the output, {expected}, got {shape}")


@functools.lru_cache(maxsize=1024)
def check_linear(
    operation: str, input_shape: tuple[int, ...], weight_shape: tuple[int, ...], bias_shape: tuple[int, ...] | None
) -> tuple[int, int, int, tuple[int, ...]]:
    """Check the shapes of a fully connected layer; return (rows, in_features, out_features, output shape)."""
    if len(weight_shape) != 2:
        raise ValueError(f"{operation}: weight must have shape (out_features, in_features), got {weight_shape}")
    if len(input_shape) < 1 or input_shape[-1] != weight_shape[1]:
        raise ValueError(
            f"{operation}: input must have {weight_shape[1]} features in its last dimension (weight has shape "
            f"{weight_shape}), got shape {input_shape}"
        )
    if bias_shape is not None and bias_shape != weight_shape[:1]:
        raise ValueError(f"{operation}: bias must have shape {weight_shape[:1]}, got {bias_shape}")
    output = (*input_shape[:-1], weight_shape[0])
    check_memory(operation, "the output", output)
    return math.prod(input_shape[:-1]), weight_shape[1], weight_shape[0], output
