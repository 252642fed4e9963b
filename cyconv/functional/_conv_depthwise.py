"""Depthwise convolution by its own walks; the gradients go by direct summation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _plan, kernels
from .._geometry import ConvGeometry
from ._conv_direct import Direct


class Depthwise(Direct):
    """One depthwise convolution."""

    name = "depthwise"

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> None:
        obstacle = _plan.depthwise_obstacle(geometry, channels_last)
        if obstacle:
            raise ValueError(f"{geometry.operation}: algorithm 'depthwise' does not fit: {obstacle}")
        super().__init__(geometry, dtype, channels_last)

    def forward_walk(self, rectified: bool = False) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        found = self._forward.get(rectified)
        if found is None:
            arguments = _plan.depthwise(self.geometry, self._target, self.channels_last)
            kernel = kernels.load("depthwise").Depthwise(rectified=rectified, **arguments)
            found = self._forward[rectified] = (self.geometry.batch, kernel)
        return found
