"""Operations that move numbers between channels and pixels: pixel_shuffle, pixel_unshuffle, channel_shuffle."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import _settings
from .._geometry import any_integer, check_gradient
from ..kernels import _shuffle
from ._activation import MOVE_WORK
from ._arrays import Array, array, channels_last, empty, same_dtype
from ._twins import gradient_of


def _pair(operation: str, grad_output: Any, input: Any) -> tuple[Array, Array]:
    dy, x = array(grad_output, operation, "grad_output"), array(input, operation, "input")
    same_dtype(operation, grad_output=dy, input=x)
    return dy, x


def _positive(operation: str, name: str, value: Any) -> int:
    number = any_integer(operation, name, value)
    if number < 1:
        raise ValueError(f"{operation}: {name} must be at least 1, got {number}")
    return number


def _image(operation: str, shape: tuple[int, ...]) -> None:
    if len(shape) < 3:
        raise ValueError(f"{operation}: input must have shape (..., C, H, W), got {shape}")


def _result(model: Array, shape: tuple[int, ...]) -> Array:
    """Return a new (..., C, H, W) array in the memory order of ``model``."""
    if not model.flags.c_contiguous and np.moveaxis(model, -3, -1).flags.c_contiguous:
        *front, channels, height, width = shape
        return np.moveaxis(empty((*front, height, width, channels), model.dtype), -1, -3)
    return empty(shape, model.dtype, channels_last(model))


@functools.lru_cache(maxsize=256)
def _offsets(first: int, outer: int, second: int, inner: int) -> Array:
    """Return where streams begin: `first` times, `outer` apart, `second` of them, `inner` apart."""
    return np.add.outer(np.arange(first) * outer, np.arange(second) * inner).astype(np.int64).ravel()


def _moved(channels: Array, pixels: Array, r: int, back: bool) -> bool:
    """Move one array to the other, `pixels` to `channels` if `back`, where both have an order that the kernel knows."""
    *front, count, height, width = channels.shape
    threads = _settings.threads_for(channels.size * MOVE_WORK)
    if channels.flags.c_contiguous and pixels.flags.c_contiguous:
        # A row of pixels has by turns what r planes have; the plane of a row is that of its place among r.
        plane = height * width
        shape, steps = (math.prod(front) * (count // r**2), height, r), (r * r * plane, width, r * plane)
        _shuffle.deal(pixels, channels, _offsets(1, 0, r, plane), width, back, shape, steps, threads)
        return True
    if channels.ndim == 4 and channels_last(channels) and channels_last(pixels):
        # The channels of a pixel have by turns what r x r pixels have.
        each = count // r**2
        row = width * r * each
        shape, steps = (front[0] * height, width, 1), (r * row, r * each, 0)
        _shuffle.deal(channels, pixels, _offsets(r, row, r, each), each, not back, shape, steps, threads)
        return True
    return False


def _to_pixels(x: Array, r: int, model: Array) -> Array:
    *front, channels, height, width = x.shape
    out = _result(model, (*front, channels // r**2, height * r, width * r))
    if x.size == 0 or _moved(x, out, r, False):
        return out
    for i in range(r):
        for j in range(r):
            out[..., i::r, j::r] = x[..., i * r + j :: r * r, :, :]
    return out


def _to_channels(x: Array, r: int, model: Array) -> Array:
    *front, channels, height, width = x.shape
    out = _result(model, (*front, channels * r**2, height // r, width // r))
    if x.size == 0 or _moved(out, x, r, True):
        return out
    for i in range(r):
        for j in range(r):
            out[..., i * r + j :: r * r, :, :] = x[..., i::r, j::r]
    return out


def _shuffled_shape(operation: str, shape: tuple[int, ...], r: int) -> tuple[int, ...]:
    _image(operation, shape)
    *front, channels, height, width = shape
    if channels % r**2:
        raise ValueError(
            f"{operation}: the channels must be divisible by upscale_factor² = {r}² = {r**2}, got {channels}"
        )
    return (*front, channels // r**2, height * r, width * r)


def _unshuffled_shape(operation: str, shape: tuple[int, ...], r: int) -> tuple[int, ...]:
    _image(operation, shape)
    *front, channels, height, width = shape
    if height % r or width % r:
        raise ValueError(
            f"{operation}: height and width must be divisible by downscale_factor {r}, got {height} x {width}"
        )
    return (*front, channels * r**2, height // r, width // r)


def pixel_shuffle(input: Any, upscale_factor: int) -> Array:
    """
    Move channels to pixels: (..., C · r², H, W) to (..., C, H · r, W · r) (Shi et al. 2016).

    Parameters
    ----------
    input : ndarray of three or more axes, float32 or float64
    upscale_factor : int
        r.

    Returns
    -------
    ndarray
        out[c, h · r + i, w · r + j] = input[c · r² + i · r + j, h, w], in the memory order of `input`.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `upscale_factor` no int.
    ValueError
        `upscale_factor` is less than 1, or the channels are not divisible by its square.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import pixel_shuffle
    >>> pixel_shuffle(np.arange(4.0).reshape(1, 4, 1, 1), 2)
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    x = array(input, "pixel_shuffle", "input")
    r = _positive("pixel_shuffle", "upscale_factor", upscale_factor)
    _shuffled_shape("pixel_shuffle", x.shape, r)
    return _to_pixels(x, r, x)


