"""Operations that join arrays: sum, product, concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _settings
from .._geometry import any_integer
from ..kernels import load
from ._activation import dense, like
from ._arrays import Array, array, channels_last, empty, empty_like, same_dtype
from ._twins import gradient_of

_pointwise = load("pointwise")
#: What adding two elements is worth in floating-point operations when the number of threads is chosen.
ADD_WORK = 3


def _operands(operation: str, inputs: Sequence[Any]) -> list[Array]:
    if not inputs:
        raise TypeError(f"{operation}: at least one input is needed")
    arrays = [array(value, operation, f"input {position}") for position, value in enumerate(inputs)]
    if any(value.dtype is not arrays[0].dtype for value in arrays):
        same_dtype(operation, **{f"input {position}": value for position, value in enumerate(arrays)})
    return arrays


def _common_shape(operation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = ", ".join(map(str, shapes))
        raise ValueError(
            f"{operation}: the inputs have shapes {listed}; "
            "they must agree, or be 1, in every axis, counted from the last"
        ) from None


def _result(arrays: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Return a new array in the memory order of the first input that has its shape."""
    first = next((x for x in arrays if x.shape == shape), None)
    return empty(shape, arrays[0].dtype, first is not None and channels_last(first))


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Add up a gradient along the axes along which an input of ``shape`` was repeated; float32 in float64."""
    if gradient.shape == shape:
        return gradient
    front = gradient.ndim - len(shape)
    axes = tuple(range(front)) + tuple(
        front + axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[front + axis] != 1
    )
    total: Array = gradient.sum(axes, dtype=np.float64, keepdims=True)
    return total.astype(gradient.dtype).reshape(shape)


def _gradient(operation: str, grad_output: Any, shapes: Sequence[tuple[int, ...]]) -> Array:
    dy = array(grad_output, operation, "grad_output")
    expected = _common_shape(operation, shapes)
    if dy.shape != expected:
        raise ValueError(f"{operation}: grad_output must have shape {expected}, got {dy.shape}")
    return dy


def add(*inputs: Any) -> Array:
    """
    Return the sum of arrays, with NumPy's rules of broadcasting.

    Parameters
    ----------
    *inputs : ndarray of float32 or float64
        One or more, all of one dtype; (N, C, 1, 1) is added to every pixel of (N, C, H, W).

    Returns
    -------
    ndarray
        A new array in the memory order of the first input that has its shape.

    Raises
    ------
    TypeError
        There is no input, or it is no array of float32 or float64, or dtypes are mixed.
    ValueError
        The shapes cannot be broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import add
    >>> add(np.ones((2, 3)), np.array([0.0, 1.0, 2.0]))
    array([[1., 2., 3.],
           [1., 2., 3.]])
    """
    arrays = _operands("add", inputs)
    if len(arrays) == 2 and arrays[0].shape == arrays[1].shape:
        return _sum(arrays[0], arrays[1], False)
    output = _result(arrays, _common_shape("add", [x.shape for x in arrays]))
    if len(arrays) == 1:
        np.copyto(output, arrays[0])
        return output
    np.add(arrays[0], arrays[1], out=output)
    for x in arrays[2:]:
        np.add(output, x, out=output)
    return output


def _sum(x: Array, y: Array, rectified: bool) -> Array:
    if not (x.flags.c_contiguous and y.flags.c_contiguous):
        x = dense(x)
        y = like(y, x)
    z = empty_like(x)
    _pointwise.add(z, x, y, rectified, _settings.threads_for(x.size * ADD_WORK))
    return z


def add_relu(input: Any, other: Any) -> Array:
    """
    Return max(input + other, 0) in one pass over memory: the end of a residual block.

    Parameters
    ----------
    input, other : ndarray of one shape, float32 or float64

    Returns
    -------
    ndarray
        A new array in the memory order of `input`.

    Raises
    ------
    TypeError
        One of them is no array of float32 or float64, or dtypes are mixed.
    ValueError
        The shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import add_relu
    >>> add_relu(np.array([-3.0, 1.0]), np.array([2.0, 2.0])).tolist()
    [0.0, 3.0]
    """
    x, y = _operands("add_relu", (input, other))
    if x.shape != y.shape:
        raise ValueError(f"add_relu: input and other must have one shape, got {x.shape} and {y.shape}")
    return _sum(x, y, True)


def join_gradients(gradient: Any, other: Any, *, output: Any = None, out: Any = None) -> Array:
    """
    Return gradient + other: the gradient of an array that two operations read.

    Parameters
    ----------
    gradient, other : ndarray of one shape, float32 or float64
    output : ndarray in that shape, optional
        That array, where a ReLU made it: the result is the gradient of what the ReLU was given, 0 where its output is.
    out : ndarray, optional
        Where to put the result: `gradient` itself, if nobody else goes on using it. It is taken where it can be written
        into; the array that is returned tells.

    Returns
    -------
    ndarray
        In the memory order of `gradient`.

    Raises
    ------
    TypeError
        One of them is no array of float32 or float64, or dtypes are mixed.
    ValueError
        The shapes differ, or `out` is another array than `gradient`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import join_gradients
    >>> join_gradients(np.array([1.0, 2.0]), np.array([3.0, 4.0]), output=np.array([0.0, 5.0]))
    array([0., 6.])
    """
    operation = "join_gradients"
    x, y, *more = _operands(operation, (gradient, other) if output is None else (gradient, other, output))
    if any(z.shape != x.shape for z in (y, *more)):
        shapes = ", ".join(str(z.shape) for z in (x, y, *more))
        raise ValueError(f"{operation}: gradient, other and output must have one shape, got {shapes}")
    if out is not None and out is not gradient:
        raise ValueError(f"{operation}: out must be gradient itself, got another array")
    x = dense(x)
    z = x if out is not None and x.flags.writeable else empty_like(x)
    passed = like(more[0], x) if more else None
    _pointwise.join_gradients(z, x, like(y, x), passed, _settings.threads_for(x.size * ADD_WORK))
    return z


@gradient_of(
    add,
    "[g.tolist() for g in F.add_backward(np.ones(2), np.zeros(2), np.zeros(1))]",
    "[[1.0, 1.0], [2.0]]",
)
def add_backward(grad_output: Any, *inputs: Any, shapes: Sequence[tuple[int, ...]] | None = None) -> tuple[Array, ...]:
    """
    Return for each input of :func:`add` its gradient: grad_output, summed along the axes it was repeated along.

    Parameters
    ----------
    grad_output : ndarray
    *inputs
        As forward took them; only their shapes matter.
    shapes : sequence of tuple of int, optional
        The shapes, instead of the inputs.

    Returns
    -------
    tuple of ndarray
        Where nothing was repeated, `grad_output` itself.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    if shapes is None:
        shapes = [x.shape for x in _operands("add_backward", inputs)]
    dy = _gradient("add_backward", grad_output, shapes)
    return tuple(_sum_to(dy, shape) for shape in shapes)


