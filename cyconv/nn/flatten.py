"""Layers that change no value: Flatten and Identity."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv.nn.module import Module, Pending


class Flatten(Module):
    """
    Join a range of axes into one.

    Parameters
    ----------
    start_dim, end_dim : int
        First and last axis of the range; the default keeps the batch axis and joins all others.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.flatten`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Flatten
    >>> Flatten()(np.ones((2, 3, 4, 5))).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Any:
        """Return the input in its new shape, in C order of the axes that are joined."""
        output = F.flatten(input, self.start_dim, self.end_dim)
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.flatten_backward(grad_output, self._saved, self.start_dim, self.end_dim)[0] if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """
    Return the input itself.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Identity
    >>> Identity()(np.ones(2)).tolist()
    [1.0, 1.0]
    """

    def forward(self, input: Any) -> Any:
        """Return `input`."""
        return input

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        return grad_output if input_grad else None
