"""The ReLU whose slope below zero is learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _settings
from ..kernels import load
from . import _arrays
from ._activation import MOVE_WORK, dense, like
from ._arrays import Array, array, channels_last, empty_like, same_dtype
from ._twins import gradient_of

_kernel = load("activation")


def _slopes(operation: str, x: Array, w: Array) -> tuple[Array, tuple[int, int, int]]:
    """Return the weights, checked, and how the memory of ``x``, which is dense, is [outer][channels][inner]."""
    same_dtype(operation, input=x, weight=w)
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.ndim > 1 or w.size not in (1, channels):
        raise ValueError(
            f"{operation}: weight must have shape (1,), or one element for each of the {channels} channels of input, "
            f"got {w.shape}"
        )
    w = np.ascontiguousarray(w).reshape(-1)
    if w.size == 1:
        return w, (1, 1, x.size)
    if x.flags.c_contiguous:
        return w, (x.shape[0], channels, x.size // max(1, x.shape[0] * channels))
    return w, (x.size // max(1, channels), channels, 1)


def _channels_in_place(x: Array, weight: Array) -> Array:
    """Return ``x``, copied unless its memory is dense and its channels can be found in it."""
    if x.flags.c_contiguous or channels_last(x) or weight.size == 1:
        return dense(x)
    _arrays.copies += 1
    return np.ascontiguousarray(x)


def prelu(input: Any, weight: Any) -> Array:
    """
    Return x where x > 0, else weight · x; the weight is learned.

    He et al. 2015.

    Parameters
    ----------
    input : ndarray, (N, C, *) or of any shape with one weight, float32 or float64
    weight : ndarray, (1,) or (C,), in the dtype of `input`

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        An array has the wrong dtype, or the dtypes differ.
    ValueError
        `weight` has neither one element nor one for each channel.

    Examples
    --------
    >>> prelu(np.array([[-1.0, -1.0], [1.0, 1.0]]), np.array([0.5, 0.25])).tolist()
    [[-0.5, -0.25], [1.0, 1.0]]
    """
    x, w = array(input, "prelu", "input"), array(weight, "prelu", "weight")
    x = _channels_in_place(x, w)
    w, shape = _slopes("prelu", x, w)
    y = empty_like(x)
    if x.size:
        _kernel.prelu(y, x, w, *shape, _settings.threads_for(x.size * MOVE_WORK))
    return y


@gradient_of(
    prelu,
    "[g.tolist() for g in F.prelu_backward(np.ones((1, 2)), np.array([[-3.0, 4.0]]), np.array([0.25]))]",
    "[[[0.25, 1.0]], [-3.0]]",
)
def prelu_backward(grad_output: Any, input: Any, weight: Any) -> tuple[Array, Array]:
    """
    Return ``(d_input, d_weight)``: dy where x > 0, else weight · dy; and the sums of dy x where x <= 0.
    """
    operation = "prelu_backward"
    x, dy = array(input, operation, "input"), array(grad_output, operation, "grad_output")
    same_dtype(operation, grad_output=dy, input=x)
    if dy.shape != x.shape:
        raise ValueError(f"{operation}: grad_output must have the shape of input, {x.shape}, got {dy.shape}")
    weight = array(weight, operation, "weight")
    x = _channels_in_place(x, weight)
    w, shape = _slopes(operation, x, weight)
    dy, dx, dw = like(dy, x), empty_like(x), np.zeros(w.size)
    if x.size:
        _kernel.prelu_backward(dx, dw, dy, x, w, *shape, _settings.threads_for(x.size * MOVE_WORK))
    return dx, dw.astype(w.dtype).reshape(weight.shape)
