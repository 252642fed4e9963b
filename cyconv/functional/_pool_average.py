"""Average pooling."""

from __future__ import annotations

from typing import Any

from .._pool_geometry import check_divisor, flag
from ._arrays import Array, array
from ._pool import average, average_backward, plan
from ._twins import gradient_of


def _counting(operation: str, count_include_pad: Any, divisor_override: Any) -> tuple[bool, int]:
    if count_include_pad is not True and count_include_pad is not False:
        flag(operation, "count_include_pad", count_include_pad)
    return count_include_pad, check_divisor(operation, divisor_override) or 0


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> Array:
    """
    Take the mean of each window: its sum, padding counting as zero, divided by the number of its places.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    kernel_size, stride, dilation : int or (int,)
        `stride` None means `kernel_size`.
    padding : int, (int,), ((int, int),), "valid", "same" or "same_lower"
        As :func:`max_pool1d` takes it.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    count_include_pad : bool
        Whether the places of a window that lie in the padding count in the divisor. What hangs over never does. A
        window that meets no place that counts has the mean 0.
    divisor_override : int, optional
        Divide by this instead of the number of places.

    Returns
    -------
    ndarray, (N, C, P) or (C, P), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import avg_pool1d
    >>> avg_pool1d(np.array([[1.0, 2, 3, 4]]), 3, 2, 1, ceil_mode=True)
    array([[1., 3., 2.]])
    """
    x = array(input, "avg_pool1d", "input")
    counting = _counting("avg_pool1d", count_include_pad, divisor_override)
    return average(plan("avg_pool1d", 1, x.shape, kernel_size, stride, padding, dilation, ceil_mode, counting), x)


@gradient_of(
    avg_pool1d,
    "F.avg_pool1d_backward(np.ones((1, 1, 1)), np.arange(2.0).reshape(1, 1, 2), 2)[0].ravel().tolist()",
    "[0.5, 0.5]",
)
def avg_pool1d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`avg_pool1d`: each gradient, divided as its window was, is added to its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P) or (C, P)
    input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "avg_pool1d_backward", "input")
    counting = _counting("avg_pool1d", count_include_pad, divisor_override)
    pool = plan("avg_pool1d", 1, x.shape, kernel_size, stride, padding, dilation, ceil_mode, counting)
    return average_backward("avg_pool1d_backward", pool, x, grad_output)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> Array:
    """
    Take the mean of each window: its sum, padding counting as zero, divided by the number of its places.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size, stride, dilation : int or (int, int)
        `stride` None means `kernel_size`.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        As :func:`max_pool2d` takes it.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    count_include_pad : bool
        Whether the places of a window that lie in the padding count in the divisor. What hangs over never does. A
        window that meets no place that counts has the mean 0.
    divisor_override : int, optional
        Divide by this instead of the number of places.

    Returns
    -------
    ndarray, (N, C, P, Q) or (C, P, Q), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import avg_pool2d
    >>> avg_pool2d(np.arange(1.0, 10).reshape(1, 3, 3), 2, ceil_mode=True)
    array([[[3. , 4.5],
            [7.5, 9. ]]])
    """
    x = array(input, "avg_pool2d", "input")
    counting = _counting("avg_pool2d", count_include_pad, divisor_override)
    return average(plan("avg_pool2d", 2, x.shape, kernel_size, stride, padding, dilation, ceil_mode, counting), x)


@gradient_of(
    avg_pool2d,
    "F.avg_pool2d_backward(np.ones((1, 1, 1, 1)), np.arange(4.0).reshape(1, 1, 2, 2), 2)[0].ravel().tolist()",
    "[0.25, 0.25, 0.25, 0.25]",
)
def avg_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`avg_pool2d`: each gradient, divided as its window was, is added to its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "avg_pool2d_backward", "input")
    counting = _counting("avg_pool2d", count_include_pad, divisor_override)
    pool = plan("avg_pool2d", 2, x.shape, kernel_size, stride, padding, dilation, ceil_mode, counting)
    return average_backward("avg_pool2d_backward", pool, x, grad_output)


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> Array:
    """
    Take the mean of each window: its sum, padding counting as zero, divided by the number of its places.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    kernel_size, stride, dilation : int or (int, int, int)
        `stride` None means `kernel_size`.
    padding : int, (int, int, int), ((int, int), …), "valid", "same" or "same_lower"
        As :func:`max_pool3d` takes it.
    ceil_mode : bool
        Round the output size up: the last windows may hang over the padded input, if they start before its end.
    count_include_pad : bool
        Whether the places of a window that lie in the padding count in the divisor. What hangs over never does. A
        window that meets no place that counts has the mean 0.
    divisor_override : int, optional
        Divide by this instead of the number of places.

    Returns
    -------
    ndarray, (N, C, O, P, Q) or (C, O, P, Q), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import avg_pool3d
    >>> avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[3.5]]]])
    """
    x = array(input, "avg_pool3d", "input")
    counting = _counting("avg_pool3d", count_include_pad, divisor_override)
    return average(plan("avg_pool3d", 3, x.shape, kernel_size, stride, padding, dilation, ceil_mode, counting), x)


@gradient_of(
    avg_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "F.avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2)[0].ravel().tolist()",
    "[0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]",
)
def avg_pool3d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: Any = 1,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`avg_pool3d`: each gradient, divided as its window was, is added to its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
    input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "avg_pool3d_backward", "input")
    counting = _counting("avg_pool3d", count_include_pad, divisor_override)
    pool = plan("avg_pool3d", 3, x.shape, kernel_size, stride, padding, dilation, ceil_mode, counting)
    return average_backward("avg_pool3d_backward", pool, x, grad_output)
