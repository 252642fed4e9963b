"""Interpolation: enlarging and shrinking feature maps."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _settings
from .._geometry import check_gradient
from .._resize_geometry import ResizeGeometry, resize_geometry
from ..kernels import load
from ._arrays import Array, array, channels_last, empty, hashable, in_order, ordered, same_dtype
from ._resize_tables import Table, axis_table, evened, lane_table, transposed, widened
from ._twins import gradient_of

_kernel = load("resize")
#: What an element is worth in floating-point operations when the number of threads is chosen.
WORK = 8
#: Channels-last pixels of fewer bytes are no vectors.
_NARROW = 64


class _Way:
    """Forward or backward: the tables, and kernels made of them when they are first needed."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = [evened(table) for table in tables]
        self._kernels: dict[tuple[np.dtype[Any], int], Any] = {}

    def _kernel(self, dtype: np.dtype[Any], pixel: int) -> Any:
        kernel = self._kernels.get((dtype, pixel))
        if kernel is None:
            tables = [*self._tables[:2], widened(self._tables[2], pixel)]
            picks = lane_table(tables[2], dtype, _kernel.lanes(dtype.itemsize), _kernel.halves())
            typed = [(t.inputs, t.counts, t.place, np.ascontiguousarray(t.weight, dtype)) for t in tables]
            kernel = self._kernels[dtype, pixel] = _kernel.Resize(typed, picks)
        return kernel

    def run(self, out: Array, x: Array, batch: int, channels: int, last: bool, threads: int) -> None:
        """Compute; pixels of few channels are shorter than a vector, and their line is taken as one of a plane."""
        if last and channels * x.dtype.itemsize < _NARROW:
            self._kernel(x.dtype, channels).run(out, x, batch, 1, False, threads)
        else:
            self._kernel(x.dtype, 1).run(out, x, batch, channels, last, threads)


class _Plan(NamedTuple):
    geometry: ResizeGeometry
    forward: _Way
    backward: _Way
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    work: int


# typed: 1, 1.0 and True are equal, and only one of them is an int.
@functools.lru_cache(maxsize=256, typed=True)
def _cached_plan(operation: str, input_shape: tuple[int, ...], *arguments: Any) -> _Plan:
    g = resize_geometry(operation, input_shape, *arguments)
    tables = [axis_table("nearest", 1, 1, None, False, False)] * (3 - len(g.input))
    for length, out, scale in zip(g.input, g.output, g.scales, strict=True):
        tables.append(axis_table(g.mode, length, out, scale, g.align_corners, g.antialias))
    elements = g.batch * g.channels * max(math.prod(g.input), math.prod(g.output))
    backward = _Way([transposed(table) for table in tables])
    return _Plan(g, _Way(tables), backward, g.input_shape, g.output_shape, WORK * elements)


def _plan(operation: str, input_shape: tuple[int, ...], size: Any, *arguments: Any) -> _Plan:
    # The cache tells 1 from True and 1.0, but not (1,) from (True,): what a tuple holds is looked at before.
    usual = size is None or type(size) is int or (type(size) is tuple and all(type(item) is int for item in size))
    known = usual and hashable(arguments)
    if not known:
        size, *rest = (tuple(value) if isinstance(value, list) else value for value in (size, *arguments))
        resize_geometry(operation, input_shape, size, *rest)
        arguments = tuple(rest)
        known = hashable(size, arguments)
    return (_cached_plan if known else _cached_plan.__wrapped__)(operation, input_shape, size, *arguments)


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    """
    Resize signals, images or volumes.

    Parameters
    ----------
    input : ndarray, (N, C, L), (N, C, H, W) or (N, C, D, H, W), float32 or float64
    size : int or tuple of int, optional
        Spatial size of the output.
    scale_factor : float or tuple of float, optional
        Or by how much to enlarge: an axis of length H gets int(H · scale_factor).
    mode : str
        "nearest" (the pixel at floor(q · H / P), as torch and old OpenCV have it), "nearest-exact" (the one whose
        centre is next, as Pillow and scikit-image), "linear", "bilinear", "trilinear" (for one, two, three axes),
        "bicubic" (Keys 1981, a = -0.75), "area" (the mean of the pixels that an output overlaps).
    align_corners : bool, optional
        For linear modes and bicubic. True: the centres of the outermost pixels stay where they are; False, the default:
        the outermost edges do, output q lying at (q + 0.5) · H / P - 0.5.
    recompute_scale_factor : bool, optional
        True: the distance of outputs is computed from the sizes, H / P; False, the default: it is 1 / scale_factor,
        which differs where H · scale_factor is no integer.
    antialias : bool
        For bilinear and bicubic: where the output is smaller, widen the kernel so that no pixel is left out, as Pillow
        does (there a = -0.5).

    Returns
    -------
    ndarray, (N, C, *size), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.
    MemoryError
        The output could not be addressed.

    Notes
    -----
    Computed axis by axis from tables of places and weights, which are kept for the next call. Output pixels behind the
    last input centre repeat the outermost pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import interpolate
    >>> x = np.array([[[0.0, 4.0]]])
    >>> interpolate(x, scale_factor=2, mode="nearest")
    array([[[0., 0., 4., 4.]]])
    >>> interpolate(x, scale_factor=2, mode="linear")
    array([[[0., 1., 3., 4.]]])
    >>> interpolate(x, size=3, mode="linear", align_corners=True)
    array([[[0., 2., 4.]]])
    """
    x = array(input, "interpolate", "input")
    plan = _plan(
        "interpolate", x.shape, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    )  # fmt: skip
    x, last = ordered(x)
    out = empty(plan.output_shape, x.dtype, last)
    g = plan.geometry
    plan.forward.run(out, x, g.batch, g.channels, last, _settings.threads_for(plan.work))
    return out


@gradient_of(
    interpolate,
    "F.interpolate_backward(np.ones((1, 1, 4)), np.zeros((1, 1, 2)), scale_factor=2)[0].tolist()",
    "[[[2.0, 2.0]]]",
)
def interpolate_backward(
    grad_output: Any,
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`interpolate`: each pixel takes from the outputs that it went into.

    Parameters
    ----------
    grad_output : ndarray
    input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    operation = "interpolate_backward"
    x = array(input, operation, "input")
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    plan = _plan(
        "interpolate", x.shape, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    )  # fmt: skip
    check_gradient(operation, dy.shape, plan.output_shape)
    last = not x.flags.c_contiguous and channels_last(x)
    dy = in_order(dy, last)
    dx = empty(plan.input_shape, x.dtype, last)
    g = plan.geometry
    plan.backward.run(dx, dy, g.batch, g.channels, last, _settings.threads_for(plan.work))
    return (dx,)
