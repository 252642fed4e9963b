"""Every check and every size of interpolation, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ._geometry import AXES, LARGEST, _index, _is_sequence, check_memory, real

#: Modes, and the numbers of spatial dimensions of each.
MODES: dict[str, tuple[int, ...]] = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
#: Modes between whose samples there is something to align.
_SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")


@dataclass(frozen=True, eq=False)
class ResizeGeometry:
    """Sizes of one interpolation; compared by identity, since equal arguments give the same object.

    Attributes
    ----------
    batch, channels : int
    input, output : tuple of int
        One number for each spatial dimension.
    scales : tuple of float or None
        Inputs for each output along each dimension as ``scale_factor`` gives it; None: as the sizes give it.
    mode : str
    align_corners, antialias : bool
    """

    batch: int
    channels: int
    input: tuple[int, ...]
    output: tuple[int, ...]
    scales: tuple[float | None, ...]
    mode: str
    align_corners: bool
    antialias: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (self.batch, self.channels, *self.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (self.batch, self.channels, *self.output)


def resize_geometry(
    operation: str,
    input_shape: tuple[int, ...],
    size: Any,
    scale_factor: Any,
    mode: Any,
    align_corners: Any,
    recompute_scale_factor: Any,
    antialias: Any,
) -> ResizeGeometry:
    """Check all arguments of an interpolation and return its sizes.

    Raises
    ------
    ValueError
        A value or shape is not possible.
    TypeError
        An argument has the wrong type.
    MemoryError
        The output could not be addressed.
    """
    rank = _check_mode(operation, input_shape, mode)
    batch, channels, *spatial = input_shape
    _check_switches(operation, mode, align_corners, recompute_scale_factor, antialias)
    if (size is None) == (scale_factor is None):
        got = "none" if size is None else "both"
        raise ValueError(f"{operation}: one of size and scale_factor is needed, got {got}")
    scales: tuple[float | None, ...] = (None,) * rank
    if size is not None:
        if recompute_scale_factor:
            raise ValueError(f"{operation}: recompute_scale_factor means nothing with a size, only with scale_factor")
        output = tuple(_count(operation, "size", value) for value in _per_axis(operation, "size", size, rank))
    else:
        factors = tuple(_factor(operation, f) for f in _per_axis(operation, "scale_factor", scale_factor, rank))
        if any(length * factor > LARGEST for length, factor in zip(spatial, factors, strict=True)):
            raise ValueError(f"{operation}: scale_factor makes an axis longer than {LARGEST}: {factors}")
        output = tuple(int(length * factor) for length, factor in zip(spatial, factors, strict=True))
        if not recompute_scale_factor and mode != "area":
            scales = tuple(1.0 / factor for factor in factors)
    for axis, length, out in zip(AXES[rank], spatial, output, strict=True):
        if length < 1:
            raise ValueError(f"{operation}: the input has no pixels: its {axis} is 0")
        if out < 1:
            raise ValueError(f"{operation}: the output has no pixels: its {axis} is {out}, from {length} of the input")
    for what, sizes in (("input", spatial), ("output", output)):
        if math.prod(sizes) > LARGEST:
            raise ValueError(f"{operation}: a plane of the {what} has more than {LARGEST} pixels: {tuple(sizes)}")
    check_memory(operation, "the output", (batch, channels, *output))
    return ResizeGeometry(
        batch, channels, tuple(spatial), output, scales, mode, bool(align_corners), bool(antialias)
    )  # fmt: skip


def _check_mode(operation: str, input_shape: tuple[int, ...], mode: Any) -> int:
    """Return the number of spatial dimensions."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"{operation}: mode must be one of {', '.join(MODES)}, got {mode!r}")
    rank = len(input_shape) - 2
    if rank not in (1, 2, 3):
        raise ValueError(
            f"{operation}: input must have shape (N, C, *spatial) with 1 to 3 spatial axes, got {input_shape}"
        )
    if rank not in MODES[mode]:
        wanted = f"(N, C, {', '.join(AXES[MODES[mode][0]])})"
        fitting = ", ".join(name for name, ranks in MODES.items() if rank in ranks)
        raise ValueError(
            f"{operation}: mode {mode!r} takes an input of shape {wanted}, got {input_shape}; "
            f"for that there are {fitting}"
        )
    return rank


def _check_switches(operation: str, mode: str, align_corners: Any, recompute: Any, antialias: Any) -> None:
    for name, value in (("align_corners", align_corners), ("recompute_scale_factor", recompute)):
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"{operation}: {name} must be True, False or None, got {value!r}")
    if not isinstance(antialias, bool):
        raise TypeError(f"{operation}: antialias must be True or False, got {antialias!r}")
    if align_corners is not None and mode not in _SMOOTH:
        raise ValueError(f"{operation}: align_corners is for the modes {', '.join(_SMOOTH)}, not for {mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"{operation}: antialias is for the modes bilinear and bicubic, not for {mode!r}")


def _per_axis(operation: str, name: str, value: Any, rank: int) -> tuple[Any, ...]:
    if _is_sequence(value):
        if len(value) != rank:
            raise ValueError(f"{operation}: {name} must be one number or {rank}, got {tuple(value)}")
        return tuple(value)
    return (value,) * rank


def _count(operation: str, name: str, value: Any) -> int:
    number = _index(value)
    if number is None:
        raise TypeError(f"{operation}: {name} must be an int or a tuple of ints, got {value!r}")
    return number


def _factor(operation: str, value: Any) -> float:
    factor = real(operation, "scale_factor", value, "a number or a tuple of numbers")
    if not 0 < factor < math.inf:
        raise ValueError(f"{operation}: scale_factor must be greater than 0 and finite, got {value!r}")
    return factor