def multiply(*inputs: Any) -> Array:
    """
    Return the product of arrays, element by element, with NumPy's rules of broadcasting.

    Parameters
    ----------
    *inputs : ndarray of float32 or float64
        One or more, all of one dtype; (N, C, 1, 1) scales the channels of (N, C, H, W).

    Returns
    -------
    ndarray
        A new array in the memory order of the first input that has its shape.

    Raises
    ------
    TypeError
        There is no input, or it is no array of float32 or float64, or dtypes are mixed.
    ValueError
        The shapes cannot be broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import multiply
    >>> multiply(np.array([2.0, 3.0]), np.array([4.0, 5.0])).tolist()
    [8.0, 15.0]
    """
    arrays = _operands("multiply", inputs)
    return _product(arrays, _common_shape("multiply", [x.shape for x in arrays]))


def _product(arrays: Sequence[Array], shape: tuple[int, ...]) -> Array:
    output = _result(arrays, shape)
    if len(arrays) == 1:
        np.copyto(output, arrays[0])
        return output
    np.multiply(arrays[0], arrays[1], out=output)
    for x in arrays[2:]:
        np.multiply(output, x, out=output)
    return output


@gradient_of(
    multiply,
    "[g.tolist() for g in F.multiply_backward(np.ones(2), np.array([2.0, 3.0]), np.array([4.0, 5.0]))]",
    "[[4.0, 5.0], [2.0, 3.0]]",
)
def multiply_backward(grad_output: Any, *inputs: Any) -> tuple[Array, ...]:
    """
    Return for each input of :func:`multiply` its gradient: grad_output times all other inputs.

    Parameters
    ----------
    grad_output : ndarray
    *inputs
        As forward took them.

    Returns
    -------
    tuple of ndarray
        Each in the shape of its input, summed along the axes it was repeated along.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    arrays = _operands("multiply_backward", inputs)
    dy = _gradient("multiply_backward", grad_output, [x.shape for x in arrays])
    same_dtype("multiply_backward", grad_output=dy, inputs=arrays[0])
    return tuple(
        _sum_to(_product([dy, *arrays[:position], *arrays[position + 1 :]], dy.shape), x.shape)
        for position, x in enumerate(arrays)
    )


def _joined(operation: str, shapes: Sequence[tuple[int, ...]], dim: Any) -> tuple[int, tuple[int, ...]]:
    """Return the axis, counted from the first, and the shape of the result."""
    first, axis = shapes[0], any_integer(operation, "dim", dim)
    if not -len(first) <= axis < len(first):
        raise ValueError(f"{operation}: dim must be in [{-len(first)}, {len(first)}) for shape {first}, got {dim}")
    axis %= len(first)
    for position, shape in enumerate(shapes):
        if len(shape) != len(first) or (*shape[:axis], *shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]):
            raise ValueError(
                f"{operation}: input 0 has shape {first}, input {position} {shape}; "
                f"they may differ along axis {axis} only"
            )
    return axis, (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def cat(inputs: Sequence[Any], dim: int = 0) -> Array:
    """
    Return the arrays one behind the other along an axis.

    Parameters
    ----------
    inputs : sequence of ndarray, float32 or float64
        At least one, all of one dtype, and of one shape but for the axis `dim`.
    dim : int

    Returns
    -------
    ndarray
        A new array in the memory order of the first input.

    Raises
    ------
    TypeError
        `inputs` is no sequence of arrays of float32 or float64, or dtypes are mixed.
    ValueError
        The shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import cat
    >>> cat([np.ones((1, 2)), np.zeros((1, 3))], 1).tolist()
    [[1.0, 1.0, 0.0, 0.0, 0.0]]
    """
    if not isinstance(inputs, Sequence):
        raise TypeError(f"cat: inputs must be a list or tuple of arrays, got {type(inputs).__name__}")
    arrays = _operands("cat", inputs)
    axis, shape = _joined("cat", [x.shape for x in arrays], dim)
    output = empty(shape, arrays[0].dtype, channels_last(arrays[0]))
    np.concatenate(arrays, axis=axis, out=output)
    return output


@gradient_of(
    cat,
    "[g.tolist() for g in F.cat_backward(np.arange(3.0), [np.zeros(1), np.zeros(2)])]",
    "[[0.0], [1.0, 2.0]]",
)
def cat_backward(
    grad_output: Any, inputs: Any, dim: int = 0, *, shapes: Sequence[tuple[int, ...]] | None = None
) -> tuple[Array, ...]:
    """
    Return for each input of :func:`cat` its gradient: its part of grad_output.

    Parameters
    ----------
    grad_output : ndarray
    inputs, dim
        As forward took them; of `inputs` only the shapes matter.
    shapes : sequence of tuple of int, optional
        The shapes, instead of `inputs`, which may be None then.

    Returns
    -------
    tuple of ndarray
        Views of `grad_output`.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    operation = "cat_backward"
    dy = array(grad_output, operation, "grad_output")
    if shapes is None:
        shapes = [x.shape for x in _operands(operation, inputs)]
    axis, expected = _joined(operation, shapes, dim)
    if dy.shape != expected:
        raise ValueError(f"{operation}: grad_output must have shape {expected}, got {dy.shape}")
    parts, start = [], 0
    for shape in shapes:
        parts.append(dy[(slice(None),) * axis + (slice(start, start + shape[axis]),)])
        start += shape[axis]
    return tuple(parts)
