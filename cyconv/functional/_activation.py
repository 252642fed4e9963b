"""Activations: functions of one element, and softmax."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import _settings
from .._geometry import any_integer
from ..kernels import load
from . import _arrays
from ._arrays import Array, array, empty_like, hashable, same_dtype
from ._twins import gradient_of

_pointwise = load("pointwise")
_softmax = load("loss")
#: What an element is worth in floating-point operations when the number of threads is chosen: moved, or through exp.
MOVE_WORK = 8
EXP_WORK = 24


def dense(x: Array) -> Array:
    """Return ``x`` in one stretch of memory, whatever the order of its axes; a copy where there are gaps."""
    if x.flags.c_contiguous or _is_dense(x.shape, x.strides, x.itemsize):
        return x
    _arrays.copies += 1
    return x.copy(order="K")


@functools.lru_cache(maxsize=1024)
def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether strides are those that NumPy gives a copy: one stretch of memory, no axis reversed or repeated."""
    model = np.lib.stride_tricks.as_strided(np.empty((), f"V{itemsize}"), shape, strides)
    return strides == np.empty_like(model).strides


def like(x: Array, model: Array) -> Array:
    """Return ``x`` in the memory order of ``model``, which is dense and has its shape."""
    if x.strides == model.strides or (x.flags.c_contiguous and model.flags.c_contiguous):
        return x
    _arrays.copies += 1
    copy = np.empty_like(model, dtype=x.dtype)
    copy[...] = x
    return copy


def _gradient_pair(operation: str, grad_output: Any, given: Any, name: str) -> tuple[Array, Array]:
    """Return grad_output and the array that it is the gradient of (or at), checked and in one memory order."""
    y = array(given, operation, name)
    dy = array(grad_output, operation, "grad_output")
    if dy.dtype is not y.dtype:
        same_dtype(operation, **{"grad_output": dy, name: y})
    if dy.shape != y.shape:
        raise ValueError(f"{operation}: grad_output must have the shape of {name}, {y.shape}, got {dy.shape}")
    if not (y.flags.c_contiguous and dy.flags.c_contiguous):
        y = dense(y)
        dy = like(dy, y)
    return dy, y


def _given(operation: str, input: Any, output: Any) -> tuple[Any, str]:
    if output is not None:
        return output, "output"
    if input is None:
        raise TypeError(f"{operation}: needs input, or output=, what forward returned; both are None")
    return input, "input"


def relu(input: Any) -> Array:
    """
    Return max(x, 0); NaN stays NaN.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import relu
    >>> relu(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.0, 0.0, 8.0]
    """
    x = array(input, "relu", "input")
    if not x.flags.c_contiguous:
        x = dense(x)
    y = empty_like(x)
    _pointwise.relu(y, x, _settings.threads_for(x.size * MOVE_WORK))
    return y


@gradient_of(
    relu,
    "F.relu_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.0, 1.0, 1.0]",
)
def relu_backward(grad_output: Any, input: Any, *, output: Any = None, out: Any = None) -> tuple[Array]:
    """
    Return ``(d_input,)``: grad_output where x > 0, else 0 (also at x = 0).

    Parameters
    ----------
    grad_output : ndarray
    input : ndarray or None
    output : ndarray, optional
        What forward returned, which tells the same; then `input` may be None.
    out : ndarray, optional
        Where to put the result: `grad_output` itself, if nobody else goes on using it. It is taken where its memory
        order is that of `input`; the array that is returned tells.

    Raises
    ------
    TypeError
        The dtypes differ, or both arrays are None.
    ValueError
        The shapes differ, or `out` is another array than `grad_output`.
    """
    given, name = _given("relu_backward", input, output)
    if out is not None and out is not grad_output:
        raise ValueError("relu_backward: out must be grad_output itself, got another array")
    dy, x = _gradient_pair("relu_backward", grad_output, given, name)
    # Brought into order, it is a copy, which may be written into as well.
    dx = dy if out is not None and dy.flags.writeable else empty_like(x)
    _pointwise.relu_backward(dx, dy, x, _settings.threads_for(x.size * MOVE_WORK))
    return (dx,)


def sigmoid(input: Any) -> Array:
    """
    Return 1 / (1 + exp(-x)).

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import sigmoid
    >>> sigmoid(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.119, 0.5, 1.0]
    """
    x = array(input, "sigmoid", "input")
    if not x.flags.c_contiguous:
        x = dense(x)
    y = empty_like(x)
    _pointwise.sigmoid(y, x, _settings.threads_for(x.size * EXP_WORK))
    return y


@gradient_of(
    sigmoid,
    "F.sigmoid_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.105, 0.235, 0.0]",
)
def sigmoid_backward(grad_output: Any, input: Any, *, output: Any = None) -> tuple[Array]:
    """
    Return ``(d_input,)``: grad_output y (1 - y), where y is the output.
    """
    given, name = _given("sigmoid_backward", input, output)
    dy, y = _gradient_pair("sigmoid_backward", grad_output, given, name)
    if name == "input":
        y = sigmoid(y)
    dx = empty_like(y)
    _pointwise.sigmoid_backward(dx, dy, y, _settings.threads_for(y.size * MOVE_WORK))
    return (dx,)


