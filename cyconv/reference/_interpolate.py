"""Interpolation and rearrangement: an axis at a time, by the matrix that says what each output is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._common import Array, per_axis, wide


def _nearest(inputs: int, outputs: int, step: float | None, exact: bool) -> Array:
    matrix = np.zeros((outputs, inputs))
    # In float32, as torch computes them.
    ratio = np.float32(inputs) / np.float32(outputs) if step is None else np.float32(step)
    for q in range(outputs):
        if exact:
            place = math.floor(np.float32((q + 0.5) * float(ratio)))
        elif outputs in (inputs, 2 * inputs):
            place = q * inputs // outputs
        else:
            place = math.floor(np.float32(q) * ratio)
        matrix[q, min(place, inputs - 1)] = 1
    return matrix


def _cubic(x: float, a: float) -> float:
    """Keys' kernel (1981)."""
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def _smooth(inputs: int, outputs: int, step: float | None, align_corners: bool, cubic: bool) -> Array:
    """Linear or cubic; beyond the edge the outermost pixel is repeated."""
    matrix = np.zeros((outputs, inputs))
    if align_corners:
        step = (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
    elif step is None:
        step = inputs / outputs
    for q in range(outputs):
        at = q * step if align_corners else (q + 0.5) * step - 0.5
        if not cubic and inputs == outputs:
            at = float(q)
        if not cubic:
            at = max(at, 0.0)
        first = math.floor(at)
        for place in range(first - 1, first + 3):
            weight = _cubic(at - place, -0.75) if cubic else max(0.0, 1 - abs(at - place))
            matrix[q, min(max(place, 0), inputs - 1)] += weight
    return matrix


def _area(inputs: int, outputs: int) -> Array:
    matrix = np.zeros((outputs, inputs))
    for q in range(outputs):
        first, end = math.floor(q * inputs / outputs), math.ceil((q + 1) * inputs / outputs)
        matrix[q, first:end] = 1 / (end - first)
    return matrix


def _antialiased(inputs: int, outputs: int, step: float | None, align_corners: bool, cubic: bool) -> Array:
    """Return the kernel stretched by the step where outputs are fewer, cut off at the edges and made to sum to 1."""
    if inputs == outputs:
        return np.eye(inputs)
    if align_corners:
        step = (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
    elif step is None:
        step = inputs / outputs
    matrix = np.zeros((outputs, inputs))
    stretch = max(step, 1.0)
    reach = (2 if cubic else 1) * stretch
    for q in range(outputs):
        centre = (q + 0.5) * step
        for place in range(max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), inputs)):
            x = (place + 0.5 - centre) / stretch
            matrix[q, place] = _cubic(x, -0.5) if cubic else max(0.0, 1 - abs(x))
    total: Array = matrix.sum(1, keepdims=True)
    return np.divide(matrix, total)


def _matrices(
    spatial: tuple[int, ...],
    size: Any,
    scale_factor: Any,
    mode: str,
    align_corners: bool | None,
    recompute_scale_factor: bool | None,
    antialias: bool,
) -> list[Array]:
    """Return a matrix (outputs, inputs) for each axis."""
    rank = len(spatial)
    steps: tuple[float | None, ...] = (None,) * rank
    if size is not None:
        sizes = per_axis(size, rank)
    else:
        factors = per_axis(scale_factor, rank)
        sizes = tuple(int(length * factor) for length, factor in zip(spatial, factors, strict=True))
        if not recompute_scale_factor:
            steps = tuple(1 / factor for factor in factors)
    matrices = []
    for inputs, outputs, step in zip(spatial, sizes, steps, strict=True):
        if mode == "area":
            matrices.append(_area(inputs, outputs))
        elif mode.startswith("nearest"):
            matrices.append(_nearest(inputs, outputs, step, mode == "nearest-exact"))
        else:
            build = _antialiased if antialias else _smooth
            matrices.append(build(inputs, outputs, step, bool(align_corners), mode == "bicubic"))
    return matrices


def _apply(matrices: list[Array], x: Array) -> Array:
    result = wide(x)
    for axis, matrix in enumerate(matrices, 2):
        result = np.moveaxis(np.tensordot(result, matrix, (axis, 1)), -1, axis)
    return result.astype(x.dtype)


def interpolate(
    input: Array,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    """Resize the spatial axes of (N, C, *spatial)."""
    return _apply(
        _matrices(input.shape[2:], size, scale_factor, mode, align_corners, recompute_scale_factor, antialias), input
    )


def interpolate_backward(
    grad_output: Array,
    input: Array,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> tuple[Array]:
    """Return ``(d_input,)``: the transposed matrices, applied to grad_output."""
    matrices = _matrices(input.shape[2:], size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    return (_apply([matrix.T for matrix in matrices], grad_output),)


def pixel_shuffle(input: Array, upscale_factor: int) -> Array:
    """Return (..., C, H r, W r) of (..., C r², H, W): out[c, h r + i, w r + j] = in[c r² + i r + j, h, w]."""
    r = upscale_factor
    *front, channels, height, width = input.shape
    out = np.empty((*front, channels // r**2, height * r, width * r), input.dtype)
    for i in range(r):
        for j in range(r):
            out[..., i::r, j::r] = input[..., i * r + j :: r * r, :, :]
    return out


def pixel_shuffle_backward(grad_output: Array, input: Array, upscale_factor: int) -> tuple[Array]:
    """Return ``(d_input,)``."""
    return (pixel_unshuffle(grad_output, upscale_factor),)


def pixel_unshuffle(input: Array, downscale_factor: int) -> Array:
    """Undo `pixel_shuffle`."""
    r = downscale_factor
    *front, channels, height, width = input.shape
    out = np.empty((*front, channels * r**2, height // r, width // r), input.dtype)
    for i in range(r):
        for j in range(r):
            out[..., i * r + j :: r * r, :, :] = input[..., i::r, j::r]
    return out


def pixel_unshuffle_backward(grad_output: Array, input: Array, downscale_factor: int) -> tuple[Array]:
    """Return ``(d_input,)``."""
    return (pixel_shuffle(grad_output, downscale_factor),)


def channel_shuffle(input: Array, groups: int) -> Array:
    """Return the channels of (N, C, ...) dealt out by turns: first the first of each group, then the second."""
    each = input.shape[1] // groups
    return np.stack([input[:, group * each + k] for k in range(each) for group in range(groups)], 1)


def channel_shuffle_backward(grad_output: Array, input: Array, groups: int) -> tuple[Array]:
    """Return ``(d_input,)``: dealt back."""
    return (channel_shuffle(grad_output, input.shape[1] // groups),)


def unflatten(input: Array, dim: int, sizes: tuple[int, ...]) -> Array:
    """Return the input with an axis split into several, in row-major order."""
    dim %= input.ndim
    return input.reshape(*input.shape[:dim], *sizes, *input.shape[dim + 1 :])


def unflatten_backward(grad_output: Array, input: Array, dim: int, sizes: tuple[int, ...]) -> tuple[Array]:
    """Return ``(d_input,)``."""
    return (grad_output.reshape(input.shape),)
