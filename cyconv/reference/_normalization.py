"""Normalisation: y = (x - mean) / sqrt(variance + eps) * weight + bias over different sets of elements.

The gradient through the statistics (Ioffe & Szegedy 2015, section 3), with x^ = (x - mean) / sqrt(variance + eps),
g = dy * weight and means over the set that x belongs to:

    dx = (g - mean(g) - x^ mean(g x^)) / sqrt(variance + eps)

Where the statistics are given from outside they do not depend on x, and dx = g / sqrt(variance + eps).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._common import Array, wide


def _unit(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """Return (x^, 1 / sqrt(variance + eps)) over `axes`."""
    mean = x.mean(axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + eps)
    return (x - mean) * rstd, rstd


def _through_statistics(g: Array, unit: Array, rstd: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(rstd * (g - g.mean(axis=axes, keepdims=True) - unit * (g * unit).mean(axis=axes, keepdims=True)))


def _along(values: Array | None, ndim: int, default: float) -> Array:
    """Return values of channels so that they stand along axis 1 of an array."""
    full = np.full(1, default) if values is None else wide(values)
    return full.reshape(-1, *(1,) * (ndim - 2))


def _with(dx: Array, x: Array, dy: Array, unit: Array, weight: Array | None, bias: Array | None) -> tuple[Array, ...]:
    """Return (d_input[, d_weight][, d_bias]), the last two summed over all axes but the channels'."""
    axes = (0, *range(2, x.ndim))
    found = [dx.astype(x.dtype)]
    if weight is not None:
        found.append((dy * unit).sum(axis=axes).astype(weight.dtype))
    if bias is not None:
        found.append(dy.sum(axis=axes).astype(bias.dtype))
    return tuple(found)


