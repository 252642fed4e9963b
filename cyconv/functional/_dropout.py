"""Dropout: of elements, of whole channels, and the forms that keep mean and variance of what SELU puts out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import _settings
from .._geometry import real
from ..kernels import load
from ._activation import MOVE_WORK, dense, like
from ._arrays import Array, any_array, array, empty_like, generator, ordered, same_dtype
from ._twins import gradient_of

_pointwise = load("pointwise")
#: What SELU goes to at -infinity, with its sign changed: scale times alpha (Klambauer et al. 2017).
SATURATION = 1.7580993408473766
_fresh: np.random.Generator | None = None


def _generator(operation: str, rng: Any) -> np.random.Generator:
    """Return ``rng`` if it is a generator, one seeded with it, or for None one that all such calls share."""
    global _fresh
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is not None:
        return generator(operation, rng)
    if _fresh is None:
        _fresh = np.random.default_rng()
    return _fresh


def _probability(operation: str, p: Any) -> float:
    number = real(operation, "p", p)
    if not 0 <= number <= 1:
        raise ValueError(f"{operation}: p must be a probability in [0, 1], got {p}")
    return number


class _Form(NamedTuple):
    """One of the functions: its name, whether it drops whole channels, and whether it keeps mean and variance."""

    name: str
    space: int | None = 0  # axes of space, over which a channel reaches; None: all but the first two
    alpha: bool = False

    def mask_shape(self, operation: str, x: Array) -> tuple[int, ...]:
        """Return the shape of the mask, with length 1 where all elements of a channel share its value."""
        if self.space == 0:
            return x.shape
        if self.space is None:
            if x.ndim < 2:
                raise ValueError(f"{operation}: input must have shape (N, C) or (N, C, *spatial), got {x.shape}")
            return (*x.shape[:2], *[1] * (x.ndim - 2))
        if x.ndim - self.space not in (1, 2):
            axes = ", ".join("DHW"[3 - self.space :]) if self.space > 1 else "L"
            raise ValueError(f"{operation}: input must have shape (N, C, {axes}) or (C, {axes}), got {x.shape}")
        return (*x.shape[: -self.space], *[1] * self.space)

    def axes(self, x: Array) -> int:
        """Return the number of axes of space of x."""
        return x.ndim - 2 if self.space is None else self.space

    def terms(self, p: float) -> tuple[float, float, float]:
        """Return (scale, shift, fill): x becomes scale x + shift where it stays, fill where it does not."""
        if not self.alpha:
            return (0.0 if p == 1 else 1 / (1 - p)), 0.0, 0.0
        if p == 1:
            return 0.0, 0.0, 0.0
        scale = 1 / math.sqrt((1 - p) * (1 + p * SATURATION**2))
        return scale, scale * p * SATURATION, scale * (p - 1) * SATURATION


def _forward(form: _Form, input: Any, p: Any, training: bool, rng: Any, return_mask: bool) -> Any:
    x = array(input, form.name, "input")
    p = _probability(form.name, p)
    shape = form.mask_shape(form.name, x)
    if not training:
        return (x, np.ones(shape, bool)) if return_mask else x
    mask = np.ones(shape, bool) if p == 0 else np.asarray(_generator(form.name, rng).random(shape, np.float32) >= p)
    output = _keep(x, mask, form.axes(x), *form.terms(p))
    return (output, mask) if return_mask else output


def _backward(form: _Form, grad_output: Any, input: Any, p: Any, training: bool, mask: Any) -> tuple[Array]:
    operation = f"{form.name}_backward"
    dy = array(grad_output, operation, "grad_output")
    x = array(input, operation, "input")
    p = _probability(operation, p)
    same_dtype(operation, grad_output=dy, input=x)
    if dy.shape != x.shape:
        raise ValueError(f"{operation}: grad_output must have the shape of input, {x.shape}, got {dy.shape}")
    shape = form.mask_shape(operation, x)
    if not training:
        return (dy,)
    kept = any_array(mask, operation, "mask")
    if kept.shape != shape:
        what = "have the shape of input" if shape == x.shape else "be what forward returned, of shape"
        raise ValueError(f"{operation}: mask must {what}, {shape}, got {kept.shape}")
    return (_keep(dy, kept if kept.dtype == bool else np.asarray(kept != 0), form.axes(x), form.terms(p)[0]),)


def _keep(x: Array, mask: Array, space: int, scale: float, shift: float = 0.0, fill: float = 0.0) -> Array:
    """Return scale x + shift where the mask is set, else fill; over `space` axes of x the mask has length 1."""
    threads = _settings.threads_for(x.size * MOVE_WORK)
    if not space:
        x = dense(x)
        y = empty_like(x)
        _pointwise.keep(y, x, like(mask, x), scale, shift, fill, threads)
        return y
    batch = x if x.ndim - space == 2 else x[np.newaxis]
    batch, last = ordered(batch)
    y = empty_like(batch)
    if x.size:
        outer, channels = batch.shape[:2]
        area = math.prod(batch.shape[2:])
        mask = np.ascontiguousarray(mask)
        _pointwise.keep_channels(y, batch, mask, scale, shift, fill, outer, channels, area, last, threads)
    return y if batch.ndim == x.ndim else y[0]


def dropout(input: Any, p: float = 0.5, training: bool = True, *, rng: Any = None, return_mask: bool = False) -> Any:
    """
    Zero each element with probability `p` and divide the others by 1 - p.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        Where the random numbers come from: a generator, a seed, or None for fresh entropy. The mask does not depend on
        dtype, memory order or number of threads.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, the same shape
        True where an element stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import dropout
    >>> dropout(np.ones(6), 0.5, rng=0).tolist()
    [2.0, 2.0, 2.0, 0.0, 0.0, 0.0]
    """
    return _forward(_Form("dropout"), input, p, training, rng, return_mask)


@gradient_of(
    dropout,
    "F.dropout_backward(np.ones(2), np.zeros(2), 0.5, mask=np.array([True, False]))[0].tolist()",
    "[2.0, 0.0]",
)
def dropout_backward(grad_output: Any, input: Any, p: float = 0.5, training: bool = True, *, mask: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and division make of grad_output.

    Parameters
    ----------
    grad_output : ndarray
    input, p, training
        As forward took them; of `input` only shape and dtype matter.
    mask : ndarray of bool
        What forward returned.

    Raises
    ------
    TypeError
        The dtypes differ, or `p` is no number.
    ValueError
        `p` is no probability, or the shapes differ.
    """
    return _backward(_Form("dropout"), grad_output, input, p, training, mask)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, *, rng: Any = None, return_mask: bool = False) -> Any:
    """
    Zero each channel of each sample with probability `p` and divide the others by 1 - p (Tompson et al. 2015).

    Parameters
    ----------
    input : ndarray, (N, C, L) or (C, L), float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        As in :func:`dropout`.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, (N, C, 1) or (C, 1)
        True for what stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability, or `input` has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import dropout1d
    >>> dropout1d(np.ones((4, 2)), 0.5, rng=0).reshape(4, -1)[:, 0].tolist()
    [2.0, 2.0, 2.0, 0.0]
    """
    return _forward(_Form("dropout1d", 1), input, p, training, rng, return_mask)


