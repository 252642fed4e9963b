"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _settings
from ..kernels import load
from ._activation import MOVE_WORK, dense, like
from ._arrays import Array, array, same_dtype

_pointwise = load("pointwise")
_fresh: np.random.Generator | None = None


def _generator(rng: Any) -> np.random.Generator:
    """Return ``rng`` if it is a generator, one seeded with it, or for None one that all such calls share."""
    global _fresh
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is not None:
        return np.random.default_rng(rng)
    if _fresh is None:
        _fresh = np.random.default_rng()
    return _fresh


def _probability(operation: str, p: Any) -> float:
    if isinstance(p, bool) or not isinstance(p, (int, float, np.number)):
        raise TypeError(f"{operation}: p must be a number, got {p!r}")
    if not 0 <= p <= 1:
        raise ValueError(f"{operation}: p must be a probability in [0, 1], got {p}")
    return float(p)


def dropout(input: Any, p: float = 0.5, training: bool = True, *, rng: Any = None, return_mask: bool = False) -> Any:
    """
    Zero each element with probability `p` and divide the others by 1 - p.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        Where the random numbers come from: a generator, a seed, or None for fresh entropy. The mask does not depend on
        dtype, memory order or number of threads.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, the same shape
        True where an element stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability.
    """
    x = array(input, "dropout", "input")
    p = _probability("dropout", p)
    if not training:
        return (x, np.ones(x.shape, bool)) if return_mask else x
    mask = np.ones(x.shape, bool) if p == 0 else np.asarray(_generator(rng).random(x.shape, np.float32) >= p)
    output = _keep(x, mask, p)
    return (output, mask) if return_mask else output


def dropout_backward(grad_output: Any, input: Any, p: float = 0.5, training: bool = True, *, mask: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and division make of grad_output.

    Parameters
    ----------
    grad_output : ndarray
    input, p, training
        As forward took them; of `input` only shape and dtype matter.
    mask : ndarray of bool
        What forward returned.

    Raises
    ------
    TypeError
        The dtypes differ, or `p` is no number.
    ValueError
        `p` is no probability, or the shapes differ.
    """
    operation = "dropout_backward"
    dy = array(grad_output, operation, "grad_output")
    x = array(input, operation, "input")
    p = _probability(operation, p)
    same_dtype(operation, grad_output=dy, input=x)
    if dy.shape != x.shape:
        raise ValueError(f"{operation}: grad_output must have the shape of input, {x.shape}, got {dy.shape}")
    if not training:
        return (dy,)
    kept = np.asarray(mask)
    if kept.shape != x.shape:
        raise ValueError(f"{operation}: mask must have the shape of input, {x.shape}, got {kept.shape}")
    return (_keep(dy, kept if kept.dtype == bool else np.asarray(kept != 0), p),)


def _keep(x: Array, mask: Array, p: float) -> Array:
    x = dense(x)
    y = np.empty_like(x)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    _pointwise.keep(y, x, like(mask, x), scale, _settings.threads_for(x.size * MOVE_WORK))
    return y
