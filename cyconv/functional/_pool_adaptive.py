"""Adaptive and global pooling: a given number of windows that cover the input."""

from __future__ import annotations

from typing import Any

from ._arrays import Array, array
from ._pool import average, average_backward, maximum, maximum_backward, plan_adaptive
from ._twins import gradient_of

#: Every window is divided by its own number of pixels.
MEAN = (False, 0)


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Array:
    """
    Take the means of `output_size` windows that cover the input.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    output_size : int or (int,); None in a tuple
        How many windows there are; None: as many as pixels. Window i of P over H pixels reaches from ⌊i·H/P⌋ to
        ⌈(i + 1)·H/P⌉: neighbours share a pixel where P does not divide H.

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
    >>> from cyconv.functional import adaptive_avg_pool1d
    >>> adaptive_avg_pool1d(np.array([[1.0, 2, 3, 4, 5]]), 2)
    array([[2., 4.]])
    """
    x = array(input, "adaptive_avg_pool1d", "input")
    return average(plan_adaptive("adaptive_avg_pool1d", 1, x.shape, output_size, MEAN), x)


@gradient_of(
    adaptive_avg_pool1d,
    "x = np.arange(2.0).reshape(1, 1, 2)",
    "F.adaptive_avg_pool1d_backward(np.ones((1, 1, 1)), x, 1)[0].ravel().tolist()",
    "[0.5, 0.5]",
)
def adaptive_avg_pool1d_backward(grad_output: Any, input: Any, output_size: Any) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`adaptive_avg_pool1d`: each gradient, divided as its window was, to all its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P) or (C, P)
    input, output_size
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "adaptive_avg_pool1d_backward", "input")
    pool = plan_adaptive("adaptive_avg_pool1d", 1, x.shape, output_size, MEAN)
    return average_backward("adaptive_avg_pool1d_backward", pool, x, grad_output)


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """
    Take the maxima of `output_size` windows that cover the input.

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    output_size : int or (int,); None in a tuple
        How many windows there are; None: as many as pixels. Window i of P over H pixels reaches from ⌊i·H/P⌋ to
        ⌈(i + 1)·H/P⌉: neighbours share a pixel where P does not divide H.
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool1d` does.

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
    >>> from cyconv.functional import adaptive_max_pool1d
    >>> adaptive_max_pool1d(np.array([[3.0, 9, 4, 4, 4]]), 2, return_indices=True)
    (array([[9., 4.]]), array([[1, 2]]))
    """
    x = array(input, "adaptive_max_pool1d", "input")
    return maximum(plan_adaptive("adaptive_max_pool1d", 1, x.shape, output_size), x, return_indices)


