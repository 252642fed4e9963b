"""Losses of probabilities: binary cross-entropy (also of logits), and Kullback and Leibler's divergence."""

from __future__ import annotations

from typing import Any

from ._arrays import Array
from ._elementwise_loss import check_reduction, gradients, pair, value
from ._twins import gradient_of


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """
    Binary cross-entropy of probabilities: -(t log x + (1 - t) log(1 - x)), t being the target.

    Logarithms are at least -100, so that a wrong certainty costs 100 and not infinity.

    Parameters
    ----------
    input, target : ndarray of one shape and dtype, float32 or float64
        Probabilities, in [0, 1].
    weight : ndarray, optional
        A factor for each element's loss, in the dtype of `input` and a shape that broadcasts to its shape.
    reduction : {"mean", "sum", "none"}
        The mean is over all elements.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in its shape

    Raises
    ------
    TypeError
        The dtypes differ, or are neither float32 nor float64.
    ValueError
        The shapes do not fit together, a value is not in [0, 1], or there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy(np.array([0.5, 0.0]), np.array([1.0, 1.0]), reduction="none").round(4).tolist()
    [0.6931, 100.0]
    """
    check_reduction("binary_cross_entropy", reduction)
    this = pair("binary_cross_entropy", "binary", input, target, reduction, weight)
    return value("binary", this, reduction, limited=True)


@gradient_of(
    binary_cross_entropy,
    "F.binary_cross_entropy_backward(1.0, np.array([0.5]), np.array([1.0]))[0].round(3).tolist()",
    "[-2.0]",
)
def binary_cross_entropy_backward(
    grad_output: Any, input: Any, target: Any, weight: Any = None, reduction: str = "mean", *, target_grad: bool = True
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`binary_cross_entropy`.

    They are (x - t) / (x (1 - x)), where the divisor is at least 1e-12, and log(1 - x) - log x.

    Parameters
    ----------
    grad_output : float or ndarray
        Gradient of the value: a number, or with ``reduction="none"`` an array in the shape of `input`.
    input, target, weight, reduction
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
    >>> binary_cross_entropy_backward(1.0, np.array([0.5, 0.25]), np.array([1.0, 0.0]), reduction="sum")[0].round(4)
    array([-2.    ,  1.3333])
    """
    operation = "binary_cross_entropy_backward"
    check_reduction(operation, reduction)
    this = pair(operation, "binary", input, target, reduction, weight)
    return gradients("binary", this, grad_output, reduction, target_grad, limited=True)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """
    Binary cross-entropy of logits: -(q t log s + (1 - t) log(1 - s)) with s = sigmoid(input), t the target.

    Computed as log(1 + exp(-abs(x))) and what is linear in x: exact for logits of any size.

    Parameters
    ----------
    input, target : ndarray of one shape and dtype, float32 or float64
    weight : ndarray, optional
        A factor for each element's loss, in the dtype of `input` and a shape that broadcasts to its shape.
    reduction : {"mean", "sum", "none"}
        The mean is over all elements.
    pos_weight : ndarray, optional
        q, a factor of the positive part; as `weight`, for example (C,) for an input of (N, C).

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in its shape

    Raises
    ------
    TypeError
        The dtypes differ, or are neither float32 nor float64.
    ValueError
        The shapes do not fit together, or there is no such reduction.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy_with_logits(np.array([0.0, 800.0]), np.array([1.0, 0.0]), reduction="none").round(4)
    array([6.931e-01, 8.000e+02])
    """
    operation = "binary_cross_entropy_with_logits"
    check_reduction(operation, reduction)
    this = pair(operation, "binary_logits", input, target, reduction, weight, pos_weight)
    return value("binary_logits", this, reduction)


@gradient_of(
    binary_cross_entropy_with_logits,
    "F.binary_cross_entropy_with_logits_backward(1.0, np.array([0.5]), np.array([1.0]))[0].round(3).tolist()",
    "[-0.378]",
)
def binary_cross_entropy_with_logits_backward(
    grad_output: Any,
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
    *,
    target_grad: bool = True,
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`binary_cross_entropy_with_logits`.

    With s = sigmoid(x) they are (1 - t) s - q t (1 - s), and log(1 - s) - q log s.

    Parameters and errors are those of :func:`binary_cross_entropy_backward` and of forward.

    Examples
    --------
    >>> import numpy as np
    >>> binary_cross_entropy_with_logits_backward(1.0, np.array([0.0, 800.0]), np.array([1.0, 0.0]), reduction="sum")[0]
    array([-0.5,  1. ])
    """
    operation = "binary_cross_entropy_with_logits_backward"
    check_reduction(operation, reduction)
    this = pair(operation, "binary_logits", input, target, reduction, weight, pos_weight)
    return gradients("binary_logits", this, grad_output, reduction, target_grad)


def _divergence(operation: str, reduction: Any, log_target: Any) -> str:
    check_reduction(operation, reduction, True)
    return "divergence_log" if log_target else "divergence"


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """
    Kullback and Leibler's divergence (1951): t (log t - x), 0 where t = 0; t is the target.

    Parameters
    ----------
    input, target : ndarray of one shape and dtype, float32 or float64
        `input` holds logarithms of probabilities, `target` probabilities.
    reduction : {"mean", "batchmean", "sum", "none"}
        "mean" divides by the number of elements; "batchmean" by the length of the first axis, which is the divergence
        of (N, C) distributions.
    log_target : bool
        `target` holds logarithms of probabilities, too.

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
    >>> round(float(kl_div(np.log([[0.25, 0.75]]), np.array([[0.5, 0.5]]), "batchmean")), 4)
    0.1438
    """
    loss = _divergence("kl_div", reduction, log_target)
    return value(loss, pair("kl_div", loss, input, target, reduction), reduction)


@gradient_of(
    kl_div,
    "F.kl_div_backward(1.0, np.array([0.5]), np.array([1.0]))[0].round(3).tolist()",
    "[-1.0]",
)
def kl_div_backward(
    grad_output: Any,
    input: Any,
    target: Any,
    reduction: str = "mean",
    log_target: bool = False,
    *,
    target_grad: bool = True,
) -> tuple[Array, ...]:
    """
    Return ``(d_input, d_target)`` of :func:`kl_div`: -t, and log t + 1 - x, which is -infinity at t = 0.

    With `log_target` they are -exp(t), and exp(t) (t + 1 - x).

    Parameters and errors are those of :func:`binary_cross_entropy_backward` and of forward.

    Examples
    --------
    >>> import numpy as np
    >>> kl_div_backward(1.0, np.log([[0.25, 0.75]]), np.array([[0.5, 0.5]]), "batchmean")[0].tolist()
    [[-0.5, -0.5]]
    """
    operation = "kl_div_backward"
    loss = _divergence(operation, reduction, log_target)
    return gradients(loss, pair(operation, loss, input, target, reduction), grad_output, reduction, target_grad)
