"""Layers of several inputs, for the nodes of a Graph: Add, Multiply, Concatenate."""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv import functional as F
from cyconv.nn._attributes import Axis
from cyconv.nn.module import Module, Pending


def _shapes(inputs: tuple[Any, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(x.shape) for x in inputs)


def _of_dtype(operation: str, grad_output: Any, dtype: np.dtype[Any]) -> Any:
    """Return the gradient if it has the dtype of the output, which is all that is remembered of it."""
    found = getattr(grad_output, "dtype", dtype)
    if found != dtype:
        raise TypeError(f"{operation}_backward: mixed dtypes: grad_output {found}, output {dtype}")
    return grad_output


def _one_or_all(inputs: int, gradients: tuple[Any, ...]) -> Any:
    """Return what a layer of that many inputs gives back: one gradient itself, several as a tuple."""
    return gradients[0] if inputs == 1 else gradients


class Add(Module):
    """
    Return the sum of the inputs, with NumPy's rules of broadcasting.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.add`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import Add
    >>> layer = Add()
    >>> layer(np.ones(3), np.ones(3), np.ones(3))
    array([3., 3., 3.])
    >>> [gradient.tolist() for gradient in layer.backward(np.ones(3))]
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def forward(self, *inputs: Any) -> Any:
        """Return the sum."""
        output = F.add(*inputs)
        self._saved = (_shapes(inputs), output.dtype) if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        shapes, dtype = self._saved
        return _one_or_all(len(shapes), F.add_backward(_of_dtype("add", grad_output, dtype), shapes=shapes))


class Multiply(Module):
    """
    Return the product of the inputs, element by element, with NumPy's rules of broadcasting.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.multiply`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Multiply
    >>> Multiply()(np.array([2.0, 3.0]), np.array([4.0, 5.0])).tolist()
    [8.0, 15.0]
    """

    def forward(self, *inputs: Any) -> Any:
        """Return the product."""
        output = F.multiply(*inputs)
        self._saved = inputs if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        return _one_or_all(len(self._saved), F.multiply_backward(grad_output, *self._saved))


class Concatenate(Module):
    """
    Return the inputs one behind the other along an axis; :class:`Concat` runs branches and joins what they give.

    Parameters
    ----------
    dim : int
        The axis; the default is that of the channels of a batch.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.cat`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Concatenate
    >>> Concatenate()(np.ones((2, 3)), np.ones((2, 5))).shape
    (2, 8)
    """

    dim: Any = Axis()

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, *inputs: Any) -> Any:
        """Return the joined inputs."""
        output = F.cat(inputs, self.dim)
        self._saved = (_shapes(inputs), output.dtype) if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        shapes, dtype = self._saved
        gradients = F.cat_backward(_of_dtype("cat", grad_output, dtype), None, self.dim, shapes=shapes)
        return _one_or_all(len(shapes), gradients)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}"
