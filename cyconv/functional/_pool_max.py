"""Maximum pooling."""

from __future__ import annotations

from typing import Any

from ._arrays import Array, array
from ._pool import maximum, maximum_backward, plan
from ._twins import gradient_of


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """
    Take the largest value in each window. Padding counts as -inf; a NaN in the window is the result.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    kernel_size, stride, dilation : int or (int,)
        `stride` None means `kernel_size`.
    padding : int, (int,), ((int, int),), "valid", "same" or "same_lower"
        The same on both sides, at most half of the dilated kernel; or (low, high), each less than the dilated kernel
        and together no more. "same" gives ceil(length / stride) windows, with an odd pixel of padding at the end;
        "same_lower" puts it at the beginning.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    return_indices : bool
        Return ``(output, indices)``.

    Returns
    -------
    output : ndarray, (N, C, P) or (C, P)
        In the dtype and memory order of `input`; sizes are (H + 2P − D(K−1) − 1)/S + 1.
    indices : ndarray of int64, the same shape
        Where in the flattened plane (volume, row) the maximum stands: the first of equals in row-major order, the last
        of NaNs; -1 for a window that meets no pixel.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import max_pool1d
    >>> max_pool1d(np.array([[1.0, 5, 2, 3]]), 2, 1, "same")
    array([[5., 5., 3., 3.]])
    """
    x = array(input, "max_pool1d", "input")
    pool = plan("max_pool1d", 1, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maximum(pool, x, return_indices)


@gradient_of(
    max_pool1d,
    "F.max_pool1d_backward(np.ones((1, 1, 1)), np.arange(2.0).reshape(1, 1, 2), 2)[0].ravel().tolist()",
    "[0.0, 1.0]",
)
def max_pool1d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_pool1d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P) or (C, P)
    input, kernel_size, stride, padding, dilation, ceil_mode
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned. Without it the maxima are looked up again, which as a rule is as fast.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "max_pool1d_backward", "input")
    pool = plan("max_pool1d", 1, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maximum_backward("max_pool1d_backward", pool, x, grad_output, indices)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """
    Take the largest value in each window. Padding counts as -inf; a NaN in the window is the result.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size, stride, dilation : int or (int, int)
        `stride` None means `kernel_size`.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        The same on both sides, at most half of the dilated kernel; or (low, high), each less than the dilated kernel
        and together no more. "same" gives ceil(length / stride) windows, with an odd pixel of padding at the end;
        "same_lower" puts it at the beginning.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    return_indices : bool
        Return ``(output, indices)``.

    Returns
    -------
    output : ndarray, (N, C, P, Q) or (C, P, Q)
        In the dtype and memory order of `input`; sizes are (H + 2P − D(K−1) − 1)/S + 1.
    indices : ndarray of int64, the same shape
        Where in the flattened plane (volume, row) the maximum stands: the first of equals in row-major order, the last
        of NaNs; -1 for a window that meets no pixel.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import max_pool2d
    >>> y, indices = max_pool2d(np.array([[[1.0, 5, 2], [4, 3, 6]]]), 2, 1, return_indices=True)
    >>> y, indices
    (array([[[5., 6.]]]), array([[[1, 5]]]))
    """
    x = array(input, "max_pool2d", "input")
    pool = plan("max_pool2d", 2, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maximum(pool, x, return_indices)


@gradient_of(
    max_pool2d,
    "F.max_pool2d_backward(np.ones((1, 1, 1, 1)), np.arange(4.0).reshape(1, 1, 2, 2), 2)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 1.0]",
)
def max_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_pool2d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, kernel_size, stride, padding, dilation, ceil_mode
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned. Without it the maxima are looked up again, which as a rule is as fast.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "max_pool2d_backward", "input")
    pool = plan("max_pool2d", 2, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maximum_backward("max_pool2d_backward", pool, x, grad_output, indices)


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """
    Take the largest value in each window. Padding counts as -inf; a NaN in the window is the result.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    kernel_size, stride, dilation : int or (int, int, int)
        `stride` None means `kernel_size`.
    padding : int, (int, int, int), ((int, int), …), "valid", "same" or "same_lower"
        The same on both sides, at most half of the dilated kernel; or (low, high), each less than the dilated kernel
        and together no more. "same" gives ceil(length / stride) windows, with an odd pixel of padding at the end;
        "same_lower" puts it at the beginning.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    return_indices : bool
        Return ``(output, indices)``.

    Returns
    -------
    output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
        In the dtype and memory order of `input`; sizes are (H + 2P − D(K−1) − 1)/S + 1.
    indices : ndarray of int64, the same shape
        Where in the flattened plane (volume, row) the maximum stands: the first of equals in row-major order, the last
        of NaNs; -1 for a window that meets no pixel.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import max_pool3d
    >>> max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[7.]]]])
    """
    x = array(input, "max_pool3d", "input")
    pool = plan("max_pool3d", 3, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maximum(pool, x, return_indices)


@gradient_of(
    max_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "F.max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]",
)
def max_pool3d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    indices: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_pool3d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
    input, kernel_size, stride, padding, dilation, ceil_mode
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned. Without it the maxima are looked up again, which as a rule is as fast.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "max_pool3d_backward", "input")
    pool = plan("max_pool3d", 3, x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    return maximum_backward("max_pool3d_backward", pool, x, grad_output, indices)
