"""Activations that are one formula in the kernel's table, one row in the table here, and one pair of functions.

What they compute stands in `kernels/activations.h`; ±infinity gives the limit, NaN passes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import _settings
from .._geometry import real
from ..kernels import load
from ._activation import EXP_WORK, MOVE_WORK, _gradient_pair, dense
from ._arrays import Array, array, empty_like
from ._twins import gradient_of

_kernel = load("activation")
#: Klambauer et al. 2017: with them mean 0 and variance 1 are a fixed point.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


class _Unit(NamedTuple):
    kernel: int  # number in the kernel's table
    work: int  # of an element, in floating-point operations


#: The kernel of each function; several may share one.
UNITS = {
    "relu6": _Unit(_kernel.NUMBERS["hardtanh"], MOVE_WORK),
    "leaky_relu": _Unit(_kernel.NUMBERS["leaky_relu"], MOVE_WORK),
    "elu": _Unit(_kernel.NUMBERS["elu"], EXP_WORK),
    "selu": _Unit(_kernel.NUMBERS["elu"], EXP_WORK),
    "gelu": _Unit(_kernel.NUMBERS["gelu"], EXP_WORK),
    "gelu_tanh": _Unit(_kernel.NUMBERS["gelu_tanh"], EXP_WORK),
    "silu": _Unit(_kernel.NUMBERS["silu"], EXP_WORK),
    "mish": _Unit(_kernel.NUMBERS["mish"], EXP_WORK),
    "hardswish": _Unit(_kernel.NUMBERS["hardswish"], MOVE_WORK),
    "hardsigmoid": _Unit(_kernel.NUMBERS["hardsigmoid"], MOVE_WORK),
    "hardtanh": _Unit(_kernel.NUMBERS["hardtanh"], MOVE_WORK),
    "softplus": _Unit(_kernel.NUMBERS["softplus"], EXP_WORK),
    "softsign": _Unit(_kernel.NUMBERS["softsign"], MOVE_WORK),
}


def _forward(name: str, input: Any, first: float = 0.0, second: float = 0.0, form: str = "") -> Array:
    x = array(input, name, "input")
    if not x.flags.c_contiguous:
        x = dense(x)
    unit = UNITS[form or name]
    y = empty_like(x)
    _kernel.apply(unit.kernel, y, x, first, second, _settings.threads_for(x.size * unit.work))
    return y


def _backward(
    name: str, grad_output: Any, input: Any, first: float = 0.0, second: float = 0.0, form: str = ""
) -> tuple[Array]:
    dy, x = _gradient_pair(f"{name}_backward", grad_output, input, "input")
    unit = UNITS[form or name]
    dx = empty_like(x)
    threads = _settings.threads_for(x.size * unit.work)
    _kernel.differentiate(unit.kernel, dx, dy, x, first, second, threads)
    return (dx,)


def _approximation(operation: str, approximate: Any) -> str:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{operation}: approximate must be 'none' or 'tanh', got {approximate!r}")
    return "gelu" if approximate == "none" else "gelu_tanh"


def _bounds(operation: str, min_val: Any, max_val: Any) -> tuple[float, float]:
    low, high = real(operation, "min_val", min_val), real(operation, "max_val", max_val)
    if not low <= high:
        raise ValueError(f"{operation}: min_val must not be above max_val, got {min_val} and {max_val}")
    return low, high


def _softness(operation: str, beta: Any, threshold: Any) -> tuple[float, float]:
    slope = real(operation, "beta", beta)
    if slope == 0:
        raise ValueError(f"{operation}: beta must not be 0")
    return slope, real(operation, "threshold", threshold)


def relu6(input: Any) -> Array:
    """
    Return min(max(x, 0), 6).

    Howard et al. 2017.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> relu6(np.array([-1.0, 2.0, 7.0])).tolist()
    [0.0, 2.0, 6.0]
    """
    return _forward("relu6", input, 0.0, 6.0)


@gradient_of(
    relu6,
    "F.relu6_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.0, 1.0, 0.0]",
)
def relu6_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy where 0 < x < 6, else 0.
    """
    return _backward("relu6", grad_output, input, 0.0, 6.0)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Array:
    """
    Return x where x > 0, else negative_slope · x.

    Maas, Hannun & Ng 2013.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    negative_slope : float

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or a parameter no number.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0])).tolist()
    [-0.01, 2.0]
    """
    return _forward("leaky_relu", input, real("leaky_relu", "negative_slope", negative_slope))


