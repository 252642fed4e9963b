"""
Starting values, in the names and formulas of ``torch.nn.init``.

Every function fills an array (or a :class:`~cyconv.nn.Parameter`) in place and returns it. `rng` is a
``numpy.random.Generator``, a seed, or None for fresh entropy.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from cyconv._geometry import check_memory, real
from cyconv.functional._arrays import generator
from cyconv.nn.module import Array, Parameter

__all__ = [
    "calculate_fan",
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
]

_T = TypeVar("_T", Array, Parameter)


def float_dtype(dtype: DTypeLike, owner: str) -> np.dtype[Any]:
    """Return `dtype` as a NumPy dtype; TypeError naming `owner` unless it is float32 or float64."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{owner}: dtype must be float32 or float64, got {dtype!r}") from None
    if result not in (np.float32, np.float64):
        raise TypeError(f"{owner}: dtype must be float32 or float64, got {result}")
    return result


def calculate_fan(shape: tuple[int, ...]) -> tuple[int, int]:
    """
    Return (fan_in, fan_out) of a weight: how many inputs reach one output, how many outputs one input reaches.

    Parameters
    ----------
    shape : tuple of int
        (K, C, *kernel), at least two entries.

    Returns
    -------
    (int, int)
        C ∏kernel and K ∏kernel.

    Raises
    ------
    ValueError
        If `shape` has fewer than two entries.

    Examples
    --------
    >>> from cyconv.nn.init import calculate_fan
    >>> calculate_fan((16, 3, 3, 3))
    (27, 144)
    """
    if len(shape) < 2:
        raise ValueError(f"calculate_fan: a weight has at least 2 dimensions (K, C, *kernel), got shape {shape}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """
    Return the factor that keeps the variance behind an activation.

    Parameters
    ----------
    nonlinearity : str
        "linear", "sigmoid", "tanh", "relu" or "leaky_relu".
    param : float, optional
        The negative slope of "leaky_relu"; 0.01 if None.

    Returns
    -------
    float
        1 for "linear" and "sigmoid", 5/3 for "tanh", √2 for "relu", √(2 / (1 + param²)) for "leaky_relu".

    Raises
    ------
    ValueError
        If the name is another one.

    Examples
    --------
    >>> from cyconv.nn.init import calculate_gain
    >>> round(calculate_gain("relu"), 4)
    1.4142
    """
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else real("calculate_gain", "the slope of leaky_relu", param)
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in gains:
        raise ValueError(
            f"calculate_gain: nonlinearity must be one of {', '.join(gains)}, leaky_relu; got {nonlinearity!r}"
        )
    return gains[nonlinearity]


def _array(tensor: Array | Parameter) -> Array:
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
        kind = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"init: expected a Parameter or an array of float32 or float64, got {kind}")
    if not array.flags.writeable:
        raise ValueError("init: the array is read-only, as are those of layers in eval mode; call train() before")
    return array


def _fan(tensor: Array | Parameter, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return calculate_fan(tensor.shape)[mode == "fan_out"]


def uniform_(tensor: _T, a: float = 0.0, b: float = 1.0, *, rng: Any = None) -> _T:
    """
    Fill with numbers uniform in [a, b).

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    a, b : float
        Ends of the range.
    rng : numpy.random.Generator, int or None
        A generator, a seed, or None for fresh entropy.

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import uniform_
    >>> bool((uniform_(np.empty(9), -1.0, 1.0, rng=0) < 1).all())
    True
    """
    array, a, b = _array(tensor), real("uniform_", "a", a), real("uniform_", "b", b)
    if not a <= b:
        raise ValueError(f"uniform_: a must be at most b, got a={a} and b={b}")
    array[...] = generator("init", rng).random(array.shape, dtype=array.dtype)
    array *= b - a
    array += a
    return tensor


def normal_(tensor: _T, mean: float = 0.0, std: float = 1.0, *, rng: Any = None) -> _T:
    """
    Fill with normally distributed numbers.

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    mean, std : float
    rng : numpy.random.Generator, int or None
        A generator, a seed, or None for fresh entropy.

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import normal_
    >>> normal_(np.empty(9), 5.0, 0.0, rng=0)[0].item()
    5.0
    """
    array, mean, std = _array(tensor), real("normal_", "mean", mean), real("normal_", "std", std)
    if not std >= 0:
        raise ValueError(f"normal_: std must be at least 0, got {std}")
    array[...] = generator("init", rng).standard_normal(array.shape, dtype=array.dtype)
    array *= std
    array += mean
    return tensor


def constant_(tensor: _T, val: float) -> _T:
    """
    Fill with one value.

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    val : float

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import constant_
    >>> constant_(np.empty(2), 3.0).tolist()
    [3.0, 3.0]
    """
    _array(tensor).fill(real("constant_", "val", val))
    return tensor


def kaiming_uniform_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *, rng: Any = None
) -> _T:
    """
    Fill uniformly within gain · sqrt(3 / fan) (He et al. 2015); `a` is the slope of the leaky_relu behind.

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    a : float
        Slope of the leaky_relu behind.
    mode : {"fan_in", "fan_out"}
        Keep the variance of the outputs, or of the gradients.
    nonlinearity : str
        As :func:`calculate_gain` knows them.
    rng : numpy.random.Generator, int or None
        A generator, a seed, or None for fresh entropy.

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Raises
    ------
    ValueError
        `mode` or `nonlinearity` is none of these, or the array has fewer than two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import kaiming_uniform_
    >>> kaiming_uniform_(np.empty((4, 9)), rng=0).shape
    (4, 9)
    """
    fan = _fan(tensor, mode)
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / fan) if fan else 0.0
    return uniform_(tensor, -bound, bound, rng=rng)


def kaiming_normal_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", *, rng: Any = None
) -> _T:
    """
    Fill normally with deviation gain / sqrt(fan) (He et al. 2015); `a` is the slope of the leaky_relu behind.

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    a : float
        Slope of the leaky_relu behind.
    mode : {"fan_in", "fan_out"}
        Keep the variance of the outputs, or of the gradients.
    nonlinearity : str
        As :func:`calculate_gain` knows them.
    rng : numpy.random.Generator, int or None
        A generator, a seed, or None for fresh entropy.

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Raises
    ------
    ValueError
        `mode` or `nonlinearity` is none of these, or the array has fewer than two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import kaiming_normal_
    >>> kaiming_normal_(np.empty((4, 9)), rng=0).shape
    (4, 9)
    """
    fan = _fan(tensor, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0, rng=rng)


def xavier_uniform_(tensor: _T, gain: float = 1.0, *, rng: Any = None) -> _T:
    """
    Fill uniformly within gain · sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010).

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    gain : float
        As :func:`calculate_gain` gives it.
    rng : numpy.random.Generator, int or None
        A generator, a seed, or None for fresh entropy.

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Raises
    ------
    ValueError
        The array has fewer than two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import xavier_uniform_
    >>> xavier_uniform_(np.empty((4, 9)), rng=0).shape
    (4, 9)
    """
    bound = real("xavier_uniform_", "gain", gain) * math.sqrt(6 / max(1, sum(calculate_fan(tensor.shape))))
    return uniform_(tensor, -bound, bound, rng=rng)


def xavier_normal_(tensor: _T, gain: float = 1.0, *, rng: Any = None) -> _T:
    """
    Fill normally with deviation gain · sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010).

    Parameters
    ----------
    tensor : ndarray or Parameter
        Filled in place.
    gain : float
        As :func:`calculate_gain` gives it.
    rng : numpy.random.Generator, int or None
        A generator, a seed, or None for fresh entropy.

    Returns
    -------
    ndarray or Parameter
        `tensor`.

    Raises
    ------
    ValueError
        The array has fewer than two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn.init import xavier_normal_
    >>> xavier_normal_(np.empty((4, 9)), rng=0).shape
    (4, 9)
    """
    std = real("xavier_normal_", "gain", gain) * math.sqrt(2 / max(1, sum(calculate_fan(tensor.shape))))
    return normal_(tensor, 0.0, std, rng=rng)


def weight_and_bias(
    shape: tuple[int, ...], bias: bool, dtype: DTypeLike, rng: Any, owner: str, outputs: int | None = None
) -> tuple[Parameter, Parameter | None]:
    """
    Make the parameters of a convolution or linear layer with torch's default starting values.

    The weight comes from ``kaiming_uniform_(a=sqrt(5))``, which is uniform in ±1/sqrt(fan_in); so is the bias, of
    ``outputs`` numbers (by default one for each row of the weight).
    """
    kind = float_dtype(dtype, owner)
    check_memory(owner, "the weight", shape)
    source = generator(owner, rng)
    weight = kaiming_uniform_(Parameter(np.empty(shape, kind)), a=math.sqrt(5), rng=source)
    if not bias:
        return weight, None
    fan_in, _ = calculate_fan(shape)
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    length = shape[0] if outputs is None else outputs
    return weight, uniform_(Parameter(np.empty(length, kind)), -bound, bound, rng=source)
