"""Global pooling: one window, of all pixels."""

from __future__ import annotations

from typing import Any

from ._arrays import Array, array
from ._pool import average, average_backward, maximum, maximum_backward, plan_adaptive
from ._twins import gradient_of

#: The window is divided by its number of pixels.
MEAN = (False, 0)


def global_avg_pool1d(input: Any) -> Array:
    """
    Take the mean of all pixels of each channel.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64

    Returns
    -------
    ndarray, (N, C, 1) or (C, 1), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import global_avg_pool1d
    >>> global_avg_pool1d(np.arange(6.0).reshape(1, 6)).item()
    2.5
    """
    x = array(input, "global_avg_pool1d", "input")
    return average(plan_adaptive("global_avg_pool1d", 1, x.shape, 1, MEAN), x)


@gradient_of(
    global_avg_pool1d,
    "F.global_avg_pool1d_backward(np.ones((1, 1, 1)), np.arange(2.0).reshape(1, 1, 2))[0].ravel().tolist()",
    "[0.5, 0.5]",
)
def global_avg_pool1d_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`global_avg_pool1d`: each gradient, divided by the number of pixels, in all of them.

    Parameters
    ----------
    grad_output : ndarray, (N, C, 1) or (C, 1)
    input : ndarray
        As forward took it; only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "global_avg_pool1d_backward", "input")
    return average_backward(
        "global_avg_pool1d_backward", plan_adaptive("global_avg_pool1d", 1, x.shape, 1, MEAN), x, grad_output
    )


def global_max_pool1d(input: Any, return_indices: bool = False) -> Any:
    """
    Take the largest of all pixels of each channel.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool1d` does.

    Returns
    -------
    ndarray, (N, C, 1) or (C, 1), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import global_max_pool1d
    >>> global_max_pool1d(np.arange(6.0).reshape(1, 6)).item()
    5.0
    """
    x = array(input, "global_max_pool1d", "input")
    return maximum(plan_adaptive("global_max_pool1d", 1, x.shape, 1), x, return_indices)


@gradient_of(
    global_max_pool1d,
    "F.global_max_pool1d_backward(np.ones((1, 1, 1)), np.arange(2.0).reshape(1, 1, 2))[0].ravel().tolist()",
    "[0.0, 1.0]",
)
def global_max_pool1d_backward(
    grad_output: Any, input: Any, return_indices: bool = False, *, indices: Any = None
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`global_max_pool1d`: each gradient in the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, 1) or (C, 1)
    input : ndarray
        As forward took it; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned; without it the maxima are looked up again.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "global_max_pool1d_backward", "input")
    return maximum_backward(
        "global_max_pool1d_backward", plan_adaptive("global_max_pool1d", 1, x.shape, 1), x, grad_output, indices
    )


def global_avg_pool2d(input: Any) -> Array:
    """
    Take the mean of all pixels of each channel.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64

    Returns
    -------
    ndarray, (N, C, 1, 1) or (C, 1, 1), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import global_avg_pool2d
    >>> global_avg_pool2d(np.arange(6.0).reshape(1, 2, 3)).item()
    2.5
    """
    x = array(input, "global_avg_pool2d", "input")
    return average(plan_adaptive("global_avg_pool2d", 2, x.shape, 1, MEAN), x)


@gradient_of(
    global_avg_pool2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "F.global_avg_pool2d_backward(np.ones((1, 1, 1, 1)), x)[0].ravel().tolist()",
    "[0.25, 0.25, 0.25, 0.25]",
)
def global_avg_pool2d_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`global_avg_pool2d`: each gradient, divided by the number of pixels, in all of them.

    Parameters
    ----------
    grad_output : ndarray, (N, C, 1, 1) or (C, 1, 1)
    input : ndarray
        As forward took it; only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "global_avg_pool2d_backward", "input")
    return average_backward(
        "global_avg_pool2d_backward", plan_adaptive("global_avg_pool2d", 2, x.shape, 1, MEAN), x, grad_output
    )


def global_max_pool2d(input: Any, return_indices: bool = False) -> Any:
    """
    Take the largest of all pixels of each channel.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool2d` does.

    Returns
    -------
    ndarray, (N, C, 1, 1) or (C, 1, 1), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import global_max_pool2d
    >>> global_max_pool2d(np.arange(6.0).reshape(1, 2, 3)).item()
    5.0
    """
    x = array(input, "global_max_pool2d", "input")
    return maximum(plan_adaptive("global_max_pool2d", 2, x.shape, 1), x, return_indices)


@gradient_of(
    global_max_pool2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "F.global_max_pool2d_backward(np.ones((1, 1, 1, 1)), x)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 1.0]",
)
def global_max_pool2d_backward(
    grad_output: Any, input: Any, return_indices: bool = False, *, indices: Any = None
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`global_max_pool2d`: each gradient in the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, 1, 1) or (C, 1, 1)
    input : ndarray
        As forward took it; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned; without it the maxima are looked up again.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "global_max_pool2d_backward", "input")
    return maximum_backward(
        "global_max_pool2d_backward", plan_adaptive("global_max_pool2d", 2, x.shape, 1), x, grad_output, indices
    )


def global_avg_pool3d(input: Any) -> Array:
    """
    Take the mean of all pixels of each channel.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64

    Returns
    -------
    ndarray, (N, C, 1, 1, 1) or (C, 1, 1, 1), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import global_avg_pool3d
    >>> global_avg_pool3d(np.arange(6.0).reshape(1, 1, 2, 3)).item()
    2.5
    """
    x = array(input, "global_avg_pool3d", "input")
    return average(plan_adaptive("global_avg_pool3d", 3, x.shape, 1, MEAN), x)


@gradient_of(
    global_avg_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "F.global_avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x)[0].ravel().tolist()",
    "[0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]",
)
def global_avg_pool3d_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`global_avg_pool3d`: each gradient, divided by the number of pixels, in all of them.

    Parameters
    ----------
    grad_output : ndarray, (N, C, 1, 1, 1) or (C, 1, 1, 1)
    input : ndarray
        As forward took it; only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "global_avg_pool3d_backward", "input")
    return average_backward(
        "global_avg_pool3d_backward", plan_adaptive("global_avg_pool3d", 3, x.shape, 1, MEAN), x, grad_output
    )


def global_max_pool3d(input: Any, return_indices: bool = False) -> Any:
    """
    Take the largest of all pixels of each channel.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool3d` does.

    Returns
    -------
    ndarray, (N, C, 1, 1, 1) or (C, 1, 1, 1), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or an argument has the wrong type.
    ValueError
        The arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import global_max_pool3d
    >>> global_max_pool3d(np.arange(6.0).reshape(1, 1, 2, 3)).item()
    5.0
    """
    x = array(input, "global_max_pool3d", "input")
    return maximum(plan_adaptive("global_max_pool3d", 3, x.shape, 1), x, return_indices)


@gradient_of(
    global_max_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "F.global_max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]",
)
def global_max_pool3d_backward(
    grad_output: Any, input: Any, return_indices: bool = False, *, indices: Any = None
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`global_max_pool3d`: each gradient in the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, 1, 1, 1) or (C, 1, 1, 1)
    input : ndarray
        As forward took it; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned; without it the maxima are looked up again.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "global_max_pool3d_backward", "input")
    return maximum_backward(
        "global_max_pool3d_backward", plan_adaptive("global_max_pool3d", 3, x.shape, 1), x, grad_output, indices
    )
