"""Convolution layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv._geometry import check_algorithm, check_conv_channels, check_padding_argument, check_padding_mode, pair
from cyconv.functional import ConvLayer
from cyconv.nn._attributes import Fixed, Learned, Missing
from cyconv.nn.init import weight_and_bias
from cyconv.nn.module import Module, Parameter, Pending


class Convolution(Module):
    """What convolution and transposed convolution layers have in common."""

    _makes_gradients = True

    _rank: int
    _conv: ConvLayer = Missing()  # type: ignore[assignment]
    in_channels: Any = Fixed()
    out_channels: Any = Fixed()
    groups: Any = Fixed()
    kernel_size: Any = Fixed()
    stride: Any = Fixed()
    padding: Any = Fixed()
    dilation: Any = Fixed()
    padding_mode: Any = Fixed()
    algorithm: Any = Fixed()
    weight: Any = Learned()
    bias: Any = Learned(optional=True)

    def _set_sizes(
        self, channels: tuple[Any, Any, Any], kernel_size: Any, stride: Any, padding: Any, dilation: Any
    ) -> Any:
        """Check and keep (input channels, output channels, groups) and the sizes; return the padding by sides."""
        owner = type(self).__name__
        self.in_channels, self.out_channels, self.groups = check_conv_channels(owner, *channels)
        self.kernel_size = pair(owner, "kernel_size", kernel_size, self._rank, 1)
        self.stride = pair(owner, "stride", stride, self._rank, 1)
        self.dilation = pair(owner, "dilation", dilation, self._rank, 1)
        sides = check_padding_argument(owner, padding, self._rank)
        symmetric = not isinstance(sides, str) and all(low == high for low, high in sides)
        self.padding = tuple(low for low, _ in sides) if symmetric else sides
        return sides

    def _collect(
        self, grad_output: Any, input: Any, pending: Pending, input_grad: bool, more: tuple[Any, ...] = ()
    ) -> Any:
        """Append the gradients of the parameters to ``pending``; return that of the input."""
        weight: Parameter = self.weight
        bias = self.bias
        grad_input, grad_weight, grad_bias = self._conv.backward(
            grad_output, input, weight.data, None if bias is None else bias.data, input_grad, more
        )
        pending.append((weight, grad_weight))
        if bias is not None and grad_bias is not None:
            pending.append((bias, grad_bias))
        return grad_input

    def _thaw(self) -> None:
        if not self._conv.thaw():
            self.weight.data = self.weight.data.copy()

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        zeros = (0,) * self._rank
        output_padding = vars(self).get("output_padding", zeros)
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}",
            f"padding={self.padding!r}" if self.padding != zeros else "",
            f"dilation={self.dilation}" if self.dilation != (1,) * self._rank else "",
            f"output_padding={output_padding}" if output_padding != zeros else "",
            f"groups={self.groups}" if self.groups != 1 else "",
            "bias=False" if self.bias is None else "",
            f"padding_mode={self.padding_mode!r}" if self.padding_mode != "zeros" else "",
            f"algorithm={self.algorithm!r}" if self.algorithm != "auto" else "",
        ]
        return ", ".join(part for part in parts if part)


class _Conv(Convolution):
    """What the convolution layers of one, two and three spatial dimensions have in common."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        algorithm: str = "auto",
        dtype: DTypeLike = np.float32,
        rng: Any = None,
    ) -> None:
        owner = type(self).__name__
        sides = self._set_sizes((in_channels, out_channels, groups), kernel_size, stride, padding, dilation)
        self.padding_mode = check_padding_mode(owner, padding_mode)
        self.algorithm = algorithm
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight, self.bias = weight_and_bias(shape, bias, dtype, rng, owner)
        self._conv = ConvLayer(
            owner,
            self._rank,
            self.stride,
            sides,
            self.dilation,
            self.groups,
            self.padding_mode,
            check_algorithm(owner, algorithm),
        )

    def forward(self, input: Any) -> Any:
        """Return the feature maps (N, K, ...) of a batch (N, C, ...), or (K, ...) of one example (C, ...)."""
        bias = self.bias
        training = self.training
        output = self._conv.forward(input, self.weight.data, None if bias is None else bias.data, not training)
        self._saved = input if training else None
        return output

    def _forward_rectified(self, input: Any) -> Any:
        bias = self.bias
        training = self.training
        output = self._conv.forward(input, self.weight.data, None if bias is None else bias.data, not training, True)
        self._saved = input if training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return self._collect(grad_output, self._saved, pending, input_grad)


