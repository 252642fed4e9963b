"""Convolution by Winograd's algorithm; the weight gradient goes by direct summation."""

from __future__ import annotations

from typing import Any

from .. import _plan, _settings, kernels
from ..kernels._workspace import array as pool_array
from ._arrays import Array, empty
from ._conv_direct import Direct


class Winograd(Direct):
    """One convolution of stride 1 by Winograd's algorithm."""

    m = 4

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            images, arguments = _plan.winograd(self.geometry, self._target, self.channels_last, self.m)
            kernel = kernels.load("winograd").Winograd(rectified=rectified, **arguments)
            found = self._forward[rectified] = (images, kernel)
        return found

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        if self._backward is None:
            images, arguments = _plan.winograd(self.geometry, self._target, self.channels_last, self.m, gradient=True)
            kernel = kernels.load("winograd").Winograd(rectified=False, **arguments)
            self._backward = (images, kernel)
        images, kernel = self._backward
        packed = pool_array(kernel.packed_size, self.dtype.char)
        kernel.pack(weight, packed, _settings.threads_for(16 * packed.size))
        dx = empty(self.geometry.input_shape, self.dtype, self.channels_last)
        kernel.run(dx, grad, packed, None, images, _settings.threads_for(self._work))
        return dx


class WinogradF2(Winograd):
    """F(2 x 2, 3 x 3): as accurate as direct summation. F(2 x 2, 5 x 5) for kernels of five taps."""

    name = "winograd_f2"
    m = 2


class WinogradF4(Winograd):
    """F(4 x 4, 3 x 3): four times fewer multiplications, and a few times the error."""

    name = "winograd_f4"
    m = 4