@gradient_of(
    pixel_shuffle,
    "F.pixel_shuffle_backward(np.ones((1, 2, 2)), np.zeros((4, 1, 1)), 2)[0].shape",
    "(4, 1, 1)",
)
def pixel_shuffle_backward(grad_output: Any, input: Any, upscale_factor: int) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`pixel_shuffle`: grad_output, moved back.

    Parameters
    ----------
    grad_output : ndarray
    input, upscale_factor
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    operation = "pixel_shuffle_backward"
    dy, x = _pair(operation, grad_output, input)
    r = _positive(operation, "upscale_factor", upscale_factor)
    check_gradient(operation, dy.shape, _shuffled_shape(operation, x.shape, r))
    return (_to_channels(dy, r, x),)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Array:
    """
    Move pixels to channels: (..., C, H · r, W · r) to (..., C · r², H, W); undoes :func:`pixel_shuffle`.

    Parameters
    ----------
    input : ndarray of three or more axes, float32 or float64
    downscale_factor : int
        r.

    Returns
    -------
    ndarray
        In the memory order of `input`.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `downscale_factor` no int.
    ValueError
        `downscale_factor` is less than 1, or does not divide height and width.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import pixel_unshuffle
    >>> pixel_unshuffle(np.arange(4.0).reshape(1, 2, 2), 2).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    x = array(input, "pixel_unshuffle", "input")
    r = _positive("pixel_unshuffle", "downscale_factor", downscale_factor)
    _unshuffled_shape("pixel_unshuffle", x.shape, r)
    return _to_channels(x, r, x)


@gradient_of(
    pixel_unshuffle,
    "F.pixel_unshuffle_backward(np.ones((4, 1, 1)), np.zeros((1, 2, 2)), 2)[0].shape",
    "(1, 2, 2)",
)
def pixel_unshuffle_backward(grad_output: Any, input: Any, downscale_factor: int) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`pixel_unshuffle`: grad_output, moved back.

    Parameters
    ----------
    grad_output : ndarray
    input, downscale_factor
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    operation = "pixel_unshuffle_backward"
    dy, x = _pair(operation, grad_output, input)
    r = _positive(operation, "downscale_factor", downscale_factor)
    check_gradient(operation, dy.shape, _unshuffled_shape(operation, x.shape, r))
    return (_to_pixels(dy, r, x),)


def _dealt(operation: str, x: Array, groups: Any, model: Array, back: bool) -> Array:
    shape = model.shape
    count = _positive(operation, "groups", groups)
    if len(shape) < 3:
        raise ValueError(f"{operation}: input must have shape (N, C, *spatial), got {shape}")
    if shape[1] % count:
        raise ValueError(f"{operation}: the channels must be divisible by groups, got {shape[1]} and {count} groups")
    each = shape[1] // count if back else count
    out = empty(x.shape, x.dtype, channels_last(model))
    if x.size and channels_last(x) and channels_last(out):
        # Forward, a pixel has by turns what `count` groups have, one behind the other.
        part = shape[1] // count
        wide, narrow = (x, out) if back else (out, x)
        rows, threads = (x.size // shape[1], 1, 1), _settings.threads_for(x.size * MOVE_WORK)
        _shuffle.deal(wide, narrow, _offsets(1, 0, count, part), part, back, rows, (shape[1], 0, 0), threads)
        return out
    for group in range(each):
        part = shape[1] // each
        out[:, group::each] = x[:, group * part : (group + 1) * part]
    return out


def channel_shuffle(input: Any, groups: int) -> Array:
    """
    Deal the channels out by turns: the first of each group, then the second of each (Zhang et al. 2018).

    Parameters
    ----------
    input : ndarray, (N, C, *spatial), float32 or float64
    groups : int
        Their number; divides C.

    Returns
    -------
    ndarray
        In the shape and memory order of `input`.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `groups` no int.
    ValueError
        `groups` is less than 1 or does not divide the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import channel_shuffle
    >>> channel_shuffle(np.arange(6.0).reshape(1, 6, 1), 2).ravel()
    array([0., 3., 1., 4., 2., 5.])
    """
    x = array(input, "channel_shuffle", "input")
    return _dealt("channel_shuffle", x, groups, x, False)


@gradient_of(
    channel_shuffle,
    "F.channel_shuffle_backward(np.arange(4.0).reshape(1, 4, 1), np.zeros((1, 4, 1)), 2)[0].ravel().tolist()",
    "[0.0, 2.0, 1.0, 3.0]",
)
def channel_shuffle_backward(grad_output: Any, input: Any, groups: int) -> tuple[Array]:
    """
    Return ``(d_input,)`` of :func:`channel_shuffle`: grad_output, dealt back.

    Parameters
    ----------
    grad_output : ndarray
    input, groups
        As forward took them; of `input` only shape, dtype and memory order matter.

    Raises
    ------
    TypeError, ValueError
        As forward, and if `grad_output` does not have the shape of the output.
    """
    operation = "channel_shuffle_backward"
    dy, x = _pair(operation, grad_output, input)
    check_gradient(operation, dy.shape, x.shape)
    return (_dealt(operation, dy, groups, x, True),)
