"""Activation layers; each remembers its output, which is all that its gradient needs."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv.nn.module import Module, Pending


class ReLU(Module):
    """Replace negative values by 0. Any shape; output in the shape and dtype of the input."""

    def forward(self, input: Any) -> Any:
        """Return max(input, 0)."""
        output = F.relu(input)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.relu_backward(grad_output, None, output=self._saved)[0] if input_grad else None


class Sigmoid(Module):
    """Apply 1 / (1 + exp(-x)). Any shape; output in the shape and dtype of the input."""

    def forward(self, input: Any) -> Any:
        """Return sigmoid(input)."""
        output = F.sigmoid(input)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.sigmoid_backward(grad_output, None, output=self._saved)[0] if input_grad else None


class Tanh(Module):
    """Apply the hyperbolic tangent. Any shape; output in the shape and dtype of the input."""

    def forward(self, input: Any) -> Any:
        """Return tanh(input)."""
        output = F.tanh(input)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.tanh_backward(grad_output, None, output=self._saved)[0] if input_grad else None


class Softmax(Module):
    """
    Turn scores into probabilities along one axis.

    Parameters
    ----------
    dim : int
        The axis along which the output sums to 1.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return softmax(input) along ``dim``."""
        output = F.softmax(input, self.dim)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.softmax_backward(grad_output, None, self.dim, output=self._saved)[0] if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """
    Turn scores into logarithms of probabilities along one axis.

    Parameters
    ----------
    dim : int
        The axis along which exp(output) sums to 1.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return log(softmax(input)) along ``dim``."""
        output = F.log_softmax(input, self.dim)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.log_softmax_backward(grad_output, None, self.dim, output=self._saved)[0] if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}"
