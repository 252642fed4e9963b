"""Convolution by Winograd's algorithm; the weight gradient goes by direct summation."""

from __future__ import annotations

from typing import Any

from .. import _plan, kernels
from ._conv_direct import Direct


class Winograd(Direct):
    """One convolution of stride 1 by Winograd's algorithm."""

    m = 4
    _pack_work = 16

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            images, arguments = _plan.winograd(self.geometry, self._target, self.channels_last, self.m)
            kernel = kernels.load("winograd").Winograd(rectified=rectified, **arguments)
            found = self._forward[rectified] = (images, kernel)
        return found

    def transposed_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the input gradient, which is the transposed convolution."""
        found = self._transposed.get(rectified)
        if found is None:
            images, arguments = _plan.winograd(self.geometry, self._target, self.channels_last, self.m, gradient=True)
            kernel = kernels.load("winograd").Winograd(rectified=rectified, **arguments)
            found = self._transposed[rectified] = (images, kernel)
        return found


class WinogradF2(Winograd):
    """F(2 x 2, 3 x 3): as accurate as direct summation. F(2 x 2, 5 x 5) for kernels of five taps."""

    name = "winograd_f2"
    m = 2


class WinogradF4(Winograd):
    """F(4 x 4, 3 x 3): four times fewer multiplications, and a few times the error."""

    name = "winograd_f4"
    m = 4
