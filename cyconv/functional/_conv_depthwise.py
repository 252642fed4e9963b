"""Depthwise convolution by its own walks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _plan, _settings
from .._geometry import ConvGeometry
from ._arrays import Array
from ._conv_direct import Direct, made
from ._conv_edges import PaddingGradient


class Depthwise(Direct):
    """One depthwise convolution."""

    name = "depthwise"

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> None:
        super().__init__(geometry, dtype, channels_last)
        # An input gradient that adds up several channels goes by direct summation.
        self._own = geometry.out_channels == geometry.groups and not _plan.spread_obstacle(geometry, channels_last)
        self._padding = PaddingGradient(geometry, self._part, channels_last, not channels_last)
        # That of stride 1 is a depthwise convolution, too.
        self.mirrored = self._own and not _plan.mirrored_obstacle(geometry)

    def _part(self, geometry: ConvGeometry) -> Direct:
        """Return what computes the input gradient at a part of the padding."""
        if self._own and not _plan.depthwise_obstacle(geometry, self.channels_last):
            return Depthwise(geometry, self.dtype, self.channels_last)
        return Direct(geometry, self.dtype, self.channels_last)

    def _walk(self, rectified: bool, gradient: bool) -> tuple[int, Any]:
        arguments = _plan.depthwise(self.geometry, self._target, self.channels_last, gradient=gradient)
        kernel = made(self.geometry, "depthwise", "Depthwise", rectified=rectified, **arguments)
        if kernel.thread_bytes > _settings.max_workspace():
            # Planes one by one need none.
            kernel = made(
                self.geometry, "depthwise", "Depthwise", rectified=rectified, **{**arguments, "block_rows": 0}
            )
        return self.geometry.batch, kernel

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            found = self._forward[rectified] = self._walk(rectified, False)
        return found

    def transposed_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the input gradient, which is the transposed convolution."""
        if not self._own:
            return super().transposed_walk(rectified)
        found = self._transposed.get(rectified)
        if found is None:
            found = self._transposed[rectified] = self._walk(rectified, True)
        return found

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        return self.name if self._own else Direct.name, self.name

    def pack_transposed(self, weight: Array) -> Array:
        """Return ``weight`` in the order in which the input gradient streams it."""
        return super().pack_transposed(np.ascontiguousarray(weight[..., ::-1, ::-1]) if self.mirrored else weight)

    def weight_walk(self) -> tuple[int, Any]:
        """Return (images, kernel) of the gradients of weight and bias."""
        if self._weights is None:
            arguments = _plan.depthwise_weight_gradient(self.geometry, self._target, self.channels_last)
            kernel = made(self.geometry, "depthwise_gradient", "DepthwiseGradient", **arguments)
            self._weights = (self.geometry.batch, kernel)
        return self._weights
