"""Cross-entropy and negative log-likelihood: a loss for each sample, then none, their mean or their sum."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _settings
from .._geometry import any_integer, real
from ..kernels import load
from ._activation import EXP_WORK, log_softmax
from ._arrays import Array, any_array, array, empty_like, in_order, ordered, same_dtype
from ._twins import gradient_of

_kernel = load("loss")
INT64 = np.dtype(np.int64)


class _Layout(NamedTuple):
    samples: tuple[int, ...]  # shape of the labels
    classes: int
    outer: int  # images, and the product of the other axes
    inner: int
    work: int


@functools.lru_cache(maxsize=1024)
def _layout(operation: str, shape: tuple[int, ...], target_shape: tuple[int, ...], probabilities: bool) -> _Layout:
    if not shape:
        raise ValueError(f"{operation}: input must have shape (N, C), (C,) or (N, C, d1, ...), got ()")
    axis = 0 if len(shape) == 1 else 1
    classes = shape[axis]
    samples = (*shape[:axis], *shape[axis + 1 :])
    if probabilities:
        if target_shape != shape:
            raise ValueError(
                f"{operation}: target of probabilities must have the shape of input, {shape}, got {target_shape}; "
                f"class indices must be integers"
            )
    elif target_shape != samples:
        raise ValueError(
            f"{operation}: target of class indices must have shape {samples} for input of shape {shape}, "
            f"got {target_shape}"
        )
    if classes < 1:
        raise ValueError(f"{operation}: input of shape {shape} has no classes")
    return _Layout(samples, classes, math.prod(shape[:axis]), math.prod(shape[axis + 1 :]), math.prod(shape) * EXP_WORK)


class _Case(NamedTuple):
    """A loss of checked arrays, as the kernel takes them."""

    x: Array
    target: Array
    weight: Array | None
    divisor: float  # of the mean
    samples: tuple[int, ...]
    outer: int
    classes: int
    inner: int
    threads: int


def _check_reduction(operation: str, reduction: Any) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{operation}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _case(operation: str, input: Any, target: Any, weight: Any, ignore_index: int, logits: bool) -> _Case:
    x = array(input, operation, "input")
    t = target if type(target) is np.ndarray else any_array(target, operation, "target")
    kind = t.dtype.kind
    if kind not in "iuf" or (kind == "f" and not logits):
        allowed = "integers (class indices)" + (" or floating-point numbers (probabilities)" if logits else "")
        raise TypeError(f"{operation}: target must be {allowed}, got {t.dtype}")
    layout = _layout(operation, x.shape, t.shape, kind == "f")
    w = None if weight is None else _class_weights(operation, weight, x, layout.classes)
    last = False
    if not x.flags.c_contiguous:
        x, last = ordered(x)
    outer, inner = (layout.outer * layout.inner, 1) if last else (layout.outer, layout.inner)
    if kind == "f":
        t = array(t, operation, "target")
        same_dtype(operation, input=x, target=t)
        t = in_order(t, last)
        divisor = float(layout.outer * layout.inner)
    else:
        if t.dtype is not INT64 or not t.flags.carray:
            t = np.require(t, INT64, ["C", "A"])
        divisor, wrong = _kernel.check_targets(t, w, layout.classes, ignore_index)
        if wrong >= 0:
            place = tuple(int(i) for i in np.unravel_index(wrong, t.shape))
            where = f"at {place[0] if len(place) == 1 else place} " if place else ""
            raise ValueError(
                f"{operation}: target {where}is {t.flat[wrong]}: expected a class from 0 to {layout.classes - 1}"
                f" or ignore_index, {ignore_index}"
            )
    return _Case(x, t, w, divisor, layout.samples, outer, layout.classes, inner, _settings.threads_for(layout.work))


def _class_weights(operation: str, weight: Any, x: Array, classes: int) -> Array:
    w = array(weight, operation, "weight")
    same_dtype(operation, input=x, weight=w)
    if w.shape != (classes,):
        raise ValueError(f"{operation}: weight must have shape ({classes},), got {w.shape}")
    return np.ascontiguousarray(w, np.float64)


def _check_options(operation: str, reduction: Any, ignore_index: Any, label_smoothing: Any) -> tuple[int, float]:
    """Return ``ignore_index`` as an int and ``label_smoothing`` as a float, in their ranges."""
    _check_reduction(operation, reduction)
    ignored, smoothing = (
        any_integer(operation, "ignore_index", ignore_index),
        real(operation, "label_smoothing", label_smoothing),
    )
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"{operation}: ignore_index must be an int of 64 bits, got {ignore_index!r}")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"{operation}: label_smoothing must be in [0, 1], got {label_smoothing}")
    return ignored, smoothing


def _value(total: float, divisor: float, reduction: str, dtype: np.dtype[Any]) -> Any:
    if reduction == "mean":
        # Nothing to average over: what 0/0 and x/0 are to floating-point numbers.
        total = total / divisor if divisor else total * math.inf
    return dtype.type(total)


def _losses(case: _Case, ignore_index: int, reduction: str, smoothing: float, logits: bool) -> Any:
    x = case.x
    each = np.empty(case.samples, x.dtype) if reduction == "none" else None
    total = _kernel.cross_entropy(
        each,
        x,
        case.target,
        case.weight,
        ignore_index,
        smoothing,
        logits,
        case.outer,
        case.classes,
        case.inner,
        case.threads,
    )
    return _value(total, case.divisor, reduction, x.dtype) if each is None else each


def _gradient(
    operation: str,
    grad_output: Any,
    case: _Case,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    logits: bool,
    target_grad: bool = False,
) -> tuple[Array, ...]:
    x = case.x
    each, factor = _factor(operation, grad_output, case.samples, reduction, case.divisor, x.dtype)
    dx = empty_like(x)
    _kernel.cross_entropy_backward(
        dx,
        each,
        factor,
        x,
        case.target,
        case.weight,
        ignore_index,
        smoothing,
        logits,
        case.outer,
        case.classes,
        case.inner,
        case.threads,
    )
    if not target_grad or case.target.dtype.kind != "f":
        return (dx,)
    return dx, _target_gradient(case, each, factor * (1 - smoothing))


def _target_gradient(case: _Case, each: Array | None, factor: float) -> Array:
    """Return minus log softmax(x) times what each sample and class counts."""
    x = case.x
    axis = 0 if x.ndim == 1 else 1
    scale: Any = np.asarray(-factor, x.dtype)
    result = log_softmax(x, axis)
    with np.errstate(invalid="ignore"):  # the mean over nothing, and what has no weight
        if case.weight is not None:
            per_class = [case.classes if i == axis else 1 for i in range(x.ndim)]
            scale = scale * case.weight.astype(x.dtype).reshape(per_class)
        if each is not None:
            scale = scale * each.reshape([1 if i == axis else n for i, n in enumerate(x.shape)])
        result *= scale
    np.copyto(result, 0, where=scale == 0)  # what has no weight has no part, even if it is infinite
    return result


def _factor(
    operation: str, grad_output: Any, shape: tuple[int, ...], reduction: str, divisor: float, dtype: np.dtype[Any]
) -> tuple[Array | None, float]:
    """Return the gradients of the losses: an array of them or None, and a number that they are multiplied by."""
    if reduction == "none":
        dy = array(grad_output, operation, "grad_output")
        if dy.dtype != dtype:
            raise TypeError(f"{operation}: mixed dtypes: grad_output {dy.dtype}, input {dtype}")
        if dy.shape != shape:
            raise ValueError(f"{operation}: grad_output must have the shape of the losses, {shape}, got {dy.shape}")
        return np.ascontiguousarray(dy), 1.0
    given = any_array(grad_output, operation, "grad_output")
    if given.ndim != 0:
        raise ValueError(
            f"{operation}: grad_output must be a number with reduction={reduction!r}, got shape {given.shape}"
        )
    if given.dtype.kind not in "iuf":
        raise TypeError(f"{operation}: grad_output must be a number, got {grad_output!r}")
    g = float(given)
    if reduction == "sum":
        return None, g
    return None, g / divisor if divisor else g * math.inf


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """
    Cross-entropy of logits: minus the logarithm of the probability that softmax gives to the target's class.

    Parameters
    ----------
    input : ndarray, (N, C), (C,) or (N, C, d1, ...), float32 or float64
    target : ndarray
        Class indices: integers, (N,), () or (N, d1, ...). Or probabilities: the shape and dtype of `input`.
    weight : ndarray, (C,), optional
        A factor for each class, in the dtype of `input`.
    ignore_index : int
        Samples of this class index count nowhere; probabilities know none.
    reduction : {"mean", "sum", "none"}
        The mean is over the weights of the targets' classes, or for probabilities over the number of samples; NaN
        where no sample counts.
    label_smoothing : float
        In [0, 1]: how much of the target is spread evenly over all classes.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in the shape of the class indices

    Raises
    ------
    TypeError
        An array has the wrong dtype, or the dtypes differ.
    ValueError
        Shapes do not fit together, or a class index is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import cross_entropy
    >>> logits = np.log([[0.25, 0.75]])
    >>> cross_entropy(logits, np.array([1])).round(4).item()  # -log 0.75
    0.2877
    >>> cross_entropy(logits, np.array([[0.5, 0.5]])).round(4).item()
    0.837
    """
    ignore_index, label_smoothing = _check_options("cross_entropy", reduction, ignore_index, label_smoothing)
    case = _case("cross_entropy", input, target, weight, ignore_index, True)
    return _losses(case, ignore_index, reduction, label_smoothing, True)


@gradient_of(
    cross_entropy,
    "F.cross_entropy_backward(1.0, np.zeros((1, 2)), np.array([0]))[0].tolist()",
    "[[-0.5, 0.5]]",
)
def cross_entropy_backward(
    grad_output: Any,
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    target_grad: bool = True,
) -> tuple[Array, ...]:
    """
    Return ``(d_input,)`` of :func:`cross_entropy`, or for probabilities ``(d_input, d_target)``.

    They are softmax(x) minus the target's distribution, for each sample, and -log softmax(x); the class's weight counts
    as a constant.

    Parameters
    ----------
    grad_output : float or ndarray
        Gradient of the value: a number, or with ``reduction="none"`` an array in the shape of the losses.
    input, target, weight, ignore_index, reduction, label_smoothing
        As forward took them.
    target_grad : bool
        False leaves the gradient of probabilities out.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` has the wrong shape or dtype.
    """
    operation = "cross_entropy_backward"
    ignore_index, label_smoothing = _check_options(operation, reduction, ignore_index, label_smoothing)
    case = _case(operation, input, target, weight, ignore_index, True)
    return _gradient(operation, grad_output, case, ignore_index, reduction, label_smoothing, True, target_grad)


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """
    Negative log-likelihood: minus the input at the target's class, times the class's weight.

    Parameters
    ----------
    input : ndarray, (N, C), (C,) or (N, C, d1, ...), float32 or float64
        Logarithms of probabilities.
    target : ndarray of integers, (N,), () or (N, d1, ...)
    weight, ignore_index, reduction
        As in :func:`cross_entropy`.

    Returns
    -------
    NumPy scalar in the dtype of `input`; with "none" an ndarray in the shape of `target`

    Raises
    ------
    TypeError
        An array has the wrong dtype, or the dtypes differ.
    ValueError
        Shapes do not fit together, or a class index is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import nll_loss
    >>> nll_loss(np.log([[0.25, 0.75]]), np.array([1])).round(4).item()
    0.2877
    """
    ignore_index, _ = _check_options("nll_loss", reduction, ignore_index, 0.0)
    case = _case("nll_loss", input, target, weight, ignore_index, False)
    return _losses(case, ignore_index, reduction, 0.0, False)


@gradient_of(
    nll_loss,
    "F.nll_loss_backward(1.0, np.zeros((1, 2)), np.array([0]))[0].tolist()",
    "[[-1.0, 0.0]]",
)
def nll_loss_backward(
    grad_output: Any,
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Array, ...]:
    """
    Return ``(d_input,)`` of :func:`nll_loss`: minus the class's weight at the target's class, else 0.
    """
    operation = "nll_loss_backward"
    ignore_index, _ = _check_options(operation, reduction, ignore_index, 0.0)
    case = _case(operation, input, target, weight, ignore_index, False)
    return _gradient(operation, grad_output, case, ignore_index, reduction, 0.0, False)
