"""Losses: ``value = loss(input, target)``, then ``grad = loss.backward()``."""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv import functional as F
from cyconv.nn.module import Array, Module, Pending


class _Loss(Module):
    """What the losses share: they compare two arrays, and only the first has a gradient to carry on."""

    reduction: str

    def _check_reduction(self, reduction: str) -> str:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"{type(self).__name__}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
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

    Notes
    -----
    Input (N, C), (C,) or (N, C, d1, ...); target: class indices (integers, the input's shape without C) or
    probabilities (floating, the input's shape).
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
        self.weight: Array | None = None if weight is None else np.asarray(weight)
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
            grad_output, input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
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

    Notes
    -----
    Input (N, C), (C,) or (N, C, d1, ...); target: class indices, the input's shape without C.
    """

    _buffer_names = ("weight",)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.weight: Array | None = None if weight is None else np.asarray(weight)
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
    Mean squared error.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What to do with the squares of the elements.

    Notes
    -----
    Input and target have the same shape and dtype. ``backward`` gives the gradient of `input`.
    """

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = self._check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        """Return the loss as a NumPy scalar, or an array with ``reduction="none"``."""
        value = F.mse_loss(input, target, self.reduction)
        self._saved = (input, target) if self.training else None
        return value

    def _gradient(self, grad_output: Any, input: Any, target: Any) -> Any:
        return F.mse_loss_backward(grad_output, input, target, self.reduction)[0]
