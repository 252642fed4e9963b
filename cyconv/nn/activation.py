"""Activation layers; each remembers what its gradient needs: its output, or where that does not tell, its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv import functional as F
from cyconv._geometry import integer
from cyconv.nn._attributes import Learned
from cyconv.nn.init import float_dtype
from cyconv.nn.module import Module, Parameter, Pending


class ReLU(Module):
    """
    Replace negative values by 0. Any shape; output in the shape and dtype of the input.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.relu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReLU
    >>> ReLU()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.0, 0.0, 8.0]
    """

    _makes_gradients = True

    def forward(self, input: Any) -> Any:
        """Return max(input, 0)."""
        output = F.relu(input)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.relu_backward(grad_output, None, output=self._saved)[0] if input_grad else None

    def _backward_into(self, grad_output: Any) -> Any:
        """Like `_backward` for a gradient that nobody else goes on using: it is written over."""
        if self._saved is None:
            raise self._nothing_remembered()
        return F.relu_backward(grad_output, None, output=self._saved, out=grad_output)[0]


class Sigmoid(Module):
    """
    Apply 1 / (1 + exp(-x)). Any shape; output in the shape and dtype of the input.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.sigmoid`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Sigmoid
    >>> Sigmoid()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.119, 0.5, 1.0]
    """

    def forward(self, input: Any) -> Any:
        """Return sigmoid(input)."""
        output = F.sigmoid(input)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.sigmoid_backward(grad_output, None, output=self._saved)[0] if input_grad else None


class Tanh(Module):
    """
    Apply the hyperbolic tangent. Any shape; output in the shape and dtype of the input.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.tanh`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Tanh
    >>> Tanh()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.964, 0.0, 1.0]
    """

    def forward(self, input: Any) -> Any:
        """Return tanh(input)."""
        output = F.tanh(input)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.tanh_backward(grad_output, None, output=self._saved)[0] if input_grad else None


class _Unit(Module):
    """A function of one element that :mod:`cyconv.functional` has by the name ``_function``, with its arguments."""

    _function: str
    _arguments: tuple[str, ...] = ()

    def forward(self, input: Any) -> Any:
        """Return the function's values."""
        output = getattr(F, self._function)(input, *[getattr(self, name) for name in self._arguments])
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        gradient = getattr(F, f"{self._function}_backward")
        return gradient(grad_output, self._saved, *[getattr(self, name) for name in self._arguments])[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._arguments)


class ReLU6(_Unit):
    """
    Keep values between 0 and 6. Any shape; see :func:`cyconv.functional.relu6`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.relu6`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ReLU6
    >>> ReLU6()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.0, 0.0, 6.0]
    """

    _function = "relu6"


class LeakyReLU(_Unit):
    """
    Multiply negative values by a small slope. Any shape; see :func:`cyconv.functional.leaky_relu`.

    Parameters
    ----------
    negative_slope : float
        Slope below 0.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.leaky_relu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import LeakyReLU
    >>> LeakyReLU(0.1)(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.2, 0.0, 8.0]
    """

    _function = "leaky_relu"
    _arguments = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope


class ELU(_Unit):
    """
    Replace negative values by alpha (exp(x) - 1). Any shape; see :func:`cyconv.functional.elu`.

    Parameters
    ----------
    alpha : float
        Minus the limit at -infinity.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.elu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ELU
    >>> ELU()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.865, 0.0, 8.0]
    """

    _function = "elu"
    _arguments = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha


class SELU(_Unit):
    """
    Apply the scaled ELU, which keeps mean 0 and variance 1. Any shape; see :func:`cyconv.functional.selu`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.selu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SELU
    >>> SELU()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-1.52, 0.0, 8.406]
    """

    _function = "selu"


class GELU(_Unit):
    """
    Multiply by the normal distribution function, x Φ(x). Any shape; see :func:`cyconv.functional.gelu`.

    Parameters
    ----------
    approximate : str
        "none", or "tanh" for the approximation by a hyperbolic tangent.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.gelu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import GELU
    >>> GELU()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.046, 0.0, 8.0]
    """

    _function = "gelu"
    _arguments = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate


class SiLU(_Unit):
    """
    Apply x / (1 + exp(-x)), also called swish. Any shape; see :func:`cyconv.functional.silu`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.silu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SiLU
    >>> SiLU()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.238, 0.0, 7.997]
    """

    _function = "silu"


