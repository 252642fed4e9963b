"""Layers that lay windows side by side, and add them up again."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv.nn.module import Module, Pending


class Unfold(Module):
    """
    Lay the windows of a convolution side by side, as columns.

    Parameters
    ----------
    kernel_size, dilation, padding, stride : int or tuple
        As in :func:`cyconv.functional.unfold`: a tuple as `kernel_size` gives the number of spatial dimensions.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.unfold`.

    Notes
    -----
    Input (N, C, *spatial) or (C, *spatial), float32 or float64; output (N, C · ∏kernel, L) or (C · ∏kernel, L).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Unfold
    >>> Unfold((3, 3), padding=1)(np.ones((1, 2, 5, 5))).shape
    (1, 18, 25)
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Any) -> Any:
        """Return the columns."""
        self._saved = input if self.training else None
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return F.unfold_backward(grad_output, self._saved, self.kernel_size, self.dilation, self.padding, self.stride)[
            0
        ]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """
    Add columns up to images: the adjoint of :class:`Unfold`.

    Parameters
    ----------
    output_size, kernel_size, dilation, padding, stride : int or tuple
        As in :func:`cyconv.functional.fold`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.fold`.

    Notes
    -----
    Input (N, C · ∏kernel, L) or (C · ∏kernel, L), float32 or float64; output (N, C, *output_size) or without N.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Fold
    >>> Fold((3,), (2,))(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 5.0, 4.0]]
    """

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Any) -> Any:
        """Return the images."""
        self._saved = input if self.training else None
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return F.fold_backward(
            grad_output, self._saved, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
