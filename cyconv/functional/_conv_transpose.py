"""Transposed convolution of signals, images and volumes, and its gradients."""

from __future__ import annotations

from typing import Any

from .._transposed_geometry import ConvTransposeGeometry, check_output_size, conv_transpose_geometry
from ._arrays import Array
from ._conv import _backward, _forward
from ._conv_layer import ConvLayer
from ._twins import gradient_of


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    padding_mode: str = "zeros",
    *,
    output_size: Any = None,
    algorithm: str = "auto",
) -> Array:
    """
    Transposed convolution of images: spread every pixel over the output by a kernel, and add up.

    It is the input gradient of :func:`conv2d` with the same arguments, taken as an operation of its own: where that
    makes P rows of H, this makes H rows of P, so that with a stride the output is larger than the input.

    Parameters
    ----------
    input : array, shape (N, C, P, Q) or (C, P, Q)
        Images, float32 or float64, in any memory order. C-contiguous and channels-last arrays are read where they
        lie; others are copied once.
    weight : array, shape (C, K / groups, R, S)
        Kernels, of the same dtype.
    bias : array, shape (K,), optional
        Added to every pixel of an output channel.
    stride : int or (int, int)
        Steps in the output between what neighbouring pixels of the input are spread over.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        Rows and columns taken off the output: the same on both sides, or (top, bottom), (left, right). "same" and
        "same_lower" take off what these words mean for a convolution that leads from the output to the input: the
        output has stride · P rows.
    output_padding : int or (int, int)
        Rows and columns added to the output below and right, fewer than the stride (or the dilation). A convolution
        of stride S leads from S different heights to P; this says which one it was.
    groups : int
        Number of independent transposed convolutions side by side; divides C and K.
    dilation : int or (int, int)
        Distance of the taps of a kernel.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What stands around the input. ``padding`` is taken off the output and holds nothing; but near its ends the
        output also meets taps of pixels before the first and behind the last of the input. With "zeros" there are none.
        The other modes extend the input as :func:`conv2d` does, by as many pixels as reach the output.
    output_size : int or sequence of int, optional
        The height and width of the output (or a whole shape, of which these are the last), instead of
        ``output_padding``: one of the S sizes that can be.
    algorithm : {"auto", "direct", "winograd_f2", "winograd_f4", "depthwise", "im2col", "reference"}
        What computes; "auto" follows ``cyconv.explain``.

    Returns
    -------
    ndarray, shape (N, K, H, W) or (K, H, W)
        In the dtype and memory order of ``input``;
        H = (P − 1) · stride − 2 · padding + dilation · (R − 1) + 1 + output_padding.

    Raises
    ------
    TypeError
        An array is not float32 or float64, dtypes are mixed, or an argument is no integer.
    ValueError
        Shapes or values do not fit together.
    MemoryError
        The output could not be addressed.

    Notes
    -----
    y[n, k, h, w] = b[k] + the sum over c, p, q, r, s with p · stride + r · dilation − padding = h, likewise q, s and w,
    of weight[c, k, r, s] · x[n, c, p, q].

    The sum is over 0 ≤ p < P with "zeros". In the other modes p is any whole number: those from
    −⌊(dilation · (R − 1) − padding) / stride⌋ to ⌊(H − 1 + padding) / stride⌋ reach the output, and what lies outside
    of the input holds what the mode says: the output is what padding the input with :func:`pad` and cutting off all
    that is too much would give. So an input that is the same everywhere has an output without borders, and "circular"
    makes a period of P pixels one of stride · P where the output has as many. It is the input gradient of
    :func:`conv2d` in the same mode for "zeros", and for "circular" of that length; for "reflect" and "replicate" that
    gradient adds up at the border what was read twice, which would brighten it.

    No zeros are inserted between pixels, as pictures of it have it: output pixels that the same taps reach (those of
    one remainder of the row and column by the stride) are computed together, each as a small convolution.

    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import conv_transpose2d
    >>> image = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    >>> conv_transpose2d(image, np.ones((1, 1, 2, 2)), stride=2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.],
            [3., 3., 4., 4.],
            [3., 3., 4., 4.]]])
    """
    arguments = (stride, padding, output_padding, groups, dilation, padding_mode, output_size)
    return _forward("conv_transpose2d", 2, input, weight, bias, arguments, algorithm, conv_transpose_geometry)


@gradient_of(
    conv_transpose2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "[g.ravel().tolist() for g in F.conv_transpose2d_backward(np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 1)), x)]",
    "[[6.0], [1.0, 1.0, 1.0, 1.0]]",
)
def conv_transpose2d_backward(
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    padding_mode: str = "zeros",
    *,
    output_size: Any = None,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> tuple[Any, ...]:
    """
    Gradients of :func:`conv_transpose2d`.

    A pixel that is repeated around the input has the gradients of all its places.

    Parameters
    ----------
    grad_output : array
        Gradient with respect to the output, in its shape and dtype.
    input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode, output_size, algorithm
        As in the forward pass. The values of ``bias`` do not matter, only whether there is one.
    input_grad : bool
        False leaves out the gradient of the input, which the first layer of a network has no use for.

    Returns
    -------
    tuple of ndarray
        Gradients of ``input`` (None if ``input_grad`` is False), ``weight`` and, if there is one, ``bias``: the
        convolution of ``grad_output``, and the weight gradient of that convolution.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As in the forward pass, and if ``grad_output`` has another shape or dtype than the output.
    """
    arguments = (stride, padding, output_padding, groups, dilation, padding_mode, output_size)
    return _backward(
        "conv_transpose2d_backward",
        2,
        grad_output,
        input,
        weight,
        bias,
        arguments,
        algorithm,
        input_grad,
        conv_transpose_geometry,
    )


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    padding_mode: str = "zeros",
    *,
    output_size: Any = None,
    algorithm: str = "auto",
) -> Array:
    """
    Transposed convolution of signals: :func:`conv_transpose2d` with one spatial dimension.

    Parameters
    ----------
    input : array, shape (N, C, P) or (C, P)
        Signals, float32 or float64.
    weight : array, shape (C, K / groups, R)
        Kernels, of the same dtype.
    bias, stride, padding, output_padding, groups, dilation, padding_mode, output_size, algorithm
        As in :func:`conv_transpose2d`, with one number for the one dimension.

    Returns
    -------
    ndarray, shape (N, K, L) or (K, L)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :func:`conv_transpose2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import conv_transpose1d
    >>> conv_transpose1d(np.array([[1.0, 2.0, 3.0]]), np.array([[[0.5, 1.0, 0.5]]]), stride=2, padding=1)
    array([[1. , 1.5, 2. , 2.5, 3. ]])
    """
    arguments = (stride, padding, output_padding, groups, dilation, padding_mode, output_size)
    return _forward("conv_transpose1d", 1, input, weight, bias, arguments, algorithm, conv_transpose_geometry)


