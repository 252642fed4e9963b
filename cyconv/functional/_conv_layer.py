"""The convolution of one layer: what it remembers between calls, and packed weights kept in eval mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _settings
from .._geometry import check_gradient, conv_geometry
from .._transposed_geometry import AnyConvGeometry
from ._arrays import Array, array, in_order, ordered, same_dtype
from ._conv import _dense, choice, engine


class ConvLayer:
    """The convolution of one layer: arguments checked once, engines found by the shape of the input.

    Parameters
    ----------
    operation : str
        What messages name.
    rank : int
        Number of spatial dimensions.
    stride, padding, dilation, groups, padding_mode, algorithm
        As in :func:`conv2d`.
    """

    __slots__ = ("_arguments", "_frozen", "_known", "_operation", "_rank", "_seen")

    def __init__(
        self,
        operation: str,
        rank: int,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        padding_mode: str,
        algorithm: str,
    ) -> None:
        self._set(operation, rank, (stride, padding, dilation, groups, padding_mode, algorithm))

    def _set(self, operation: str, rank: int, arguments: tuple[Any, ...]) -> None:
        self._operation = operation
        self._rank = rank
        self._arguments = arguments
        self._known: dict[Any, Any] = {}
        # The weight and the bias that the last check found to be as kernels read them.
        self._seen: tuple[Any, Any] = (None, None)
        self._frozen: tuple[Any, Any, Any] = (None, None, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies find their engines themselves.
        return type(self), (self._operation, self._rank, *self._arguments)

    def geometry(
        self, input_shape: tuple[int, ...], weight_shape: tuple[int, ...], bias_shape: tuple[int, ...] | None
    ) -> AnyConvGeometry:
        """Return the sizes for an input of a shape; errors as :func:`conv2d`."""
        return conv_geometry(self._operation, self._rank, input_shape, weight_shape, bias_shape, *self._arguments[:-1])

    def choice(self, geometry: AnyConvGeometry, dtype: np.dtype[Any], channels_last: bool) -> tuple[str, str]:
        """Return the name of the algorithm that will run in eval mode, and why."""
        return choice(geometry, dtype, channels_last, self._arguments[-1], fresh=False)

    def _prepare(
        self, input: Any, weight: Array, bias: Array | None, fresh: bool, more: tuple[Any, ...]
    ) -> tuple[Array, Any, Array, Array | None]:
        """Return (batched input in a memory order that kernels read, engine, weight and bias as kernels read them)."""
        x, seen = input, self._seen
        usual = type(x) is np.ndarray and x.flags.c_contiguous
        if usual and weight is seen[0] and bias is seen[1]:
            # A C-contiguous array of a shape seen before: a dictionary finds its engine.
            work = self._known.get((x.shape, x.dtype, weight.shape, weight.dtype, fresh, more, _settings.epoch()))
            if work is not None and x.flags.aligned:
                return x, work, weight, bias
        x, w = array(x, self._operation, "input"), array(weight, self._operation, "weight")
        b = None if bias is None else array(bias, self._operation, "bias")
        same_dtype(self._operation, input=x, weight=w, bias=b)
        geometry = self.geometry(x.shape, w.shape, None if b is None else b.shape, *more)
        ready, last = ordered(x if geometry.batched else x[None])
        work = engine(geometry, x.dtype, last, self._arguments[-1], fresh)
        w, b = _dense(w, b)
        if w is weight and b is bias:
            self._seen = (w, b)
        if usual:
            if len(self._known) >= 64:
                self._known.clear()
            self._known[x.shape, x.dtype, w.shape, w.dtype, fresh, more, _settings.epoch()] = work
        return ready, work, w, b

    def forward(
        self,
        input: Any,
        weight: Array,
        bias: Array | None,
        frozen: bool = False,
        rectified: bool = False,
        more: tuple[Any, ...] = (),
    ) -> Array:
        """
        Return the output of the layer.

        Parameters
        ----------
        input : array
            Images.
        weight, bias : ndarray, ndarray or None
            Arrays of one dtype; what is not C-contiguous is copied in each call.
        frozen : bool
            Keep the packed form of the weight for the next call, and make the array read-only, so that the kept form
            cannot be out of date; ``thaw`` ends that. Of a view of other memory, which may be written there, it is not
            kept.
        rectified : bool
            Apply a ReLU to the output.
        more : tuple
            Further arguments of ``geometry``.
        """
        x, work, w, b = self._prepare(input, weight, bias, not frozen, more)
        packed = None
        if frozen:
            for_weight, for_work, packed = self._frozen
            # Somebody who made the array writable may have written into it.
            if for_weight is not w or for_work is not work or w.flags.writeable:
                packed = work.pack(w)
                self._freeze(w, work, packed, w is weight)
        y: Array = work.forward(x, w, b, packed, rectified)
        return y if work.geometry.batched else y[0]

    def _freeze(self, weight: Array, work: Any, packed: Any, own: bool) -> None:
        """Keep a packed weight, and make the array read-only, where that is possible; ``own``: it is the layer's own
        array, no copy."""
        if self._frozen[0] is weight:
            # No thawing: another thread may be here, too, and this one would thaw what that has just frozen.
            weight.flags.writeable = False
            self._frozen = (weight, work, packed)
            return
        self.thaw()
        if own and weight.flags.writeable and weight.flags.owndata:
            weight.flags.writeable = False
            self._frozen = (weight, work, packed)

    def backward(
        self,
        grad_output: Any,
        input: Any,
        weight: Array,
        bias: Array | None,
        input_grad: bool,
        more: tuple[Any, ...] = (),
    ) -> tuple[Array | None, Array, Array | None]:
        """Return the gradients of input (None unless ``input_grad``), weight and bias (None if there is none)."""
        x, work, weight, bias = self._prepare(input, weight, bias, True, more)
        geometry = work.geometry
        grad = array(grad_output, self._operation, "grad_output")
        check_gradient(self._operation, grad.shape, geometry.output_shape[0 if geometry.batched else 1 :])
        if grad.dtype is not x.dtype:
            same_dtype(self._operation, grad_output=grad, input=x)
        grad = in_order(grad if geometry.batched else grad[None], work.channels_last)
        dx = None
        if input_grad:
            dx = work.input_gradient(grad, weight)
            dx = dx if geometry.batched else dx[0]
        return (
            dx,
            *work.weight_gradient(grad, x if geometry.batched else x.reshape(geometry.input_shape), bias is not None),
        )

    def thaw(self) -> bool:
        """Forget the packed weight, and make the array writable again; False where NumPy refuses that.

        It does so for arrays that lie in the memory of another object, such as those that come out of a pickle.
        """
        weight = self._frozen[0]
        self._frozen = (None, None, None)
        if weight is not None:
            try:
                weight.flags.writeable = True
            except ValueError:
                return False
        return True
