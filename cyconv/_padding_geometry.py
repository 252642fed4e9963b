"""Every check and every size of padding, in one place, and what each place of the padding repeats."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._geometry import LARGEST, _index, _is_sequence, check_memory, real, repeated

PAD_MODES = ("constant", "reflect", "replicate", "circular")


class PaddedAxis(NamedTuple):
    """One axis of an array, padded: what stands along that of the output.

    ``before`` places of padding, ``inside`` pixels of the input from ``first`` on, ``behind`` places of padding; the
    pixels that all places of padding repeat, or none if they hold a value.
    """

    length: int
    before: int
    first: int
    inside: int
    behind: int
    repeated: tuple[int, ...]

    @property
    def output(self) -> int:
        """Length in the output."""
        return self.before + self.inside + self.behind

    @property
    def plain(self) -> bool:
        """Whether nothing is added or taken away."""
        return self.inside == self.length == self.output


@dataclass(frozen=True, eq=False)
class PadGeometry:
    """What padding does to an array of one shape; compared by identity, since equal arguments give the same object.

    Attributes
    ----------
    input, output : tuple of int
        Shapes.
    axes : tuple of PaddedAxis
        One for each dimension.
    """

    input: tuple[int, ...]
    output: tuple[int, ...]
    axes: tuple[PaddedAxis, ...]

    def walk(self, order: Sequence[int]) -> tuple[tuple[PaddedAxis, ...], int]:
        """Return the axes in an order of memory, neighbours without padding joined, and the length of those behind
        the last with padding."""
        axes = [self.axes[axis] for axis in order]
        block = 1
        while len(axes) > 1 and axes[-1].plain:
            block *= axes.pop().length
        joined: list[PaddedAxis] = []
        for axis in axes:
            if joined and axis.plain and joined[-1].plain:
                length = joined.pop().length * axis.length
                axis = PaddedAxis(length, 0, 0, length, 0, ())
            joined.append(axis)
        return tuple(joined), block


def check_pad_mode(operation: str, mode: Any, value: Any) -> tuple[str, float]:
    """Return ``mode`` and ``value``; ValueError unless there is such a mode, and the value is one that it takes."""
    if not isinstance(mode, str) or mode not in PAD_MODES:
        raise ValueError(f"{operation}: mode must be one of {', '.join(PAD_MODES)}, got {mode!r}")
    if value is None:
        return mode, 0.0
    number = float(value) if isinstance(value, bool) else real(operation, "value", value)
    if mode != "constant" and number != 0:
        raise ValueError(f'{operation}: value is what mode "constant" fills in; mode {mode!r} has none, got {value!r}')
    return mode, number


def check_pad(operation: str, pad: Any) -> tuple[int, ...]:
    """Return ``pad`` as pairs of ints in one tuple; they may be negative."""
    if not _is_sequence(pad) or len(pad) % 2:
        raise (ValueError if _is_sequence(pad) else TypeError)(
            f"{operation}: pad must be (low, high) of the last dimension, then of the one before it, and so on, "
            f"got {pad!r}"
        )
    widths = []
    for item in pad:
        width = _index(item)
        if width is None:
            raise TypeError(f"{operation}: pad must be ints, got {item!r}")
        if abs(width) > LARGEST:
            raise ValueError(f"{operation}: pad must be at most {LARGEST}, got {width}")
        widths.append(width)
    return tuple(widths)


def check_pad_layer(owner: str, padding: Any, rank: int) -> tuple[int, ...]:
    """Return the padding of a layer as 2 · ``rank`` ints: an int for all sides, or (left, right, top, bottom, ...)."""
    if _index(padding) is not None:
        return check_pad(owner, (padding,) * (2 * rank))
    if not _is_sequence(padding):
        raise TypeError(f"{owner}: padding must be an int or {2 * rank} ints, got {padding!r}")
    if len(padding) != 2 * rank:
        raise ValueError(f"{owner}: padding must be an int or {2 * rank} ints, got {padding!r}")
    return check_pad(owner, padding)


def _padded_axis(operation: str, axis: int, length: int, low: int, high: int, mode: str) -> PaddedAxis:
    most = {"reflect": length - 1, "circular": length}.get(mode)
    if most is not None and max(low, high) > max(most, 0):
        raise ValueError(
            f"{operation}: mode {mode!r} repeats at most {max(most, 0)} of the {length} elements of dimension {axis}, "
            f"but pad there is {(low, high)}"
        )
    if mode == "replicate" and length == 0 and max(low, high) > 0:
        raise ValueError(f"{operation}: mode 'replicate' finds nothing to repeat: dimension {axis} is empty")
    # Places begin to end of the padded axis remain, where 0 is the first pixel: negative widths take off, also of the
    # padding at the other end.
    begin, end = -low, length + high
    first, last = max(begin, 0), min(end, length)
    before, behind = max(min(end, 0) - begin, 0), max(end - max(begin, length), 0)
    places: tuple[int, ...] = ()
    if mode != "constant":
        lows, highs = repeated(length, max(low, 0), max(high, 0), mode)
        places = lows[:before] + highs[len(highs) - behind :]
    if last <= first:
        first = last = 0
    return PaddedAxis(length, before, first, last - first, behind, places)


@functools.lru_cache(maxsize=1024)
def _pad_geometry(operation: str, shape: tuple[int, ...], pad: tuple[int, ...], mode: str) -> PadGeometry:
    if len(pad) > 2 * len(shape):
        raise ValueError(
            f"{operation}: pad has {len(pad) // 2} pairs, but the input of shape {shape} has {len(shape)} dimensions"
        )
    widths = [(0, 0)] * len(shape)
    for i in range(len(pad) // 2):
        widths[-1 - i] = (pad[2 * i], pad[2 * i + 1])
    output = tuple(length + low + high for length, (low, high) in zip(shape, widths, strict=True))
    for axis, (length, (low, high)) in enumerate(zip(shape, widths, strict=True)):
        if output[axis] < 0:
            raise ValueError(
                f"{operation}: pad takes more off dimension {axis} than there is: "
                f"{length} + {low} + {high} = {output[axis]}"
            )
    check_memory(operation, "the output", output)
    if math.prod(output) and max(output, default=0) > LARGEST:
        raise ValueError(f"{operation}: no dimension of the output may be longer than {LARGEST}, got {output}")
    axes = tuple(
        _padded_axis(operation, axis, length, *sides, mode)
        for axis, (length, sides) in enumerate(zip(shape, widths, strict=True))
    )
    return PadGeometry(shape, output, axes)


def pad_geometry(operation: str, shape: tuple[int, ...], pad: Any, mode: str) -> PadGeometry:
    """Check the widths for an array of a shape and return what they make of it.

    Raises
    ------
    ValueError
        There are more pairs than dimensions, or a width is not possible there.
    TypeError
        A width is no integer.
    MemoryError
        The output could not be addressed.
    """
    return _pad_geometry(operation, shape, check_pad(operation, pad), mode)
