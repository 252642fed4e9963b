"""Convolution by the walks of the register tile."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _plan, _settings, kernels
from .._geometry import ConvGeometry
from ..kernels._workspace import array as pool_array
from ._arrays import Array, empty
from ._conv_edges import PaddingGradient


def made(geometry: ConvGeometry, module: str, kernel: str, /, **arguments: Any) -> Any:
    """Return a kernel of this name for a convolution.

    Raises
    ------
    MemoryError
        Windows lie so far apart, or their taps, that offsets between them do not fit into its tables.
    """
    try:
        return getattr(kernels.load(module), kernel)(**arguments)
    except OverflowError:
        how = f"stride {geometry.asked}, padding {geometry.padding}, dilation {geometry.dilation}"
        raise MemoryError(
            f"{geometry.operation}: the tables of a kernel do not hold the way from tap to tap and from window to "
            f"window in the padded input ({how})"
        ) from None


class Direct:
    """One convolution by direct summation: geometry, dtype and memory order fixed, kernels set up when first needed."""

    name = "direct"
    #: What bringing one weight into the order of the input gradient costs, in floating-point operations.
    _pack_work = 8
    #: Whether the input gradient takes the taps of every kernel in reverse order.
    mirrored = False

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> None:
        self.geometry = geometry
        self.dtype = dtype
        self.channels_last = channels_last
        kernel = kernels.load("direct")
        self._target = _plan.Target(
            dtype.char,
            kernel.LANES[dtype.char],
            kernel.TILE_PIXELS,
            kernel.MOST_PIXEL_CHANNELS,
            kernel.MOST_PAIR_CHANNELS,
        )
        self._work = 2 * geometry.macs
        self._forward: dict[bool, tuple[int, Any]] = {}
        self._transposed: dict[bool, tuple[int, Any]] = {}
        self._weights: tuple[int, Any] | None = None
        self._padding = PaddingGradient(geometry, lambda part: Direct(part, dtype, channels_last), channels_last)

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, walk) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            images, arguments = _plan.forward(self.geometry, self._target, self.channels_last)
            walk = made(self.geometry, "direct", "Walk", rectified=rectified, **arguments)
            found = self._forward[rectified] = (images, walk)
        return found

    def pack(self, weight: Array) -> Array:
        """Return ``weight`` in the order in which the forward pass streams it."""
        _, walk = self.forward_walk()
        packed = pool_array(walk.packed_size, self.dtype.char)
        walk.pack(weight, packed, _settings.threads_for(4 * packed.size))
        return packed

    def forward(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the output, through a ReLU if ``rectified``; ``packed``: what ``pack`` returned for ``weight``."""
        images, walk = self._forward.get(rectified) or self.forward_walk(rectified)
        y = empty(self.geometry.output_shape, self.dtype, self.channels_last)
        if packed is None:
            packed = self.pack(weight)
        walk.run(y, x, packed, bias, images, _settings.threads_for(self._work))
        return y

    def transposed_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, walk) of the input gradient, which is the transposed convolution."""
        found = self._transposed.get(rectified)
        if found is None:
            images, arguments = _plan.input_gradient(self.geometry, self._target, self.channels_last)
            walk = made(self.geometry, "direct", "Walk", rectified=rectified, **arguments)
            found = self._transposed[rectified] = (images, walk)
        return found

    def pack_transposed(self, weight: Array) -> Array:
        """Return ``weight`` in the order in which the input gradient streams it."""
        _, walk = self.transposed_walk()
        packed = pool_array(walk.packed_size, self.dtype.char)
        walk.pack(weight, packed, _settings.threads_for(self._pack_work * packed.size))
        return packed

    def transposed(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the transposed convolution of ``x``; ``packed``: what ``pack_transposed`` returned for ``weight``."""
        images, walk = self.transposed_walk(rectified)
        y = empty(self.geometry.input_shape, self.dtype, self.channels_last)
        if packed is None:
            packed = self.pack_transposed(weight)
        walk.run(y, x, packed, bias, images, _settings.threads_for(self._work))
        return y

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        dx = self.transposed(grad, weight, None)
        self._padding.add_to(dx, grad, weight)
        return dx

    def weight_walk(self) -> tuple[int, Any]:
        """Return (images, kernel) of the gradients of weight and bias."""
        if self._weights is None:
            images, arguments = _plan.weight_gradient(self.geometry, self._target, self.channels_last)
            self._weights = (images, made(self.geometry, "weight_gradient", "WeightGradient", **arguments))
        return self._weights

    def weight_gradient(self, grad: Array, x: Array, bias: bool) -> tuple[Array, Array | None]:
        """Return the gradients of the weight and, if ``bias``, of the bias."""
        images, kernel = self.weight_walk()
        dw = np.empty(self.geometry.weight_shape, self.dtype)
        db = np.empty(self.geometry.out_channels, self.dtype) if bias else None
        kernel.run(dw, db, grad, x, images, _settings.threads_for(self._work))
        return dw, db

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        return self.name, self.name

    def workspace(self) -> int:
        """Return the private bytes of each thread in the forward pass."""
        return int(self.forward_walk()[1].thread_bytes)

    def transposed_workspace(self) -> int:
        """Return the private bytes of each thread in the transposed convolution."""
        return int(self.transposed_walk()[1].thread_bytes)
