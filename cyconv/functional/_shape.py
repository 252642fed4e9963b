"""Operations that move no number: flatten, unflatten."""

from __future__ import annotations

import functools
import math
from typing import Any

from .._geometry import any_integer
from ._arrays import Array, array, hashable, same_dtype
from ._twins import gradient_of


def _flat_shape(shape: tuple[int, ...], start_dim: Any, end_dim: Any) -> tuple[int, ...]:
    known = _checked_flat_shape
    return (known if hashable(start_dim, end_dim) else known.__wrapped__)(shape, start_dim, end_dim)


@functools.lru_cache(maxsize=1024, typed=True)
def _checked_flat_shape(shape: tuple[int, ...], start_dim: Any, end_dim: Any) -> tuple[int, ...]:
    ndim = max(len(shape), 1)
    axes = []
    for name, dim in (("start_dim", start_dim), ("end_dim", end_dim)):
        axis = any_integer("flatten", name, dim)
        if not -ndim <= axis < ndim:
            raise ValueError(f"flatten: {name} must be in [{-ndim}, {ndim}) for shape {shape}, got {dim}")
        axes.append(axis % ndim)
    first, last = axes
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} for shape {shape}")
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Array:
    """
    Return the input with the axes from `start_dim` to `end_dim` (both included) as one, in row-major order.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    start_dim, end_dim : int

    Returns
    -------
    ndarray
        A view where the memory order allows it, else a copy.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an axis no int.
    ValueError
        The array has no such axis, or the axes come in the wrong order.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import flatten
    >>> flatten(np.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = array(input, "flatten", "input")
    return x.reshape(_flat_shape(x.shape, start_dim, end_dim))


@gradient_of(
    flatten,
    "F.flatten_backward(np.ones(4), np.zeros((2, 2)))[0].tolist()",
    "[[1.0, 1.0], [1.0, 1.0]]",
)
def flatten_backward(grad_output: Any, input: Any, start_dim: int = 0, end_dim: int = -1) -> tuple[Array]:
    """
    Return ``(d_input,)``: grad_output in the shape of the input.

    Parameters
    ----------
    grad_output : ndarray
    input, start_dim, end_dim
        As forward took them; of `input` only shape and dtype matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    dy = array(grad_output, "flatten_backward", "grad_output")
    x = array(input, "flatten_backward", "input")
    if dy.dtype is not x.dtype:
        same_dtype("flatten_backward", grad_output=dy, input=x)
    expected = _flat_shape(x.shape, start_dim, end_dim)
    if dy.shape != expected:
        raise ValueError(f"flatten_backward: grad_output must have shape {expected}, got {dy.shape}")
    return (dy.reshape(x.shape),)


def _unflat_shape(shape: tuple[int, ...], dim: Any, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    known = _checked_unflat_shape
    # The cache tells 1 from True, but not (1,) from (True,).
    usual = hashable(dim) and all(type(size) is int for size in sizes)
    return (known if usual else known.__wrapped__)(shape, dim, sizes)


@functools.lru_cache(maxsize=1024, typed=True)
def _checked_unflat_shape(shape: tuple[int, ...], dim: Any, sizes: tuple[Any, ...]) -> tuple[int, ...]:
    axis = any_integer("unflatten", "dim", dim)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"unflatten: dim must be in [{-len(shape)}, {len(shape)}) for shape {shape}, got {dim}")
    axis %= len(shape)
    if not sizes:
        raise TypeError(f"unflatten: sizes must be a tuple of at least one int, got {sizes}")
    lengths = [any_integer("unflatten", "each of sizes", size) for size in sizes]
    open_, known = lengths.count(-1), math.prod(size for size in lengths if size != -1)
    if open_ > 1 or any(size < -1 for size in lengths):
        raise ValueError(f"unflatten: sizes must be lengths, of which one may be -1, got {sizes}")
    if open_ and known and shape[axis] % known == 0:
        lengths[lengths.index(-1)] = shape[axis] // known
    if -1 in lengths or math.prod(lengths) != shape[axis]:
        raise ValueError(f"unflatten: sizes {sizes} do not multiply up to {shape[axis]}, the length of axis {axis}")
    return (*shape[:axis], *lengths, *shape[axis + 1 :])


def _sizes(sizes: Any) -> tuple[Any, ...]:
    if not isinstance(sizes, (list, tuple)):
        raise TypeError(f"unflatten: sizes must be a tuple of at least one int, got {sizes!r}")
    return tuple(sizes)


def unflatten(input: Any, dim: int, sizes: Any) -> Array:
    """
    Return the input with the axis `dim` split into several, in row-major order: the opposite of :func:`flatten`.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    dim : int
    sizes : tuple of int
        Lengths of the new axes; one of them may be -1.

    Returns
    -------
    ndarray
        A view where the memory order allows it, else a copy.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or a number no int.
    ValueError
        The array has no such axis, or the sizes do not multiply up to its length.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import unflatten
    >>> unflatten(np.zeros((2, 12)), 1, (3, -1)).shape
    (2, 3, 4)
    """
    x = array(input, "unflatten", "input")
    return x.reshape(_unflat_shape(x.shape, dim, _sizes(sizes)))


@gradient_of(
    unflatten,
    "F.unflatten_backward(np.ones((1, 2)), np.zeros(2), 0, (1, 2))[0].tolist()",
    "[1.0, 1.0]",
)
def unflatten_backward(grad_output: Any, input: Any, dim: int, sizes: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: grad_output in the shape of the input.

    Parameters
    ----------
    grad_output : ndarray
    input, dim, sizes
        As forward took them; of `input` only shape and dtype matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    dy = array(grad_output, "unflatten_backward", "grad_output")
    x = array(input, "unflatten_backward", "input")
    if dy.dtype is not x.dtype:
        same_dtype("unflatten_backward", grad_output=dy, input=x)
    expected = _unflat_shape(x.shape, dim, _sizes(sizes))
    if dy.shape != expected:
        raise ValueError(f"unflatten_backward: grad_output must have shape {expected}, got {dy.shape}")
    return (dy.reshape(x.shape),)
