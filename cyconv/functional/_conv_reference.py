"""Convolution by the NumPy reference, for those who want to see the textbook run."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from .. import reference
from .._geometry import ConvGeometry
from .._transposed_geometry import ConvTransposeGeometry, transposed_size
from ._arrays import Array, in_order


class Reference:
    """One convolution by :mod:`cyconv.reference`."""

    name = "reference"

    def __init__(self, geometry: ConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> None:
        self.geometry = geometry
        self.channels_last = channels_last
        self._forward = getattr(reference, f"conv{geometry.rank}d")
        self._backward = getattr(reference, f"conv{geometry.rank}d_backward")
        self._transposed = getattr(reference, f"conv_transpose{geometry.rank}d")
        self._how = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
        low, high = zip(*geometry.padding, strict=True)
        least = map(transposed_size, geometry.output, geometry.kernel, geometry.stride, low, high, geometry.dilation)
        more = tuple(map(operator.sub, geometry.input, least))
        self._back = (geometry.stride, geometry.padding, more, geometry.groups, geometry.dilation)
        # A transposed convolution may have rows behind those that it reaches, where more windows would fit.
        self._met = (..., *(slice(size) for size in geometry.output))
        self._mode = "zeros" if geometry.edges is None else geometry.padding_mode

    def pack(self, weight: Array) -> Array:
        """Return ``weight`` itself."""
        return weight

    def forward(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the output."""
        y = self._forward(x, weight, bias, *self._how, self._mode)[self._met]
        return in_order(reference.relu(y) if rectified else y, self.channels_last)

    pack_transposed = pack

    def transposed(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the transposed convolution of ``x``."""
        y = self._transposed(x, weight, bias, *self._back)
        return in_order(reference.relu(y) if rectified else y, self.channels_last)

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        if self._mode == "zeros":
            return self.transposed(grad, weight, None)
        x = np.zeros(self.geometry.input_shape, grad.dtype)
        dx: Any = self._backward(grad, x, weight, None, *self._how, self._mode)[0]
        return in_order(dx, self.channels_last)

    def weight_gradient(self, grad: Array, x: Array, bias: bool) -> tuple[Array, Array | None]:
        """Return the gradients of the weight and, if ``bias``, of the bias."""
        weight = np.zeros(self.geometry.weight_shape, x.dtype)
        dw: Any = self._backward(grad, x, weight, None, *self._how, self._mode, input_grad=False)[1]
        return dw, grad.sum((0, *range(2, grad.ndim)), dtype=np.float64).astype(x.dtype) if bias else None

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        return self.name, self.name

    def workspace(self) -> int:
        """Return 0: NumPy's temporaries are not counted."""
        return 0

    transposed_workspace = workspace


class ReferenceTransposed:
    """One transposed convolution by :mod:`cyconv.reference`."""

    name = "reference"

    def __init__(self, geometry: ConvTransposeGeometry, channels_last: bool) -> None:
        self.geometry = geometry
        self.channels_last = channels_last
        self._forward = getattr(reference, f"conv_transpose{geometry.rank}d")
        self._backward = getattr(reference, f"conv_transpose{geometry.rank}d_backward")
        self._how = (
            geometry.stride,
            geometry.padding,
            geometry.output_padding,
            geometry.groups,
            geometry.dilation,
            geometry.padding_mode,
        )

    def pack(self, weight: Array) -> Array:
        """Return ``weight`` itself."""
        return weight

    def forward(
        self, x: Array, weight: Array, bias: Array | None, packed: Array | None = None, rectified: bool = False
    ) -> Array:
        """Return the output."""
        y = self._forward(x, weight, bias, *self._how)
        return in_order(reference.relu(y) if rectified else y, self.channels_last)

    def input_gradient(self, grad: Array, weight: Array) -> Array:
        """Return the gradient of the input."""
        x = np.zeros(self.geometry.input_shape, grad.dtype)
        return in_order(self._backward(grad, x, weight, None, *self._how)[0], self.channels_last)

    def weight_gradient(self, grad: Array, x: Array, bias: bool) -> tuple[Array, Array | None]:
        """Return the gradients of the weight and, if ``bias``, of the bias."""
        weight = np.zeros(self.geometry.weight_shape, x.dtype)
        db = np.zeros(self.geometry.out_channels, x.dtype) if bias else None
        _, dw, *rest = self._backward(grad, x, weight, db, *self._how, input_grad=False)
        return dw, rest[0] if bias else None

    def gradient_names(self) -> tuple[str, str]:
        """Return the names of the algorithms of the gradients of input and weight."""
        return self.name, self.name

    def workspace(self) -> int:
        """Return 0: NumPy's temporaries are not counted."""
        return 0
