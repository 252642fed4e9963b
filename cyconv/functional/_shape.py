"""Operations that move no number: flatten."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

from ._arrays import Array, array


@functools.lru_cache(maxsize=1024, typed=True)
def _flat_shape(shape: tuple[int, ...], start_dim: Any, end_dim: Any) -> tuple[int, ...]:
    ndim = max(len(shape), 1)
    axes = []
    for name, dim in (("start_dim", start_dim), ("end_dim", end_dim)):
        if isinstance(dim, bool) or not hasattr(dim, "__index__"):
            raise TypeError(f"flatten: {name} must be an int, got {dim!r}")
        axis = operator.index(dim)
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
    """
    x = array(input, "flatten", "input")
    return x.reshape(_flat_shape(x.shape, start_dim, end_dim))


def flatten_backward(grad_output: Any, input: Any, start_dim: int = 0, end_dim: int = -1) -> tuple[Array]:
    """
    Return ``(d_input,)``: grad_output in the shape of the input.

    Parameters
    ----------
    grad_output : ndarray
    input, start_dim, end_dim
        As forward took them; of `input` only the shape matters.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    dy = array(grad_output, "flatten_backward", "grad_output")
    x = array(input, "flatten_backward", "input")
    expected = _flat_shape(x.shape, start_dim, end_dim)
    if dy.shape != expected:
        raise ValueError(f"flatten_backward: grad_output must have shape {expected}, got {dy.shape}")
    return (dy.reshape(x.shape),)
