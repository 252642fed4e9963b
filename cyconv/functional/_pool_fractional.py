"""Fractional maximum pooling (Graham 2014): windows of one size at pseudo-random distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _settings
from .._geometry import check_gradient
from .._pool_geometry import FractionalGeometry, fractional_geometry
from ._arrays import Array, array, empty, generator, ordered, same_dtype
from ._pool import INT64, WORK, _places, places, scatter
from ._twins import gradient_of


def _samples(operation: str, g: FractionalGeometry, dtype: Any, given: Any, rng: Any) -> Array:
    """Return a number in [0, 1) for each plane and axis, (N, C, axes), in the order of the axes."""
    shape = (g.batch, g.channels, g.rank)
    if given is None:
        return generator(operation, rng).random(shape, dtype)
    u = array(np.asarray(given, dtype) if isinstance(given, list | tuple) else given, operation, "_random_samples")
    if u.dtype != dtype:
        raise TypeError(f"{operation}: mixed dtypes: _random_samples {u.dtype}, input {dtype}")
    if u.shape != shape:
        raise ValueError(f"{operation}: _random_samples must have shape {shape}, got {u.shape}")
    if not ((u >= 0) & (u < 1)).all():
        raise ValueError(f"{operation}: _random_samples must be in [0, 1)")
    # As torch has it: in two dimensions the first number is that of the columns.
    return u[..., ::-1] if g.rank == 2 else u


def _starts(u: Array, length: int, windows: int, kernel: int) -> Array:
    """Return where the windows of each plane begin, (planes, windows): ⌊(i + u) α⌋ − ⌊u α⌋ with
    α = (H − K)/(P − 1), in the precision of ``u``; the last window ends with the input."""
    number = u.dtype.type
    starts = np.full((u.size, windows), length - kernel, np.int32)
    if windows > 1:
        alpha = number(length - kernel) / number(windows - 1)
        steps = np.arange(windows - 1, dtype=u.dtype)
        starts[:, :-1] = ((steps + u.reshape(-1, 1)) * alpha).astype(np.int64) - (u.reshape(-1, 1) * alpha).astype(
            np.int64
        )
    return starts


def _forward(operation: str, rank: int, input: Any, how: tuple[Any, ...], given: Any, rng: Any) -> tuple[Array, Array]:
    x = array(input, operation, "input")
    g = fractional_geometry(operation, rank, x.shape, *how)
    u = _samples(operation, g, x.dtype, given, rng)
    x, last = ordered(x if g.batched else x[np.newaxis])
    out, indices = empty(g.output_shape, x.dtype, last), empty(g.output_shape, INT64, last)
    missing = 3 - rank
    starts = [np.zeros((g.batch * g.channels, 1), np.int32)] * missing
    for axis in range(rank):
        starts.append(_starts(u[..., axis], g.input[axis], g.output[axis], g.kernel[axis]))
    ones = (1,) * missing
    threads = _settings.threads_for(WORK * x.size)
    _places.maximum_from(out, indices, x, ones + g.input, ones + g.kernel, starts, g.batch, g.channels, last, threads)
    return (out, indices) if g.batched else (out[0], indices[0])


def _backward(
    operation: str, rank: int, grad_output: Any, input: Any, how: tuple[Any, ...], given: Any, indices: Any
) -> tuple[Array]:
    x = array(input, operation, "input")
    dy = array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    g = fractional_geometry(operation.removesuffix("_backward"), rank, x.shape, *how)
    check_gradient(operation, dy.shape, g.output_shape if g.batched else g.output_shape[1:])
    if indices is not None:
        found = places(operation, indices, dy.shape, "the output")
    elif given is not None:
        _, found = _forward(operation.removesuffix("_backward"), rank, x, how, given, None)
    else:
        raise ValueError(f"{operation}: needs the indices or the _random_samples of forward, whose windows were random")
    return scatter(operation, x, dy, found, g.input)


def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    rng: Any = None,
) -> Any:
    """
    Take the largest value in each of `output_size` windows, whose distances change at random from plane to plane.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size : int or (int, int)
        Size of the windows.
    output_size : int or (int, int), optional
        How many windows there are.
    output_ratio : float or 2 floats between 0 and 1, optional
        How many windows for each pixel; this or `output_size` must be given.
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool2d` does.
    _random_samples : ndarray, (N, C, 2), optional
        The random numbers in [0, 1) to use, in torch's order, columns first.
    rng : numpy.random.Generator, int or None
        Where they come from otherwise: a generator, a seed, or None for fresh entropy.

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
    >>> from cyconv.functional import fractional_max_pool2d
    >>> fractional_max_pool2d(np.ones((1, 3, 9, 9)), 2, output_ratio=0.5, rng=0).shape
    (1, 3, 4, 4)
    """
    how = (kernel_size, output_size, output_ratio)
    out, indices = _forward("fractional_max_pool2d", 2, input, how, _random_samples, rng)
    return (out, indices) if return_indices else out


@gradient_of(
    fractional_max_pool2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "u = np.zeros((1, 1, 2))",
    "F.fractional_max_pool2d_backward(np.ones((1, 1, 1, 1)), x, 2, 1, _random_samples=u)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 1.0]",
)
def fractional_max_pool2d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    indices: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`fractional_max_pool2d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, P, Q) or (C, P, Q)
    input, kernel_size, output_size, output_ratio, _random_samples
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64
        What forward returned; it or `_random_samples` must be given.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, `indices` point outside the
        plane, or neither they nor the random numbers are given.
    """
    how = (kernel_size, output_size, output_ratio)
    return _backward("fractional_max_pool2d_backward", 2, grad_output, input, how, _random_samples, indices)


def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    rng: Any = None,
) -> Any:
    """
    Take the largest value in each of `output_size` windows, whose distances change at random from plane to plane.

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    kernel_size : int or (int, int, int)
        Size of the windows.
    output_size : int or (int, int, int), optional
        How many windows there are.
    output_ratio : float or 3 floats between 0 and 1, optional
        How many windows for each pixel; this or `output_size` must be given.
    return_indices : bool
        Return ``(output, indices)``, as :func:`max_pool3d` does.
    _random_samples : ndarray, (N, C, 3), optional
        The random numbers in [0, 1) to use, in torch's order.
    rng : numpy.random.Generator, int or None
        Where they come from otherwise: a generator, a seed, or None for fresh entropy.

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
    >>> from cyconv.functional import fractional_max_pool3d
    >>> fractional_max_pool3d(np.ones((1, 3, 9, 9, 9)), 2, output_ratio=0.5, rng=0).shape
    (1, 3, 4, 4, 4)
    """
    how = (kernel_size, output_size, output_ratio)
    out, indices = _forward("fractional_max_pool3d", 3, input, how, _random_samples, rng)
    return (out, indices) if return_indices else out


@gradient_of(
    fractional_max_pool3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "u = np.zeros((1, 1, 3))",
    "F.fractional_max_pool3d_backward(np.ones((1, 1, 1, 1, 1)), x, 2, 1, _random_samples=u)[0].ravel().tolist()",
    "[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]",
)
def fractional_max_pool3d_backward(
    grad_output: Any,
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    indices: Any = None,
) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`fractional_max_pool3d`: each gradient is added to the pixel that was the maximum.

    Parameters
    ----------
    grad_output : ndarray, (N, C, O, P, Q) or (C, O, P, Q)
    input, kernel_size, output_size, output_ratio, _random_samples
        As forward took them; `return_indices` changes nothing here.
    indices : ndarray of int64
        What forward returned; it or `_random_samples` must be given.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` or `indices` do not have the shape of the output, `indices` point outside the
        plane, or neither they nor the random numbers are given.
    """
    how = (kernel_size, output_size, output_ratio)
    return _backward("fractional_max_pool3d_backward", 3, grad_output, input, how, _random_samples, indices)
