"""The way back from maxima to the places where they stood."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _settings
from .._geometry import check_gradient
from .._pool_geometry import unpool_geometry
from ._arrays import Array, array, channels_last, empty, in_order, ordered, same_dtype
from ._pool import WORK, _places, outside, places
from ._twins import gradient_of


def _forward(operation: str, rank: int, input: Any, indices: Any, how: tuple[Any, ...]) -> Array:
    x = array(input, operation, "input")
    g = unpool_geometry(operation, rank, x.shape, *how)
    at = places(operation, indices, x.shape, "the input")
    if not g.batched:
        x, at = x[np.newaxis], at[np.newaxis]
    x, last = ordered(x)
    at = in_order(at, last)
    out = empty(g.output_shape, x.dtype, last)
    area, pixels = int(np.prod(g.output)), int(np.prod(g.input))
    threads = _settings.threads_for(WORK * out.size)
    if _places.put_at(out, x, at, area, pixels, g.batch, g.channels, last, threads):
        raise outside(operation, g.output)
    return out if g.batched else out[0]


def _backward(
    operation: str, rank: int, grad_output: Any, input: Any, indices: Any, how: tuple[Any, ...]
) -> tuple[Array]:
    x = array(input, operation, "input")
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    g = unpool_geometry(operation.removesuffix("_backward"), rank, x.shape, *how)
    at = places(operation, indices, x.shape, "the input")
    check_gradient(operation, dy.shape, g.output_shape if g.batched else g.output_shape[1:])
    if not g.batched:
        x, at, dy = x[np.newaxis], at[np.newaxis], dy[np.newaxis]
    last = not x.flags.c_contiguous and channels_last(x)
    at, dy = in_order(at, last), in_order(dy, last)
    dx = empty(g.input_shape, x.dtype, last)
    area, pixels = int(np.prod(g.output)), int(np.prod(g.input))
    threads = _settings.threads_for(WORK * dx.size)
    if _places.take_at(dx, dy, at, area, pixels, g.batch, g.channels, last, threads):
        raise outside(operation, g.output)
    return (dx if g.batched else dx[0],)


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """
    Put maxima back to where they stood, and zeros everywhere else.

    Parameters
    ----------
    input : ndarray, (N, C, P) or (C, P), float32 or float64
    indices : ndarray of integers, the same shape
        What :func:`max_pool1d` returned: places in the flattened result. Of equal ones the last in row-major order
        wins.
    kernel_size, stride, padding : int or (int,)
        Those of the pool.
    output_size : 1 ints, optional
        Size of the result, where it is not (P − 1)·S − 2·padding + K; it may differ by less than the stride. A whole
        shape (N, C, …) will do.

    Returns
    -------
    ndarray, (N, C, L) or (C, L), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, `indices` are no integers, or an argument has the wrong type.
    ValueError
        The arguments do not fit together, or an index points outside the result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import max_unpool1d
    >>> max_unpool1d(np.array([[[5.0, 7]]]), np.array([[[1, 2]]]), 2).ravel().tolist()
    [0.0, 5.0, 7.0, 0.0]
    """
    return _forward("max_unpool1d", 1, input, indices, (kernel_size, stride, padding, output_size))


@gradient_of(
    max_unpool1d,
    "x = np.arange(2.0).reshape(1, 1, 2)",
    "w = np.ones((1, 1, 1))",
    "places = np.full((1, 1, 1), 1)",
    "F.max_unpool1d_backward(x, w, places, 2)[0].ravel().tolist()",
    "[1.0]",
)
def max_unpool1d_backward(
    grad_output: Any,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_unpool1d`: the gradient at each index.

    Parameters
    ----------
    grad_output : ndarray, (N, C, L) or (C, L)
    input, indices, kernel_size, stride, padding, output_size
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    how = (kernel_size, stride, padding, output_size)
    return _backward("max_unpool1d_backward", 1, grad_output, input, indices, how)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """
    Put maxima back to where they stood, and zeros everywhere else.

    Parameters
    ----------
    input : ndarray, (N, C, P, Q) or (C, P, Q), float32 or float64
    indices : ndarray of integers, the same shape
        What :func:`max_pool2d` returned: places in the flattened result. Of equal ones the last in row-major order
        wins.
    kernel_size, stride, padding : int or (int, int)
        Those of the pool.
    output_size : 2 ints, optional
        Size of the result, where it is not (P − 1)·S − 2·padding + K; it may differ by less than the stride. A whole
        shape (N, C, …) will do.

    Returns
    -------
    ndarray, (N, C, H, W) or (C, H, W), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, `indices` are no integers, or an argument has the wrong type.
    ValueError
        The arguments do not fit together, or an index points outside the result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import max_unpool2d
    >>> max_unpool2d(np.array([[[[5.0]]]]), np.array([[[[3]]]]), 2).ravel().tolist()
    [0.0, 0.0, 0.0, 5.0]
    """
    return _forward("max_unpool2d", 2, input, indices, (kernel_size, stride, padding, output_size))


@gradient_of(
    max_unpool2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "w = np.ones((1, 1, 1, 1))",
    "places = np.full((1, 1, 1, 1), 1)",
    "F.max_unpool2d_backward(x, w, places, 2)[0].ravel().tolist()",
    "[1.0]",
)
def max_unpool2d_backward(
    grad_output: Any,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_unpool2d`: the gradient at each index.

    Parameters
    ----------
    grad_output : ndarray, (N, C, H, W) or (C, H, W)
    input, indices, kernel_size, stride, padding, output_size
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    how = (kernel_size, stride, padding, output_size)
    return _backward("max_unpool2d_backward", 2, grad_output, input, indices, how)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """
    Put maxima back to where they stood, and zeros everywhere else.

    Parameters
    ----------
    input : ndarray, (N, C, O, P, Q) or (C, O, P, Q), float32 or float64
    indices : ndarray of integers, the same shape
        What :func:`max_pool3d` returned: places in the flattened result. Of equal ones the last in row-major order
        wins.
    kernel_size, stride, padding : int or (int, int, int)
        Those of the pool.
    output_size : 3 ints, optional
        Size of the result, where it is not (P − 1)·S − 2·padding + K; it may differ by less than the stride. A whole
        shape (N, C, …) will do.

    Returns
    -------
    ndarray, (N, C, D, H, W) or (C, D, H, W), in the dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, `indices` are no integers, or an argument has the wrong type.
    ValueError
        The arguments do not fit together, or an index points outside the result.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import max_unpool3d
    >>> max_unpool3d(np.array([[[[[5.0]]]]]), np.array([[[[[7]]]]]), 2).ravel().tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0]
    """
    return _forward("max_unpool3d", 3, input, indices, (kernel_size, stride, padding, output_size))


@gradient_of(
    max_unpool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "w = np.ones((1, 1, 1, 1, 1))",
    "places = np.full((1, 1, 1, 1, 1), 1)",
    "F.max_unpool3d_backward(x, w, places, 2)[0].ravel().tolist()",
    "[1.0]",
)
def max_unpool3d_backward(
    grad_output: Any,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`max_unpool3d`: the gradient at each index.

    Parameters
    ----------
    grad_output : ndarray, (N, C, D, H, W) or (C, D, H, W)
    input, indices, kernel_size, stride, padding, output_size
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output and the dtype of the input.
    """
    how = (kernel_size, stride, padding, output_size)
    return _backward("max_unpool3d_backward", 3, grad_output, input, indices, how)
