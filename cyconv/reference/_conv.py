"""Convolution and transposed convolution in any number of spatial dimensions, with their gradients.

Everything rests on three sums over the taps r of the kernel. With x the padded input, w the weights, s stride, d
dilation, written for one spatial axis (Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning")::

    correlate         y[n, k, p]     = sum_{c, r} w[k, c, r] x[n, c, s p + d r]
    scatter           x[n, c, s p + d r] += sum_k w[k, c, r] y[n, k, p]               the adjoint in x
    weight_gradient   w[k, c, r]     = sum_{n, p} y[n, k, p] x[n, c, s p + d r]       the adjoint in w

A convolution is pad, then correlate. A transposed convolution is scatter, then cut off what the padding says; with a
padding mode, its input is extended first by as many pixels as reach into the output. The gradient of either is made of
the other and of the weight gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ._common import Array, IntOrTuple, batched, per_axis, unbatched_like, wide

Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]


# ------------------------------------------------------------------------------------------------------------ padding


def _sides(
    padding: Padding, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """Return (before, after) for each axis.

    "same" gives one output per stride, ceil(H / s) of them, with what is needed split in two and the odd one after
    ("same") or before ("same_lower"), as TensorFlow and ONNX's SAME_UPPER and SAME_LOWER do; torch's at stride 1.
    """
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        sides = []
        for size, r, s, d in zip(sizes, kernel, strides, dilations, strict=True):
            last_start = range(0, size, s)[-1]
            total = max(last_start + d * (r - 1) + 1 - size, 0)
            small, large = total // 2, total - total // 2
            sides.append((small, large) if padding == "same" else (large, small))
        return sides
    each = per_axis(padding, len(sizes))
    return [(side[0], side[1]) if isinstance(side, Sequence) else (side, side) for side in each]


def _index_map(size: int, before: int, after: int, mode: str) -> Array:
    """Return, for each place of the padded axis, the place of the input it repeats, or -1 where it holds a zero."""
    place = np.arange(-before, size + after)
    if mode == "zeros":
        return np.where((place >= 0) & (place < size), place, -1)
    if mode == "replicate":
        return np.clip(place, 0, size - 1)
    if mode == "circular":
        return place % size
    if mode == "reflect":
        period = max(2 * (size - 1), 1)  # up and down again without repeating either end
        return np.minimum(place % period, period - place % period)
    raise ValueError(f"padding_mode must be 'zeros', 'reflect', 'replicate' or 'circular', got {mode!r}")


def _pad(x: Array, maps: Sequence[Array]) -> Array:
    """Pad the last axes of `x`, one index map for each."""
    for axis, index in enumerate(maps, start=x.ndim - len(maps)):
        padded = np.zeros((*x.shape[:axis], len(index), *x.shape[axis + 1 :]), x.dtype)
        np.moveaxis(padded, axis, 0)[index >= 0] = np.moveaxis(x, axis, 0)[index[index >= 0]]
        x = padded
    return x


def _unpad(padded: Array, maps: Sequence[Array], sizes: Sequence[int]) -> Array:
    """Add each place of `padded` to the place it was copied from: the adjoint of `_pad`."""
    for axis, (index, size) in enumerate(zip(maps, sizes, strict=True), start=padded.ndim - len(maps)):
        x = np.zeros((*padded.shape[:axis], size, *padded.shape[axis + 1 :]), padded.dtype)
        rows, padded_rows = np.moveaxis(x, axis, 0), np.moveaxis(padded, axis, 0)
        for place, source in enumerate(index):
            if source >= 0:
                rows[source] += padded_rows[place]
        padded = x
    return padded


# ------------------------------------------------------------------------------------------- the three sums over taps


def _taps(
    kernel: Sequence[int], outputs: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield each tap of the kernel with the slices of x that it meets, one place for each output."""
    for tap in itertools.product(*map(range, kernel)):
        yield (
            tap,
            (
                slice(None),
                slice(None),
                *(slice(d * r, d * r + s * p, s) for r, p, s, d in zip(tap, outputs, strides, dilations, strict=True)),
            ),
        )


def _tap_matrices(weight: Array, groups: int) -> Array:
    """Return the weights as (*kernel, G, K/G, C/G): a stack of matrices, one for each tap and group."""
    w = wide(weight).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return np.ascontiguousarray(np.moveaxis(w, (0, 1, 2), (-3, -2, -1)))


