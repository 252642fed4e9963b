"""Padding layers."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv._padding_geometry import check_pad_layer, check_pad_mode
from cyconv.nn._ranks import for_rank
from cyconv.nn.module import Module, Pending


class _Pad(Module):
    """What the padding layers have in common: the last ``_rank`` dimensions are padded, in ``_mode``."""

    _rank: int
    _mode: str
    _value: float = 0.0

    def __init__(self, padding: Any) -> None:
        self.padding = check_pad_layer(type(self).__name__, padding, self._rank)

    def forward(self, input: Any) -> Any:
        """Return the padded input, with its axes in the same order in memory."""
        output = F.pad(input, self.padding, self._mode, self._value)
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return F.pad_backward(grad_output, self._saved, self.padding, self._mode, self._value)[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    _mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        _, self._value = check_pad_mode(type(self).__name__, self._mode, value)

    @property
    def value(self) -> float:
        """What the padding holds."""
        return self._value

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"padding={self.padding}, value={self.value}"


_ZERO_PAD = """
    Pad {things} with zeros.

    Parameters
    ----------
    padding : int or {sides} ints
        The same width on all sides, or {names}. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not {sides} of them.

    Notes
    -----
    Input {input}, float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ZeroPad{rank}d
    >>> ZeroPad{rank}d({widths})(np.arange(3.0).reshape({row})).ravel().tolist()
    [0.0, 0.0, 0.0, 1.0, 2.0, 0.0]
    """


class ZeroPad1d(_Pad):
    __doc__ = for_rank(1, _ZERO_PAD)

    _rank = 1
    _mode = "constant"


class ZeroPad2d(_Pad):
    __doc__ = for_rank(2, _ZERO_PAD)

    _rank = 2
    _mode = "constant"


class ZeroPad3d(_Pad):
    __doc__ = for_rank(3, _ZERO_PAD)

    _rank = 3
    _mode = "constant"


_CONSTANT_PAD = """
    Pad {things} with a value.

    Parameters
    ----------
    padding : int or {sides} ints
        The same width on all sides, or {names}. A negative width takes off.
    value : float
        What the padding holds.

    Raises
    ------
    TypeError
        If a width is no integer or the value no number.
    ValueError
        If there are not {sides} of them.

    Notes
    -----
    Input {input}, float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ConstantPad{rank}d
    >>> ConstantPad{rank}d({widths}, 7.0)(np.arange(3.0).reshape({row})).ravel().tolist()
    [7.0, 7.0, 0.0, 1.0, 2.0, 7.0]
    """


class ConstantPad1d(_ConstantPad):
    __doc__ = for_rank(1, _CONSTANT_PAD)

    _rank = 1


class ConstantPad2d(_ConstantPad):
    __doc__ = for_rank(2, _CONSTANT_PAD)

    _rank = 2


class ConstantPad3d(_ConstantPad):
    __doc__ = for_rank(3, _CONSTANT_PAD)

    _rank = 3


_REFLECTION_PAD = """
    Pad {things} with the pixels mirrored at their edge, which is not repeated.

    Parameters
    ----------
    padding : int or {sides} ints
        The same width on all sides, or {names}; fewer than
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not {sides} of them.

    Notes
    -----
    Input {input}, float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReflectionPad{rank}d
    >>> ReflectionPad{rank}d({widths})(np.arange(3.0).reshape({row})).ravel().tolist()
    [2.0, 1.0, 0.0, 1.0, 2.0, 1.0]
    """


class ReflectionPad1d(_Pad):
    __doc__ = for_rank(1, _REFLECTION_PAD)

    _rank = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    __doc__ = for_rank(2, _REFLECTION_PAD)

    _rank = 2
    _mode = "reflect"


class ReflectionPad3d(_Pad):
    __doc__ = for_rank(3, _REFLECTION_PAD)

    _rank = 3
    _mode = "reflect"


_REPLICATION_PAD = """
    Pad {things} with the pixel at the edge.

    Parameters
    ----------
    padding : int or {sides} ints
        The same width on all sides, or {names}. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not {sides} of them.

    Notes
    -----
    Input {input}, float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReplicationPad{rank}d
    >>> ReplicationPad{rank}d({widths})(np.arange(3.0).reshape({row})).ravel().tolist()
    [0.0, 0.0, 0.0, 1.0, 2.0, 2.0]
    """


class ReplicationPad1d(_Pad):
    __doc__ = for_rank(1, _REPLICATION_PAD)

    _rank = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    __doc__ = for_rank(2, _REPLICATION_PAD)

    _rank = 2
    _mode = "replicate"


class ReplicationPad3d(_Pad):
    __doc__ = for_rank(3, _REPLICATION_PAD)

    _rank = 3
    _mode = "replicate"


_CIRCULAR_PAD = """
    Pad {things} with the pixels at the other end.

    Parameters
    ----------
    padding : int or {sides} ints
        The same width on all sides, or {names}; at most as many as
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not {sides} of them.

    Notes
    -----
    Input {input}, float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import CircularPad{rank}d
    >>> CircularPad{rank}d({widths})(np.arange(3.0).reshape({row})).ravel().tolist()
    [1.0, 2.0, 0.0, 1.0, 2.0, 0.0]
    """


class CircularPad1d(_Pad):
    __doc__ = for_rank(1, _CIRCULAR_PAD)

    _rank = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    __doc__ = for_rank(2, _CIRCULAR_PAD)

    _rank = 2
    _mode = "circular"


class CircularPad3d(_Pad):
    __doc__ = for_rank(3, _CIRCULAR_PAD)

    _rank = 3
    _mode = "circular"
