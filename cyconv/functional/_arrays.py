"""Arrays on their way in and out: types, dtypes, memory order. The values of arguments are `_geometry.py`'s."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import _workspace

Array = NDArray[Any]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)

#: How often an input had to be copied because no kernel reads its memory order.
copies = 0


def array(value: Any, operation: str, argument: str) -> Array:
    """Return ``value`` as an aligned array of float32 or float64 in native byte order, without a copy where it is one.

    Raises
    ------
    TypeError
        It is no array of floating-point numbers.
    """
    if type(value) is np.ndarray and (value.dtype is FLOAT32 or value.dtype is FLOAT64) and value.flags.aligned:
        return value
    result = any_array(value, operation, argument)
    if result.dtype.newbyteorder("=") not in (FLOAT32, FLOAT64):
        raise TypeError(
            f"{operation}: {argument} has dtype {result.dtype}, expected float32 or float64; "
            f"convert it with {argument}.astype(np.float32)"
        )
    return np.require(result, dtype=result.dtype.newbyteorder("="), requirements="A")


def any_array(value: Any, operation: str, argument: str) -> Array:
    """Return ``value`` as an array of any dtype; NumPy's errors with the names of operation and argument."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{operation}: {argument} is a masked array; fill it first ({argument}.filled(0))")
    try:
        if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{operation}: {argument} cannot be made an array: {error}") from None


def hashable(*values: Any) -> bool:
    """Whether the arguments can be looked up in a cache; if not, the checks behind the cache say what they must be."""
    try:
        hash(values)
    except TypeError:
        return False
    return True


def generator(operation: str, rng: Any) -> np.random.Generator:
    """Return what ``numpy.random.default_rng`` makes of ``rng``; its errors with the name of the operation."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{operation}: rng must be a generator, a seed or None, got {rng!r}: {error}") from None


def same_dtype(operation: str, **arrays: Array | None) -> np.dtype[Any]:
    """Return the dtype that all arrays share; TypeError that names each argument's dtype otherwise."""
    found = {name: value.dtype for name, value in arrays.items() if value is not None}
    first = next(iter(found.values()))
    if any(dtype != first for dtype in found.values()):
        listed = ", ".join(f"{name} {dtype}" for name, dtype in found.items())
        raise TypeError(f"{operation}: mixed dtypes: {listed}; convert one of them, e.g. with .astype(np.{first})")
    return first


def channels_last(x: Array) -> bool:
    """Whether (N, C, *spatial) ``x`` lies in memory as (N, *spatial, C), and not also as a C-contiguous array."""
    return _workspace.is_channels_last(x)


def ordered(x: Array) -> tuple[Array, bool]:
    """Return ``x`` in a memory order that kernels read, and whether that is channels-last; copies anything else."""
    global copies
    if x.flags.c_contiguous:
        return x, False
    if channels_last(x):
        return x, True
    copies += 1
    return _copied(x), False


def _copied(x: Array) -> Array:
    """Return a C-contiguous copy, in memory of the pool where it is large."""
    result = _workspace.empty(x.shape, x.dtype.char)
    result[...] = x
    return result


def in_order(x: Array, last: bool) -> Array:
    """Return ``x`` in the memory order asked for, copied if it has another one."""
    global copies
    if last:
        if not x.flags.c_contiguous and channels_last(x):
            return x
        copies += 1
        return np.moveaxis(_copied(np.moveaxis(x, 1, -1)), -1, 1)
    if x.flags.c_contiguous:
        return x
    copies += 1
    return _copied(x)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], last: bool = False) -> Array:
    """Return a new (N, C, *spatial) array of float32, float64, int64 or uint8 in the memory order asked for."""
    return _workspace.empty_last(shape, dtype.char) if last else _workspace.empty(shape, dtype.char)


def empty_like(x: Array) -> Array:
    """Return a new array in the shape, dtype and memory order of ``x``, which is dense and float32 or float64."""
    if x.flags.c_contiguous:
        return _workspace.empty(x.shape, x.dtype.char)
    return np.ndarray(x.shape, x.dtype, _workspace.empty((x.size,), x.dtype.char), strides=x.strides)