class Mish(_Unit):
    """
    Apply x tanh(log(1 + exp(x))). Any shape; see :func:`cyconv.functional.mish`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.mish`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Mish
    >>> Mish()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.253, 0.0, 8.0]
    """

    _function = "mish"


class Hardswish(_Unit):
    """
    Apply x min(max(x + 3, 0), 6) / 6. Any shape; see :func:`cyconv.functional.hardswish`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.hardswish`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Hardswish
    >>> Hardswish()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.333, 0.0, 8.0]
    """

    _function = "hardswish"


class Hardsigmoid(_Unit):
    """
    Apply min(max(x + 3, 0), 6) / 6. Any shape; see :func:`cyconv.functional.hardsigmoid`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.hardsigmoid`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Hardsigmoid
    >>> Hardsigmoid()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.167, 0.5, 1.0]
    """

    _function = "hardsigmoid"


class Hardtanh(_Unit):
    """
    Keep values between two bounds. Any shape; see :func:`cyconv.functional.hardtanh`.

    Parameters
    ----------
    min_val : float
        Lower bound.
    max_val : float
        Upper bound.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.hardtanh`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Hardtanh
    >>> Hardtanh()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-1.0, 0.0, 1.0]
    """

    _function = "hardtanh"
    _arguments = (
        "min_val",
        "max_val",
    )

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = min_val
        self.max_val = max_val


class Softplus(_Unit):
    """
    Apply log(1 + exp(x)), a smooth ReLU. Any shape; see :func:`cyconv.functional.softplus`.

    Parameters
    ----------
    beta : float
        Sharpness: log(1 + exp(beta x)) / beta.
    threshold : float
        Where beta x is above it the value is x.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.softplus`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Softplus
    >>> Softplus()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [0.127, 0.693, 8.0]
    """

    _function = "softplus"
    _arguments = (
        "beta",
        "threshold",
    )

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold


class Softsign(_Unit):
    """
    Apply x / (1 + |x|). Any shape; see :func:`cyconv.functional.softsign`.

    Raises
    ------
    TypeError
        On a call, as :func:`cyconv.functional.softsign`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Softsign
    >>> Softsign()(np.array([-2.0, 0.0, 8.0])).round(3).tolist()
    [-0.667, 0.0, 0.889]
    """

    _function = "softsign"


class PReLU(Module):
    """
    Multiply negative values by a slope that is learned (He et al. 2015).

    Parameters
    ----------
    num_parameters : int
        1, or the number of channels: then each has its own.
    init : float
        The first value.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    weight : Parameter
        Shape (num_parameters,).

    Raises
    ------
    TypeError, ValueError
        `num_parameters` is no positive int; or on a call, as :func:`cyconv.functional.prelu`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import PReLU
    >>> PReLU(dtype="float64")(np.array([[-2.0, 8.0]])).tolist()
    [[-0.5, 8.0]]
    """

    weight: Any = Learned()

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: DTypeLike = np.float32) -> None:
        count = integer("PReLU", "num_parameters", num_parameters, 1)
        self.weight = Parameter(np.empty(count, float_dtype(dtype, "PReLU")))
        self.weight.data.fill(init)

    def forward(self, input: Any) -> Any:
        """Return input where it is above 0, else weight · input."""
        output = F.prelu(input, self.weight.data)
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        dx, dw = F.prelu_backward(grad_output, self._saved, self.weight.data)
        pending.append((self.weight, dw))
        return dx if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"num_parameters={self.weight.size}"


class Softmax(Module):
    """
    Turn scores into probabilities along one axis.

    Parameters
    ----------
    dim : int
        The axis along which the output sums to 1.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Softmax
    >>> Softmax(1)(np.array([[0.0, 0.0]])).round(3).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return softmax(input) along ``dim``."""
        output = F.softmax(input, self.dim)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.softmax_backward(grad_output, None, self.dim, output=self._saved)[0] if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """
    Turn scores into logarithms of probabilities along one axis.

    Parameters
    ----------
    dim : int
        The axis along which exp(output) sums to 1.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.log_softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import LogSoftmax
    >>> LogSoftmax(1)(np.array([[0.0, 0.0]])).round(3).tolist()
    [[-0.693, -0.693]]
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """Return log(softmax(input)) along ``dim``."""
        output = F.log_softmax(input, self.dim)
        self._saved = output if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return F.log_softmax_backward(grad_output, None, self.dim, output=self._saved)[0] if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}"
