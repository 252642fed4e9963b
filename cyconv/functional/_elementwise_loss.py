"""What losses of two arrays, element by element, share: checks, weights in the shape of some axes, the kernel's calls.

What is computed stands in `kernels/losses.h`; the public functions in `_distance_loss.py` and `_probability_loss.py`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import _settings
from .._geometry import real
from ..kernels import load
from . import _arrays
from ._activation import EXP_WORK, MOVE_WORK, dense, like
from ._arrays import Array, array, empty_like, same_dtype
from ._loss import _factor, _value

_kernel = load("elementwise_loss")
#: Losses that are more than a few products.
EXPENSIVE = ("binary", "binary_logits", "divergence", "divergence_log")
#: A weight as the kernel takes it: its values, and how many neighbours in memory share one.
Spread = tuple[Array, int]


class Pair(NamedTuple):
    """Two arrays to compare, checked and in one memory order, and what their losses are multiplied by."""

    operation: str
    x: Array
    target: Array
    weight: Spread | None
    positive: Spread | None
    divisor: float  # of the mean
    threads: int


def check_reduction(operation: str, reduction: Any, batchmean: bool = False) -> None:
    """Raise ValueError if there is no such reduction."""
    names = ("mean", "batchmean", "sum", "none") if batchmean else ("mean", "sum", "none")
    if reduction not in names:
        listed = ", ".join(repr(name) for name in names[:-1])
        raise ValueError(f"{operation}: reduction must be {listed} or 'none', got {reduction!r}")


def number(operation: str, name: str, value: Any, zero: bool) -> float:
    """Return ``value`` as a float; TypeError if it is no number, ValueError if it is not above (or at) 0."""
    found = real(operation, name, value)
    if not (found >= 0 if zero else found > 0):
        raise ValueError(f"{operation}: {name} must be {'at least' if zero else 'above'} 0, got {value}")
    return found


def pair(
    operation: str,
    loss: str,
    input: Any,
    target: Any,
    reduction: str,
    weight: Any = None,
    pos_weight: Any = None,
    *,
    own_shape: bool = False,
    by_weight: bool = False,
) -> Pair:
    """Check the arrays; ``own_shape``: `weight` must have that of `input`, else one that broadcasts to it.

    ``by_weight``: the mean divides by the sum of the weights.
    """
    x, t = array(input, operation, "input"), array(target, operation, "target")
    if x.dtype is not t.dtype:
        same_dtype(operation, input=x, target=t)
    if x.shape != t.shape:
        raise ValueError(f"{operation}: target must have the shape of input, {x.shape}, got {t.shape}")
    if not (x.flags.c_contiguous and t.flags.c_contiguous):
        x = dense(x)
        t = like(t, x)
    w = q = None
    divisor = float(x.size)
    if weight is not None:
        given, w = _spread(operation, "weight", weight, x, own_shape)
        if by_weight:
            divisor = float(given.sum(dtype=np.float64))
    if pos_weight is not None:
        _, q = _spread(operation, "pos_weight", pos_weight, x, False)
    if reduction == "batchmean":
        divisor = float(x.shape[0]) if x.ndim else 1.0
    threads = _settings.threads_for(x.size * (EXP_WORK if loss in EXPENSIVE else MOVE_WORK))
    return Pair(operation, x, t, w, q, divisor, threads)


def _spread(operation: str, name: str, value: Any, x: Array, own_shape: bool) -> tuple[Array, Spread]:
    """Return the weight as given, and as the kernel takes it for elements in the memory order of ``x``."""
    w = array(value, operation, name)
    same_dtype(operation, **{"input": x, name: w})
    if w.shape == x.shape:
        full = like(w, x)
        if not (full.flags.c_contiguous or full.strides == x.strides):
            full = like(np.ascontiguousarray(w), x)
        return w, (full, 1)
    if own_shape:
        raise ValueError(f"{operation}: {name} must have the shape of input, {x.shape}, got {w.shape}")
    lined_up = (1,) * (x.ndim - w.ndim) + w.shape
    if w.ndim > x.ndim or any(length not in (1, n) for length, n in zip(lined_up, x.shape, strict=True)):
        raise ValueError(f"{operation}: {name} must broadcast to the shape of input, {x.shape}, got {w.shape}")
    # Axes as they lie in memory; those that the weight has must be neighbours, but for axes of length 1.
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis]) if not x.flags.c_contiguous else range(x.ndim)
    axes = [axis for axis in order if x.shape[axis] > 1]
    own = [place for place, axis in enumerate(axes) if lined_up[axis] > 1]
    if not own:
        return w, (np.ascontiguousarray(w.reshape(-1)[:1]), max(x.size, 1))
    first, last = own[0], own[-1]
    if len(own) == last - first + 1:
        values = np.ascontiguousarray(w.reshape(lined_up).transpose(tuple(order)))
        return w, (values, math.prod(x.shape[axis] for axis in axes[last + 1 :]))
    _arrays.copies += 1
    full = np.empty_like(x)
    full[...] = w
    return w, (full, 1)


def value(loss: str, this: Pair, reduction: str, parameter: float = 0.0, limited: bool = False) -> Any:
    """Return the losses, or their mean or sum."""
    x = this.x
    each = empty_like(x) if reduction == "none" else None
    total, legal = _kernel.values(
        _kernel.NUMBERS[loss], each, x, this.target, this.weight, this.positive, limited, parameter, this.threads
    )
    if not legal:
        raise _no_probability(this)
    if each is not None:
        return each
    return _value(total, this.divisor, "mean" if reduction == "batchmean" else reduction, x.dtype)


def gradients(
    loss: str,
    this: Pair,
    grad_output: Any,
    reduction: str,
    target_grad: bool,
    parameter: float = 0.0,
    limited: bool = False,
) -> tuple[Array, ...]:
    """Return ``(d_input, d_target)``, or ``(d_input,)`` without ``target_grad``."""
    x = this.x
    kind = "mean" if reduction == "batchmean" else reduction
    each, factor = _factor(this.operation, grad_output, x.shape, kind, this.divisor, x.dtype)
    each = None if each is None else like(each, x)
    dx, dt = empty_like(x), empty_like(x) if target_grad else None
    legal = _kernel.slopes(
        _kernel.NUMBERS[loss],
        dx,
        dt,
        each,
        factor,
        x,
        this.target,
        this.weight,
        this.positive,
        limited,
        parameter,
        this.threads,
    )
    if not legal:
        raise _no_probability(this)
    return (dx,) if dt is None else (dx, dt)


def _no_probability(this: Pair) -> ValueError:
    for name, values in (("input", this.x), ("target", this.target)):
        wrong = np.argwhere(~((values >= 0) & (values <= 1)))
        if len(wrong):
            place = tuple(int(i) for i in wrong[0])
            where = f" at {place[0] if len(place) == 1 else place}" if place else ""
            hint = "; for logits there is binary_cross_entropy_with_logits" if name == "input" else ""
            return ValueError(f"{this.operation}: {name}{where} is {values[place]}: must be in [0, 1]{hint}")
    raise AssertionError("the kernel found a value outside [0, 1], and there is none")
