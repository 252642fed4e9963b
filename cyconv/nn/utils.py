"""Clipping of gradients, in the names of ``torch.nn.utils``."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from cyconv import functional as F
from cyconv._geometry import real
from cyconv.nn.module import Array, Module, Parameter

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def _gradients(owner: str, parameters: Parameter | Iterable[Parameter]) -> list[Array]:
    if isinstance(parameters, Module):
        raise TypeError(f"{owner}: parameters must be parameters, got a layer; pass layer.parameters()")
    found = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    for position, parameter in enumerate(found):
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{owner}: parameters[{position}] must be a Parameter, got {type(parameter).__name__}")
    gradients = [parameter.grad for parameter in found if parameter.grad is not None]
    for gradient in gradients:  # all of them before one is changed
        if not isinstance(gradient, np.ndarray) or gradient.dtype.newbyteorder("=") not in (np.float32, np.float64):
            kind = getattr(gradient, "dtype", type(gradient).__name__)
            raise TypeError(f"{owner}: a gradient must be an array of float32 or float64, got {kind}")
        if not gradient.flags.writeable:
            raise ValueError(f"{owner}: a gradient of {gradient.shape}, {gradient.dtype} is read-only")
    return gradients


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """
    Scale all gradients by one number, in place, so that their norm as one vector is at most `max_norm`.

    Parameters
    ----------
    parameters : Parameter, or iterable of Parameter
        For example ``model.parameters()``; those without a gradient are left out.
    max_norm : float
        At least 0.
    norm_type : float
        p of the p-norm, above 0; ``math.inf`` is the largest magnitude.
    error_if_nonfinite : bool
        Raise if the norm is no finite number, before a gradient is changed.

    Returns
    -------
    float
        The norm before.

    Raises
    ------
    RuntimeError
        If the norm is not finite and `error_if_nonfinite` asks for it.
    TypeError
        If `parameters` holds something else than parameters, a gradient is no array of float32 or float64, or a number
        is none.
    ValueError
        If `max_norm` is negative or `norm_type` not above 0, or a gradient is read-only; no gradient is changed then.

    Notes
    -----
    The factor is max_norm / (norm + 1e-6), at most 1 (Pascanu et al. 2013; torch's constant).

    Examples
    --------
    >>> import numpy as np
    >>> p = Parameter(np.zeros(2))
    >>> p.grad = np.array([3.0, 4.0])
    >>> clip_grad_norm_(p, 1.0)
    5.0
    >>> p.grad.round(3).tolist()
    [0.6, 0.8]
    """
    max_norm = real("clip_grad_norm_", "max_norm", max_norm)
    norm_type = real("clip_grad_norm_", "norm_type", norm_type)
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type}")
    gradients = _gradients("clip_grad_norm_", parameters)
    norm = F.total_norm(gradients, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm}; nothing was changed")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:
        for gradient in gradients:
            F.scale_(gradient, factor)
    return norm


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """
    Bring each element of the gradients into [-clip_value, clip_value], in place.

    Parameters
    ----------
    parameters : Parameter, or iterable of Parameter
        For example ``model.parameters()``; those without a gradient are left out.
    clip_value : float
        At least 0.

    Raises
    ------
    TypeError
        If `parameters` holds something else than parameters, a gradient is no array of float32 or float64, or
        `clip_value` no number.
    ValueError
        If `clip_value` is negative, or a gradient is read-only; no gradient is changed then.

    Examples
    --------
    >>> import numpy as np
    >>> p = Parameter(np.zeros(3))
    >>> p.grad = np.array([-3.0, 0.5, 4.0])
    >>> clip_grad_value_([p], 1.0)
    >>> p.grad.tolist()
    [-1.0, 0.5, 1.0]
    """
    clip_value = real("clip_grad_value_", "clip_value", clip_value)
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    for gradient in _gradients("clip_grad_value_", parameters):
        F.clamp_(gradient, -clip_value, clip_value)