@gradient_of(
    dropout1d,
    "mask = np.ones((2, 1), bool)",
    "F.dropout1d_backward(np.ones((2, 1)), np.zeros((2, 1)), 0.5, mask=mask)[0].ravel().tolist()",
    "[2.0, 2.0]",
)
def dropout1d_backward(
    grad_output: Any, input: Any, p: float = 0.5, training: bool = True, *, mask: Any
) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and scale make of grad_output.
    """
    return _backward(_Form("dropout1d", 1), grad_output, input, p, training, mask)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, *, rng: Any = None, return_mask: bool = False) -> Any:
    """
    Zero each channel of each sample with probability `p` and divide the others by 1 - p (Tompson et al. 2015).

    Parameters
    ----------
    input : ndarray, (N, C, H, W) or (C, H, W), float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        As in :func:`dropout`.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, (N, C, 1, 1) or (C, 1, 1)
        True for what stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability, or `input` has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import dropout2d
    >>> dropout2d(np.ones((4, 2, 2)), 0.5, rng=0).reshape(4, -1)[:, 0].tolist()
    [2.0, 2.0, 2.0, 0.0]
    """
    return _forward(_Form("dropout2d", 2), input, p, training, rng, return_mask)


@gradient_of(
    dropout2d,
    "mask = np.ones((2, 1, 1), bool)",
    "F.dropout2d_backward(np.ones((2, 1, 1)), np.zeros((2, 1, 1)), 0.5, mask=mask)[0].ravel().tolist()",
    "[2.0, 2.0]",
)
def dropout2d_backward(
    grad_output: Any, input: Any, p: float = 0.5, training: bool = True, *, mask: Any
) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and scale make of grad_output.
    """
    return _backward(_Form("dropout2d", 2), grad_output, input, p, training, mask)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, *, rng: Any = None, return_mask: bool = False) -> Any:
    """
    Zero each channel of each sample with probability `p` and divide the others by 1 - p (Tompson et al. 2015).

    Parameters
    ----------
    input : ndarray, (N, C, D, H, W) or (C, D, H, W), float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        As in :func:`dropout`.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, (N, C, 1, 1, 1) or (C, 1, 1, 1)
        True for what stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability, or `input` has another number of axes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import dropout3d
    >>> dropout3d(np.ones((4, 2, 2, 2)), 0.5, rng=0).reshape(4, -1)[:, 0].tolist()
    [2.0, 2.0, 2.0, 0.0]
    """
    return _forward(_Form("dropout3d", 3), input, p, training, rng, return_mask)


