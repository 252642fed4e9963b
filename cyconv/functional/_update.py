"""Steps of optimisers and clipping of gradients, in place: what `cyconv.optim` and `cyconv.nn.utils` are made of.

Arrays are those of one parameter: float32 or float64, of one shape and dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import _settings
from ..kernels import load
from ._activation import EXP_WORK, MOVE_WORK, dense, like
from ._arrays import Array, array

_kernel = load("update")
Factors = tuple[float, ...]


def _apply(method: Callable[..., None], factors: Factors, data: Array, grad: Any, *kept: Array | None) -> None:
    """Run a kernel on arrays in one memory order; what it cannot reach is copied, and copied back."""
    g = array(grad, "step", "grad")
    if g.dtype != data.dtype or g.shape != data.shape:
        raise ValueError(
            f"step: a parameter of {data.shape}, {data.dtype} has a gradient of {g.shape}, {g.dtype}; they must agree"
        )
    p = data if data.flags.c_contiguous and data.flags.aligned else dense(np.require(data, requirements="A"))
    held = [None if k is None else like(k, p) for k in kept]
    method(p, like(g, p), *held, factors, _settings.threads_for(p.size * EXP_WORK))
    for own, used in zip((data, *kept), (p, *held), strict=True):
        if own is not None and own is not used:
            own[...] = used


def sgd_step(data: Array, grad: Any, velocity: Array | None, factors: Factors) -> None:
    """Take one step of SGD; factors: sign, decay, keep, take, along the gradient, along the velocity.

    With g = sign · grad + decay · data: velocity = keep · velocity + take · g, if there is one, and
    data -= along_g · g + along_v · velocity.
    """
    _apply(_kernel.sgd, factors, data, grad, velocity)


def adam_step(data: Array, grad: Any, mean: Array, square: Array, largest: Array | None, factors: Factors) -> None:
    """Take one step of Adam; factors: sign, decay, shrink, take1, keep2, take2, rate, scale, eps.

    With g as in :func:`sgd_step`: mean += take1 (g - mean), square = keep2 · square + take2 · g², largest =
    max(largest, square), if there is one; data = shrink · data - rate · mean / (sqrt(square or largest) · scale + eps).
    """
    _apply(_kernel.adam, factors, data, grad, mean, square, largest)


def rmsprop_step(
    data: Array, grad: Any, square: Array, mean: Array | None, velocity: Array | None, factors: Factors
) -> None:
    """Take one step of RMSprop; factors: sign, decay, keep, take, rate, momentum, eps.

    With g as in :func:`sgd_step`: square = keep · square + take · g², mean += take (g - mean), if there is one, and
    s = g / (sqrt(square - mean²) + eps); velocity = momentum · velocity + s, if there is one; data -= rate · s, or
    rate · velocity.
    """
    _apply(_kernel.rmsprop, factors, data, grad, square, mean, velocity)


def adagrad_step(data: Array, grad: Any, total: Array, factors: Factors) -> None:
    """Take one step of Adagrad; factors: sign, decay, rate, eps.

    With g as in :func:`sgd_step`: total += g², data -= rate · g / (sqrt(total) + eps).
    """
    _apply(_kernel.adagrad, factors, data, grad, total)


def total_norm(arrays: Iterable[Array], norm_type: float = 2.0) -> float:
    """Return the norm of all elements of all arrays, as if they were one vector.

    Parameters
    ----------
    arrays : iterable of ndarray, float32 or float64
    norm_type : float
        p of the p-norm, above 0; infinity is the largest magnitude.

    Returns
    -------
    float
        0 if there is no element.

    Raises
    ------
    TypeError
        An array is neither float32 nor float64.
    ValueError
        `norm_type` is not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> total_norm([np.array([3.0]), np.array([[4.0]])])
    5.0
    """
    if not norm_type > 0:
        raise ValueError(f"total_norm: norm_type must be above 0, got {norm_type}")
    total = 0.0
    for given in arrays:
        x = dense(array(given, "total_norm", "arrays"))
        if norm_type == 2:
            total += _kernel.sum_squares(x, _settings.threads_for(x.size * MOVE_WORK))
        elif norm_type == math.inf:
            largest = float(np.abs(x).max(initial=0))
            total = largest if largest > total or math.isnan(largest) else total
        else:
            total += float((np.abs(x, dtype=np.float64) ** norm_type).sum())
    return total if norm_type == math.inf else math.sqrt(total) if norm_type == 2 else total ** (1 / norm_type)


def scale_(x: Array, factor: float) -> None:
    """Multiply an array by a number in place."""
    np.multiply(x, x.dtype.type(factor), out=x)


def clamp_(x: Array, low: float, high: float) -> None:
    """Bring what lies outside [low, high] to its ends, in place; NaN stays."""
    np.clip(x, x.dtype.type(low), x.dtype.type(high), out=x)
