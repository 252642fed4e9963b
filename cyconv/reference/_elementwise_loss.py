"""Loss functions that compare two arrays element by element, then none, their mean or their sum.

Each is a formula and its two derivatives; what they share stands at the end. Weights are constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._common import Array, wide

#: The loss, its derivative with respect to input, and with respect to target.
Formula = tuple[Callable[..., Array], Callable[..., Array], Callable[..., Array]]


def _absolute(x: Array, t: Array) -> Any:
    return np.abs(x - t)


def _smooth(x: Array, t: Array, beta: float) -> Any:
    d = np.abs(x - t)
    return np.where(d < beta, d * d / (2 * beta) if beta else d, d - beta / 2)


def _smooth_slope(x: Array, t: Array, beta: float) -> Any:
    d = x - t
    return np.where(np.abs(d) < beta, d / beta if beta else d, np.sign(d))


def _huber(x: Array, t: Array, delta: float) -> Any:
    d = np.abs(x - t)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


def _logarithms(x: Array) -> tuple[Array, Array]:
    """Return log x and log(1 - x), at least -100: torch's bound."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)


def _binary(x: Array, t: Array) -> Any:
    log_x, log_rest = _logarithms(x)
    return -(t * log_x + (1 - t) * log_rest)


def _binary_target(x: Array, t: Array) -> Any:
    log_x, log_rest = _logarithms(x)
    return log_rest - log_x


def _softplus(x: Array) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _sigmoid(x: Array) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _divergence(x: Array, t: Array, log_target: bool) -> Any:
    if log_target:
        return np.exp(t) * (t - x)
    return np.where(t == 0, 0, t * np.log(np.where(t == 0, 1, t))) - t * x


def _divergence_target(x: Array, t: Array, log_target: bool) -> Any:
    with np.errstate(divide="ignore"):
        return np.exp(t) * (t - x + 1) if log_target else np.log(t) + 1 - x


_SQUARED: Formula = (lambda x, t: (x - t) ** 2, lambda x, t: 2 * (x - t), lambda x, t: 2 * (t - x))
_ABSOLUTE: Formula = (_absolute, lambda x, t: np.sign(x - t), lambda x, t: np.sign(t - x))
_SMOOTH: Formula = (_smooth, _smooth_slope, lambda x, t, beta: _smooth_slope(t, x, beta))
_HUBER: Formula = (
    _huber,
    lambda x, t, delta: np.clip(x - t, -delta, delta),
    lambda x, t, delta: np.clip(t - x, -delta, delta),
)
_BINARY: Formula = (_binary, lambda x, t: (x - t) / np.maximum(x * (1 - x), 1e-12), _binary_target)
_LOGITS: Formula = (
    lambda x, t, q: q * t * _softplus(-x) + (1 - t) * _softplus(x),
    lambda x, t, q: (1 - t) * _sigmoid(x) - q * t * _sigmoid(-x),
    lambda x, t, q: q * _softplus(-x) - _softplus(x),
)
_DIVERGENCE: Formula = (
    _divergence,
    lambda x, t, log_target: -np.exp(t) if log_target else -t,
    _divergence_target,
)


def _divisor(shape: tuple[int, ...], weight: Array | None, reduction: str, by_weight: bool) -> float:
    if reduction == "mean":
        return float(wide(weight).sum()) if by_weight and weight is not None else float(np.prod(shape))
    return float(shape[0]) if reduction == "batchmean" and shape else 1.0


def _loss(
    formula: Formula,
    input: Array,
    target: Array,
    more: tuple[Any, ...],
    weight: Array | None,
    reduction: str,
    by_weight: bool = False,
) -> Array:
    if reduction not in ("none", "mean", "sum", "batchmean"):
        raise ValueError(f"reduction must be 'none', 'mean', 'sum' or 'batchmean', got {reduction!r}")
    each = formula[0](wide(input), wide(target), *more)
    if weight is not None:
        each = each * wide(weight)
    if reduction != "none":
        with np.errstate(invalid="ignore", divide="ignore"):
            each = each.sum() / np.float64(_divisor(input.shape, weight, reduction, by_weight))
    return each.astype(input.dtype)


def _gradients(
    formula: Formula,
    grad_output: Array | float,
    input: Array,
    target: Array,
    more: tuple[Any, ...],
    weight: Array | None,
    reduction: str,
    by_weight: bool = False,
) -> tuple[Array, Array]:
    g = np.asarray(grad_output, np.float64)
    if reduction != "none" and input.size:
        g = g / _divisor(input.shape, weight, reduction, by_weight)
    if weight is not None:
        g = g * wide(weight)
    dx, dt = (derivative(wide(input), wide(target), *more) * g for derivative in formula[1:])
    return dx.astype(input.dtype), dt.astype(target.dtype)