def batch_norm(
    input: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise each channel over batch and space; in training move the running statistics towards the batch's.

    The running variance is moved towards the unbiased variance (divided by n - 1), in place, as in torch.
    """
    x, axes = wide(input), (0, *range(2, input.ndim))
    if training:
        unit, _ = _unit(x, axes, eps)
        _move(running_mean, x.mean(axis=axes), momentum)
        n = x.size // max(1, x.shape[1])
        _move(running_var, x.var(axis=axes) * (n / (n - 1)), momentum)
    else:
        unit = _fixed(x, running_mean, running_var, eps)[0]
    return (unit * _along(weight, x.ndim, 1) + _along(bias, x.ndim, 0)).astype(input.dtype)


def _move(running: Array | None, value: Array, momentum: float) -> None:
    if running is not None:
        running[...] = (1 - momentum) * wide(running) + momentum * value


def _fixed(x: Array, mean: Array | None, var: Array | None, eps: float) -> tuple[Array, Array]:
    rstd = 1 / np.sqrt(_along(var, x.ndim, 1) + eps)
    return (x - _along(mean, x.ndim, 0)) * rstd, rstd


def batch_norm_backward(
    grad_output: Array,
    input: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, ...]:
    """Return (d_input[, d_weight][, d_bias]); the running statistics are neither changed nor, in training, used."""
    x, dy, axes = wide(input), wide(grad_output), (0, *range(2, input.ndim))
    g = dy * _along(weight, x.ndim, 1)
    if training:
        unit, rstd = _unit(x, axes, eps)
        dx = _through_statistics(g, unit, rstd, axes)
    else:
        unit, rstd = _fixed(x, running_mean, running_var, eps)
        dx = g * rstd
    return _with(dx, input, dy, unit, weight, bias)


def instance_norm(
    input: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise each channel of each sample over space; running statistics move towards the mean over the batch."""
    x, axes = wide(input), tuple(range(2, input.ndim))
    if use_input_stats:
        unit, _ = _unit(x, axes, eps)
        n = math.prod(x.shape[2:])
        if running_mean is not None or running_var is not None:
            _move(running_mean, x.mean(axis=axes).mean(axis=0), momentum)
            _move(running_var, x.var(axis=axes).mean(axis=0) * (n / (n - 1)), momentum)
    else:
        unit = _fixed(x, running_mean, running_var, eps)[0]
    return (unit * _along(weight, x.ndim, 1) + _along(bias, x.ndim, 0)).astype(input.dtype)


def instance_norm_backward(
    grad_output: Array,
    input: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, ...]:
    """Return (d_input[, d_weight][, d_bias])."""
    x, dy, axes = wide(input), wide(grad_output), tuple(range(2, input.ndim))
    g = dy * _along(weight, x.ndim, 1)
    if use_input_stats:
        unit, rstd = _unit(x, axes, eps)
        dx = _through_statistics(g, unit, rstd, axes)
    else:
        unit, rstd = _fixed(x, running_mean, running_var, eps)
        dx = g * rstd
    return _with(dx, input, dy, unit, weight, bias)


def _in_groups(shape: tuple[int, ...], num_groups: int) -> tuple[int, int, int]:
    return shape[0], num_groups, math.prod(shape[1:]) // num_groups


def group_norm(
    input: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalise each group of neighbouring channels of each sample (Wu & He 2018)."""
    x = wide(input)
    unit = _unit(x.reshape(_in_groups(x.shape, num_groups)), (2,), eps)[0].reshape(x.shape)
    return (unit * _along(weight, x.ndim, 1) + _along(bias, x.ndim, 0)).astype(input.dtype)


def group_norm_backward(
    grad_output: Array,
    input: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, ...]:
    """Return (d_input[, d_weight][, d_bias])."""
    x, dy = wide(input), wide(grad_output)
    groups = _in_groups(x.shape, num_groups)
    unit, rstd = _unit(x.reshape(groups), (2,), eps)
    g = (dy * _along(weight, x.ndim, 1)).reshape(groups)
    dx = _through_statistics(g, unit, rstd, (2,)).reshape(x.shape)
    return _with(dx, input, dy, unit.reshape(x.shape), weight, bias)


def layer_norm(
    input: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise over the last axes, whose sizes are `normalized_shape` (Ba, Kiros & Hinton 2016)."""
    x, axes = wide(input), tuple(range(-len(normalized_shape), 0))
    y = _unit(x, axes, eps)[0]
    if weight is not None:
        y = y * wide(weight)
    return (y if bias is None else y + wide(bias)).astype(input.dtype)


def layer_norm_backward(
    grad_output: Array,
    input: Array,
    normalized_shape: Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, ...]:
    """Return (d_input[, d_weight][, d_bias])."""
    x, dy, axes = wide(input), wide(grad_output), tuple(range(-len(normalized_shape), 0))
    unit, rstd = _unit(x, axes, eps)
    dx = _through_statistics(dy if weight is None else dy * wide(weight), unit, rstd, axes)
    outer = tuple(range(x.ndim - len(normalized_shape)))
    found = [dx.astype(input.dtype)]
    if weight is not None:
        found.append((dy * unit).sum(axis=outer).astype(weight.dtype))
    if bias is not None:
        found.append(dy.sum(axis=outer).astype(bias.dtype))
    return tuple(found)


def local_response_norm(input: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """Return x / (k + alpha / size * the sum of x^2 over `size` channels around)^beta (Krizhevsky et al. 2012)."""
    x = wide(input)
    return (x * _scale(x, size, alpha, k) ** -beta).astype(input.dtype)


def _neighbours(x: Array, size: int, before: int) -> Array:
    """Return the sum over channels c - before, ..., c - before + size - 1; zeros beyond the ends."""
    total = np.zeros_like(x)
    for offset in range(-before, size - before):
        low, high = max(0, -offset), min(x.shape[1], x.shape[1] - offset)
        if low < high:
            total[:, low:high] += x[:, low + offset : high + offset]
    return total


def _scale(x: Array, size: int, alpha: float, k: float) -> Array:
    return np.asarray(k + alpha / size * _neighbours(x * x, size, size // 2))


def local_response_norm_backward(
    grad_output: Array, input: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array]:
    """Return (d_input,): dy d^-beta - 2 alpha beta / size x (sum of dy x d^(-beta-1) over the windows x is in)."""
    x, dy = wide(input), wide(grad_output)
    d = _scale(x, size, alpha, k)
    inside = _neighbours(dy * x * d ** (-beta - 1), size, size - 1 - size // 2)
    return ((dy * d**-beta - 2 * alpha * beta / size * x * inside).astype(input.dtype),)
