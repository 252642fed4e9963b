"""Padding layers."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv._padding_geometry import check_pad_layer, check_pad_mode
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


class ZeroPad1d(_Pad):
    """
    Pad signals with zeros.

    Parameters
    ----------
    padding : int or 2 ints
        The same width on all sides, or (left, right). A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 2 of them.

    Notes
    -----
    Input (N, C, L) or (C, L), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ZeroPad1d
    >>> ZeroPad1d(1)(np.ones((1, 3, 8))).shape
    (1, 3, 10)
    """

    _rank = 1
    _mode = "constant"


class ZeroPad2d(_Pad):
    """
    Pad images with zeros.

    Parameters
    ----------
    padding : int or 4 ints
        The same width on all sides, or (left, right, top, bottom). A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 4 of them.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import ZeroPad2d
    >>> ZeroPad2d((1, 0, 0, 1))(np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].tolist()
    [[0.0, 1.0, 2.0], [0.0, 3.0, 4.0], [0.0, 0.0, 0.0]]
    """

    _rank = 2
    _mode = "constant"


class ZeroPad3d(_Pad):
    """
    Pad volumes with zeros.

    Parameters
    ----------
    padding : int or 6 ints
        The same width on all sides, or (left, right, top, bottom, front, back). A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 6 of them.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ZeroPad3d
    >>> ZeroPad3d(1)(np.ones((1, 3, 4, 8, 8))).shape
    (1, 3, 6, 10, 10)
    """

    _rank = 3
    _mode = "constant"


class ConstantPad1d(_ConstantPad):
    """
    Pad signals with a value.

    Parameters
    ----------
    padding : int or 2 ints
        The same width on all sides, or (left, right). A negative width takes off.
    value : float
        What the padding holds.

    Raises
    ------
    TypeError
        If a width is no integer or the value no number.
    ValueError
        If there are not 2 of them.

    Notes
    -----
    Input (N, C, L) or (C, L), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ConstantPad1d
    >>> ConstantPad1d(1, 9.0)(np.ones((1, 3, 8))).shape
    (1, 3, 10)
    """

    _rank = 1


class ConstantPad2d(_ConstantPad):
    """
    Pad images with a value.

    Parameters
    ----------
    padding : int or 4 ints
        The same width on all sides, or (left, right, top, bottom). A negative width takes off.
    value : float
        What the padding holds.

    Raises
    ------
    TypeError
        If a width is no integer or the value no number.
    ValueError
        If there are not 4 of them.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import ConstantPad2d
    >>> ConstantPad2d((1, 0, 0, 1), 7.0)(np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].tolist()
    [[7.0, 1.0, 2.0], [7.0, 3.0, 4.0], [7.0, 7.0, 7.0]]
    """

    _rank = 2


class ConstantPad3d(_ConstantPad):
    """
    Pad volumes with a value.

    Parameters
    ----------
    padding : int or 6 ints
        The same width on all sides, or (left, right, top, bottom, front, back). A negative width takes off.
    value : float
        What the padding holds.

    Raises
    ------
    TypeError
        If a width is no integer or the value no number.
    ValueError
        If there are not 6 of them.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ConstantPad3d
    >>> ConstantPad3d(1, 9.0)(np.ones((1, 3, 4, 8, 8))).shape
    (1, 3, 6, 10, 10)
    """

    _rank = 3


class ReflectionPad1d(_Pad):
    """
    Pad signals with the pixels mirrored at their edge, which is not repeated.

    Parameters
    ----------
    padding : int or 2 ints
        The same width on all sides, or (left, right); fewer than
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 2 of them.

    Notes
    -----
    Input (N, C, L) or (C, L), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReflectionPad1d
    >>> ReflectionPad1d(1)(np.ones((1, 3, 8))).shape
    (1, 3, 10)
    """

    _rank = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    """
    Pad images with the pixels mirrored at their edge, which is not repeated.

    Parameters
    ----------
    padding : int or 4 ints
        The same width on all sides, or (left, right, top, bottom); fewer than
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 4 of them.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import ReflectionPad2d
    >>> ReflectionPad2d((1, 0, 0, 1))(np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].tolist()
    [[2.0, 1.0, 2.0], [4.0, 3.0, 4.0], [2.0, 1.0, 2.0]]
    """

    _rank = 2
    _mode = "reflect"


class ReflectionPad3d(_Pad):
    """
    Pad volumes with the pixels mirrored at their edge, which is not repeated.

    Parameters
    ----------
    padding : int or 6 ints
        The same width on all sides, or (left, right, top, bottom, front, back); fewer than
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 6 of them.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReflectionPad3d
    >>> ReflectionPad3d(1)(np.ones((1, 3, 4, 8, 8))).shape
    (1, 3, 6, 10, 10)
    """

    _rank = 3
    _mode = "reflect"


class ReplicationPad1d(_Pad):
    """
    Pad signals with the pixel at the edge.

    Parameters
    ----------
    padding : int or 2 ints
        The same width on all sides, or (left, right). A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 2 of them.

    Notes
    -----
    Input (N, C, L) or (C, L), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReplicationPad1d
    >>> ReplicationPad1d(1)(np.ones((1, 3, 8))).shape
    (1, 3, 10)
    """

    _rank = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    """
    Pad images with the pixel at the edge.

    Parameters
    ----------
    padding : int or 4 ints
        The same width on all sides, or (left, right, top, bottom). A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 4 of them.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import ReplicationPad2d
    >>> ReplicationPad2d((1, 0, 0, 1))(np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].tolist()
    [[1.0, 1.0, 2.0], [3.0, 3.0, 4.0], [3.0, 3.0, 4.0]]
    """

    _rank = 2
    _mode = "replicate"


class ReplicationPad3d(_Pad):
    """
    Pad volumes with the pixel at the edge.

    Parameters
    ----------
    padding : int or 6 ints
        The same width on all sides, or (left, right, top, bottom, front, back). A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 6 of them.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReplicationPad3d
    >>> ReplicationPad3d(1)(np.ones((1, 3, 4, 8, 8))).shape
    (1, 3, 6, 10, 10)
    """

    _rank = 3
    _mode = "replicate"


class CircularPad1d(_Pad):
    """
    Pad signals with the pixels at the other end.

    Parameters
    ----------
    padding : int or 2 ints
        The same width on all sides, or (left, right); at most as many as
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 2 of them.

    Notes
    -----
    Input (N, C, L) or (C, L), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import CircularPad1d
    >>> CircularPad1d(1)(np.ones((1, 3, 8))).shape
    (1, 3, 10)
    """

    _rank = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    """
    Pad images with the pixels at the other end.

    Parameters
    ----------
    padding : int or 4 ints
        The same width on all sides, or (left, right, top, bottom); at most as many as
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 4 of them.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import CircularPad2d
    >>> CircularPad2d((1, 0, 0, 1))(np.array([[[1.0, 2.0], [3.0, 4.0]]]))[0].tolist()
    [[2.0, 1.0, 2.0], [4.0, 3.0, 4.0], [2.0, 1.0, 2.0]]
    """

    _rank = 2
    _mode = "circular"


class CircularPad3d(_Pad):
    """
    Pad volumes with the pixels at the other end.

    Parameters
    ----------
    padding : int or 6 ints
        The same width on all sides, or (left, right, top, bottom, front, back); at most as many as
        the pixels along that dimension. A negative width takes off.

    Raises
    ------
    TypeError
        If a width is no integer.
    ValueError
        If there are not 6 of them.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W), float32 or float64; output in the same dtype.
    The layer of :func:`cyconv.functional.pad`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import CircularPad3d
    >>> CircularPad3d(1)(np.ones((1, 3, 4, 8, 8))).shape
    (1, 3, 6, 10, 10)
    """

    _rank = 3
    _mode = "circular"
