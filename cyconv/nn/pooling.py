"""Maximum, average and power-average pooling layers, and the way back from maxima to their places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from cyconv import functional as F
from cyconv.nn._ranks import for_rank
from cyconv.nn.module import Module, Pending


class Pool(Module):
    """What pooling layers share."""

    _makes_gradients = True

    _forward: ClassVar[Callable[..., Any]]
    _gradient: ClassVar[Callable[..., Any]]
    _rank: ClassVar[int]

    def _arguments(self) -> tuple[Any, ...]:
        """Return what the functions take behind the input."""
        raise NotImplementedError

    def forward(self, input: Any) -> Any:
        """Return the pooled input."""
        output = self._forward(input, *self._arguments())
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return self._gradient(grad_output, self._saved, *self._arguments())[0]


class KeepsMaxima(Pool):
    """Maxima: in training the layer remembers where they stand, a byte each as a rule, rather than the input."""

    return_indices: bool

    def forward(self, input: Any) -> Any:
        """Return the maxima, with their indices if ``return_indices``."""
        if self.training and not self.return_indices:
            output, self._saved = F.keep_maxima(self._forward.__name__, input, *self._arguments())
            return output
        self._saved = input if self.training else None
        return self._forward(input, *self._arguments(), self.return_indices)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if isinstance(self._saved, F.Maxima) and input_grad:
            return self._saved.backward(grad_output)
        return super()._backward(grad_output, pending, input_grad)

    def _follows(self, relu: Any) -> bool:
        """Whether the maxima are of what the ReLU remembers."""
        return isinstance(self._saved, F.Maxima) and self._saved.are_of(relu._saved)

    def _backward_rectified(self, grad_output: Any) -> Any:
        """Go backward through the ReLU before as well: what it let through is seen at the maxima."""
        return self._saved.backward(grad_output, True)


class WindowPool(Pool):
    """What layers share whose windows are a kernel."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        names = ("norm_type", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names if hasattr(self, name))