@gradient_of(
    leaky_relu,
    "F.leaky_relu_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.01, 1.0, 1.0]",
)
def leaky_relu_backward(grad_output: Any, input: Any, negative_slope: float = 0.01) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy where x > 0, else negative_slope · dy.
    """
    return _backward("leaky_relu", grad_output, input, real("leaky_relu_backward", "negative_slope", negative_slope))


def elu(input: Any, alpha: float = 1.0) -> Array:
    """
    Return x where x > 0, else alpha (exp(x) - 1).

    Clevert, Unterthiner & Hochreiter 2016.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    alpha : float

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or a parameter no number.

    Examples
    --------
    >>> import numpy as np
    >>> elu(np.array([-np.inf, 0.0, 2.0])).tolist()
    [-1.0, 0.0, 2.0]
    """
    return _forward("elu", input, real("elu", "alpha", alpha), 1.0)


@gradient_of(
    elu,
    "F.elu_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.135, 1.0, 1.0]",
)
def elu_backward(grad_output: Any, input: Any, alpha: float = 1.0) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy where x > 0, else dy alpha exp(x).
    """
    return _backward("elu", grad_output, input, real("elu_backward", "alpha", alpha), 1.0)


def selu(input: Any) -> Array:
    """
    Return 1.0507 · (x where x > 0, else 1.6733 (exp(x) - 1)).

    Klambauer et al. 2017, who give the constants to more digits.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> selu(np.array([0.0])).tolist()
    [0.0]
    """
    return _forward("selu", input, SELU_ALPHA, SELU_SCALE)


@gradient_of(
    selu,
    "F.selu_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.238, 1.051, 1.051]",
)
def selu_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: 1.0507 dy · (1 where x > 0, else 1.6733 exp(x)).
    """
    return _backward("selu", grad_output, input, SELU_ALPHA, SELU_SCALE)


def gelu(input: Any, approximate: str = "none") -> Array:
    """
    Return x Φ(x), with the distribution function Φ of the normal distribution.

    Hendrycks & Gimpel 2016.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    approximate : {"none", "tanh"}
        "tanh": Φ is taken as (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.
    ValueError
        A parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-9.0, 0.0, 9.0])).round(9).tolist()
    [-0.0, 0.0, 9.0]
    """
    return _forward("gelu", input, form=_approximation("gelu", approximate))


@gradient_of(
    gelu,
    "F.gelu_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[-0.085, 0.867, 1.0]",
)
def gelu_backward(grad_output: Any, input: Any, approximate: str = "none") -> tuple[Array]:
    """
    Return ``(d_input,)``: dy (Φ(x) + x φ(x)), with the density φ.
    """
    return _backward("gelu", grad_output, input, form=_approximation("gelu_backward", approximate))


def silu(input: Any) -> Array:
    """
    Return x / (1 + exp(-x)).

    Elfwing, Uchibe & Doya 2018.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> silu(np.array([-99.0, 0.0, 99.0])).round(9).tolist()
    [-0.0, 0.0, 99.0]
    """
    return _forward("silu", input)


@gradient_of(
    silu,
    "F.silu_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[-0.091, 0.74, 1.002]",
)
def silu_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy s (1 + x (1 - s)), with s = 1 / (1 + exp(-x)).
    """
    return _backward("silu", grad_output, input)


