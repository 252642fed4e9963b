"""Convolution by a matrix of columns and BLAS: the method that everybody knows, and the yardstick."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _plan, _settings
from .._geometry import ConvGeometry
from ._arrays import Array, empty
from ._conv_direct import made
from ._conv_edges import PaddingGradient


class Im2col:
    """One convolution by im2col and GEMM; columns are made for as many output pixels as the workspace limit allows."""

    name = "im2col"
    mirrored = False

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> None:
        self.geometry = geometry
        self.dtype = dtype
        self.channels_last = channels_last
        self._work = 2 * geometry.macs
        volume = _plan.volume(geometry)
        columns = made(
            geometry,
            "im2col",
            "Columns",
            dtype=dtype.char,
            source=(geometry.in_channels, *volume.input[1:]),
            out=(geometry.out_channels, *volume.output[1:]),
            kernel=volume.kernel[1:],
            stride=volume.stride[1:],
            padding=volume.padding[1:],
            dilation=volume.dilation[1:],
            groups=geometry.groups,
            channels_last=channels_last,
            edges=_plan.edges_of_volume(geometry.edges),
            workspace=_settings.max_workspace(),
        )
        self._ahead, self._back, self._weights = columns.walks()
        self._padding = PaddingGradient(geometry, lambda part: Im2col(part, dtype, channels_last), channels_last)

    def forward_walk(self) -> tuple[int, Any]:
        """Return (images, kernel) of the forward pass."""
        return self.geometry.batch, self._ahead

    def transposed_walk(self) -> tuple[int, Any]:
        """Return (images, kernel) of the input gradient."""
        return self.geometry.batch, self._back

    def weight_walk(self) -> tuple[int, Any]:
        """Return (images, kernel) of the gradients of weight and bias."""
        return self.geometry.batch, self._weights

    def pack(self, weight: Array) -> Array:
        """Return ``weight`` itself: BLAS packs on its own."""
        return weight

    def forward(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the output, through a ReLU if ``rectified``."""
        y = empty(self.geometry.output_shape, self.dtype, self.channels_last)
        self._ahead.run(y, x, weight, bias, self.geometry.batch, _settings.threads_for(self._work))
        return np.maximum(y, 0, out=y) if rectified else y

    pack_transposed = pack

    def transposed(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the transposed convolution of ``x``, through a ReLU if ``rectified``."""
        y = empty(self.geometry.input_shape, self.dtype, self.channels_last)
        self._back.run(y, x, weight, None, self.geometry.batch, _settings.threads_for(self._work))
        if bias is not None:
            y += bias.reshape(-1, *[1] * self.geometry.rank)
        return np.maximum(y, 0, out=y) if rectified else y

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        dx = self.transposed(grad, weight, None)
        self._padding.add_to(dx, grad, weight)
        return dx

    def weight_gradient(self, grad: Array, x: Array, bias: bool) -> tuple[Array, Array | None]:
        """Return the gradients of the weight and, if ``bias``, of the bias."""
        dw = np.empty(self.geometry.weight_shape, self.dtype)
        db = np.empty(self.geometry.out_channels, self.dtype) if bias else None
        self._weights.run(dw, db, grad, x, self.geometry.batch, _settings.threads_for(self._work))
        return dw, db

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        return self.name, self.name

    def workspace(self) -> int:
        """Return the private bytes of each thread."""
        return int(self._ahead.thread_bytes)

    transposed_workspace = workspace