@gradient_of(
    adaptive_max_pool1d,
    "x = np.arange(2.0).reshape(1, 1, 2)",
    "F.adaptive_max_pool1d_backward(np.ones((1, 1, 1)), x, 1)[0].ravel().tolist()",
    "[0.0, 1.0]",
)
def adaptive_max_pool1d_backward(
    grad_output: Any, input: Any, output_size: Any, return_indices: bool = False, *, indices: Any = None
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`adaptive_max_pool1d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P) or (C, P)
    input, output_size
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned; without it the maxima are looked up again.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "adaptive_max_pool1d_backward", "input")
    pool = plan_adaptive("adaptive_max_pool1d", 1, x.shape, output_size)
    return maximum_backward("adaptive_max_pool1d_backward", pool, x, grad_output, indices)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Array:
    """
    Take the means of `output_size` windows that cover the input.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    output_size : int or (int, int); None in a tuple
        How many windows there are; None: as many as pixels. Window i of P over H pixels reaches from ⌊i·H/P⌋ to
        ⌈(i + 1)·H/P⌉: neighbours share a pixel where P does not divide H.

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
    >>> from cyconv.functional import adaptive_avg_pool2d
    >>> adaptive_avg_pool2d(np.arange(6.0).reshape(1, 2, 3), (1, None))
    array([[[1.5, 2.5, 3.5]]])
    """
    x = array(input, "adaptive_avg_pool2d", "input")
    return average(plan_adaptive("adaptive_avg_pool2d", 2, x.shape, output_size, MEAN), x)


@gradient_of(
    adaptive_avg_pool2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "F.adaptive_avg_pool2d_backward(np.ones((1, 1, 1, 1)), x, 1)[0].ravel().tolist()",
    "[0.25, 0.25, 0.25, 0.25]",
)
def adaptive_avg_pool2d_backward(grad_output: Any, input: Any, output_size: Any) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`adaptive_avg_pool2d`: each gradient, divided as its window was, to all its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, output_size
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "adaptive_avg_pool2d_backward", "input")
    pool = plan_adaptive("adaptive_avg_pool2d", 2, x.shape, output_size, MEAN)
    return average_backward("adaptive_avg_pool2d_backward", pool, x, grad_output)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """
    Take the maxima of `output_size` windows that cover the input.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    output_size : int or (int, int); None in a tuple
        How many windows there are; None: as many as pixels. Window i of P over H pixels reaches from ⌊i·H/P⌋ to
        ⌈(i + 1)·H/P⌉: neighbours share a pixel where P does not divide H.
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool2d` does.

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
    >>> from cyconv.functional import adaptive_max_pool2d
    >>> adaptive_max_pool2d(np.arange(6.0).reshape(1, 2, 3), (1, None))
    array([[[3., 4., 5.]]])
    """
    x = array(input, "adaptive_max_pool2d", "input")
    return maximum(plan_adaptive("adaptive_max_pool2d", 2, x.shape, output_size), x, return_indices)


@gradient_of(
    adaptive_max_pool2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "F.adaptive_max_pool2d_backward(np.ones((1, 1, 1, 1)), x, 1)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 1.0]",
)
def adaptive_max_pool2d_backward(
    grad_output: Any, input: Any, output_size: Any, return_indices: bool = False, *, indices: Any = None
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`adaptive_max_pool2d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, output_size
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned; without it the maxima are looked up again.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "adaptive_max_pool2d_backward", "input")
    pool = plan_adaptive("adaptive_max_pool2d", 2, x.shape, output_size)
    return maximum_backward("adaptive_max_pool2d_backward", pool, x, grad_output, indices)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Array:
    """
    Take the means of `output_size` windows that cover the input.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    output_size : int or (int, int, int); None in a tuple
        How many windows there are; None: as many as pixels. Window i of P over H pixels reaches from ⌊i·H/P⌋ to
        ⌈(i + 1)·H/P⌉: neighbours share a pixel where P does not divide H.

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
    >>> from cyconv.functional import adaptive_avg_pool3d
    >>> adaptive_avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), (2, 1, 1))
    array([[[[1.5]],
    <BLANKLINE>
            [[5.5]]]])
    """
    x = array(input, "adaptive_avg_pool3d", "input")
    return average(plan_adaptive("adaptive_avg_pool3d", 3, x.shape, output_size, MEAN), x)


@gradient_of(
    adaptive_avg_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "F.adaptive_avg_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 1)[0].ravel().tolist()",
    "[0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]",
)
def adaptive_avg_pool3d_backward(grad_output: Any, input: Any, output_size: Any) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`adaptive_avg_pool3d`: each gradient, divided as its window was, to all its pixels.

    Parameters
    ----------
    grad_output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
    input, output_size
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    x = array(input, "adaptive_avg_pool3d_backward", "input")
    pool = plan_adaptive("adaptive_avg_pool3d", 3, x.shape, output_size, MEAN)
    return average_backward("adaptive_avg_pool3d_backward", pool, x, grad_output)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """
    Take the maxima of `output_size` windows that cover the input.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    output_size : int or (int, int, int); None in a tuple
        How many windows there are; None: as many as pixels. Window i of P over H pixels reaches from ⌊i·H/P⌋ to
        ⌈(i + 1)·H/P⌉: neighbours share a pixel where P does not divide H.
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool3d` does.

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
    >>> from cyconv.functional import adaptive_max_pool3d
    >>> adaptive_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 1)
    array([[[[7.]]]])
    """
    x = array(input, "adaptive_max_pool3d", "input")
    return maximum(plan_adaptive("adaptive_max_pool3d", 3, x.shape, output_size), x, return_indices)


@gradient_of(
    adaptive_max_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "F.adaptive_max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 1)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]",
)
def adaptive_max_pool3d_backward(
    grad_output: Any, input: Any, output_size: Any, return_indices: bool = False, *, indices: Any = None
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`adaptive_max_pool3d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
    input, output_size
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64, optional
        What forward returned; without it the maxima are looked up again.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, or `indices` point outside
        the plane.
    """
    x = array(input, "adaptive_max_pool3d_backward", "input")
    pool = plan_adaptive("adaptive_max_pool3d", 3, x.shape, output_size)
    return maximum_backward("adaptive_max_pool3d_backward", pool, x, grad_output, indices)
