"""Fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _settings, kernels
from .._geometry import check_gradient, check_linear
from ._arrays import Array, array, empty, same_dtype
from ._twins import gradient_of

_product = kernels.load("matmul").product


def linear(input: Any, weight: Any, bias: Any = None, *, rectified: bool = False) -> Array:
    """
    Fully connected layer: y = x Wᵀ + b.

    Parameters
    ----------
    input : array, shape (..., in_features)
        float32 or float64.
    weight : array, shape (out_features, in_features)
        Of the same dtype.
    bias : array, shape (out_features,), optional
        Added to every row.
    rectified : bool
        Apply a ReLU to the result, while it is at hand.

    Returns
    -------
    ndarray, shape (..., out_features)

    Raises
    ------
    TypeError
        An array is not float32 or float64, or dtypes are mixed.
    ValueError
        Shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import linear
    >>> linear(np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 3.0]]), np.array([0.0, 0.0, 1.0]))
    array([[ 3., -1.,  7.]])
    """
    x, w, b = _operands("linear", input, weight, bias)
    return _forward("linear", x, w, b, rectified)


@gradient_of(
    linear,
    "w = np.array([[4.0, 5.0]])",
    "[g.tolist() for g in F.linear_backward(np.ones((1, 1)), np.array([[2.0, 3.0]]), w, np.zeros(1))]",
    "[[[4.0, 5.0]], [[2.0, 3.0]], [1.0]]",
)
def linear_backward(
    grad_output: Any, input: Any, weight: Any, bias: Any = None, *, input_grad: bool = True
) -> tuple[Any, ...]:
    """
    Gradients of :func:`linear`.

    Parameters
    ----------
    grad_output : array, shape (..., out_features)
        Gradient with respect to the output.
    input, weight, bias
        As in the forward pass. The values of ``bias`` do not matter, only whether there is one.
    input_grad : bool
        False leaves out the gradient of the input.

    Returns
    -------
    tuple of ndarray
        Gradients of ``input`` (None if ``input_grad`` is False), ``weight`` and, if there is one, ``bias``.

    Raises
    ------
    TypeError, ValueError
        As in the forward pass, and if ``grad_output`` has another shape or dtype than the output.
    """
    name = "linear_backward"
    x, w, b = _operands(name, input, weight, bias)
    grad = array(grad_output, name, "grad_output")
    if grad.dtype is not x.dtype:
        same_dtype(name, grad_output=grad, input=x)
    rows, features, outputs, shape = check_linear(name, x.shape, w.shape, None if b is None else b.shape)
    check_gradient(name, grad.shape, shape)
    g, x, w = _dense(grad, x, w)
    g = g.reshape(rows, outputs)
    threads = _settings.threads_for(2.0 * rows * features * outputs)
    dx: Array | None = None
    if input_grad:
        dx = empty(x.shape, x.dtype)
        _product(dx.reshape(rows, features), g, w, None, False, False, False, threads)
    dw = empty((outputs, features), x.dtype)
    flat = x.reshape(rows, features)
    _product(dw, g, flat, None, True, False, False, threads)
    if b is None:
        return dx, dw
    return dx, dw, g[0].copy() if rows == 1 else g.sum(0, np.float64).astype(x.dtype)


def _operands(operation: str, input: Any, weight: Any, bias: Any) -> tuple[Array, Array, Array | None]:
    x = array(input, operation, "input")
    w = array(weight, operation, "weight")
    b = bias
    if b is not None:
        b = array(b, operation, "bias")
        if b.dtype is not x.dtype:
            same_dtype(operation, input=x, weight=w, bias=b)
    if x.dtype is not w.dtype:
        same_dtype(operation, input=x, weight=w)
    return x, w, b


def _dense(*arrays: Array) -> list[Array]:
    """Return the arrays C-contiguous; after the checks, so that a broadcast giant is refused before it is copied."""
    return [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]


def _forward(operation: str, x: Array, weight: Array, bias: Array | None, rectified: bool) -> Array:
    rows, features, outputs, shape = check_linear(
        operation, x.shape, weight.shape, None if bias is None else bias.shape
    )
    x, weight = _dense(x, weight)
    if bias is not None:
        (bias,) = _dense(bias)
    y = empty(shape, x.dtype)
    threads = _settings.threads_for(2.0 * rows * features * outputs)
    if len(shape) == 2:
        _product(y, x, weight, bias, False, True, rectified, threads)
    else:
        _product(y.reshape(rows, outputs), x.reshape(rows, features), weight, bias, False, True, rectified, threads)
    return y
