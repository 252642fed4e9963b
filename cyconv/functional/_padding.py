"""Padding of arrays, and its gradient."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import _settings
from .._geometry import check_gradient
from .._padding_geometry import PadGeometry, check_pad_mode, pad_geometry
from ..kernels import _workspace, load
from . import _arrays
from ._arrays import Array, array, same_dtype
from ._twins import gradient_of

#: What writing an element is worth in floating-point operations when the number of threads is chosen.
WORK = 4


def _order(x: Array) -> tuple[int, ...]:
    """Return the order of the axes of a dense array in memory, outermost first; C order for one with gaps."""
    usual = tuple(range(x.ndim))
    if x.flags.c_contiguous:
        return usual
    # A stable sort: of axes of equal strides, which only axes of length 1 have, the first stays the first.
    order = tuple(sorted(usual, key=lambda axis: -x.strides[axis]))
    return order if x.transpose(order).flags.c_contiguous else usual


def _in_order(x: Array, order: tuple[int, ...]) -> Array:
    """Return ``x`` with its axes in that order in memory, copied if they are not."""
    if x.transpose(order).flags.c_contiguous:
        return x
    _arrays.copies += 1
    copy: Array = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    return copy


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], order: tuple[int, ...]) -> Array:
    """Return a new array whose axes lie in memory in that order."""
    memory = _workspace.empty(tuple(shape[axis] for axis in order), dtype.char)
    result: Array = memory.transpose(np.argsort(order)) if order != tuple(range(len(order))) else memory
    return result


@functools.lru_cache(maxsize=1024)
def _walk(geometry: PadGeometry, order: tuple[int, ...]) -> Any:
    return load("padding").Pad(*geometry.walk(order))


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = 0.0) -> Array:
    """
    Pad an array with a value or with its own pixels.

    Parameters
    ----------
    input : array, float32 or float64, any number of dimensions from 1 on
        Dense arrays in any order of axes, channels-last ones among them, are read where they lie; others are copied.
    pad : sequence of int
        (low, high) of the last dimension, then of the one before it, and so on: (left, right, top, bottom) for images.
        Dimensions that are not named stay as they are. A negative width takes off instead.
    mode : {"constant", "reflect", "replicate", "circular"}
        What the padding holds: ``value``; the pixels mirrored at the outermost one, which is not repeated; the
        outermost pixel; the pixels at the other end.
    value : float
        What "constant" fills in.

    Returns
    -------
    ndarray
        In the dtype of ``input``, with its axes in the same order in memory.

    Raises
    ------
    TypeError
        The array is not float32 or float64, a width is no integer, or the value no number.
    ValueError
        There are more pairs than dimensions, more is taken off than there is, there is no such mode, "reflect" is to
        repeat as many pixels as there are, or "circular" more, or a value was given for a mode that has none.
    MemoryError
        The output could not be addressed.

    Notes
    -----
    y[i] = x[i − low] inside of x. Beyond its n pixels, with j = i − low: "reflect" x[−j] and x[2 (n − 1) − j],
    "replicate" x[0] and x[n − 1], "circular" x[j mod n]; one dimension after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import pad
    >>> row = np.array([[1.0, 2.0, 3.0]])
    >>> for mode in ("constant", "reflect", "replicate", "circular"):
    ...     print(pad(row, (2, 1), mode)[0])
    [0. 0. 1. 2. 3. 0.]
    [3. 2. 1. 2. 3. 2.]
    [1. 1. 1. 2. 3. 3.]
    [2. 3. 1. 2. 3. 1.]
    >>> pad(row, (-1, 1), value=7.0)
    array([[2., 3., 7.]])
    """
    mode, number = check_pad_mode("pad", mode, value)
    x = array(input, "pad", "input")
    geometry = pad_geometry("pad", x.shape, pad, mode)
    if x.ndim == 0:
        return x.copy()
    order = _order(x)
    x = _in_order(x, order)
    y = _empty(geometry.output, x.dtype, order)
    if y.size:
        _walk(geometry, order).run(y, x, number, _settings.threads_for(WORK * y.size))
    return y


@gradient_of(
    pad,
    'F.pad_backward(np.arange(4.0), np.zeros(2), (1, 1), "reflect")[0].tolist()',
    "[4.0, 2.0]",
)
def pad_backward(
    grad_output: Any, input: Any, pad: Any, mode: str = "constant", value: float | None = 0.0
) -> tuple[Array]:
    """
    Gradient of :func:`pad`: what arrives at the padding belongs to the pixel that stands there.

    Parameters
    ----------
    grad_output : array
        Gradient with respect to the output, in its shape and dtype.
    input, pad, mode, value
        As given to :func:`pad`. The values of ``input`` do not matter, only its shape and order in memory.

    Returns
    -------
    tuple of one ndarray
        The gradient of ``input``, with its axes in the same order in memory.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :func:`pad`, and if ``grad_output`` has another shape or dtype than the output.
    """
    mode, _ = check_pad_mode("pad_backward", mode, value)
    x = array(input, "pad_backward", "input")
    grad = array(grad_output, "pad_backward", "grad_output")
    same_dtype("pad_backward", grad_output=grad, input=x)
    geometry = pad_geometry("pad_backward", x.shape, pad, mode)
    check_gradient("pad_backward", grad.shape, geometry.output)
    if x.ndim == 0:
        return (grad.copy(),)
    order = _order(x)
    grad = _in_order(grad, order)
    dx = _empty(geometry.input, x.dtype, order)
    if not grad.size:
        dx[...] = 0
    elif dx.size:
        _walk(geometry, order).backward(dx, grad, _settings.threads_for(WORK * dx.size))
    return (dx,)
