"""Layer norm, and the normalisation of neighbouring channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _settings
from .._geometry import integer, pair
from ..kernels import load
from . import _arrays
from ._activation import EXP_WORK, MOVE_WORK, like
from ._arrays import Array, array, empty_like, in_order, ordered, same_dtype
from ._normalization import Statistics, _eps, _given_statistics, _gradient_of, _number
from ._twins import gradient_of

_kernel = load("layer_normalization")
_response = load("response_normalization")


def _normalized_axes(operation: str, x: Array, normalized_shape: Any) -> tuple[int, ...]:
    sizes = (normalized_shape,) if not isinstance(normalized_shape, Sequence) else tuple(normalized_shape)
    shape = pair(operation, "normalized_shape", sizes, len(sizes), 0)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"{operation}: normalized_shape must be the sizes of the last axes of input, whose shape is {x.shape}; "
            f"got {shape}"
        )
    return shape


def _of_elements(operation: str, name: str, value: Any, x: Array, shape: tuple[int, ...]) -> Array | None:
    if value is None:
        return None
    given = array(value, operation, name)
    same_dtype(operation, **{"input": x, name: given})
    if given.shape != shape:
        raise ValueError(f"{operation}: {name} must have the normalized shape, {shape}, got {given.shape}")
    return given


def _in_rows(x: Array, inner: int) -> tuple[Array, tuple[int, ...]]:
    """Return ``x``, copied if need be, so that what is normalised together is one stretch of memory, and the order of
    the normalised axes in it."""
    natural = tuple(range(inner))
    if x.flags.c_contiguous:
        return x, natural
    first = x.ndim - inner
    # The step along an axis of one place means nothing: such axes stay on their side.
    order = sorted(
        range(x.ndim), key=lambda axis: (1, -x.strides[axis]) if x.shape[axis] != 1 else (0 if axis < first else 2, 0)
    )
    if min(order[first:]) == first and x.transpose(order).flags.c_contiguous:
        return x, tuple(axis - first for axis in order[first:])
    _arrays.copies += 1
    return np.ascontiguousarray(x), natural


def _flat(values: Array | None, order: tuple[int, ...], length: int, default: float, dtype: Any) -> Array:
    """Return the values of elements in the order of memory."""
    if values is None:
        return np.full(length, default, dtype)
    return np.ascontiguousarray(values.transpose(order)).ravel()


def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    return_statistics: bool = False,
) -> Any:
    """
    Normalise over the last axes: y = (x - mean) / sqrt(variance + eps) · weight + bias, the last two for each element.

    Ba, Kiros & Hinton 2016.

    Parameters
    ----------
    input : ndarray, (*, *normalized_shape), float32 or float64
    normalized_shape : int or sequence of int
    weight, bias : ndarray in the normalized shape, optional
        In the dtype of `input`.
    eps : float, at least 0
    return_statistics : bool
        Return ``(output, statistics)``; the backward function takes them.

    Returns
    -------
    output : ndarray in the shape and dtype of `input`
        In its memory order, if what is normalised together is one stretch of memory there; else a copy is made, and
        the output is C-contiguous.
    statistics : pair of ndarray
        Mean and biased variance, float64, flat, in the order in which the rows lie in memory.

    Raises
    ------
    TypeError
        An array has the wrong dtype, or the dtypes differ.
    ValueError
        Shapes do not fit together.

    Examples
    --------
    >>> layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]]), 2, eps=0.0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    operation = "layer_norm"
    x = array(input, operation, "input")
    shape = _normalized_axes(operation, x, normalized_shape)
    eps = _eps(operation, eps)
    weight = _of_elements(operation, "weight", weight, x, shape)
    bias = _of_elements(operation, "bias", bias, x, shape)
    x, order = _in_rows(x, len(shape))
    length = math.prod(shape)
    rows = x.size // max(1, length)
    y, found = empty_like(x), (np.zeros(rows), np.ones(rows))
    if x.size:
        weights, biases = _flat(weight, order, length, 1, x.dtype), _flat(bias, order, length, 0, x.dtype)
        threads = _settings.threads_for(x.size * MOVE_WORK)
        _kernel.normalize(y, x, *found, weights, biases, eps, rows, length, threads)
    return (y, found) if return_statistics else y