@gradient_of(
    conv_transpose1d,
    "x = np.arange(2.0).reshape(1, 1, 2)",
    "[g.ravel().tolist() for g in F.conv_transpose1d_backward(np.ones((1, 1, 2)), np.ones((1, 1, 1)), x)]",
    "[[1.0], [1.0, 1.0]]",
)
def conv_transpose1d_backward(
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    padding_mode: str = "zeros",
    *,
    output_size: Any = None,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> tuple[Any, ...]:
    """Return ``(d_input, d_weight[, d_bias])`` of :func:`conv_transpose1d`; as :func:`conv_transpose2d_backward`."""
    arguments = (stride, padding, output_padding, groups, dilation, padding_mode, output_size)
    return _backward(
        "conv_transpose1d_backward",
        1,
        grad_output,
        input,
        weight,
        bias,
        arguments,
        algorithm,
        input_grad,
        conv_transpose_geometry,
    )


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    padding_mode: str = "zeros",
    *,
    output_size: Any = None,
    algorithm: str = "auto",
) -> Array:
    """
    Transposed convolution of volumes: :func:`conv_transpose2d` with three spatial dimensions.

    Parameters
    ----------
    input : array, shape (N, C, O, P, Q) or (C, O, P, Q)
        Volumes, float32 or float64.
    weight : array, shape (C, K / groups, T, R, S)
        Kernels, of the same dtype.
    bias, stride, padding, output_padding, groups, dilation, padding_mode, output_size, algorithm
        As in :func:`conv_transpose2d`, with three numbers for the three dimensions.

    Returns
    -------
    ndarray, shape (N, K, D, H, W) or (K, D, H, W)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :func:`conv_transpose2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import conv_transpose3d
    >>> conv_transpose3d(np.ones((1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)))[0, :, 0, 1]
    array([2., 4., 2.])
    """
    arguments = (stride, padding, output_padding, groups, dilation, padding_mode, output_size)
    return _forward("conv_transpose3d", 3, input, weight, bias, arguments, algorithm, conv_transpose_geometry)


@gradient_of(
    conv_transpose3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "[g.ravel().tolist() for g in F.conv_transpose3d_backward(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 1, 1, 1)), x)]",
    "[[28.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]",
)
def conv_transpose3d_backward(
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    padding_mode: str = "zeros",
    *,
    output_size: Any = None,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> tuple[Any, ...]:
    """Return ``(d_input, d_weight[, d_bias])`` of :func:`conv_transpose3d`; as :func:`conv_transpose2d_backward`."""
    arguments = (stride, padding, output_padding, groups, dilation, padding_mode, output_size)
    return _backward(
        "conv_transpose3d_backward",
        3,
        grad_output,
        input,
        weight,
        bias,
        arguments,
        algorithm,
        input_grad,
        conv_transpose_geometry,
    )


class ConvTransposeLayer(ConvLayer):
    """The transposed convolution of one layer: arguments checked once, engines found by the shape of the input.

    Parameters
    ----------
    operation : str
        What messages name.
    rank : int
        Number of spatial dimensions.
    stride, padding, output_padding, groups, dilation, padding_mode, algorithm
        As in :func:`conv_transpose2d`.
    """

    __slots__ = ()

    def __init__(
        self,
        operation: str,
        rank: int,
        stride: Any,
        padding: Any,
        output_padding: Any,
        groups: int,
        dilation: Any,
        padding_mode: str,
        algorithm: str,
    ) -> None:
        self._set(operation, rank, (stride, padding, output_padding, groups, dilation, padding_mode, algorithm))

    def geometry(
        self,
        input_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        bias_shape: tuple[int, ...] | None,
        output_size: Any = None,
    ) -> ConvTransposeGeometry:
        """Return the sizes for an input of a shape; ``output_size`` takes the place of the layer's output padding."""
        stride, padding, output_padding, groups, dilation, mode, _ = self._arguments
        if output_size is not None:
            output_padding = 0
        return conv_transpose_geometry(
            self._operation,
            self._rank,
            input_shape,
            weight_shape,
            bias_shape,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
            mode,
            output_size,
        )

    def more(self, output_size: Any) -> tuple[Any, ...]:
        """Return ``output_size``, checked, as further argument of ``forward`` and ``backward``."""
        return () if output_size is None else (check_output_size(self._operation, output_size, self._rank),)
