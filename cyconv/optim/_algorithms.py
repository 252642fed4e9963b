"""The optimisers, with torch's arguments and update formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cyconv import functional as F
from cyconv.nn.module import Array
from cyconv.optim._base import Groups, Optimizer, Update, at_least_zero, check, check_number


def _own(state: Mapping[str, Any], name: str, data: Array, kept: dict[str, Any]) -> Array:
    """Return what the state has under a name; where it has nothing yet, zeros, which go to `kept`, too."""
    found: Array | None = state.get(name)
    if found is None:
        found = kept[name] = np.zeros_like(data)
    return found


class SGD(Optimizer):
    """
    Stochastic gradient descent.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        For example ``model.parameters()``; dicts are groups with settings of their own.
    lr : float
        Learning rate, at least 0.
    momentum : float
        Share of the last step's velocity that is kept, at least 0.
    dampening : float
        Share of the gradient that does not enter the velocity.
    weight_decay : float
        Factor of the L2 penalty, at least 0.
    nesterov : bool
        Nesterov's momentum; needs `momentum` > 0 and no dampening.
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    With g the gradient plus weight_decay · p: the velocity is v = g at the first step, then
    v = momentum · v + (1 - dampening) · g; the step is p -= lr · v, with Nesterov p -= lr · (g + momentum · v).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> p = Parameter(np.array([1.0]))
    >>> p.grad = np.array([2.0])
    >>> SGD([p], lr=0.1).step()
    >>> p.data.round(4).tolist()
    [0.8]
    """

    _settings = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        at_least_zero("SGD", settings, "lr", "momentum", "weight_decay")
        momentum, dampening = settings["momentum"], settings["dampening"]
        if settings["nesterov"] and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum > 0 and dampening = 0, got momentum={momentum}, dampening={dampening}"
            )

    def _update(self, data: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Update:
        lr, momentum = group["lr"], group["momentum"]
        sign, decay = -1.0 if group["maximize"] else 1.0, group["weight_decay"]
        if not momentum:
            return F.sgd_step, (sign, decay, 0.0, 0.0, lr, 0.0), (data, grad, None), {}
        kept: dict[str, Any] = {}
        velocity = _own(state, "momentum_buffer", data, kept)
        take = 1.0 if kept else 1 - group["dampening"]  # the first gradient as it is
        along = (lr, lr * momentum) if group["nesterov"] else (0.0, lr)
        factors = (sign, decay, momentum, take, *along)
        return F.sgd_step, factors, (data, grad, velocity), kept

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        return ("momentum_buffer",)


class Adam(Optimizer):
    """
    Adam (Kingma & Ba 2015).

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        For example ``model.parameters()``; dicts are groups with settings of their own.
    lr : float
        Learning rate, at least 0.
    betas : (float, float)
        Decay of the running means of the gradient and of its square, each in [0, 1); kept as ``beta1`` and ``beta2``.
    eps : float
        Added to the denominator, at least 0.
    weight_decay : float
        Factor of the L2 penalty, which is added to the gradient; at least 0.
    amsgrad : bool
        Divide by the largest running mean of squares so far instead of the last (Reddi et al. 2018).
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    With g the gradient and t the number of the step: m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g²,
    p -= lr / (1 - β₁ᵗ) · m / (sqrt(v) / sqrt(1 - β₂ᵗ) + eps).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Adam, Parameter
    >>> p = Parameter(np.array([1.0]))
    >>> p.grad = np.array([2.0])
    >>> Adam([p], lr=0.1).step()
    >>> p.data.round(4).tolist()
    [0.9]
    """

    _several = ("betas",)
    _settings = ("lr", "beta1", "beta2", "eps", "weight_decay", "amsgrad", "maximize")

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    @staticmethod
    def _taken(settings: Mapping[str, Any]) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        for name, value in settings.items():
            if name == "betas":
                check("Adam", "two numbers in [0, 1)", np.shape(value) == (2,), name, value)
                taken["beta1"], taken["beta2"] = value
            else:
                taken[name] = value
        return taken

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        owner, betas = type(self).__name__, (settings["beta1"], settings["beta2"])
        for beta in betas:
            check_number(owner, "each of betas", beta)
        at_least_zero(owner, settings, "lr")
        check(owner, "two numbers in [0, 1)", all(0 <= b < 1 for b in betas), "betas", betas)
        at_least_zero(owner, settings, "eps", "weight_decay")

    def _decay(self, group: Mapping[str, Any]) -> tuple[float, float]:
        """Return (what of the parameter is added to the gradient, what remains of the parameter)."""
        return group["weight_decay"], 1.0

    def _update(self, data: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Update:
        step = state.get("step", 0) + 1
        kept = {"step": step}
        means = (_own(state, "exp_avg", data, kept), _own(state, "exp_avg_sq", data, kept))
        largest = _own(state, "max_exp_avg_sq", data, kept) if group["amsgrad"] else None
        beta1, beta2 = group["beta1"], group["beta2"]
        rate, scale = group["lr"] / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
        sign = -1.0 if group["maximize"] else 1.0
        factors = (sign, *self._decay(group), 1 - beta1, beta2, 1 - beta2, rate, scale, group["eps"])
        return F.adam_step, factors, (data, grad, *means, largest), kept

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        always = ("step", "exp_avg", "exp_avg_sq")
        return (*always, "max_exp_avg_sq") if settings is None or settings.get("amsgrad") else always


class AdamW(Adam):
    """
    Adam with decoupled weight decay (Loshchilov & Hutter 2019): p *= 1 - lr · weight_decay before the step.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        For example ``model.parameters()``; dicts are groups with settings of their own.
    lr : float
        Learning rate, at least 0.
    betas : (float, float)
        Decay of the running means of the gradient and of its square, each in [0, 1); kept as ``beta1`` and ``beta2``.
    eps : float
        Added to the denominator, at least 0.
    weight_decay : float
        Share by which, times `lr`, the parameters shrink in each step; at least 0.
    amsgrad : bool
        Divide by the largest running mean of squares so far instead of the last.
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import AdamW, Parameter
    >>> p = Parameter(np.array([1.0]))
    >>> p.grad = np.array([2.0])
    >>> AdamW([p], lr=0.1).step()
    >>> p.data.round(4).tolist()
    [0.899]
    """

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

    def _decay(self, group: Mapping[str, Any]) -> tuple[float, float]:
        return 0.0, 1 - group["lr"] * group["weight_decay"]


class RMSprop(Optimizer):
    """
    RMSprop (Hinton 2012): gradients divided by the root of their running mean square.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        For example ``model.parameters()``; dicts are groups with settings of their own.
    lr : float
        Learning rate, at least 0.
    alpha : float
        Decay of the running mean of squares, at least 0.
    eps : float
        Added to the denominator, at least 0.
    weight_decay : float
        Factor of the L2 penalty, at least 0.
    momentum : float
        Share of the last step that is kept, at least 0.
    centered : bool
        Divide by the root of the running variance instead (Graves 2013).
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    With g the gradient plus weight_decay · p: v = α v + (1 - α) g², s = g / (sqrt(v) + eps), u = momentum · u + s,
    p -= lr · u. Centered: m = α m + (1 - α) g, and v - m² takes the place of v in s.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import RMSprop, Parameter
    >>> p = Parameter(np.array([1.0]))
    >>> p.grad = np.array([2.0])
    >>> RMSprop([p], lr=0.1).step()
    >>> p.data.round(4).tolist()
    [0.0]
    """

    _settings = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize")

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        at_least_zero("RMSprop", settings, "lr", "alpha", "eps", "weight_decay", "momentum")

    def _update(self, data: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Update:
        kept: dict[str, Any] = {}
        square = _own(state, "square_avg", data, kept)
        mean = _own(state, "grad_avg", data, kept) if group["centered"] else None
        velocity = _own(state, "momentum_buffer", data, kept) if group["momentum"] else None
        alpha, sign = group["alpha"], -1.0 if group["maximize"] else 1.0
        factors = (sign, group["weight_decay"], alpha, 1 - alpha, group["lr"], group["momentum"], group["eps"])
        return F.rmsprop_step, factors, (data, grad, square, mean, velocity), kept

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        momentum = settings is None or settings.get("momentum")
        centered = settings is None or settings.get("centered")
        return ("square_avg", *(("momentum_buffer",) if momentum else ()), *(("grad_avg",) if centered else ()))


class Adagrad(Optimizer):
    """
    Adagrad (Duchi et al. 2011): gradients divided by the root of the sum of their squares so far.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        For example ``model.parameters()``; dicts are groups with settings of their own.
    lr : float
        Learning rate, at least 0.
    lr_decay : float
        Decay of the learning rate, at least 0.
    weight_decay : float
        Factor of the L2 penalty, at least 0.
    initial_accumulator_value : float
        What the sums begin with, at least 0.
    eps : float
        Added to the denominator, at least 0.
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    With g the gradient plus weight_decay · p and t the number of the step: v += g²,
    p -= lr / (1 + (t - 1) lr_decay) · g / (sqrt(v) + eps).

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Adagrad, Parameter
    >>> p = Parameter(np.array([1.0]))
    >>> p.grad = np.array([2.0])
    >>> Adagrad([p], lr=0.1).step()
    >>> p.data.round(4).tolist()
    [0.9]
    """

    _settings = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "maximize")

    def __init__(
        self,
        params: Groups,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        at_least_zero("Adagrad", settings, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def _update(self, data: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Update:
        step, total = state.get("step", 0) + 1, state.get("sum")
        if total is None:
            total = np.full_like(data, group["initial_accumulator_value"])
        rate, sign = group["lr"] / (1 + (step - 1) * group["lr_decay"]), -1.0 if group["maximize"] else 1.0
        factors = (sign, group["weight_decay"], rate, group["eps"])
        return F.adagrad_step, factors, (data, grad, total), {"step": step, "sum": total}

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        return ("step", "sum")
