"""Power-average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._geometry import check_gradient
from .._pool_geometry import PoolGeometry, check_norm
from ._arrays import Array, array, same_dtype
from ._pool import average, average_backward, plan
from ._twins import gradient_of


def _powers(x: Array, exponent: float) -> Array:
    """Return x to a power in the dtype of x; 0 to the 0 is 1."""
    if exponent == 1:
        return x
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        if exponent == 2:
            powers: Array = np.square(x)
        elif exponent == 0.5:
            powers = np.sqrt(x)
        else:
            powers = np.power(x, x.dtype.type(exponent))
    return powers


def _sums(operation: str, rank: int, x: Array, norm_type: Any, how: tuple[Any, ...]) -> tuple[Any, float, Array, float]:
    """Return the plan, the exponent, the sums of the powers over the windows, and the places of a whole window."""
    p = check_norm(operation, norm_type)
    kernel_size, stride, padding, dilation, ceil_mode = how
    pool = plan(operation, rank, x.shape, kernel_size, stride, padding, dilation, ceil_mode, (True, 0))
    assert isinstance(pool.geometry, PoolGeometry)
    whole = float(np.prod(np.array(pool.geometry.kernel, float)))
    # What hangs over by ceil_mode is made up for: a mean over the places, times the places of a whole window.
    return pool, p, average(pool, _powers(x, p)) * x.dtype.type(whole), whole


def _forward(operation: str, rank: int, input: Any, norm_type: Any, how: tuple[Any, ...]) -> Array:
    _, p, sums, _ = _sums(operation, rank, array(input, operation, "input"), norm_type, how)
    return _powers(sums, 1 / p)


def _backward(
    operation: str, rank: int, grad_output: Any, input: Any, norm_type: Any, how: tuple[Any, ...]
) -> tuple[Array]:
    """dy (sum)^(1/p - 1) to all pixels of a window, times x^(p - 1); 0 where the sum is 0."""
    x = array(input, operation, "input")
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    pool, p, sums, whole = _sums(operation.removesuffix("_backward"), rank, x, norm_type, how)
    check_gradient(operation, dy.shape, sums.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        share = np.where(sums == 0, 0, dy * _powers(sums, 1 / p - 1) * x.dtype.type(whole)).astype(x.dtype, copy=False)
        (dx,) = average_backward(operation, pool, x, share)
        if p == 1:
            return (dx,)
        return (np.where(dx == 0, 0, dx * _powers(x, p - 1)).astype(x.dtype, copy=False),)


def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: Any = 1,
) -> Array:
    """
    Take (sum of x^p)^(1/p) of each window.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    norm_type : float
        The exponent p, above 0: 1 gives sums, 2 Euclidean norms; the limit at infinity is a maximum. The power is of
        the number itself, not of its size: a sum below zero has no root unless p is 1, and is NaN.
    kernel_size, stride, padding, dilation
        As :func:`max_pool1d` takes them; padding counts as zero.
    ceil_mode : bool
        Round the output size up. The sum of a window that hangs over counts for as much as if it were whole.

    Returns
    -------
    ndarray, (N, C, P) or (C, P), in the dtype of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import lp_pool1d
    >>> lp_pool1d(np.array([[3.0, 4, 6, 8]]), 2, 2)
    array([[ 5., 10.]])
    """
    return _forward("lp_pool1d", 1, input, norm_type, (kernel_size, stride, padding, dilation, ceil_mode))


@gradient_of(
    lp_pool1d,
    "F.lp_pool1d_backward(np.ones((1, 1, 1)), np.ones((1, 1, 2)), 2.0, 2)[0].ravel().round(3).tolist()",
    "[0.707, 0.707]",
)
def lp_pool1d_backward(
    grad_output: Any,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`lp_pool1d`: dy · (sum of x^p)^(1/p − 1) · x^(p − 1), and 0 where the sum is 0.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P) or (C, P)
    input, norm_type, kernel_size, stride, ceil_mode, padding, dilation
        As forward took them.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    how = (kernel_size, stride, padding, dilation, ceil_mode)
    return _backward("lp_pool1d_backward", 1, grad_output, input, norm_type, how)


def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: Any = 1,
) -> Array:
    """
    Take (sum of x^p)^(1/p) of each window.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    norm_type : float
        The exponent p, above 0: 1 gives sums, 2 Euclidean norms; the limit at infinity is a maximum. The power is of
        the number itself, not of its size: a sum below zero has no root unless p is 1, and is NaN.
    kernel_size, stride, padding, dilation
        As :func:`max_pool2d` takes them; padding counts as zero.
    ceil_mode : bool
        Round the output size up. The sum of a window that hangs over counts for as much as if it were whole.

    Returns
    -------
    ndarray, (N, C, P, Q) or (C, P, Q), in the dtype of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import lp_pool2d
    >>> lp_pool2d(np.array([[[1.0, 2], [2, 4]]]), 2, 2)
    array([[[5.]]])
    """
    return _forward("lp_pool2d", 2, input, norm_type, (kernel_size, stride, padding, dilation, ceil_mode))


@gradient_of(
    lp_pool2d,
    "F.lp_pool2d_backward(np.ones((1, 1, 1, 1)), np.ones((1, 1, 2, 2)), 2.0, 2)[0].ravel().round(3).tolist()",
    "[0.5, 0.5, 0.5, 0.5]",
)
def lp_pool2d_backward(
    grad_output: Any,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`lp_pool2d`: dy · (sum of x^p)^(1/p − 1) · x^(p − 1), and 0 where the sum is 0.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, norm_type, kernel_size, stride, ceil_mode, padding, dilation
        As forward took them.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    how = (kernel_size, stride, padding, dilation, ceil_mode)
    return _backward("lp_pool2d_backward", 2, grad_output, input, norm_type, how)


def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: Any = 1,
) -> Array:
    """
    Take (sum of x^p)^(1/p) of each window.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    norm_type : float
        The exponent p, above 0: 1 gives sums, 2 Euclidean norms; the limit at infinity is a maximum. The power is of
        the number itself, not of its size: a sum below zero has no root unless p is 1, and is NaN.
    kernel_size, stride, padding, dilation
        As :func:`max_pool3d` takes them; padding counts as zero.
    ceil_mode : bool
        Round the output size up. The sum of a window that hangs over counts for as much as if it were whole.

    Returns
    -------
    ndarray, (N, C, O, P, Q) or (C, O, P, Q), in the dtype of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import lp_pool3d
    >>> lp_pool3d(np.full((1, 2, 2, 1), 0.5), 2, (2, 2, 1))
    array([[[[1.]]]])
    """
    return _forward("lp_pool3d", 3, input, norm_type, (kernel_size, stride, padding, dilation, ceil_mode))


@gradient_of(
    lp_pool3d,
    "F.lp_pool3d_backward(np.ones((1, 1, 1, 1, 1)), np.ones((1, 1, 2, 2, 2)), 2.0, 2)[0].ravel().round(3).tolist()",
    "[0.354, 0.354, 0.354, 0.354, 0.354, 0.354, 0.354, 0.354]",
)
def lp_pool3d_backward(
    grad_output: Any,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    padding: Any = 0,
    dilation: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`lp_pool3d`: dy · (sum of x^p)^(1/p − 1) · x^(p − 1), and 0 where the sum is 0.

    Parameters
    ----------
    grad_output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
    input, norm_type, kernel_size, stride, ceil_mode, padding, dilation
        As forward took them.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    how = (kernel_size, stride, padding, dilation, ceil_mode)
    return _backward("lp_pool3d_backward", 3, grad_output, input, norm_type, how)
