"""Loss functions: a number for each sample, then none, their mean or their sum.

`nll_loss` and `cross_entropy` are one formula, ``loss[n] = -sum over c of a[n, c] log p[n, c]``, with coefficients a
made of target, class weights and label smoothing; the mean divides by the weights of the samples that count.
"""

from __future__ import annotations

import numpy as np

from ._common import Array, wide
from ._pointwise import log_softmax


def _coefficients(
    target: Array, shape: tuple[int, ...], weight: Array | None, ignore_index: int, label_smoothing: float
) -> tuple[Array, float]:
    """Return (a, divisor of the mean) for class indices or, with as many axes as the input, probabilities.

    Smoothing mixes the target with the uniform distribution over the C classes (Szegedy et al. 2016, section 7). The
    mean over class indices divides by the sum of their weights (ignored ones left out), that over probabilities by the
    number of samples: torch's convention.
    """
    axis = 0 if len(shape) == 1 else 1
    classes = shape[axis]
    per_class = np.ones(classes) if weight is None else wide(weight)
    w = per_class.reshape([classes if i == axis else 1 for i in range(len(shape))])
    if np.issubdtype(target.dtype, np.floating):
        q = wide(target) * (1 - label_smoothing) + label_smoothing / classes
        return w * q, float(target.size // classes) if classes else 0.0
    counts = target != ignore_index
    label = np.where(counts, target, 0)
    hit = np.expand_dims(label, axis) == np.arange(classes).reshape(w.shape)
    q = np.where(hit, 1 - label_smoothing, 0) + label_smoothing / classes
    return np.where(np.expand_dims(counts, axis), w * q, 0), float(per_class[label[counts]].sum())


def _reduce(loss: Array, divisor: float, reduction: str, dtype: np.dtype) -> Array:
    if reduction == "mean":
        with np.errstate(invalid="ignore", divide="ignore"):  # nothing to average over: NaN, as torch
            loss = loss.sum() / np.float64(divisor)
    elif reduction == "sum":
        loss = loss.sum()
    elif reduction != "none":
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
    return loss.astype(dtype)


def _per_sample(grad_output: Array | float, divisor: float, reduction: str, axis: int) -> Array:
    """Return the gradient of each sample's loss, with an axis of length one for the classes."""
    g = np.asarray(grad_output, np.float64)
    if reduction == "none":
        return np.expand_dims(g, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return g / np.float64(divisor) if reduction == "mean" else g


def _times(a: Array, b: Array) -> Array:
    """Return a * b with 0 where a is 0: what has no weight has no part in the loss, even if it is infinite."""
    return np.where(a == 0, 0, a * np.where(a == 0, 0, b))


def nll_loss(
    input: Array, target: Array, weight: Array | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Array:
    """Negative log likelihood: ``loss[n] = -weight[target[n]] input[n, target[n]]``, `input` being log-probabilities.

    Parameters
    ----------
    input : ndarray, (N, C), (C,) or (N, C, d1, ...)
    target : ndarray of int, (N,), () or (N, d1, ...)
    weight : ndarray, (C,), optional
    ignore_index : int
        Samples of this target count nowhere.
    reduction : "none", "mean" (over the weights of the targets) or "sum"

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in the shape of `target`
    """
    target = np.asarray(target)
    a, divisor = _coefficients(target, input.shape, weight, ignore_index, 0.0)
    return _reduce(-_times(a, wide(input)).sum(axis=0 if input.ndim == 1 else 1), divisor, reduction, input.dtype)


def nll_loss_backward(
    grad_output: Array | float,
    input: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Array]:
    """Return (d_input,): -weight[c] at the target's class times the gradient of the sample's loss, else 0."""
    a, divisor = _coefficients(np.asarray(target), input.shape, weight, ignore_index, 0.0)
    g = _per_sample(grad_output, divisor, reduction, 0 if input.ndim == 1 else 1)
    return (-_times(a, g).astype(input.dtype),)


def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Cross-entropy of logits: ``loss[n] = -sum over c of weight[c] q[n, c] log softmax(input[n])[c]``.

    q is the target as a distribution: one at the target's class, or the probabilities given, mixed with
    `label_smoothing` parts of the uniform one.

    Parameters
    ----------
    input : ndarray, (N, C), (C,) or (N, C, d1, ...)
    target : ndarray of int, (N,), () or (N, d1, ...); or of float in the shape of `input`: probabilities
    weight : ndarray, (C,), optional
    ignore_index : int
        Samples of this target count nowhere. Has no meaning for probabilities.
    reduction : "none", "mean" or "sum"
        The mean is over the weights of the targets; for probabilities over the number of samples.
    label_smoothing : float

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in the shape of `input` without its class axis
    """
    axis = 0 if input.ndim == 1 else 1
    a, divisor = _coefficients(np.asarray(target), input.shape, weight, ignore_index, label_smoothing)
    return _reduce(-_times(a, log_softmax(wide(input), axis)).sum(axis=axis), divisor, reduction, input.dtype)


def cross_entropy_backward(
    grad_output: Array | float,
    input: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Array, ...]:
    """Return (d_input,): with a = weight * q, ``softmax(x) (sum of a over c) - a`` times the sample's gradient.

    For probabilities (d_input, d_target): the second is ``-weight log softmax(x)``, less what smoothing takes.
    """
    axis = 0 if input.ndim == 1 else 1
    a, divisor = _coefficients(np.asarray(target), input.shape, weight, ignore_index, label_smoothing)
    g = _per_sample(grad_output, divisor, reduction, axis)
    log_p = log_softmax(wide(input), axis)
    total = a.sum(axis=axis, keepdims=True)
    dx = (_times(total, g) * np.exp(log_p) - _times(a, g)).astype(input.dtype)
    if not np.issubdtype(np.asarray(target).dtype, np.floating):
        return (dx,)
    w = np.ones(log_p.shape[axis]) if weight is None else wide(weight)
    w = w.reshape([-1 if i == axis else 1 for i in range(log_p.ndim)])
    with np.errstate(invalid="ignore"):  # the mean over nothing
        counts = w * g * (1 - label_smoothing)
    return dx, (-_times(counts, log_p)).astype(input.dtype)