@gradient_of(
    dropout3d,
    "mask = np.ones((2, 1, 1, 1), bool)",
    "F.dropout3d_backward(np.ones((2, 1, 1, 1)), np.zeros((2, 1, 1, 1)), 0.5, mask=mask)[0].ravel().tolist()",
    "[2.0, 2.0]",
)
def dropout3d_backward(
    grad_output: Any, input: Any, p: float = 0.5, training: bool = True, *, mask: Any
) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and scale make of grad_output.
    """
    return _backward(_Form("dropout3d", 3), grad_output, input, p, training, mask)


def alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, *, rng: Any = None, return_mask: bool = False
) -> Any:
    """
    Set each element with probability `p` to the lower limit of SELU; mean 0 and variance 1 stay what they were.

    Parameters
    ----------
    input : ndarray, of any shape, float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        As in :func:`dropout`.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, the same shape
        True for what stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability, or `input` has another number of axes.

    Notes
    -----
    With s = 1.758, the limit of SELU at -infinity, and a = 1 / sqrt((1 - p) (1 + p s^2)): what stays becomes
    a (x + p s), what is dropped a (p - 1) s. Klambauer et al. 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import alpha_dropout
    >>> alpha_dropout(np.zeros(4), 0.5, True, rng=0).round(3).tolist()
    [0.779, 0.779, 0.779, -0.779]
    """
    return _forward(_Form("alpha_dropout", alpha=True), input, p, training, rng, return_mask)


@gradient_of(
    alpha_dropout,
    "F.alpha_dropout_backward(np.ones(2), np.zeros(2), 0.5, True, mask=np.array([True, False]))[0].round(3).tolist()",
    "[0.886, 0.0]",
)
def alpha_dropout_backward(
    grad_output: Any, input: Any, p: float = 0.5, training: bool = False, *, mask: Any
) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and scale make of grad_output.
    """
    return _backward(_Form("alpha_dropout", alpha=True), grad_output, input, p, training, mask)


def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, *, rng: Any = None, return_mask: bool = False
) -> Any:
    """
    Alpha dropout of whole channels of samples.

    Parameters
    ----------
    input : ndarray, (N, C, *), float32 or float64
    p : float in [0, 1]
    training : bool
        False returns `input` as it is.
    rng : numpy.random.Generator, int or None
        As in :func:`dropout`.
    return_mask : bool
        Return ``(output, mask)``.

    Returns
    -------
    output : ndarray in the shape, dtype and memory order of `input`
    mask : ndarray of bool, (N, C, 1, ...)
        True for what stays.

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or `p` no number.
    ValueError
        `p` is no probability, or `input` has another number of axes.

    Notes
    -----
    With s = 1.758, the limit of SELU at -infinity, and a = 1 / sqrt((1 - p) (1 + p s^2)): what stays becomes
    a (x + p s), what is dropped a (p - 1) s. Klambauer et al. 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import feature_alpha_dropout
    >>> feature_alpha_dropout(np.zeros((1, 2, 2)), 0.5, True, rng=0).round(3).tolist()
    [[[0.779, 0.779], [0.779, 0.779]]]
    """
    return _forward(_Form("feature_alpha_dropout", None, True), input, p, training, rng, return_mask)


@gradient_of(
    feature_alpha_dropout,
    "mask = np.ones((1, 1), bool)",
    "F.feature_alpha_dropout_backward(np.ones((1, 1)), np.zeros((1, 1)), 0.5, True, mask=mask)[0].round(3).tolist()",
    "[[0.886]]",
)
def feature_alpha_dropout_backward(
    grad_output: Any, input: Any, p: float = 0.5, training: bool = False, *, mask: Any
) -> tuple[Array]:
    """
    Return ``(d_input,)``: what forward's mask and scale make of grad_output.
    """
    return _backward(_Form("feature_alpha_dropout", None, True), grad_output, input, p, training, mask)