class Conv1d(_Conv):
    """
    Convolve signals with learned kernels.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, algorithm, dtype, rng
        As in :class:`Conv2d`, with one number for the one dimension.

    Attributes
    ----------
    weight : Parameter
        Shape (K, C / groups, R).
    bias : Parameter or None
        Shape (K,).

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :class:`Conv2d`.

    Notes
    -----
    Input (N, C, L) or (C, L); output (N, K, P) or (K, P) in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Conv1d
    >>> layer = Conv1d(3, 16, 3, stride=2, padding=1, rng=0)
    >>> layer(np.ones((1, 3, 8), np.float32)).shape
    (1, 16, 4)
    """

    _rank = 1


class Conv2d(_Conv):
    """
    Convolve images with learned kernels.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K; both must be divisible by `groups`.
    kernel_size, stride, dilation : int or (int, int)
        (R, S), steps between windows, distance of taps.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        Rows and columns around the input: the same on both sides, or (top, bottom), (left, right). "same" gives
        ceil(H / stride) rows for any stride, with the odd row of padding below; "same_lower" puts it above.
    groups : int
        Number of independent convolutions side by side.
    bias : bool
        False leaves out the bias; ``layer.bias`` is None then.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What the padding holds: zeros, or pixels mirrored at the edge, that of the edge, those at the other end.
    algorithm : str
        What computes: "auto", or one by name as in :func:`cyconv.functional.conv2d`.
    dtype : dtype
        float32 or float64.
    rng : numpy.random.Generator, int or None
        Source of the starting values: a generator, a seed, or None for fresh entropy.

    Attributes
    ----------
    weight : Parameter
        Shape (K, C / groups, R, S).
    bias : Parameter or None
        Shape (K,).

    Raises
    ------
    TypeError
        If a size is no integer or `dtype` is not floating.
    ValueError
        If a number is out of its range, or the channels are not divisible by `groups`.
    MemoryError
        If the weight could not be addressed.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W); output (N, K, P, Q) or (K, P, Q) in the same dtype, with
    P = (H + 2 · padding - dilation · (R - 1) - 1) // stride + 1.

    In eval mode the layer keeps its weight in the order of the kernel, too, and ``weight.data`` is read-only until
    ``train()``. If you make it writable yourself, the next call takes the weight anew, and makes it read-only again. A
    view that was taken of it before can still be written: what is written there is not seen. Where ``weight.data`` is
    itself a view of another array nothing is kept. While a thread calls the layer in eval mode, no other may call
    ``train()`` and write.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Conv2d
    >>> layer = Conv2d(3, 16, 3, stride=2, padding=1, rng=0)
    >>> layer(np.ones((1, 3, 8, 8), np.float32)).shape
    (1, 16, 4, 4)
    """

    _rank = 2


class Conv3d(_Conv):
    """
    Convolve volumes with learned kernels.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, algorithm, dtype, rng
        As in :class:`Conv2d`, with three numbers for the three dimensions.

    Attributes
    ----------
    weight : Parameter
        Shape (K, C / groups, T, R, S).
    bias : Parameter or None
        Shape (K,).

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :class:`Conv2d`.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W); output (N, K, O, P, Q) or (K, O, P, Q) in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Conv3d
    >>> layer = Conv3d(3, 16, 3, stride=2, padding=1, rng=0)
    >>> layer(np.ones((1, 3, 4, 8, 8), np.float32)).shape
    (1, 16, 2, 4, 4)
    """

    _rank = 3
