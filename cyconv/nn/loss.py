"""Losses: ``value = loss(input, target)``, then ``grad = loss.backward()``."""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv import functional as F
from cyconv.nn.module import Array, Module, Pending


class _Loss(Module):
    """What the losses share: they compare two arrays, and only the first has a gradient to carry on."""

    reduction: str
    _reductions: tuple[str, ...] = ("mean", "sum", "none")

    def _check_reduction(self, reduction: str) -> str:
        if reduction not in self._reductions:
            names = ", ".join(repr(name) for name in self._reductions[:-1])
            raise ValueError(f"{type(self).__name__}: reduction must be {names} or 'none', got {reduction!r}")
        return reduction

    def backward(self, grad_output: Any = None, *, input_grad: bool = True) -> Any:
        """
        Return the gradient of the last value with respect to its `input`.

        Parameters
        ----------
        grad_output : float or array, optional
            Gradient with respect to the loss; None means 1. With ``reduction="none"`` it must be an array in
            the shape of the losses.
        input_grad : bool
            False returns None.

        Returns
        -------
        ndarray or None
            In the shape and dtype of `input`: what ``model.backward`` takes.

        Raises
        ------
        RuntimeError
            If there was no forward in training mode.
        ValueError
            If `grad_output` is left out with ``reduction="none"``.
        """
        return self._backward(grad_output, [], input_grad)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if grad_output is None:
            if self.reduction == "none":
                raise ValueError(
                    f"{type(self).__name__}: with reduction='none' there is one loss per element; "
                    "backward needs grad_output in their shape"
                )
            grad_output = 1.0
        return self._gradient(grad_output, *self._saved) if input_grad else None

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        raise TypeError(f"{type(self).__name__}: the class defines no _gradient(grad_output, input, target)")


class CrossEntropyLoss(_Loss):
    """
    Cross-entropy between scores (logits) and classes.

    Parameters
    ----------
    weight : array of shape (C,), optional
        A factor for each class, in the dtype of the input.
    ignore_index : int
        Targets with this index count neither in the loss nor in the mean.
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.
    label_smoothing : float
        In [0, 1]: how much of the target is spread evenly over all classes.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.cross_entropy`.

    Notes
    -----
    Input (N, C), (C,) or (N, C, d1, ...); target: class indices (integers, the input's shape without C) or
    probabilities (floating, the input's shape).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import CrossEntropyLoss
    >>> loss = CrossEntropyLoss()
    >>> loss(np.zeros((1, 2)), np.array([1])).round(4).item()
    0.6931
    >>> loss.backward().round(4).tolist()
    [[0.5, -0.5]]
    """

    _buffer_names = ("weight",)

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: label_smoothing must be in [0, 1], got {label_smoothing}")
        self.weight: Array | None = None if weight is None else np.asanyarray(weight)
        self.ignore_index = ignore_index
        self.reduction = self._check_reduction(reduction)
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.cross_entropy_backward(
            grad_output,
            input,
            target,
            self.weight,
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
            target_grad=False,
        )[0]


class NLLLoss(_Loss):
    """
    Negative log-likelihood of classes, from logarithms of probabilities.

    Parameters
    ----------
    weight : array of shape (C,), optional
        A factor for each class, in the dtype of the input.
    ignore_index : int
        Targets with this index count neither in the loss nor in the mean.
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.nll_loss`.

    Notes
    -----
    Input (N, C), (C,) or (N, C, d1, ...); target: class indices, the input's shape without C.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import NLLLoss
    >>> loss = NLLLoss()
    >>> loss(np.log([[0.25, 0.75]]), np.array([1])).round(4).item()
    0.2877
    >>> loss.backward().round(4).tolist()
    [[0.0, -1.0]]
    """

    _buffer_names = ("weight",)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.weight: Array | None = None if weight is None else np.asanyarray(weight)
        self.ignore_index = ignore_index
        self.reduction = self._check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.nll_loss_backward(grad_output, input, target, self.weight, self.ignore_index, self.reduction)[0]


class MSELoss(_Loss):
    """
    Mean squared error: (input - target)^2.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.mse_loss`.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import MSELoss
    >>> loss = MSELoss()
    >>> loss(np.array([3.0]), np.array([1.0])).round(4).item()
    4.0
    >>> loss.backward().round(4).tolist()
    [4.0]
    """

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = self._check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.mse_loss(input, target, self.reduction)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.mse_loss_backward(grad_output, input, target, self.reduction, target_grad=False)[0]


class L1Loss(_Loss):
    """
    Mean absolute error: abs(input - target).

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.l1_loss`.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import L1Loss
    >>> loss = L1Loss()
    >>> loss(np.array([3.0]), np.array([1.0])).round(4).item()
    2.0
    >>> loss.backward().round(4).tolist()
    [1.0]
    """

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = self._check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.l1_loss(input, target, self.reduction)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.l1_loss_backward(grad_output, input, target, self.reduction, target_grad=False)[0]


