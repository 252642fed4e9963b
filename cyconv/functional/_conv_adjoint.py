"""Transposed convolution as the walks of the convolution whose input gradient it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._geometry import ConvGeometry
from .._transposed_geometry import ConvTransposeGeometry
from ._arrays import Array
from ._conv_edges import ExtensionGradient

#: Pixels of a row of a channels-last image that are added up in its own type.
LONG_ROW = 2048


class Transposed:
    """One transposed convolution: geometry, dtype and memory order fixed.

    Its forward pass is the input gradient of the convolution, with a bias; its input gradient is the forward pass of
    the convolution; its weight gradient is that of the convolution, with input and gradient of the output exchanged.

    Parameters
    ----------
    geometry : ConvTransposeGeometry
    ahead : engine
        Of the convolution; computes the forward pass.
    back : callable
        Returns the engine of the convolution that computes the gradients.
    part : callable
        Returns an engine of a small convolution: for the gradients of an input that is read beyond its ends.
    """

    def __init__(
        self,
        geometry: ConvTransposeGeometry,
        ahead: Any,
        back: Callable[[], Any],
        part: Callable[[ConvGeometry], Any],
    ) -> None:
        self.geometry = geometry
        self.name = ahead.name
        self.channels_last = ahead.channels_last
        self._ahead = ahead
        self._back = back
        self._extension = ExtensionGradient(geometry.convolution, part, ahead.channels_last)

    def pack(self, weight: Array) -> Array:
        """Return ``weight`` in the order in which the forward pass streams it."""
        packed: Array = self._ahead.pack_transposed(weight)
        return packed

    def forward(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the output, through a ReLU if ``rectified``; ``packed``: what ``pack`` returned for ``weight``."""
        y: Array = self._ahead.transposed(x, weight, bias, packed, rectified)
        return y

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        dx: Array = self._back().forward(grad, weight, None)
        self._extension.add_to(dx, grad, weight)
        return dx

    def weight_gradient(self, grad: Array, x: Array, bias: bool) -> tuple[Array, Array | None]:
        """Return the gradients of the weight and, if ``bias``, of the bias."""
        dw, _ = self._back().weight_gradient(x, grad, False)
        self._extension.add_to_weight(dw, grad, x)
        return dw, _channel_sums(grad, self.channels_last) if bias else None

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        back = self._back()
        return back.name, back.gradient_names()[1]

    def workspace(self) -> int:
        """Return the private bytes of each thread in the forward pass."""
        return int(self._ahead.transposed_workspace())


class OnePixel(Transposed):
    """A transposed convolution of single pixels, whose output is a kernel: a product of matrices.

    All pixels of the batch are one row, and the taps of all channels together the channels of a 1x1 convolution. One
    pixel lies in memory as C-contiguous arrays do, and so does the output.

    Parameters
    ----------
    geometry : ConvTransposeGeometry
    product : engine
        Of the 1x1 convolution from (N, K · taps) to (N, C), in channels-last order.
    """

    channels_last = False

    def __init__(self, geometry: ConvTransposeGeometry, product: Any) -> None:
        self.geometry = geometry
        self.name = product.name
        self._product = product

    def pack(self, weight: Array) -> Array:
        """Return ``weight`` in the order in which the forward pass streams it."""
        packed: Array = self._product.pack_transposed(_row(weight))
        return packed

    def forward(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the output, through a ReLU if ``rectified``; ``packed``: what ``pack`` returned for ``weight``."""
        if bias is not None:
            bias = np.repeat(bias, self.geometry.taps)
        y: Array = self._product.transposed(_row(x), _row(weight), bias, packed, rectified)
        return y.reshape(self.geometry.output_shape)

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        dx: Array = self._product.forward(_row(grad), _row(weight), None)
        return dx.reshape(self.geometry.input_shape)

    def weight_gradient(self, grad: Array, x: Array, bias: bool) -> tuple[Array, Array | None]:
        """Return the gradients of the weight and, if ``bias``, of the bias."""
        dw, _ = self._product.weight_gradient(_row(x), _row(grad), False)
        return dw.reshape(self.geometry.weight_shape), _channel_sums(grad, False) if bias else None

    def workspace(self) -> int:
        """Return the private bytes of each thread in the forward pass."""
        return int(self._product.transposed_workspace())


def _row(x: Array) -> Array:
    """Return all but the first axis as channels of single pixels."""
    return x.reshape(len(x), math.prod(x.shape[1:]), 1, 1)


def one_pixel(geometry: ConvTransposeGeometry) -> bool:
    """Whether an output is a sum of kernels, which the channels of a single pixel scale."""
    return (
        geometry.batch > 0
        and math.prod(geometry.input) == 1
        and geometry.output == geometry.kernel
        and all(pair == (0, 0) for pair in geometry.padding)
        and geometry.groups == 1
        and geometry.padding_mode == "zeros"
    )


def _channel_sums(x: Array, channels_last: bool) -> Array:
    """Return the sum over images and pixels of each channel: rows or planes in ``x``'s own type, these in float64."""
    if channels_last:
        # NumPy adds up columns one by one: rounding errors would grow along a very long row.
        rows = np.moveaxis(x, 1, -1).sum(-2, np.float64 if x.shape[-1] > LONG_ROW else None)
        sums: Array = rows.sum(tuple(range(rows.ndim - 1)), np.float64)
    else:
        sums = x.reshape(*x.shape[:2], math.prod(x.shape[2:])).sum(-1).sum(0, np.float64)
    total: Array = sums.astype(x.dtype)
    return total
