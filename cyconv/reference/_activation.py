"""Activations beyond those in `_pointwise.py`, each with its gradient, as their papers write them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ._common import Array, wide

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_erfc = np.vectorize(math.erfc, otypes=[float])


def _of(input: Array, f: Callable[[Array], Array], limit: float | None = None) -> Array:
    """Return f in float64 (or wider), rounded once; `limit`, if given, is what f tends to at -infinity."""
    x = wide(input)
    with np.errstate(all="ignore"):
        y = f(x)
    return np.asarray(y if limit is None else np.where(x == -np.inf, limit, y), input.dtype)


def _times(grad_output: Array, input: Array, slope: Callable[[Array], Array], low: float, high: float) -> tuple[Array]:
    """Return (dy slope(x),), with the limits `low` and `high` of the slope at both infinities."""
    x = wide(input)
    with np.errstate(all="ignore"):
        factor = np.where(x == -np.inf, low, np.where(x == np.inf, high, slope(x)))
        return ((wide(grad_output) * factor).astype(grad_output.dtype),)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def _log1p_exp(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _distribution(x: Array) -> Array:
    return np.asarray(_erfc(-x / math.sqrt(2)) / 2)


def _density(x: Array) -> Array:
    return np.asarray(np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def relu6(input: Array) -> Array:
    """Return min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0)


def relu6_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,): dy where 0 < x < 6."""
    return hardtanh_backward(grad_output, input, 0.0, 6.0)


def leaky_relu(input: Array, negative_slope: float = 0.01) -> Array:
    """Return x where x > 0, else negative_slope x."""
    return _of(input, lambda x: np.where(x > 0, x, negative_slope * x))


def leaky_relu_backward(grad_output: Array, input: Array, negative_slope: float = 0.01) -> tuple[Array]:
    """Return (d_input,)."""
    return _times(grad_output, input, lambda x: np.where(x > 0, 1, negative_slope), negative_slope, 1)


def elu(input: Array, alpha: float = 1.0) -> Array:
    """Return x where x > 0, else alpha (exp(x) - 1)."""
    return _of(input, lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def elu_backward(grad_output: Array, input: Array, alpha: float = 1.0) -> tuple[Array]:
    """Return (d_input,)."""
    return _times(grad_output, input, lambda x: np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))), 0, 1)


def selu(input: Array) -> Array:
    """Return SELU_SCALE elu(x, SELU_ALPHA)."""
    return _of(input, lambda x: SELU_SCALE * elu(x, SELU_ALPHA))


def selu_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,)."""
    (dx,) = elu_backward(wide(grad_output), wide(input), SELU_ALPHA)
    return ((SELU_SCALE * dx).astype(grad_output.dtype),)


def gelu(input: Array, approximate: str = "none") -> Array:
    """Return x Phi(x), exactly or with (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 for Phi."""
    if approximate == "tanh":
        return _of(input, lambda x: x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), 0)
    return _of(input, lambda x: x * _distribution(x), 0)


def gelu_backward(grad_output: Array, input: Array, approximate: str = "none") -> tuple[Array]:
    """Return (d_input,)."""
    if approximate == "tanh":
        c = 2 * math.sqrt(2 / math.pi)

        def slope(x: Array) -> Array:
            u = c * (x + 0.044715 * x**3)
            return _sigmoid(u) * (1 + x * _sigmoid(-u) * c * (1 + 3 * 0.044715 * x * x))

        return _times(grad_output, input, slope, 0, 1)
    return _times(grad_output, input, lambda x: _distribution(x) + x * _density(x), 0, 1)


def silu(input: Array) -> Array:
    """Return x / (1 + exp(-x))."""
    return _of(input, lambda x: x * _sigmoid(x), 0)


def silu_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,): dy s (1 + x (1 - s))."""
    return _times(grad_output, input, lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)), 0, 1)


def mish(input: Array) -> Array:
    """Return x tanh(log(1 + exp(x)))."""
    return _of(input, lambda x: x * np.tanh(_log1p_exp(x)), 0)


def mish_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,): dy (t + x (1 - t^2) sigmoid(x))."""

    def slope(x: Array) -> Array:
        t = np.tanh(_log1p_exp(x))
        return np.asarray(t + x * (1 - t * t) * _sigmoid(x))

    return _times(grad_output, input, slope, 0, 1)


def hardswish(input: Array) -> Array:
    """Return x relu6(x + 3) / 6."""
    return _of(input, lambda x: x * np.clip(x + 3, 0, 6) / 6, 0)


def hardswish_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,): 0 where x <= -3, dy where x >= 3, else dy (x / 3 + 1 / 2)."""
    return _times(grad_output, input, lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)), 0, 1)


def hardsigmoid(input: Array) -> Array:
    """Return relu6(x + 3) / 6."""
    return _of(input, lambda x: np.clip(x + 3, 0, 6) / 6)


def hardsigmoid_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,): dy / 6 where -3 < x < 3."""
    return _times(grad_output, input, lambda x: np.where((x <= -3) | (x >= 3), 0, 1 / 6), 0, 0)


def hardtanh(input: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Return min(max(x, min_val), max_val)."""
    return _of(input, lambda x: np.clip(x, min_val, max_val))


def hardtanh_backward(grad_output: Array, input: Array, min_val: float = -1.0, max_val: float = 1.0) -> tuple[Array]:
    """Return (d_input,): dy where min_val < x < max_val."""
    return _times(grad_output, input, lambda x: np.where((x <= min_val) | (x >= max_val), 0, 1), 0, 0)


def softplus(input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """Return log(1 + exp(beta x)) / beta, or x where beta x > threshold."""
    return _of(input, lambda x: np.where(beta * x > threshold, x, _log1p_exp(beta * x) / beta))


def softplus_backward(grad_output: Array, input: Array, beta: float = 1.0, threshold: float = 20.0) -> tuple[Array]:
    """Return (d_input,)."""
    ends = (0, 1) if beta > 0 else (1, 0)
    return _times(grad_output, input, lambda x: np.where(beta * x > threshold, 1, _sigmoid(beta * x)), *ends)


def softsign(input: Array) -> Array:
    """Return x / (1 + |x|)."""
    return _of(input, lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))))


def softsign_backward(grad_output: Array, input: Array) -> tuple[Array]:
    """Return (d_input,): dy / (1 + |x|)^2."""
    return _times(grad_output, input, lambda x: 1 / (1 + np.abs(x)) ** 2, 0, 0)


def _along_channels(weight: Array, x: Array) -> Array:
    w = wide(weight).reshape(-1)
    return w if w.size == 1 else w.reshape(-1, *(1,) * (x.ndim - 2))


def prelu(input: Array, weight: Array) -> Array:
    """Return x where x > 0, else weight x, with one weight or one for each channel."""
    return _of(input, lambda x: np.where(x > 0, x, _along_channels(weight, x) * x))


def prelu_backward(grad_output: Array, input: Array, weight: Array) -> tuple[Array, Array]:
    """Return (d_input, d_weight)."""
    x, dy = wide(input), wide(grad_output)
    dx = np.where(x > 0, dy, _along_channels(weight, x) * dy)
    terms = np.where(x > 0, 0, dy * x)
    dw = terms.sum() if weight.size == 1 else terms.sum(axis=(0, *range(2, x.ndim)))
    return dx.astype(input.dtype), np.asarray(dw, weight.dtype).reshape(weight.shape)
