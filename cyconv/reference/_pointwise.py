"""The fully connected layer, activations, flatten and dropout."""

from __future__ import annotations

import math

import numpy as np

from ._common import Array, wide


def linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    """Return ``input @ weight.T + bias``: (..., C) with weight (K, C) and bias (K,) gives (..., K)."""
    y = wide(input) @ wide(weight).T
    if bias is not None:
        y = y + bias
    return y.astype(input.dtype)


def linear_backward(
    grad_output: Array, input: Array, weight: Array, bias: Array | None = None, *, input_grad: bool = True
) -> tuple[Array | None, ...]:
    """Return (d_input, d_weight[, d_bias]): dy W, the sum of the outer products dy x, the sum of dy.

    With ``input_grad=False`` the first entry is None.
    """
    dy = wide(grad_output)
    n = math.prod(input.shape[:-1])  # reshape(-1) has no answer where the batch is empty
    rows, columns = dy.reshape(n, weight.shape[0]), wide(input).reshape(n, weight.shape[1])
    dx = (dy @ wide(weight)).astype(input.dtype) if input_grad else None
    dw = (rows.T @ columns).astype(weight.dtype)
    return (dx, dw) if bias is None else (dx, dw, rows.sum(axis=0).astype(bias.dtype))


def relu(input: Array) -> Array:
    """Return max(x, 0); NaN stays NaN."""
    return np.asarray(np.maximum(input, 0), input.dtype)


def relu_backward(grad_output: Array, input: Array | None, *, output: Array | None = None) -> tuple[Array]:
    """Return (d_input,): dy where x > 0, else 0 (also at x = 0); dy where x is NaN, as torch.

    `output`, what forward returned, tells the same; with it `input` may be None.
    """
    x = _one_of(input, output)
    return (np.where(x <= 0, np.zeros((), grad_output.dtype), grad_output),)


def sigmoid(input: Array) -> Array:
    """Return 1 / (1 + exp(-x)), written with exp(-|x|) so that nothing overflows."""
    x = wide(input)
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e), input.dtype)


def sigmoid_backward(grad_output: Array, input: Array | None, *, output: Array | None = None) -> tuple[Array]:
    """Return (d_input,): dy y (1 - y), from `output` if it is given (then `input` may be None)."""
    y = wide(output) if output is not None else sigmoid(wide(_one_of(input, output)))
    return ((wide(grad_output) * y * (1 - y)).astype(grad_output.dtype),)


def tanh(input: Array) -> Array:
    """Return tanh(x)."""
    return np.asarray(np.tanh(wide(input)), input.dtype)


def tanh_backward(grad_output: Array, input: Array | None, *, output: Array | None = None) -> tuple[Array]:
    """Return (d_input,): dy (1 - y^2), from `output` if it is given (then `input` may be None)."""
    y = wide(output) if output is not None else tanh(wide(_one_of(input, output)))
    return ((wide(grad_output) * (1 - y * y)).astype(grad_output.dtype),)


def softmax(input: Array, dim: int) -> Array:
    """Return exp(x) / sum of exp(x) along `dim`, with the maximum taken off first so that nothing overflows."""
    return np.asarray(np.exp(log_softmax(wide(input), dim)), input.dtype)


def softmax_backward(grad_output: Array, input: Array | None, dim: int, *, output: Array | None = None) -> tuple[Array]:
    """Return (d_input,): y (dy - sum of y dy along `dim`), from `output` if given (then `input` may be None)."""
    y = wide(output) if output is not None else softmax(wide(_one_of(input, output)), dim)
    dy = wide(grad_output)
    return ((y * (dy - (y * dy).sum(axis=dim, keepdims=True))).astype(grad_output.dtype),)


def log_softmax(input: Array, dim: int) -> Array:
    """Return x - log(sum of exp(x) along `dim`), with the maximum taken off first so that nothing overflows."""
    x = wide(input)
    with np.errstate(invalid="ignore"):  # a row of -inf, or with +inf in it, is NaN as in torch
        x = x - x.max(axis=dim, keepdims=True, initial=-np.inf)
    return np.asarray(x - np.log(np.exp(x).sum(axis=dim, keepdims=True)), input.dtype)


def log_softmax_backward(
    grad_output: Array, input: Array | None, dim: int, *, output: Array | None = None
) -> tuple[Array]:
    """Return (d_input,): dy - exp(y) (sum of dy along `dim`), from `output` if given (then `input` may be None)."""
    y = wide(output) if output is not None else log_softmax(wide(_one_of(input, output)), dim)
    dy = wide(grad_output)
    return ((dy - np.exp(y) * dy.sum(axis=dim, keepdims=True)).astype(grad_output.dtype),)


def _one_of(input: Array | None, output: Array | None) -> Array:
    given = output if input is None else input
    if given is None:
        raise ValueError("backward needs the input or output=, what forward returned; both are None")
    return given


def flatten(input: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """Return `input` with the axes from `start_dim` to `end_dim` (both included) as one, in row-major order."""
    if input.ndim == 0:
        return input.reshape(1)
    first, last = start_dim % input.ndim, end_dim % input.ndim
    return input.reshape(*input.shape[:first], math.prod(input.shape[first : last + 1]), *input.shape[last + 1 :])


def flatten_backward(grad_output: Array, input: Array, start_dim: int = 0, end_dim: int = -1) -> tuple[Array]:
    """Return (d_input,): grad_output in the shape of `input`, whichever axes were made one."""
    return (grad_output.reshape(input.shape),)


def dropout(
    input: Array,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: np.random.Generator | int | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Array]:
    """Zero each element with probability `p` and divide the others by 1 - p (Srivastava et al. 2014, inverted).

    Returns the array, and with `return_mask` also the mask of bool that is True where an element stays. Without
    `training` all stay, undivided.
    """
    if not training:
        return (input, np.ones(input.shape, bool)) if return_mask else input
    mask = np.asarray(np.random.default_rng(rng).random(input.shape) >= p)
    y = _keep(input, p, mask)
    return (y, mask) if return_mask else y


def dropout_backward(
    grad_output: Array, input: Array, p: float = 0.5, training: bool = True, *, mask: Array
) -> tuple[Array]:
    """Return (d_input,): what the same `mask` (non-zero: stays) and division by 1 - p make of grad_output."""
    return (_keep(grad_output, p, mask != 0) if training else grad_output,)


def _keep(x: Array, p: float, mask: Array) -> Array:
    if p == 1:
        return np.zeros_like(x)
    return np.where(mask, wide(x) / (1 - p), 0).astype(x.dtype)
