"""The windows of images as columns, and columns added up to images: unfold, fold."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import _settings
from .._fold_geometry import fold_geometry, unfold_geometry
from .._geometry import ConvGeometry, check_gradient
from ..kernels import load
from ._arrays import Array, array, channels_last, empty, ordered, same_dtype
from ._twins import gradient_of

_kernel = load("unfold")
#: What reading or writing an element is worth in floating-point operations when the number of threads is chosen.
WORK = 8


@functools.lru_cache(maxsize=1024)
def _windows(geometry: ConvGeometry) -> Any:
    """Return the kernel of a geometry; fewer dimensions than three are deeper or higher by one."""
    more, none = (1,) * (3 - geometry.rank), (0,) * (3 - geometry.rank)
    low = none + tuple(pair[0] for pair in geometry.padding)
    return _kernel.Windows(
        geometry.in_channels,
        more + geometry.input,
        more + geometry.output,
        more + geometry.kernel,
        more + geometry.stride,
        more + geometry.dilation,
        low,
    )


def _columns_shape(geometry: ConvGeometry) -> tuple[int, int, int]:
    return (geometry.batch, geometry.out_channels, math.prod(geometry.output))


def _threads(geometry: ConvGeometry) -> int:
    return _settings.threads_for(WORK * math.prod(geometry.output_shape))


def _to_columns(geometry: ConvGeometry, x: Array) -> Array:
    x, last = ordered(x if geometry.batched else x[np.newaxis])
    columns = empty(_columns_shape(geometry), x.dtype)
    _windows(geometry).unfold(columns, x, geometry.batch, last, _threads(geometry))
    return columns if geometry.batched else columns[0]


def _to_image(geometry: ConvGeometry, columns: Array, last: bool) -> Array:
    columns = np.ascontiguousarray(columns)
    image = empty(geometry.input_shape, columns.dtype, last)
    _windows(geometry).fold(image, columns, geometry.batch, last, _threads(geometry))
    return image if geometry.batched else image[0]


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """
    Lay the windows of a convolution side by side, as the columns of a matrix (im2col).

    Parameters
    ----------
    input : array, shape (N, C, *spatial) or (C, *spatial)
        One to three spatial dimensions, float32 or float64. C-contiguous and channels-last arrays are read where they
        lie.
    kernel_size : int or tuple of int
        A tuple gives the number of spatial dimensions, too; an int means two.
    dilation, padding, stride : int, tuple
        As in :func:`conv2d`; padding may be by sides, "valid", "same" or "same_lower".

    Returns
    -------
    ndarray, shape (N, C · ∏kernel, L) or (C · ∏kernel, L)
        L = ∏output windows; row c · ∏kernel + r holds what tap r of channel c meets in each. C-contiguous.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.
    MemoryError
        The columns could not be addressed.

    Notes
    -----
    y[n, c·R + r, l] = x[n, c, l·S + r·D − P], for one dimension. A convolution is ``weight.reshape(K, -1) @ columns``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import unfold
    >>> unfold(np.arange(9.0).reshape(1, 3, 3), 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    x = array(input, "unfold", "input")
    return _to_columns(unfold_geometry("unfold", x.shape, kernel_size, dilation, padding, stride), x)


@gradient_of(
    unfold,
    "F.unfold_backward(np.ones((2, 2)), np.zeros((1, 3)), (2,))[0].tolist()",
    "[[1.0, 2.0, 1.0]]",
)
def unfold_backward(
    grad_output: Any, input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`unfold`, which is :func:`fold`: every pixel has the sum of the gradients it went to.

    Parameters
    ----------
    grad_output : array, shape (N, C · ∏kernel, L) or (C · ∏kernel, L)
    input, kernel_size, dilation, padding, stride
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As forward, and if `grad_output` has another shape or dtype than the columns.
    """
    operation = "unfold_backward"
    x, grad = array(input, operation, "input"), array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=grad, input=x)
    geometry = unfold_geometry("unfold", x.shape, kernel_size, dilation, padding, stride)
    check_gradient(operation, grad.shape, _columns_shape(geometry)[0 if geometry.batched else 1 :])
    return (_to_image(geometry, grad, channels_last(x if geometry.batched else x[np.newaxis])),)


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """
    Add columns up to images: the adjoint of :func:`unfold` (col2im).

    Parameters
    ----------
    input : array, shape (N, C · ∏kernel, L) or (C · ∏kernel, L)
        Columns, as `unfold` makes them of images of `output_size` with the same other arguments; float32 or float64.
    output_size : int or tuple of int
        Spatial shape of the images. The number of spatial dimensions is that of the first of `output_size` and
        `kernel_size` that is a tuple, or two.
    kernel_size, dilation, padding, stride
        As in :func:`unfold`.

    Returns
    -------
    ndarray, shape (N, C, *output_size) or (C, *output_size)
        C-contiguous. Terms of a pixel are added in the order of the taps, whatever the number of threads.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together; the message has the arithmetic of L.
    MemoryError
        The images could not be addressed.

    Notes
    -----
    x[n, c, i] = Σ y[n, c·R + r, l] over all r, l with l·S + r·D − P = i, for one dimension.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import fold, unfold
    >>> fold(unfold(np.ones((1, 3, 3)), 2), 3, 2)  # in how many windows each pixel is
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    columns = array(input, "fold", "input")
    geometry = fold_geometry("fold", columns.shape, output_size, kernel_size, dilation, padding, stride)
    return _to_image(geometry, columns, False)


@gradient_of(
    fold,
    "F.fold_backward(np.array([[1.0, 2.0, 3.0]]), np.zeros((2, 2)), (3,), (2,))[0].tolist()",
    "[[1.0, 2.0], [2.0, 3.0]]",
)
def fold_backward(
    grad_output: Any,
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`fold`, which is :func:`unfold` of the gradient.

    Parameters
    ----------
    grad_output : array, shape (N, C, *output_size) or (C, *output_size)
    input, output_size, kernel_size, dilation, padding, stride
        As forward took them; of `input` only shape and dtype matter.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As forward, and if `grad_output` has another shape or dtype than the images.
    """
    operation = "fold_backward"
    columns, grad = array(input, operation, "input"), array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=grad, input=columns)
    geometry = fold_geometry("fold", columns.shape, output_size, kernel_size, dilation, padding, stride)
    check_gradient(operation, grad.shape, geometry.input_shape[0 if geometry.batched else 1 :])
    return (_to_columns(geometry, grad),)
