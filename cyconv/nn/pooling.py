"""Pooling layers."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv.nn.module import Module, Pending


class MaxPool2d(Module):
    """
    Take the largest value in each window.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or (int, int)
        As in :func:`cyconv.functional.max_pool2d`; `stride` None means `kernel_size`.
    return_indices : bool
        Return ``(output, indices)``; the indices are int64 and count in the flat H·W plane.
    ceil_mode : bool
        Round the output size up.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output (N, C, P, Q) or (C, P, Q) in the same dtype.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Any) -> Any:
        """Return the maxima, with their indices if ``return_indices``."""
        self._saved = input if self.training else None
        return F.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        # Without indices: finding the maxima once more costs less than writing and reading where they were.
        return F.max_pool2d_backward(
            grad_output, self._saved, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """
    Take the mean of each window.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int)
        As in :func:`cyconv.functional.avg_pool2d`; `stride` None means `kernel_size`.
    ceil_mode : bool
        Round the output size up.
    count_include_pad : bool
        Let the zeros of the padding count in the divisor.
    divisor_override : int, optional
        Divide by this instead of the number of elements.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output (N, C, P, Q) or (C, P, Q) in the same dtype.
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        """Return the means."""
        output = F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return F.avg_pool2d_backward(
            grad_output,
            self._saved,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
