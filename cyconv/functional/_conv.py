"""Convolution of signals, images and volumes, and its gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _plan, _settings, kernels
from .._geometry import check_algorithm, check_gradient, conv_geometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._arrays import Array, array, in_order, ordered, same_dtype
from ._conv_adjoint import OnePixel, Transposed, one_pixel
from ._conv_depthwise import Depthwise
from ._conv_direct import Direct
from ._conv_im2col import Im2col
from ._conv_reference import Reference, ReferenceTransposed
from ._conv_winograd import TiledGradient, WinogradF2, WinogradF2Auto, WinogradF4, WinogradF4Auto
from ._twins import gradient_of

ENGINES: dict[str, Any] = {
    "direct": Direct,
    "winograd_f2": WinogradF2,
    "winograd_f4": WinogradF4,
    "depthwise": Depthwise,
    "im2col": Im2col,
    "reference": Reference,
}
#: Where ``auto`` chose, and any algorithm may find the gradients.
FREE_ENGINES = ENGINES | {"direct": TiledGradient, "winograd_f2": WinogradF2Auto, "winograd_f4": WinogradF4Auto}

_engines: dict[tuple[Any, ...], Any] = {}
# A table of engines larger than this is begun anew: each holds its tap tables.
_MOST_ENGINES = 1024


def choice(
    geometry: AnyConvGeometry, dtype: np.dtype[Any], channels_last: bool, algorithm: str, fresh: bool = True
) -> tuple[str, str]:
    """Return the name of the algorithm that computes a convolution, and why; ``fresh``: weights new on every call."""
    if check_algorithm(geometry.operation, algorithm) != "auto":
        return algorithm, "asked for by name"
    if _settings.algorithm() != "auto":
        return _settings.algorithm(), "asked for by cyconv.configure"
    lanes = kernels.load("direct").LANES[dtype.char]
    return _plan.choose(geometry, dtype.char, lanes, _settings.precision(), channels_last, fresh)


def engine(
    geometry: AnyConvGeometry, dtype: np.dtype[Any], channels_last: bool, algorithm: str = "auto", fresh: bool = True
) -> Any:
    """Return what computes this convolution, or transposed convolution; the same object for the same arguments.

    ``fresh``: the weights are new on every call, and bringing them into order is part of the price.

    Raises
    ------
    ValueError
        There is no such algorithm, or it cannot compute this convolution.
    """
    check_algorithm(geometry.operation, algorithm)
    key = (geometry, dtype.char, channels_last, algorithm, fresh, _settings.epoch())
    found = _engines.get(key)
    if found is None:
        name, _ = choice(geometry, dtype, channels_last, algorithm, fresh)
        against = _plan.obstacle(name, geometry, channels_last)
        if against:
            raise ValueError(f"{geometry.operation}: algorithm {name!r} cannot compute this convolution: {against}")
        if len(_engines) >= _MOST_ENGINES:
            _engines.clear()
        asked = algorithm != "auto" or _settings.algorithm() != "auto"
        found = _made(name, geometry, dtype, channels_last, asked)
        if found.workspace() > _settings.max_workspace():
            found = _within_workspace(found, geometry, dtype, channels_last, algorithm)
        _engines[key] = found
    return found


def _made(name: str, geometry: AnyConvGeometry, dtype: np.dtype[Any], channels_last: bool, asked: bool) -> Any:
    """Return the engine of that name; ``asked``: the user gave the name."""
    engines = ENGINES if asked or _settings.precision() == "strict" else FREE_ENGINES
    if not isinstance(geometry, ConvTransposeGeometry):
        return engines[name](geometry, dtype, channels_last)
    if name == "reference":
        return ReferenceTransposed(geometry, channels_last)
    if name == "direct" and not channels_last and one_pixel(geometry):
        outputs = geometry.out_channels * geometry.taps
        shapes = (geometry.batch, outputs, 1, 1), (geometry.in_channels, outputs, 1, 1)
        product = conv_geometry("conv2d", 2, *shapes, None, 1, 0, 1, 1, "zeros")
        return OnePixel(geometry, engines[name](product, dtype, channels_last=True))
    # Its gradients are a convolution's forward pass and weight gradient, which may want another algorithm.
    convolution = geometry.convolution
    back = "auto" if not asked else "direct" if _plan.obstacle(name, convolution, channels_last) else name
    return Transposed(
        geometry,
        # Its forward pass is the algorithm of that name.
        ENGINES[name](convolution, dtype, channels_last),
        functools.partial(engine, convolution, dtype, channels_last, back),
        lambda part: Direct(part, dtype, channels_last),
    )


def _within_workspace(
    work: Any, geometry: AnyConvGeometry, dtype: np.dtype[Any], channels_last: bool, algorithm: str
) -> Any:
    """Return im2col, which is cut to any workspace, instead of ``work``, which needs too much; unless that was asked
    for by name."""
    if algorithm == "auto" and not _plan.obstacle("im2col", geometry, channels_last):
        return _made("im2col", geometry, dtype, channels_last, False)
    raise ValueError(
        f"{geometry.operation}: algorithm {work.name!r} needs a workspace of {work.workspace():,} bytes for each "
        f"thread here, and max_workspace is {_settings.max_workspace():,}"
    )


def _dense(weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
    """Return both C-contiguous; after the checks, so that a broadcast giant is refused before it is copied."""
    if not weight.flags.c_contiguous:
        weight = np.ascontiguousarray(weight)
    if bias is not None and not bias.flags.c_contiguous:
        bias = np.ascontiguousarray(bias)
    return weight, bias


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
) -> Array:
    """
    Convolve images with kernels (cross-correlation, as everywhere in deep learning).

    Parameters
    ----------
    input : array, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, in any memory order. C-contiguous and channels-last arrays are read where they
        lie; others are copied once.
    weight : array, shape (K, C / groups, R, S)
        Kernels, of the same dtype.
    bias : array, shape (K,), optional
        Added to every pixel of an output channel.
    stride : int or (int, int)
        Steps between windows.
    padding : int, (int, int), ((int, int), (int, int)), "valid", "same" or "same_lower"
        Pixels around the input: the same on both sides, or (top, bottom), (left, right). "same" gives ceil(H / stride)
        rows for any stride, with the odd row of padding below; "same_lower" puts it above.
    dilation : int or (int, int)
        Distance of the taps of a kernel.
    groups : int
        Number of independent convolutions side by side; divides C and K.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What the padding holds: zeros; the pixels mirrored at the outermost one, which is not repeated (the padding is
        smaller than the input); the outermost pixel; the pixels at the other end (at most as many as there are).
    algorithm : {"auto", "direct", "winograd_f2", "winograd_f4", "depthwise", "im2col", "reference"}
        What computes; "auto" follows ``cyconv.explain``.

    Returns
    -------
    ndarray, shape (N, K, P, Q) or (K, P, Q)
        In the dtype and memory order of ``input``; P = (H + 2 · padding − dilation · (R − 1) − 1) // stride + 1.

    Raises
    ------
    TypeError
        An array is not float32 or float64, dtypes are mixed, or an argument is no integer.
    ValueError
        Shapes or values do not fit together.
    MemoryError
        The output could not be addressed.

    Notes
    -----
    y[n, k, p, q] = b[k] + Σ_c Σ_r Σ_s w[k, c, r, s] · x[n, c, p·S + r·D − P, q·S + s·D − P]

    Where an index lies outside, x is 0 or, with h before 0 or behind the last row H − 1, in mode "reflect" the pixel of
    row −h or 2 (H − 1) − h, in "replicate" that of row 0 or H − 1, in "circular" that of row h mod H; so the columns.
    No padded copy of the input is made: such rows are read where their pixels lie.

    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import conv2d
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> box = np.full((1, 1, 3, 3), 1 / 9)
    >>> conv2d(image, box).round(6)
    array([[[[ 5.,  6.],
             [ 9., 10.]]]])
    """
    return _forward("conv2d", 2, input, weight, bias, (stride, padding, dilation, groups, padding_mode), algorithm)


@gradient_of(
    conv2d,
    "x = np.arange(4.0).reshape(1, 1, 2, 2)",
    "w = np.ones((1, 1, 2, 2))",
    "[g.tolist() for g in F.conv2d_backward(np.ones((1, 1, 1, 1)), x, w, np.zeros(1))][1:]",
    "[[[[[0.0, 1.0], [2.0, 3.0]]]], [1.0]]",
)
def conv2d_backward(
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> tuple[Any, ...]:
    """
    Gradients of :func:`conv2d`.

    A pixel that the padding repeats has the gradients of all its places.

    Parameters
    ----------
    grad_output : array
        Gradient with respect to the output, in its shape and dtype.
    input, weight, bias, stride, padding, dilation, groups, padding_mode, algorithm
        As in the forward pass. The values of ``bias`` do not matter, only whether there is one.
    input_grad : bool
        False leaves out the gradient of the input, which the first layer of a network has no use for.

    Returns
    -------
    tuple of ndarray
        Gradients of ``input`` (None if ``input_grad`` is False), ``weight`` and, if there is one, ``bias``.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As in the forward pass, and if ``grad_output`` has another shape or dtype than the output.
    """
    arguments = (stride, padding, dilation, groups, padding_mode)
    return _backward("conv2d_backward", 2, grad_output, input, weight, bias, arguments, algorithm, input_grad)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
) -> Array:
    """
    Convolve signals with kernels: :func:`conv2d` with one spatial dimension.

    Parameters
    ----------
    input : array, shape (N, C, L) or (C, L)
        Signals, float32 or float64.
    weight : array, shape (K, C / groups, R)
        Kernels, of the same dtype.
    bias, stride, padding, dilation, groups, padding_mode, algorithm
        As in :func:`conv2d`, with one number for the one dimension.

    Returns
    -------
    ndarray, shape (N, K, P) or (K, P)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :func:`conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import conv1d
    >>> conv1d(np.array([[0.0, 1.0, 4.0, 9.0, 16.0]]), np.array([[[-1.0, 0.0, 1.0]]]))
    array([[ 4.,  8., 12.]])
    """
    return _forward("conv1d", 1, input, weight, bias, (stride, padding, dilation, groups, padding_mode), algorithm)


@gradient_of(
    conv1d,
    "x = np.arange(2.0).reshape(1, 1, 2)",
    "w = np.ones((1, 1, 2))",
    "[g.tolist() for g in F.conv1d_backward(np.ones((1, 1, 1)), x, w, np.zeros(1))][1:]",
    "[[[[0.0, 1.0]]], [1.0]]",
)
def conv1d_backward(
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> tuple[Any, ...]:
    """Return ``(d_input, d_weight[, d_bias])`` of :func:`conv1d`; formulas as in :func:`conv2d_backward`."""
    arguments = (stride, padding, dilation, groups, padding_mode)
    return _backward("conv1d_backward", 1, grad_output, input, weight, bias, arguments, algorithm, input_grad)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
) -> Array:
    """
    Convolve volumes with kernels: :func:`conv2d` with three spatial dimensions.

    Parameters
    ----------
    input : array, shape (N, C, D, H, W) or (C, D, H, W)
        Volumes, float32 or float64.
    weight : array, shape (K, C / groups, T, R, S)
        Kernels, of the same dtype.
    bias, stride, padding, dilation, groups, padding_mode, algorithm
        As in :func:`conv2d`, with three numbers for the three dimensions.

    Returns
    -------
    ndarray, shape (N, K, O, P, Q) or (K, O, P, Q)

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :func:`conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.functional import conv3d
    >>> conv3d(np.ones((1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), padding=((0, 1), (0, 0), (0, 0)))[0, :, 0, 0]
    array([8., 8., 4.])
    """
    return _forward("conv3d", 3, input, weight, bias, (stride, padding, dilation, groups, padding_mode), algorithm)


@gradient_of(
    conv3d,
    "x = np.arange(8.0).reshape(1, 1, 2, 2, 2)",
    "w = np.ones((1, 1, 2, 2, 2))",
    "[g.tolist() for g in F.conv3d_backward(np.ones((1, 1, 1, 1, 1)), x, w, np.zeros(1))][1:]",
    "[[[[[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]]], [1.0]]",
)
def conv3d_backward(
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
    input_grad: bool = True,
) -> tuple[Any, ...]:
    """Return ``(d_input, d_weight[, d_bias])`` of :func:`conv3d`; formulas as in :func:`conv2d_backward`."""
    arguments = (stride, padding, dilation, groups, padding_mode)
    return _backward("conv3d_backward", 3, grad_output, input, weight, bias, arguments, algorithm, input_grad)


def _forward(
    name: str,
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    arguments: tuple[Any, ...],
    algorithm: str,
    sizes: Callable[..., AnyConvGeometry] = conv_geometry,
) -> Array:
    """Check, plan, compute; ``sizes``: what checks the shapes and ``arguments``."""
    x = array(input, name, "input")
    weight = array(weight, name, "weight")
    bias = None if bias is None else array(bias, name, "bias")
    if not (x.dtype is weight.dtype and (bias is None or bias.dtype is x.dtype)):
        same_dtype(name, input=x, weight=weight, bias=bias)
    bias_shape = None if bias is None else bias.shape
    geometry = sizes(name, rank, x.shape, weight.shape, bias_shape, *arguments)
    if not geometry.batched:
        x = x[None]
    x, last = ordered(x)
    y: Array = engine(geometry, x.dtype, last, algorithm).forward(x, *_dense(weight, bias))
    return y if geometry.batched else y[0]


def _backward(
    name: str,
    rank: int,
    grad_output: Any,
    input: Any,
    weight: Any,
    bias: Any,
    arguments: tuple[Any, ...],
    algorithm: str,
    input_grad: bool,
    sizes: Callable[..., AnyConvGeometry] = conv_geometry,
) -> tuple[Any, ...]:
    """Check, plan, compute the gradients; ``sizes``: what checks the shapes and ``arguments``."""
    x = array(input, name, "input")
    grad = array(grad_output, name, "grad_output")
    weight = array(weight, name, "weight")
    bias = None if bias is None else array(bias, name, "bias")
    same_dtype(name, grad_output=grad, input=x, weight=weight, bias=bias)
    bias_shape = None if bias is None else bias.shape
    geometry = sizes(name, rank, x.shape, weight.shape, bias_shape, *arguments)
    check_algorithm(name, algorithm)
    check_gradient(name, grad.shape, geometry.output_shape if geometry.batched else geometry.output_shape[1:])
    # The engine of the forward pass, which is known by the forward pass's name.
    forward = name.removesuffix("_backward")
    geometry = sizes(forward, rank, x.shape, weight.shape, bias_shape, *arguments)
    if not geometry.batched:
        x, grad = x[None], grad[None]
    x, last = ordered(x)
    grad = in_order(grad, last)
    work = engine(geometry, x.dtype, last, algorithm)
    dx = work.input_gradient(grad, _dense(weight, None)[0]) if input_grad else None
    if dx is not None and not geometry.batched:
        dx = dx[0]
    dw, db = work.weight_gradient(grad, x, bias is not None)
    return (dx, dw) if db is None else (dx, dw, db)
