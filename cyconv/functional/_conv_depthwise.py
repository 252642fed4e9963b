"""Depthwise convolution by its own walks; the gradients go by direct summation."""

from __future__ import annotations

from typing import Any

from .. import _plan, kernels
from ._conv_direct import Direct


class Depthwise(Direct):
    """One depthwise convolution."""

    name = "depthwise"

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            arguments = _plan.depthwise(self.geometry, self._target, self.channels_last)
            kernel = kernels.load("depthwise").Depthwise(rectified=rectified, **arguments)
            found = self._forward[rectified] = (self.geometry.batch, kernel)
        return found
