"""Transposed convolution layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv._geometry import check_algorithm, check_padding_mode
from cyconv._transposed_geometry import check_output_padding
from cyconv.functional import ConvTransposeLayer
from cyconv.nn._attributes import Fixed
from cyconv.nn.conv import Convolution
from cyconv.nn.init import weight_and_bias
from cyconv.nn.module import Pending


class _ConvTranspose(Convolution):
    """What the transposed convolution layers of one, two and three spatial dimensions have in common."""

    _conv: ConvTransposeLayer
    output_padding: Any = Fixed()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        algorithm: str = "auto",
        dtype: DTypeLike = np.float32,
        rng: Any = None,
    ) -> None:
        owner = type(self).__name__
        sides = self._set_sizes((in_channels, out_channels, groups), kernel_size, stride, padding, dilation)
        self.output_padding = check_output_padding(owner, output_padding, self.stride, self.dilation)
        self.padding_mode = check_padding_mode(owner, padding_mode)
        self.algorithm = algorithm
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.weight, self.bias = weight_and_bias(shape, bias, dtype, rng, owner, self.out_channels)
        self._conv = ConvTransposeLayer(
            owner,
            self._rank,
            self.stride,
            sides,
            self.output_padding,
            self.groups,
            self.dilation,
            self.padding_mode,
            check_algorithm(owner, algorithm),
        )

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """
        Return the feature maps (N, K, ...) of a batch (N, C, ...), or (K, ...) of one example (C, ...).

        Parameters
        ----------
        input : array
            Feature maps.
        output_size : int or sequence of int, optional
            Spatial size of the output, or a whole shape that ends with it, in place of ``output_padding``. What can be
            are the sizes from which a convolution with these arguments leads to that of ``input``.
        """
        return self._run(input, False, self._conv.more(output_size))

    def _forward_rectified(self, input: Any) -> Any:
        return self._run(input, True, ())

    def _run(self, input: Any, rectified: bool, more: tuple[Any, ...]) -> Any:
        bias = self.bias
        training = self.training
        output = self._conv.forward(
            input, self.weight.data, None if bias is None else bias.data, not training, rectified, more
        )
        self._saved = (input, more) if training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        input, more = self._saved
        return self._collect(grad_output, input, pending, input_grad, more)


class ConvTranspose1d(_ConvTranspose):
    """
    Transposed convolution of signals with learned kernels.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias
    dilation, padding_mode, algorithm, dtype, rng
        As in :class:`ConvTranspose2d`, with one number for the one dimension.

    Attributes
    ----------
    weight : Parameter
        Shape (C, K / groups, R).
    bias : Parameter or None
        Shape (K,).

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :class:`ConvTranspose2d`.

    Notes
    -----
    Input (N, C, P) or (C, P); output (N, K, L) or (K, L) in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ConvTranspose1d
    >>> layer = ConvTranspose1d(3, 16, 4, stride=2, padding=1, rng=0)
    >>> layer(np.ones((1, 3, 8), np.float32)).shape
    (1, 16, 16)
    """

    _rank = 1


class ConvTranspose2d(_ConvTranspose):
    """
    Transposed convolution of images with learned kernels: up where a convolution with a stride goes down.

    Parameters
    ----------
    in_channels, out_channels : int
        C and K; both must be divisible by `groups`.
    kernel_size, stride, dilation : int or (int, int)
        (R, S), steps in the output between what neighbouring pixels are spread over, distance of taps.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        Rows and columns taken off the output: the same on both sides, or (top, bottom), (left, right). With "same" and
        "same_lower" the output has stride · P rows.
    output_padding : int or (int, int)
        Rows and columns added below and right, fewer than the stride (or the dilation).
    groups : int
        Number of independent transposed convolutions side by side.
    bias : bool
        False leaves out the bias; ``layer.bias`` is None then.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands around the input: nothing, or pixels mirrored at its edge, that of the edge, those at the other end,
        as far as they reach the output; see :func:`cyconv.functional.conv_transpose2d`.
    algorithm : str
        What computes: "auto", or one by name as in :func:`cyconv.functional.conv_transpose2d`.
    dtype : dtype
        float32 or float64.
    rng : numpy.random.Generator, int or None
        Source of the starting values: a generator, a seed, or None for fresh entropy.

    Attributes
    ----------
    weight : Parameter
        Shape (C, K / groups, R, S).
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
    Input (N, C, P, Q) or (C, P, Q); output (N, K, H, W) or (K, H, W) in the same dtype, with
    H = (P − 1) · stride − 2 · padding + dilation · (R − 1) + 1 + output_padding.

    Where the stride does not divide the kernel, output pixels are sums of different numbers of terms, which shows as
    a checkerboard: https://distill.pub/2016/deconv-checkerboard.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import Conv2d, ConvTranspose2d
    >>> down, up = Conv2d(3, 8, 3, stride=2, padding=1), ConvTranspose2d(8, 3, 3, stride=2, padding=1)
    >>> image = np.zeros((1, 3, 10, 10), np.float32)
    >>> small = down(image)
    >>> small.shape, up(small).shape, up(small, output_size=image.shape).shape
    ((1, 8, 5, 5), (1, 3, 9, 9), (1, 3, 10, 10))
    """

    _rank = 2


class ConvTranspose3d(_ConvTranspose):
    """
    Transposed convolution of volumes with learned kernels.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias
    dilation, padding_mode, algorithm, dtype, rng
        As in :class:`ConvTranspose2d`, with three numbers for the three dimensions.

    Attributes
    ----------
    weight : Parameter
        Shape (C, K / groups, T, R, S).
    bias : Parameter or None
        Shape (K,).

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :class:`ConvTranspose2d`.

    Notes
    -----
    Input (N, C, O, P, Q) or (C, O, P, Q); output (N, K, D, H, W) or (K, D, H, W) in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ConvTranspose3d
    >>> layer = ConvTranspose3d(3, 16, 4, stride=2, padding=1, rng=0)
    >>> layer(np.ones((1, 3, 4, 8, 8), np.float32)).shape
    (1, 16, 8, 16, 16)
    """

    _rank = 3
