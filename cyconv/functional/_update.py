"""Steps of optimisers and clipping of gradients, in place: what `cyconv.optim` and `cyconv.nn.utils` are made of.

The arrays of one parameter are float32 or float64, of one shape and dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import _settings
from ..kernels import load
from ._activation import EXP_WORK, MOVE_WORK, dense, like
from ._arrays import FLOAT32, FLOAT64, Array, array

_kernel = load("update")
Factors = tuple[float, ...]


Job = tuple[Any, ...]


def _apply(method: Callable[..., None], jobs: Sequence[Job], factors: Factors) -> None:
    """Run a kernel on the arrays of all parameters, each parameter's in one memory order; what it cannot reach is
    copied, and copied back."""
    held = [job if _plain(job) else None for job in jobs]
    used = [job if job is not None else _held(*given) for job, given in zip(held, jobs, strict=True)]
    method(used, factors, _settings.threads_for(sum([job[0].size for job in jobs]) * EXP_WORK))
    for given, job, one in zip(jobs, held, used, strict=True):
        if job is None:
            for own, other in zip((given[0], *given[2:]), (one[0], *one[2:]), strict=True):
                if own is not None and own is not other:
                    own[...] = other


def check_job(operation: str, data: Array, grad: Any, kept: Iterable[Array] = ()) -> None:
    """Check the arrays of one parameter: its values, its gradient, and what is kept for it.

    Raises
    ------
    TypeError
        The values are not float32 or float64, or the gradient is no array of them.
    ValueError
        The values cannot be written, or shapes or dtypes differ.
    """
    if not isinstance(data, np.ndarray) or data.dtype not in (FLOAT32, FLOAT64):
        kind = getattr(data, "dtype", type(data).__name__)
        raise TypeError(f"{operation}: a parameter must be an array of float32 or float64, got {kind}")
    if not data.flags.writeable:
        raise ValueError(
            f"{operation}: a parameter of {data.shape}, {data.dtype} is read-only, as are those of layers in eval "
            "mode; call train() on the network before"
        )
    g = array(grad, operation, "grad")
    if g.dtype != data.dtype or g.shape != data.shape:
        raise ValueError(
            f"{operation}: a parameter of {data.shape}, {data.dtype} has a gradient of {g.shape}, {g.dtype}; "
            "they must agree"
        )
    for array_ in kept:
        if not isinstance(array_, np.ndarray):
            raise TypeError(f"{operation}: what is kept for a parameter must be an array, got {type(array_).__name__}")
        if array_.dtype != data.dtype or array_.shape != data.shape:
            raise ValueError(
                f"{operation}: a parameter of {data.shape}, {data.dtype} was of {array_.shape}, {array_.dtype} in the "
                "steps before; make a new optimiser"
            )


def _plain(job: Job) -> bool:
    """Whether the kernel can take the arrays of a parameter as they are: what is usual, found quickly."""
    data = job[0]
    for x in job:
        if x is not None and not (
            type(x) is np.ndarray and x.dtype is data.dtype and x.shape == data.shape
            and x.flags.c_contiguous and x.flags.aligned
        ):  # fmt: skip
            return False
    return data.dtype is FLOAT32 or data.dtype is FLOAT64


def _held(data: Array, grad: Any, *kept: Array | None) -> Job:
    """Return the arrays of one parameter as the kernel takes them: dense, aligned and in one memory order."""
    g = array(grad, "step", "grad")
    p = data if data.flags.c_contiguous and data.flags.aligned else dense(np.require(data, requirements="A"))
    return (p, like(g, p), *(None if k is None else like(k, p) for k in kept))


def sgd_step(jobs: Sequence[Job], factors: Factors) -> None:
    """Take one step of SGD for many parameters.

    Jobs: for each its data, gradient, velocity (or None); factors: sign, decay, keep, take, along the gradient, along
    the velocity. With g = sign · grad + decay · data: velocity = keep · velocity + take · g, if there is one, and
    data -= along_g · g + along_v · velocity.
    """
    _apply(_kernel.sgd, jobs, factors)


def adam_step(jobs: Sequence[Job], factors: Factors) -> None:
    """Take one step of Adam for many parameters.

    Jobs: for each its data, gradient, mean, square, largest (or None); factors: sign, decay, shrink, take1, keep2,
    take2, rate, scale, eps. With g as in :func:`sgd_step`: mean += take1 (g - mean), square = keep2 · square +
    take2 · g², largest = max(largest, square), if there is one;
    data = shrink · data - rate · mean / (sqrt(square or largest) · scale + eps).
    """
    _apply(_kernel.adam, jobs, factors)


def rmsprop_step(jobs: Sequence[Job], factors: Factors) -> None:
    """Take one step of RMSprop for many parameters.

    Jobs: for each its data, gradient, square, mean (or None), velocity (or None); factors: sign, decay, keep, take,
    rate, momentum, eps. With g as in :func:`sgd_step`: square = keep · square + take · g², mean += take (g - mean), if
    there is one, and s = g / (sqrt(square - mean²) + eps); velocity = momentum · velocity + s, if there is one;
    data -= rate · s, or rate · velocity.
    """
    _apply(_kernel.rmsprop, jobs, factors)


def adagrad_step(jobs: Sequence[Job], factors: Factors) -> None:
    """Take one step of Adagrad for many parameters.

    Jobs: for each its data, gradient, total; factors: sign, decay, rate, eps. With g as in :func:`sgd_step`:
    total += g², data -= rate · g / (sqrt(total) + eps).
    """
    _apply(_kernel.adagrad, jobs, factors)


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