class _MaxPool(KeepsMaxima, WindowPool):
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

    def _arguments(self) -> tuple[Any, ...]:
        return (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class _AvgPool(WindowPool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        dilation: Any = 1,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        self.dilation = dilation

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        shown = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return shown if self.dilation == 1 else f"{shown}, dilation={self.dilation}"

    def _arguments(self) -> tuple[Any, ...]:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
            self.dilation,
        )


class _LPPool(WindowPool):
    def __init__(
        self,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
        padding: Any = 0,
        dilation: Any = 1,
    ) -> None:
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode = ceil_mode
        self.padding = padding
        self.dilation = dilation

    def _arguments(self) -> tuple[Any, ...]:
        return (self.norm_type, self.kernel_size, self.stride, self.ceil_mode, self.padding, self.dilation)


class _MaxUnpool(Module):
    _forward: ClassVar[Callable[..., Any]]
    _gradient: ClassVar[Callable[..., Any]]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        """Return zeros with each number of the input at its index."""
        arguments = (input, indices, self.kernel_size, self.stride, self.padding, output_size)
        output = self._forward(*arguments)
        self._saved = arguments if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return self._gradient(grad_output, *self._saved)[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


_MAX_POOL = """
    Take the largest value in each window.

    Parameters
    ----------
    kernel_size, stride, padding, dilation
        As in :func:`cyconv.functional.max_pool{rank}d`; `stride` None means `kernel_size`.
    return_indices : bool
        Return ``(output, indices)``; the indices are int64 and count in the flattened plane.
    ceil_mode : bool
        Round the output size up.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.max_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {output} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import MaxPool{rank}d
    >>> MaxPool{rank}d(2)(np.ones({shape})).shape
    {half}
    """


class MaxPool1d(_MaxPool):
    __doc__ = for_rank(1, _MAX_POOL)

    _forward = staticmethod(F.max_pool1d)
    _gradient = staticmethod(F.max_pool1d_backward)
    _rank = 1


class MaxPool2d(_MaxPool):
    __doc__ = for_rank(2, _MAX_POOL)

    _forward = staticmethod(F.max_pool2d)
    _gradient = staticmethod(F.max_pool2d_backward)
    _rank = 2


class MaxPool3d(_MaxPool):
    __doc__ = for_rank(3, _MAX_POOL)

    _forward = staticmethod(F.max_pool3d)
    _gradient = staticmethod(F.max_pool3d_backward)
    _rank = 3


_AVG_POOL = """
    Take the mean of each window.

    Parameters
    ----------
    kernel_size, stride, padding
        As in :func:`cyconv.functional.avg_pool{rank}d`; `stride` None means `kernel_size`.
    ceil_mode : bool
        Round the output size up.
    count_include_pad : bool
        Let the zeros of the padding count in the divisor.
    divisor_override : int, optional
        Divide by this instead of the number of elements.
    dilation
        Distance of the elements of a window.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.avg_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {output} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import AvgPool{rank}d
    >>> AvgPool{rank}d(3, stride=2, padding=1)(np.ones({shape})).shape
    {half}
    """


class AvgPool1d(_AvgPool):
    __doc__ = for_rank(1, _AVG_POOL)

    _forward = staticmethod(F.avg_pool1d)
    _gradient = staticmethod(F.avg_pool1d_backward)
    _rank = 1


class AvgPool2d(_AvgPool):
    __doc__ = for_rank(2, _AVG_POOL)

    _forward = staticmethod(F.avg_pool2d)
    _gradient = staticmethod(F.avg_pool2d_backward)
    _rank = 2


class AvgPool3d(_AvgPool):
    __doc__ = for_rank(3, _AVG_POOL)

    _forward = staticmethod(F.avg_pool3d)
    _gradient = staticmethod(F.avg_pool3d_backward)
    _rank = 3


_LPPOOL = """
    Take (sum of x^p)^(1/p) of each window.

    Parameters
    ----------
    norm_type : float
        The exponent p, above 0.
    kernel_size, stride, ceil_mode, padding, dilation
        As in :func:`cyconv.functional.lp_pool{rank}d`; `stride` None means `kernel_size`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.lp_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {output} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import LPPool{rank}d
    >>> LPPool{rank}d(2.0, 2)(np.ones({shape})).shape
    {half}
    """


class LPPool1d(_LPPool):
    __doc__ = for_rank(1, _LPPOOL)

    _forward = staticmethod(F.lp_pool1d)
    _gradient = staticmethod(F.lp_pool1d_backward)
    _rank = 1


class LPPool2d(_LPPool):
    __doc__ = for_rank(2, _LPPOOL)

    _forward = staticmethod(F.lp_pool2d)
    _gradient = staticmethod(F.lp_pool2d_backward)
    _rank = 2


class LPPool3d(_LPPool):
    __doc__ = for_rank(3, _LPPOOL)

    _forward = staticmethod(F.lp_pool3d)
    _gradient = staticmethod(F.lp_pool3d_backward)
    _rank = 3


_MAX_UNPOOL = """
    Put maxima back to where they stood, and zeros everywhere else.

    Parameters
    ----------
    kernel_size, stride, padding : int or {each}
        Those of the pool; `stride` None means `kernel_size`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.max_unpool{rank}d`.

    Notes
    -----
    ``forward(input, indices, output_size=None)`` as :func:`cyconv.functional.max_unpool{rank}d`.
    Input and indices {output}, output {input}.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import MaxPool{rank}d, MaxUnpool{rank}d
    >>> y, indices = MaxPool{rank}d(2, return_indices=True)(np.ones({shape}))
    >>> MaxUnpool{rank}d(2)(y, indices).shape
    {shape}
    """


class MaxUnpool1d(_MaxUnpool):
    __doc__ = for_rank(1, _MAX_UNPOOL)

    _forward = staticmethod(F.max_unpool1d)
    _gradient = staticmethod(F.max_unpool1d_backward)


class MaxUnpool2d(_MaxUnpool):
    __doc__ = for_rank(2, _MAX_UNPOOL)

    _forward = staticmethod(F.max_unpool2d)
    _gradient = staticmethod(F.max_unpool2d_backward)


class MaxUnpool3d(_MaxUnpool):
    __doc__ = for_rank(3, _MAX_UNPOOL)

    _forward = staticmethod(F.max_unpool3d)
    _gradient = staticmethod(F.max_unpool3d_backward)
