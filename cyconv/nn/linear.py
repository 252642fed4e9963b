"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv import functional as F
from cyconv._geometry import integer
from cyconv.nn._attributes import Learned
from cyconv.nn.init import weight_and_bias
from cyconv.nn.module import Module, Parameter, Pending


class Linear(Module):
    """
    Apply y = x Wᵀ + b along the last axis.

    Parameters
    ----------
    in_features, out_features : int
        Length of the last axis before and after.
    bias : bool
        False leaves out b; ``layer.bias`` is None then.
    dtype : dtype
        float32 or float64.
    rng : numpy.random.Generator, int or None
        Source of the starting values: a generator, a seed, or None for fresh entropy.

    Attributes
    ----------
    weight : Parameter
        Shape (out_features, in_features).
    bias : Parameter or None
        Shape (out_features,).

    Raises
    ------
    TypeError
        If the sizes are not integers or `dtype` is not floating.
    ValueError
        If a size is less than 1.
    MemoryError
        If the weight could not be addressed.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Linear
    >>> Linear(4, 2, rng=0)(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    _makes_gradients = True

    weight: Any = Learned()
    bias: Any = Learned(optional=True)

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: DTypeLike = np.float32, rng: Any = None
    ) -> None:
        owner = type(self).__name__
        self.in_features = integer(owner, "in_features", in_features, 1)
        self.out_features = integer(owner, "out_features", out_features, 1)
        self.weight, self.bias = weight_and_bias((self.out_features, self.in_features), bias, dtype, rng, owner)

    def forward(self, input: Any) -> Any:
        """Return (*, out_features) for an input (*, in_features)."""
        bias = self.bias
        output = F.linear(input, self.weight.data, None if bias is None else bias.data)
        self._saved = input if self.training else None
        return output

    def _forward_rectified(self, input: Any) -> Any:
        bias = self.bias
        output = F.linear(input, self.weight.data, None if bias is None else bias.data, rectified=True)
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        weight: Parameter = self.weight
        bias = self.bias
        gradients = F.linear_backward(
            grad_output, self._saved, weight.data, None if bias is None else bias.data, input_grad=input_grad
        )
        pending.append((weight, gradients[1]))
        if bias is not None:
            pending.append((bias, gradients[2]))
        return gradients[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