@gradient_of(
    layer_norm,
    "F.layer_norm_backward(np.array([1.0, 0.0]), np.array([1.0, 3.0]), (2,), eps=1.0)[0].round(3).tolist()",
    "[0.177, -0.177]",
)
def layer_norm_backward(
    grad_output: Any,
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *,
    statistics: Statistics | None = None,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """
    Return ``(d_input[, d_weight][, d_bias])`` of :func:`layer_norm`.

    The formula is that of :func:`batch_norm_backward`, with means over the normalised axes.
    """
    operation = "layer_norm_backward"
    x = array(input, operation, "input")
    shape = _normalized_axes(operation, x, normalized_shape)
    eps = _eps(operation, eps)
    weight = _of_elements(operation, "weight", weight, x, shape)
    bias = _of_elements(operation, "bias", bias, x, shape)
    dy = _gradient_of(operation, grad_output, x)
    x, order = _in_rows(x, len(shape))
    dy, length, threads = like(dy, x), math.prod(shape), _settings.threads_for(x.size * 2 * MOVE_WORK)
    rows = x.size // max(1, length)
    weights = _flat(weight, order, length, 1, x.dtype)
    dx, dw, db = empty_like(x) if input_grad else None, np.zeros(length), np.zeros(length)
    if x.size:
        if statistics is None:
            found = np.zeros(rows), np.zeros(rows)
            _kernel.normalize(None, x, *found, weights, weights, eps, rows, length, threads)
        else:
            found = _given_statistics(operation, statistics, (rows,))
        parameters = weight is not None or bias is not None
        _kernel.normalize_backward(dx, dw, db, parameters, dy, x, *found, weights, eps, rows, length, threads)
    moved = [shape[axis] for axis in order]
    back = np.argsort(order)
    sums = [total for total, value in ((dw, weight), (db, bias)) if value is not None]
    return (dx, *(np.ascontiguousarray(total.reshape(moved).transpose(back), x.dtype) for total in sums))


def _response_case(operation: str, input: Any, size: Any, alpha: Any, beta: Any, k: Any) -> tuple[Any, ...]:
    x = array(input, operation, "input")
    if x.ndim < 3:
        raise ValueError(f"{operation}: input must have shape (N, C, *spatial) of at least 3 axes, got {x.shape}")
    numbers = [_number(operation, name, value) for name, value in (("alpha", alpha), ("beta", beta), ("k", k))]
    return (x, integer(operation, "size", size, 1), *numbers)


def _response_shape(x: Array, last: bool) -> tuple[int, int, int]:
    """Return (outer, channels, inner) of the array in memory."""
    space = math.prod(x.shape[2:])
    return (x.shape[0] * space, x.shape[1], 1) if last else (x.shape[0], x.shape[1], space)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """
    Divide each value by what it and its neighbours in the channels are: y = x / (k + alpha / size · Σ x²)^beta.

    The sum goes over `size` channels, size // 2 of them before the value's own; beyond the ends are zeros.
    Krizhevsky, Sutskever & Hinton 2012.

    Parameters
    ----------
    input : ndarray, (N, C, *spatial) of at least 3 axes, float32 or float64
    size : int
    alpha, beta, k : float

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or a parameter no number.
    ValueError
        `input` has fewer than 3 axes, or `size` is below 1.

    Examples
    --------
    >>> local_response_norm(np.array([[[1.0], [2.0], [3.0]]]), 1, alpha=1.0, beta=1.0, k=0.0).ravel()
    array([1.        , 0.5       , 0.33333333])
    """
    x, size, alpha, beta, k = _response_case("local_response_norm", input, size, alpha, beta, k)
    x, last = ordered(x)
    y = empty_like(x)
    if x.size:
        threads = _settings.threads_for(x.size * EXP_WORK)
        _response.normalize(y, x, size, alpha, beta, k, *_response_shape(x, last), threads)
    return y


@gradient_of(
    local_response_norm,
    "F.local_response_norm_backward(np.ones((1, 1, 1)), np.ones((1, 1, 1)), 1, alpha=1.0)[0].round(3).tolist()",
    "[[[0.149]]]",
)
def local_response_norm_backward(
    grad_output: Any, input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`local_response_norm`.

    With d = k + alpha / size · Σ x², d_input = dy d^-beta - 2 alpha beta / size · x Σ dy x d^(-beta - 1), where the
    last sum goes over the channels in whose windows x is.
    """
    operation = "local_response_norm_backward"
    x, size, alpha, beta, k = _response_case(operation, input, size, alpha, beta, k)
    dy = _gradient_of(operation, grad_output, x)
    x, last = ordered(x)
    dy, dx = in_order(dy, last), empty_like(x)
    if x.size:
        threads = _settings.threads_for(x.size * 2 * EXP_WORK)
        _response.normalize_backward(dx, dy, x, size, alpha, beta, k, *_response_shape(x, last), threads)
    return (dx,)
