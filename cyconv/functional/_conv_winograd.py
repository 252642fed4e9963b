"""Convolution by Winograd's algorithm; the weight gradient where that is faster than direct summation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _plan, _settings
from .._geometry import ConvGeometry
from ._conv_direct import Direct, made


class TiledGradient(Direct):
    """One convolution by direct summation; its gradients by Winograd's algorithm where that is faster."""

    gradient_m = 4  #: edge of the output tiles of the weight gradient at most
    fixed = False  #: whether the input gradient goes as the forward pass, if it can

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> None:
        super().__init__(geometry, dtype, channels_last)
        self._gradient: tuple[int, Any] | None = None
        self._gradient_known = False
        self._input_m = self._weight_m = 0  # edges of the tiles of the gradients
        self._planes = False  # whether the weight gradient goes by the depthwise walks

    def transposed_tile(self) -> int:
        """Return the edge of the tiles of the input gradient; 0: by direct summation."""
        return _plan.input_gradient_tile(self.geometry, self._target.lanes, self._target.itemsize)

    def transposed_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the input gradient, which is the transposed convolution."""
        found = self._transposed.get(rectified)
        if found is None:
            m = self.transposed_tile()
            if m == 0:
                return super().transposed_walk(rectified)
            images, arguments = _plan.winograd(self.geometry, self._target, self.channels_last, m, gradient=True)
            kernel = made(self.geometry, "winograd", "Winograd", rectified=rectified, **arguments)
            if kernel.thread_bytes > _settings.max_workspace() and not self.fixed:
                return super().transposed_walk(rectified)
            self._input_m = m
            found = self._transposed[rectified] = (images, kernel)
        return found

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        self.transposed_walk()
        self.weight_walk()
        of_input, of_weight = (f"winograd_f{m}" if m else Direct.name for m in (self._input_m, self._weight_m))
        return of_input, "depthwise" if self._planes else of_weight

    def gradient_walk(self) -> tuple[int, Any] | None:
        """Return (images, kernel) of the weight gradient; None where direct summation is faster, or takes less memory
        than is allowed."""
        if not self._gradient_known:
            target = self._target
            m = _plan.weight_gradient_tile(self.geometry, target.lanes, target.itemsize, self.gradient_m)
            if m:
                images, arguments = _plan.winograd_gradient(self.geometry, target, self.channels_last, m)
                kernel = made(self.geometry, "winograd_gradient", "WinogradGradient", **arguments)
                if kernel.shared_bytes + kernel.thread_bytes <= _settings.max_workspace():
                    self._gradient, self._weight_m = (images, kernel), m
            self._gradient_known = True
        return self._gradient

    def weight_walk(self) -> tuple[int, Any]:
        """Return (images, kernel) of the gradients of weight and bias."""
        if self._weights is None and not self.fixed and self._over_planes():
            arguments = _plan.depthwise_weight_gradient(self.geometry, self._target, False)
            kernel = made(self.geometry, "depthwise_gradient", "DepthwiseGradient", **arguments)
            if kernel.thread_bytes <= _settings.max_workspace():
                self._weights, self._planes = (self.geometry.batch, kernel), True
        return (self._weights if self._planes else self.gradient_walk()) or super().weight_walk()

    def _over_planes(self) -> bool:
        return _plan.planes_gradient(self.geometry, self._target, self.channels_last)


class Winograd(TiledGradient):
    """One convolution of stride 1 or 2 by Winograd's algorithm."""

    m = 4
    fixed = True
    _pack_work = 16

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            images, arguments = _plan.winograd(self.geometry, self._target, self.channels_last, self.m)
            kernel = made(self.geometry, "winograd", "Winograd", rectified=rectified, **arguments)
            found = self._forward[rectified] = (images, kernel)
        return found

    def transposed_tile(self) -> int:
        """Return the edge of the tiles of the input gradient; 0: by direct summation."""
        if not self.fixed:
            return super().transposed_tile()
        return 0 if _plan.winograd_input_gradient_obstacle(self.geometry, self.m) else self.m


class WinogradF2(Winograd):
    """F(2 x 2, 3 x 3): accurate as direct summation. F(2 x 2, 5 x 5) for kernels of five taps, F(2, 2) at stride 2."""

    name = "winograd_f2"
    m = 2
    gradient_m = 2


class WinogradF2Auto(WinogradF2):
    """The same where nobody asked for its accuracy: the gradients may go by F(4 x 4, 3 x 3)."""

    gradient_m = 4
    fixed = False


class WinogradF4(Winograd):
    """F(4 x 4, 3 x 3): four times fewer multiplications, and a few times the error. F(4, 2) at stride 2."""

    name = "winograd_f4"
    m = 4


class WinogradF4Auto(WinogradF4):
    """The same where nobody asked for it: the gradients go by what is fastest."""

    fixed = False