def mse_loss(input: Array, target: Array, reduction: str = "mean", weight: Array | None = None) -> Array:
    """Squared error: ``(input - target)**2``; a weighted mean divides by the sum of the weights."""
    return _loss(_SQUARED, input, target, (), weight, reduction, True)


def mse_loss_backward(
    grad_output: Array | float, input: Array, target: Array, reduction: str = "mean", weight: Array | None = None
) -> tuple[Array, Array]:
    """Return (d_input, d_target): 2 (input - target) times the gradient of the element's loss, and its negative."""
    return _gradients(_SQUARED, grad_output, input, target, (), weight, reduction, True)


def l1_loss(input: Array, target: Array, reduction: str = "mean", weight: Array | None = None) -> Array:
    """Absolute error: ``|input - target|``; a weighted mean divides by the sum of the weights."""
    return _loss(_ABSOLUTE, input, target, (), weight, reduction, True)


def l1_loss_backward(
    grad_output: Array | float, input: Array, target: Array, reduction: str = "mean", weight: Array | None = None
) -> tuple[Array, Array]:
    """Return (d_input, d_target): the sign of input - target (0 at 0), and its negative."""
    return _gradients(_ABSOLUTE, grad_output, input, target, (), weight, reduction, True)


def smooth_l1_loss(input: Array, target: Array, reduction: str = "mean", beta: float = 1.0) -> Array:
    """With d = ``|input - target|``: ``d**2 / (2 beta)`` where d < beta, else ``d - beta / 2`` (Girshick 2015)."""
    return _loss(_SMOOTH, input, target, (beta,), None, reduction)


def smooth_l1_loss_backward(
    grad_output: Array | float, input: Array, target: Array, reduction: str = "mean", beta: float = 1.0
) -> tuple[Array, Array]:
    """Return (d_input, d_target): (input - target) / beta between -1 and 1, and its negative."""
    return _gradients(_SMOOTH, grad_output, input, target, (beta,), None, reduction)


def huber_loss(
    input: Array, target: Array, reduction: str = "mean", delta: float = 1.0, weight: Array | None = None
) -> Array:
    """With d = ``|input - target|``: ``d**2 / 2`` where d <= delta, else ``delta (d - delta / 2)`` (Huber 1964)."""
    return _loss(_HUBER, input, target, (delta,), weight, reduction)


def huber_loss_backward(
    grad_output: Array | float,
    input: Array,
    target: Array,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Array | None = None,
) -> tuple[Array, Array]:
    """Return (d_input, d_target): input - target between -delta and delta, and its negative."""
    return _gradients(_HUBER, grad_output, input, target, (delta,), weight, reduction)


def binary_cross_entropy(input: Array, target: Array, weight: Array | None = None, reduction: str = "mean") -> Array:
    """``-(t log x + (1 - t) log(1 - x))`` of probabilities, logarithms being at least -100."""
    return _loss(_BINARY, input, target, (), weight, reduction)


def binary_cross_entropy_backward(
    grad_output: Array | float, input: Array, target: Array, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Array, Array]:
    """Return (d_input, d_target): (x - t) / (x (1 - x)), the divisor at least 1e-12; log(1 - x) - log x."""
    return _gradients(_BINARY, grad_output, input, target, (), weight, reduction)


def binary_cross_entropy_with_logits(
    input: Array,
    target: Array,
    weight: Array | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """``-(q t log s + (1 - t) log(1 - s))`` with s = sigmoid(input) and q = `pos_weight`."""
    q = np.float64(1) if pos_weight is None else wide(pos_weight)
    return _loss(_LOGITS, input, target, (q,), weight, reduction)


def binary_cross_entropy_with_logits_backward(
    grad_output: Array | float,
    input: Array,
    target: Array,
    weight: Array | None = None,
    reduction: str = "mean",
    pos_weight: Array | None = None,
) -> tuple[Array, Array]:
    """Return (d_input, d_target): (1 - t) s - q t (1 - s), and log(1 - s) - q log s."""
    q = np.float64(1) if pos_weight is None else wide(pos_weight)
    return _gradients(_LOGITS, grad_output, input, target, (q,), weight, reduction)


def kl_div(input: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    """``t (log t - x)``, x being log-probabilities (Kullback & Leibler 1951); with `log_target`, t is exp(target)."""
    return _loss(_DIVERGENCE, input, target, (log_target,), None, reduction)


def kl_div_backward(
    grad_output: Array | float, input: Array, target: Array, reduction: str = "mean", log_target: bool = False
) -> tuple[Array, Array]:
    """Return (d_input, d_target): -t, and log t + 1 - x; with `log_target` -exp(t), and exp(t) (t + 1 - x)."""
    return _gradients(_DIVERGENCE, grad_output, input, target, (log_target,), None, reduction)