def tanh(input: Any) -> Array:
    """
    Return tanh(x).

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import tanh
    >>> tanh(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.964, 0.0, 1.0]
    """
    x = array(input, "tanh", "input")
    if not x.flags.c_contiguous:
        x = dense(x)
    y = empty_like(x)
    _pointwise.tanh(y, x, _settings.threads_for(x.size * EXP_WORK))
    return y


@gradient_of(
    tanh,
    "F.tanh_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.071, 0.786, 0.0]",
)
def tanh_backward(grad_output: Any, input: Any, *, output: Any = None) -> tuple[Array]:
    """
    Return ``(d_input,)``: grad_output (1 - y^2), where y is the output.
    """
    given, name = _given("tanh_backward", input, output)
    dy, y = _gradient_pair("tanh_backward", grad_output, given, name)
    if name == "input":
        y = tanh(y)
    dx = empty_like(y)
    _pointwise.tanh_backward(dx, dy, y, _settings.threads_for(y.size * MOVE_WORK))
    return (dx,)


@functools.lru_cache(maxsize=1024, typed=True)
def _axis(operation: str, ndim: int, dim: Any) -> int:
    axis = any_integer(operation, "dim", dim)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{operation}: dim must be in [{-ndim}, {ndim}) for an array of {ndim} dimensions, got {dim}")
    return axis % ndim


@functools.lru_cache(maxsize=1024)
def _split_shape(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _split(x: Array, axis: int) -> tuple[int, int, int]:
    """Return ``x``, which is dense, as (outer, classes, inner): how its memory is divided by the axis."""
    if x.flags.c_contiguous:
        return _split_shape(x.shape, axis)
    classes = x.shape[axis]
    inner = x.strides[axis] // x.itemsize
    return x.size // (classes * inner) if x.size else 0, classes, inner


def softmax(input: Any, dim: int) -> Array:
    """
    Return exp(x) / sum of exp(x) along an axis.

    Parameters
    ----------
    input : ndarray, float32 or float64
    dim : int
        The axis along which the output sums to 1.

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `dim` no int.
    ValueError
        The array has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import softmax
    >>> softmax(np.log([1.0, 3.0]), 0).round(4).tolist()
    [0.25, 0.75]
    """
    return _forward("softmax", input, dim, False)


def log_softmax(input: Any, dim: int) -> Array:
    """
    Return x - log(sum of exp(x) along an axis), without overflow.

    Parameters
    ----------
    input : ndarray, float32 or float64
    dim : int
        The axis along which the exponentials of the output sum to 1.

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `dim` no int.
    ValueError
        The array has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import log_softmax
    >>> log_softmax(np.array([0.0, 1000.0]), 0).tolist()
    [-1000.0, 0.0]
    """
    return _forward("log_softmax", input, dim, True)


def _forward(operation: str, input: Any, dim: Any, logarithm: bool) -> Array:
    x = array(input, operation, "input")
    axis = (_axis if hashable(dim) else _axis.__wrapped__)(operation, x.ndim, dim)
    if not x.flags.c_contiguous:
        x = dense(x)
    y = empty_like(x)
    if x.size:
        _softmax.softmax(y, x, logarithm, *_split(x, axis), _settings.threads_for(x.size * EXP_WORK))
    return y


@gradient_of(
    softmax,
    "F.softmax_backward(np.array([1.0, 0.0]), np.zeros(2), 0)[0].tolist()",
    "[0.25, -0.25]",
)
def softmax_backward(grad_output: Any, input: Any, dim: int, *, output: Any = None) -> tuple[Array]:
    """
    Return ``(d_input,)``: y (dy - sum of y dy along the axis), where y is the output and dy grad_output.

    Parameters
    ----------
    grad_output : ndarray
    input : ndarray or None
    dim : int
    output : ndarray, optional
        What forward returned; then `input` may be None.

    Raises
    ------
    TypeError
        The dtypes differ, or both arrays are None.
    ValueError
        The shapes differ, or the arrays have no such axis.
    """
    return _backward("softmax", grad_output, input, dim, output, False)


@gradient_of(
    log_softmax,
    "F.log_softmax_backward(np.array([1.0, 0.0]), np.zeros(2), 0)[0].tolist()",
    "[0.5, -0.5]",
)
def log_softmax_backward(grad_output: Any, input: Any, dim: int, *, output: Any = None) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy - exp(y) (sum of dy along the axis), where y is the output and dy grad_output.
    """
    return _backward("log_softmax", grad_output, input, dim, output, True)


def _backward(forward: str, grad_output: Any, input: Any, dim: Any, output: Any, logarithm: bool) -> tuple[Array]:
    operation = forward + "_backward"
    given, name = _given(operation, input, output)
    dy, y = _gradient_pair(operation, grad_output, given, name)
    axis = (_axis if hashable(dim) else _axis.__wrapped__)(operation, y.ndim, dim)
    if name == "input":
        y = _forward(forward, y, dim, logarithm)
    dx = empty_like(y)
    if y.size:
        _softmax.softmax_backward(dx, dy, y, logarithm, *_split(y, axis), _settings.threads_for(y.size * EXP_WORK))
    return (dx,)