class SmoothL1Loss(_Loss):
    """
    Absolute error that is square near 0 (Girshick 2015).

    With d = abs(input - target): d^2 / (2 beta) where d < beta, else d - beta / 2.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.
    beta : float
        Where the square ends, at least 0.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.smooth_l1_loss`.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SmoothL1Loss
    >>> loss = SmoothL1Loss()
    >>> loss(np.array([3.0]), np.array([1.0])).round(4).item()
    1.5
    >>> loss.backward().round(4).tolist()
    [1.0]
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        if not beta >= 0:
            raise ValueError(f"SmoothL1Loss: beta must be at least 0, got {beta}")
        self.reduction = self._check_reduction(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.smooth_l1_loss(input, target, self.reduction, self.beta)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.smooth_l1_loss_backward(grad_output, input, target, self.reduction, self.beta, target_grad=False)[0]


class HuberLoss(_Loss):
    """
    Squared error that is linear from delta on (Huber 1964).

    With d = abs(input - target): d^2 / 2 where d <= delta, else delta (d - delta / 2).

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.
    delta : float
        Where the square ends, above 0.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.huber_loss`.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import HuberLoss
    >>> loss = HuberLoss()
    >>> loss(np.array([3.0]), np.array([1.0])).round(4).item()
    1.5
    >>> loss.backward().round(4).tolist()
    [1.0]
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        if not delta > 0:
            raise ValueError(f"HuberLoss: delta must be above 0, got {delta}")
        self.reduction = self._check_reduction(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.huber_loss(input, target, self.reduction, self.delta)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.huber_loss_backward(grad_output, input, target, self.reduction, self.delta, target_grad=False)[0]


class BCELoss(_Loss):
    """
    Binary cross-entropy of probabilities.

    -(t log x + (1 - t) log(1 - x)), t being the target; logarithms are at least -100.

    Parameters
    ----------
    weight : array, optional
        A factor for the loss of each element, in a shape that broadcasts to that of the input, and its dtype.
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.binary_cross_entropy`.

    Notes
    -----
    Input and target have the same shape and dtype, values in [0, 1]. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import BCELoss
    >>> loss = BCELoss()
    >>> loss(np.array([0.5]), np.array([1.0])).round(4).item()
    0.6931
    >>> loss.backward().round(4).tolist()
    [-2.0]
    """

    _buffer_names = ("weight",)

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self.weight: Array | None = None if weight is None else np.asanyarray(weight)
        self.reduction = self._check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.binary_cross_entropy(input, target, self.weight, self.reduction)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy_backward(
            grad_output, input, target, self.weight, self.reduction, target_grad=False
        )[0]


class BCEWithLogitsLoss(_Loss):
    """
    Binary cross-entropy of logits, exact for those of any size.

    -(q t log s + (1 - t) log(1 - s)) with s = sigmoid(input), t the target and q = `pos_weight`.

    Parameters
    ----------
    weight : array, optional
        A factor for the loss of each element, in a shape that broadcasts to that of the input, and its dtype.
    reduction : {"mean", "sum", "none"}
        What to do with the losses of the elements.
    pos_weight : array, optional
        A factor for the positive part, as `weight`: for example (C,) for an input of (N, C).

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.binary_cross_entropy_with_logits`.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import BCEWithLogitsLoss
    >>> loss = BCEWithLogitsLoss()
    >>> loss(np.array([0.0]), np.array([1.0])).round(4).item()
    0.6931
    >>> loss.backward().round(4).tolist()
    [-0.5]
    """

    _buffer_names = ("weight", "pos_weight")

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        self.weight: Array | None = None if weight is None else np.asanyarray(weight)
        self.reduction = self._check_reduction(reduction)
        self.pos_weight: Array | None = None if pos_weight is None else np.asanyarray(pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits_backward(
            grad_output, input, target, self.weight, self.reduction, self.pos_weight, target_grad=False
        )[0]


class KLDivLoss(_Loss):
    """
    Kullback and Leibler's divergence of a target from logarithms of probabilities.

    t (log t - x), 0 where t = 0; t is the target.

    Parameters
    ----------
    reduction : {"mean", "batchmean", "sum", "none"}
        "batchmean" divides the sum by the length of the first axis: the divergence of (N, C) distributions.
    log_target : bool
        The target holds logarithms of probabilities, too.

    Raises
    ------
    ValueError
        An option is none of those named.
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.kl_div`.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import KLDivLoss
    >>> loss = KLDivLoss()
    >>> loss(np.log([0.5, 0.5]), np.array([1.0, 0.0])).round(4).item()
    0.3466
    >>> loss.backward().round(4).tolist()
    [-0.5, -0.0]
    """

    _reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction = self._check_reduction(reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.kl_div(input, target, self.reduction, self.log_target)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.kl_div_backward(grad_output, input, target, self.reduction, self.log_target, target_grad=False)[0]