def mish(input: Any) -> Array:
    """
    Return x tanh(log(1 + exp(x))).

    Misra 2019.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> mish(np.array([-np.inf, 0.0, 99.0])).tolist()
    [-0.0, 0.0, 99.0]
    """
    return _forward("mish", input)


@gradient_of(
    mish,
    "F.mish_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[-0.108, 0.886, 1.0]",
)
def mish_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy (t + x (1 - t²) / (1 + exp(-x))), with t = tanh(log(1 + exp(x))).
    """
    return _backward("mish", grad_output, input)


def hardswish(input: Any) -> Array:
    """
    Return x min(max(x + 3, 0), 6) / 6.

    Howard et al. 2019.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> hardswish(np.array([-4.0, 0.0, 3.0])).tolist()
    [-0.0, 0.0, 3.0]
    """
    return _forward("hardswish", input)


@gradient_of(
    hardswish,
    "F.hardswish_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[-0.167, 0.667, 1.0]",
)
def hardswish_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: 0 where x <= -3, dy where x >= 3, else dy (x / 3 + 1/2).
    """
    return _backward("hardswish", grad_output, input)


def hardsigmoid(input: Any) -> Array:
    """
    Return min(max(x + 3, 0), 6) / 6.

    Courbariaux, Bengio & David 2015, with torch's slope.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> hardsigmoid(np.array([-4.0, 0.0, 3.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return _forward("hardsigmoid", input)


@gradient_of(
    hardsigmoid,
    "F.hardsigmoid_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.167, 0.167, 0.0]",
)
def hardsigmoid_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy / 6 where -3 < x < 3, else 0.
    """
    return _backward("hardsigmoid", grad_output, input)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """
    Return min(max(x, min_val), max_val).

    Collobert 2004.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    min_val, max_val : float

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or a parameter no number.
    ValueError
        A parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> hardtanh(np.array([-4.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    return _forward("hardtanh", input, *_bounds("hardtanh", min_val, max_val))


@gradient_of(
    hardtanh,
    "F.hardtanh_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.0, 1.0, 0.0]",
)
def hardtanh_backward(grad_output: Any, input: Any, min_val: float = -1.0, max_val: float = 1.0) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy where min_val < x < max_val, else 0.
    """
    return _backward("hardtanh", grad_output, input, *_bounds("hardtanh_backward", min_val, max_val))


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """
    Return log(1 + exp(beta x)) / beta; x where beta x > threshold.

    Dugas et al. 2001.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64
    beta, threshold : float

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64, or a parameter no number.
    ValueError
        A parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> softplus(np.array([-np.inf, 99.0])).tolist()
    [0.0, 99.0]
    """
    return _forward("softplus", input, *_softness("softplus", beta, threshold))


@gradient_of(
    softplus,
    "F.softplus_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.119, 0.622, 1.0]",
)
def softplus_backward(grad_output: Any, input: Any, beta: float = 1.0, threshold: float = 20.0) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy / (1 + exp(-beta x)); dy where beta x > threshold.
    """
    return _backward("softplus", grad_output, input, *_softness("softplus_backward", beta, threshold))


def softsign(input: Any) -> Array:
    """
    Return x / (1 + |x|).

    Bergstra et al. 2009.

    Parameters
    ----------
    input : ndarray of any shape, float32 or float64

    Returns
    -------
    ndarray in the shape, dtype and memory order of `input`

    Raises
    ------
    TypeError
        `input` is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np
    >>> softsign(np.array([-1.0, 0.0, 3.0])).tolist()
    [-0.5, 0.0, 0.75]
    """
    return _forward("softsign", input)


@gradient_of(
    softsign,
    "F.softsign_backward(np.ones(3), np.array([-2.0, 0.5, 8.0]))[0].round(3).tolist()",
    "[0.111, 0.444, 0.012]",
)
def softsign_backward(grad_output: Any, input: Any) -> tuple[Array]:
    """
    Return ``(d_input,)``: dy / (1 + |x|)².
    """
    return _backward("softsign", grad_output, input)