def _rows(x: Array, groups: int) -> Array:
    """Return (N, C, *spatial) as (G, C/G, N * pixels): a batch is only more pixels, and one product does for it."""
    return x.swapaxes(0, 1).reshape(groups, x.shape[1] // groups, x.shape[0] * math.prod(x.shape[2:]))


def _images(rows: Array, n: int, sizes: Sequence[int]) -> Array:
    """Undo `_rows`."""
    return rows.reshape(rows.shape[0] * rows.shape[1], n, *sizes).swapaxes(0, 1)


def _correlate(
    x: Array, weight: Array, outputs: Sequence[int], strides: Sequence[int], dilations: Sequence[int], groups: int
) -> Array:
    w = _tap_matrices(weight, groups)
    y = np.zeros((groups, weight.shape[0] // groups, x.shape[0] * math.prod(outputs)), x.dtype)
    for tap, places in _taps(weight.shape[2:], outputs, strides, dilations):
        y += w[tap] @ _rows(x[places], groups)
    return _images(y, x.shape[0], outputs)


def _scatter(
    y: Array, weight: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int], groups: int
) -> Array:
    w = _tap_matrices(weight, groups).swapaxes(-1, -2)
    rows = _rows(y, groups)
    x = np.zeros((y.shape[0], groups * weight.shape[1], *sizes), y.dtype)
    for tap, places in _taps(weight.shape[2:], y.shape[2:], strides, dilations):
        x[places] += _images(w[tap] @ rows, y.shape[0], y.shape[2:])
    return x


def _weight_gradient(
    x: Array, y: Array, weight: Array, strides: Sequence[int], dilations: Sequence[int], groups: int
) -> Array:
    rows = _rows(y, groups)
    taps = _taps(weight.shape[2:], y.shape[2:], strides, dilations)
    products = [rows @ _rows(x[places], groups).swapaxes(-1, -2) for _, places in taps]
    return np.stack(products, axis=-1).reshape(weight.shape)


def _bias_gradient(dy: Array, bias: Array) -> Array:
    return np.asarray(dy.sum(axis=(0, *range(2, dy.ndim))), bias.dtype)


# -------------------------------------------------------------------------------------------------------- convolution


def _conv_walk(
    sizes: Sequence[int], weight: Array, stride: IntOrTuple, padding: Padding, dilation: IntOrTuple, padding_mode: str
) -> tuple[list[Array], list[int], tuple[int, ...], tuple[int, ...]]:
    """Return index maps, output sizes, strides, dilations; an output stands wherever a window starts and fits."""
    kernel = weight.shape[2:]
    strides, dilations = per_axis(stride, len(kernel)), per_axis(dilation, len(kernel))
    sides = _sides(padding, sizes, kernel, strides, dilations)
    maps = [_index_map(size, *side, padding_mode) for size, side in zip(sizes, sides, strict=True)]
    outputs = [
        len(range(0, len(index) - d * (r - 1), s))
        for index, r, s, d in zip(maps, kernel, strides, dilations, strict=True)
    ]
    return maps, outputs, strides, dilations


def _conv(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: IntOrTuple,
    padding: Padding,
    dilation: IntOrTuple,
    groups: int,
    padding_mode: str,
) -> Array:
    ndim = weight.ndim - 2
    x = batched(wide(input), ndim)
    maps, outputs, strides, dilations = _conv_walk(x.shape[2:], weight, stride, padding, dilation, padding_mode)
    y = _correlate(_pad(x, maps), weight, outputs, strides, dilations, groups)
    if bias is not None:
        y += bias.reshape(-1, *[1] * ndim)
    return unbatched_like(y, input)


def _conv_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: IntOrTuple,
    padding: Padding,
    dilation: IntOrTuple,
    groups: int,
    padding_mode: str,
    input_grad: bool,
) -> tuple[Array | None, ...]:
    ndim = weight.ndim - 2
    x, dy = batched(wide(input), ndim), batched(wide(grad_output), ndim)
    maps, _, strides, dilations = _conv_walk(x.shape[2:], weight, stride, padding, dilation, padding_mode)
    dx = None
    if input_grad:
        padded = _scatter(dy, weight, [len(index) for index in maps], strides, dilations, groups)
        dx = unbatched_like(_unpad(padded, maps, x.shape[2:]), input)
    dw = _weight_gradient(_pad(x, maps), dy, weight, strides, dilations, groups).astype(weight.dtype)
    return (dx, dw) if bias is None else (dx, dw, _bias_gradient(dy, bias))


def conv1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Convolve (N, C, W) or (C, W) with (K, C/G, S); see `conv2d`."""
    return _conv(input, weight, bias, stride, padding, dilation, groups, padding_mode)


def conv1d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """Return (d_input, d_weight[, d_bias]) of `conv1d`; see `conv2d_backward`."""
    return _conv_backward(grad_output, input, weight, bias, stride, padding, dilation, groups, padding_mode, input_grad)


def conv2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Convolve images with kernels (cross-correlation, as every deep-learning library means it).

    ``y[n, k, p, q] = bias[k] + sum over c, r, s of weight[k, c, r, s] x[n, c, stride p + dilation r, stride q + ...]``
    with x the padded input, and c over the channels of the group of k.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W)
    weight : ndarray, (K, C/G, R, S)
    bias : ndarray, (K,), optional
    stride, dilation : int or (int, int)
    padding : int, (int, int), ((top, bottom), (left, right)), "valid", "same" or "same_lower"
        "same" gives ceil(H / stride) rows at any stride; the odd row goes below, with "same_lower" above.
    groups : int
    padding_mode : "zeros", "reflect", "replicate" or "circular"

    Returns
    -------
    ndarray, (N, K, P, Q) or (K, P, Q), in the dtype of `input`

    Raises
    ------
    ValueError
        For an unknown `padding_mode`. Everything else is taken as valid: this is the oracle, not the front door.
    """
    return _conv(input, weight, bias, stride, padding, dilation, groups, padding_mode)


def conv2d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """Return the gradients (d_input, d_weight[, d_bias]) of `conv2d`, given that of its output.

    d_input is the scatter of grad_output through the same taps, with the padding folded back onto the pixels it
    repeats; d_weight[k, c, r, s] the correlation of grad_output with the padded input; d_bias the sum over N, P, Q.

    Parameters
    ----------
    grad_output : ndarray, the shape of the output
    input, weight, bias, stride, padding, dilation, groups, padding_mode
        As given to `conv2d`.
    input_grad : bool
        If False, the first entry is None.

    Returns
    -------
    tuple of ndarray
        Each in shape and dtype of its argument; no entry for a bias of None.
    """
    return _conv_backward(grad_output, input, weight, bias, stride, padding, dilation, groups, padding_mode, input_grad)


def conv3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Convolve (N, C, D, H, W) or (C, D, H, W) with (K, C/G, T, R, S); see `conv2d`."""
    return _conv(input, weight, bias, stride, padding, dilation, groups, padding_mode)


def conv3d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    dilation: IntOrTuple = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """Return (d_input, d_weight[, d_bias]) of `conv3d`; see `conv2d_backward`."""
    return _conv_backward(grad_output, input, weight, bias, stride, padding, dilation, groups, padding_mode, input_grad)


# --------------------------------------------------------------------------------------------- transposed convolution


def _transpose_walk(
    sizes: Sequence[int],
    weight: Array,
    stride: IntOrTuple,
    padding: Padding,
    output_padding: IntOrTuple,
    dilation: IntOrTuple,
    padding_mode: str,
) -> tuple[list[Array], list[Array], list[int], tuple[int, ...], tuple[int, ...]]:
    """Return index maps of the extended input and of what is scattered from it to the output; output sizes, strides,
    dilations.

    Pixel p reaches the places s p + d r - padding of the output: the input is extended by all p that reach one.
    """
    kernel = weight.shape[2:]
    strides, dilations = per_axis(stride, len(kernel)), per_axis(dilation, len(kernel))
    full = [
        range(0, s * p, s)[-1] + d * (r - 1) + 1 for p, r, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    if padding in ("same", "same_lower"):
        outputs = [s * p for p, s in zip(sizes, strides, strict=True)]
        sides = _sides(padding, outputs, kernel, strides, dilations)
    else:
        sides = _sides(padding, full, kernel, strides, dilations)
        outputs = [length - before - after for length, (before, after) in zip(full, sides, strict=True)]
    outputs = [p + extra for p, extra in zip(outputs, per_axis(output_padding, len(kernel)), strict=True)]
    extended, cut = [], []
    for p, size, r, s, d, (low, _) in zip(sizes, outputs, kernel, strides, dilations, sides, strict=True):
        before = max(0, (d * (r - 1) - low) // s)
        behind = max(0, (size - 1 + low) // s - (p - 1))
        extended.append(_index_map(p, before, behind, padding_mode))
        place = np.arange(max((before + p + behind - 1) * s + d * (r - 1) + 1, before * s + low + size))
        place -= before * s + low
        cut.append(np.where((place >= 0) & (place < size), place, -1))
    return extended, cut, outputs, strides, dilations


def _conv_transpose(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: IntOrTuple,
    padding: Padding,
    output_padding: IntOrTuple,
    groups: int,
    dilation: IntOrTuple,
    padding_mode: str,
) -> Array:
    ndim = weight.ndim - 2
    x = batched(wide(input), ndim)
    extended, cut, outputs, strides, dilations = _transpose_walk(
        x.shape[2:], weight, stride, padding, output_padding, dilation, padding_mode
    )
    full = _scatter(_pad(x, extended), weight, [len(index) for index in cut], strides, dilations, groups)
    y = _unpad(full, cut, outputs)
    if bias is not None:
        y += bias.reshape(-1, *[1] * ndim)
    return unbatched_like(y, input)


def _conv_transpose_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: IntOrTuple,
    padding: Padding,
    output_padding: IntOrTuple,
    groups: int,
    dilation: IntOrTuple,
    padding_mode: str,
    input_grad: bool,
) -> tuple[Array | None, ...]:
    ndim = weight.ndim - 2
    x, dy = batched(wide(input), ndim), batched(wide(grad_output), ndim)
    extended, cut, _, strides, dilations = _transpose_walk(
        x.shape[2:], weight, stride, padding, output_padding, dilation, padding_mode
    )
    full, longer = _pad(dy, cut), [len(index) for index in extended]
    dx = None
    if input_grad:
        arrived = _correlate(full, weight, longer, strides, dilations, groups)
        dx = unbatched_like(_unpad(arrived, extended, x.shape[2:]), input)
    dw = _weight_gradient(full, _pad(x, extended), weight, strides, dilations, groups).astype(weight.dtype)
    return (dx, dw) if bias is None else (dx, dw, _bias_gradient(dy, bias))


def conv_transpose1d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    dilation: IntOrTuple = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Transposed convolution of (N, C, W) or (C, W) with (C, K/G, S); see `conv_transpose2d`."""
    return _conv_transpose(input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode)


def conv_transpose1d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    dilation: IntOrTuple = 1,
    padding_mode: str = "zeros",
    *,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """Return (d_input, d_weight[, d_bias]) of `conv_transpose1d`; see `conv2d_backward`."""
    return _conv_transpose_backward(
        grad_output, input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode, input_grad
    )


def conv_transpose2d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    dilation: IntOrTuple = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Spread pixels by kernels: the transpose of the convolution of the same stride, padding, dilation and groups.

    ``y[n, k, stride p + dilation r - padding, ...] += sum over c of weight[c, k, r, ...] input[n, c, p, ...]`` for all
    p that reach the output; those outside of the input hold zeros or, in the other modes, what `conv2d` would find
    there. In "zeros" it is the transpose (the adjoint) of that convolution; so it is in "circular" where the output is
    stride times as long as the input. A constant input gives, away from zeros, an output without borders.

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W)
    weight : ndarray, (C, K/G, R, S)
    bias : ndarray, (K,), optional
    stride, dilation, output_padding : int or (int, int)
        `output_padding` rows and columns are added below and right: it tells apart the sizes that the convolution
        maps to the same H, W.
    padding : as for `conv2d`
        "same" and "same_lower" give stride * H rows.
    groups : int
    padding_mode : "zeros", "reflect", "replicate" or "circular"

    Returns
    -------
    ndarray, (N, K, P, Q) or (K, P, Q), in the dtype of `input`
    """
    return _conv_transpose(input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode)


def conv_transpose2d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    dilation: IntOrTuple = 1,
    padding_mode: str = "zeros",
    *,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """Return (d_input, d_weight[, d_bias]) of `conv_transpose2d`: d_input is the convolution of grad_output."""
    return _conv_transpose_backward(
        grad_output, input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode, input_grad
    )


def conv_transpose3d(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    dilation: IntOrTuple = 1,
    padding_mode: str = "zeros",
) -> Array:
    """Transposed convolution of (N, C, D, H, W) or (C, D, H, W) with (C, K/G, T, R, S); see `conv_transpose2d`."""
    return _conv_transpose(input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode)


def conv_transpose3d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: IntOrTuple = 1,
    padding: Padding = 0,
    output_padding: IntOrTuple = 0,
    groups: int = 1,
    dilation: IntOrTuple = 1,
    padding_mode: str = "zeros",
    *,
    input_grad: bool = True,
) -> tuple[Array | None, ...]:
    """Return (d_input, d_weight[, d_bias]) of `conv_transpose3d`; see `conv2d_backward`."""
    return _conv_transpose_backward(
        grad_output, input, weight, bias, stride, padding, output_padding, groups, dilation, padding_mode, input_grad
    )
