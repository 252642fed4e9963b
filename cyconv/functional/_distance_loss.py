"""Losses of the distance between two arrays: squared, absolute, and the two in between."""

from __future__ import annotations

from typing import Any

from ._arrays import Array
from ._elementwise_loss import check_reduction, gradients, number, pair, value
from ._twins import gradient_of


def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """
    Squared error: (input - target)^2.

    Parameters
    ----------
    input, target : ndarray of one shape and dtype, float32 or float64
    reduction : {"mean", "sum", "none"}
        The mean is over all elements; with `weight` the sum is divided by that of the weights.
    weight : ndarray in the shape and dtype of `input`, optional
        A factor for each element's loss.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in its shape

    Raises
    ------
    TypeError
        The dtypes differ, or are neither float32 nor float64.
    ValueError
        The shapes differ, or there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> float(mse_loss(np.array([1.0, 5.0]), np.array([2.0, 2.0])))
    5.0
    """
    check_reduction("mse_loss", reduction)
    this = pair("mse_loss", "squared", input, target, reduction, weight, own_shape=True, by_weight=True)
    return value("squared", this, reduction)


@gradient_of(
    mse_loss,
    "[g.tolist() for g in F.mse_loss_backward(1.0, np.array([3.0]), np.array([1.0]))]",
    "[[4.0], [-4.0]]",
)
def mse_loss_backward(
    grad_output: Any, input: Any, target: Any, reduction: str = "mean", weight: Any = None, *, target_grad: bool = True
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`mse_loss`: 2 (input - target) times grad_output, and its negative.

    Parameters
    ----------
    grad_output : float or ndarray
        Gradient of the value: a number, or with ``reduction="none"`` an array in the shape of `input`.
    input, target, reduction, weight
        As forward took them. The weight counts as a constant and has no gradient.
    target_grad : bool
        False leaves the second gradient out: ``(d_input,)``.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` has the wrong shape or dtype.

    Examples
    --------
    >>> import numpy as np
    >>> [g.tolist() for g in mse_loss_backward(1.0, np.array([1.0, 5.0]), np.array([2.0, 2.0]))]
    [[-1.0, 3.0], [1.0, -3.0]]
    """
    operation = "mse_loss_backward"
    check_reduction(operation, reduction)
    this = pair(operation, "squared", input, target, reduction, weight, own_shape=True, by_weight=True)
    return gradients("squared", this, grad_output, reduction, target_grad)


def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """
    Absolute error: abs(input - target).

    Parameters
    ----------
    input, target : ndarray of one shape, float32 or float64
    reduction : {"mean", "sum", "none"}
        The mean is over all elements; with `weight` the sum is divided by that of the weights.
    weight : ndarray in the shape and dtype of `input`, optional
        A factor for each element's loss.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in its shape

    Raises
    ------
    TypeError
        The dtypes differ, or are neither float32 nor float64.
    ValueError
        The shapes differ, or there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> float(l1_loss(np.array([1.0, 5.0]), np.array([2.0, 2.0])))
    2.0
    """
    check_reduction("l1_loss", reduction)
    this = pair("l1_loss", "absolute", input, target, reduction, weight, own_shape=True, by_weight=True)
    return value("absolute", this, reduction)


@gradient_of(
    l1_loss,
    "[g.tolist() for g in F.l1_loss_backward(1.0, np.array([3.0]), np.array([1.0]))]",
    "[[1.0], [-1.0]]",
)
def l1_loss_backward(
    grad_output: Any, input: Any, target: Any, reduction: str = "mean", weight: Any = None, *, target_grad: bool = True
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`l1_loss`: the sign of input - target (0 at 0), and its negative.

    Examples
    --------
    >>> import numpy as np
    >>> l1_loss_backward(1.0, np.array([1.0, 5.0]), np.array([2.0, 2.0]), target_grad=False)[0].tolist()
    [-0.5, 0.5]
    """
    operation = "l1_loss_backward"
    check_reduction(operation, reduction)
    this = pair(operation, "absolute", input, target, reduction, weight, own_shape=True, by_weight=True)
    return gradients("absolute", this, grad_output, reduction, target_grad)


def _smooth(operation: str, reduction: Any, beta: Any) -> tuple[str, float]:
    """Return the kernel's loss and its parameter: with beta 0 nothing is smoothed."""
    check_reduction(operation, reduction)
    width = number(operation, "beta", beta, True)
    return ("smooth" if width else "absolute"), width


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """
    Absolute error that is square near 0 (Girshick 2015).

    With d = abs(input - target): d^2 / (2 beta) where d < beta, else d - beta / 2.

    Parameters
    ----------
    input, target : ndarray of one shape and dtype, float32 or float64
    reduction : {"mean", "sum", "none"}
        The mean is over all elements.
    beta : float
        Where the square ends, at least 0; with 0 the loss is :func:`l1_loss`.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in its shape

    Raises
    ------
    TypeError
        The dtypes differ, or are neither float32 nor float64, or `beta` is no number.
    ValueError
        The shapes differ, `beta` is negative, or there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> smooth_l1_loss(np.array([0.5, 3.0]), np.zeros(2), "none").tolist()
    [0.125, 2.5]
    """
    loss, width = _smooth("smooth_l1_loss", reduction, beta)
    return value(loss, pair("smooth_l1_loss", loss, input, target, reduction), reduction, width)


@gradient_of(
    smooth_l1_loss,
    "[g.tolist() for g in F.smooth_l1_loss_backward(1.0, np.array([3.0]), np.array([1.0]))]",
    "[[1.0], [-1.0]]",
)
def smooth_l1_loss_backward(
    grad_output: Any, input: Any, target: Any, reduction: str = "mean", beta: float = 1.0, *, target_grad: bool = True
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`smooth_l1_loss`: (input - target) / beta between -1 and 1, its negative.

    Examples
    --------
    >>> import numpy as np
    >>> smooth_l1_loss_backward(1.0, np.array([0.5, 3.0]), np.zeros(2), "sum")[0].tolist()
    [0.5, 1.0]
    """
    operation = "smooth_l1_loss_backward"
    loss, width = _smooth(operation, reduction, beta)
    return gradients(loss, pair(operation, loss, input, target, reduction), grad_output, reduction, target_grad, width)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """
    Squared error that is linear from delta on (Huber 1964).

    With d = abs(input - target): d^2 / 2 where d <= delta, else delta (d - delta / 2).

    Parameters
    ----------
    input, target : ndarray of one shape and dtype, float32 or float64
    reduction : {"mean", "sum", "none"}
        The mean is over all elements, with `weight`, too.
    delta : float
        Where the square ends, above 0.
    weight : ndarray in the shape and dtype of `input`, optional
        A factor for each element's loss.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in its shape

    Raises
    ------
    TypeError
        The dtypes differ, or are neither float32 nor float64, or `delta` is no number.
    ValueError
        The shapes differ, `delta` is not above 0, or there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> huber_loss(np.array([0.5, 3.0]), np.zeros(2), "none", delta=2.0).tolist()
    [0.125, 4.0]
    """
    check_reduction("huber_loss", reduction)
    width = number("huber_loss", "delta", delta, False)
    this = pair("huber_loss", "huber", input, target, reduction, weight, own_shape=True)
    return value("huber", this, reduction, width)


@gradient_of(
    huber_loss,
    "[g.tolist() for g in F.huber_loss_backward(1.0, np.array([3.0]), np.array([1.0]))]",
    "[[1.0], [-1.0]]",
)
def huber_loss_backward(
    grad_output: Any,
    input: Any,
    target: Any,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Any = None,
    *,
    target_grad: bool = True,
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`huber_loss`: input - target between -delta and delta, and its negative.

    Examples
    --------
    >>> import numpy as np
    >>> huber_loss_backward(1.0, np.array([0.5, 3.0]), np.zeros(2), "sum", delta=2.0)[0].tolist()
    [0.5, 2.0]
    """
    operation = "huber_loss_backward"
    check_reduction(operation, reduction)
    width = number(operation, "delta", delta, False)
    this = pair(operation, "huber", input, target, reduction, weight, own_shape=True)
    return gradients("huber", this, grad_output, reduction, target_grad, width)
