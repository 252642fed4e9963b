"""
Optimisers, with torch's arguments and update formulas.

Each takes the parameters once and updates them in place from their ``grad``; a parameter without a gradient is left
out. ``lr`` and the other numbers are plain attributes, which a schedule may set between steps. After the first step
nothing is allocated: sums are kept in two scratch arrays per dtype, as long as the largest parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cyconv.nn.module import Array, Module, Parameter, misfit

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


def _check(owner: str, rule: str, legal: bool, name: str, value: Any) -> None:
    if not legal:
        raise ValueError(f"{owner}: {name} must be {rule}, got {value!r}")


class Optimizer:
    """
    What the optimisers share: the parameters, their state, and its names.

    Parameters
    ----------
    params : iterable of Parameter
        For example ``model.parameters()``.

    Raises
    ------
    TypeError
        If `params` holds something else than parameters.
    ValueError
        If it is empty or holds a parameter twice.
    """

    # Attributes that belong to the saved state.
    _settings: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Parameter]) -> None:
        owner = type(self).__name__
        if isinstance(params, Module):
            raise TypeError(f"{owner}: params must be parameters, got a layer; pass layer.parameters()")
        if isinstance(params, Parameter):
            raise TypeError(f"{owner}: params must be an iterable of parameters; put the one parameter into a list")
        self.params: list[Parameter] = list(params)
        for position, parameter in enumerate(self.params):
            if not isinstance(parameter, Parameter):
                raise TypeError(f"{owner}: params[{position}] must be a Parameter, got {type(parameter).__name__}")
        if not self.params:
            raise ValueError(f"{owner}: params is empty (a generator such as model.parameters() runs only once)")
        if len({id(parameter) for parameter in self.params}) < len(self.params):
            raise ValueError(f"{owner}: params holds a parameter twice; it would be updated twice in one step")
        # For each parameter what is kept from step to step: arrays in its shape, and "step", a count.
        self.state: list[dict[str, Any]] = [{} for _ in self.params]
        self._pools: dict[np.dtype[Any], tuple[Array, Array]] = {}
        self._scratch: list[tuple[Array, Array] | None] = [None] * len(self.params)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with `set_to_none` False fill them with 0 instead."""
        for parameter in self.params:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.fill(0)

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for position, parameter in enumerate(self.params):
            if parameter.grad is not None:
                one, two = self._scratch_for(position, parameter.data)
                self._update(parameter.data, parameter.grad, self.state[position], one, two)

    def _update(self, data: Array, grad: Array, state: dict[str, Any], one: Array, two: Array) -> None:
        """Update `data` in place; `grad` must keep its values, `one` and `two` are scratch in the same shape."""
        raise TypeError(f"{type(self).__name__}: the class defines no _update")

    def _scratch_for(self, position: int, data: Array) -> tuple[Array, Array]:
        """Return two arrays like `data`, views into memory that all parameters of the dtype share."""
        views = self._scratch[position]
        if views is None or views[0].shape != data.shape or views[0].dtype != data.dtype:
            pool = self._pools.get(data.dtype)
            if pool is None or pool[0].size < data.size:
                largest = max(p.size for p in self.params if p.dtype == data.dtype)
                pool = self._pools[data.dtype] = (np.empty(largest, data.dtype), np.empty(largest, data.dtype))
            views = (pool[0][: data.size].reshape(data.shape), pool[1][: data.size].reshape(data.shape))
            self._scratch[position] = views
        return views

    # ---------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Array]:
        """
        Return copies of the settings and of what is kept for each parameter, by name.

        Returns
        -------
        dict of str to ndarray
            Settings such as ``"lr"`` as arrays without axes, and entries such as ``"0.momentum_buffer"`` for the
            first parameter: flat, so that ``cyconv.save`` can write it.
        """
        result = {name: np.array(getattr(self, name)) for name in self._settings}
        for position, state in enumerate(self.state):
            for name, value in state.items():
                result[f"{position}.{name}"] = np.array(value)
        return result

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """
        Take over the settings and the state of an optimiser of the same class over the same parameters.

        Parameters
        ----------
        state_dict : mapping of str to array
            As ``state_dict()`` gives it.

        Raises
        ------
        ValueError
            Lists all missing, surplus and misshapen names; nothing has been changed then.
        TypeError
            If `state_dict` is no mapping.
        """
        owner = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{owner}.load_state_dict: expected a mapping of names to arrays, got {type(state_dict).__name__}"
            )
        missing = [name for name in self._settings if name not in state_dict]
        surplus: list[str] = []
        misfits: list[str] = []
        settings: dict[str, Any] = {}
        states: list[dict[str, Any]] = [{} for _ in self.params]
        for name, value in state_dict.items():
            position, _, kind = str(name).partition(".")
            if name in self._settings:
                like: Array = np.empty(())
            elif position.isdecimal() and int(position) < len(self.params) and kind in self._kept():
                like = np.empty((), np.int64) if kind == "step" else self.params[int(position)].data
            else:
                surplus.append(str(name))
                continue
            array = np.asarray(value)
            if problem := misfit(name, like, array):
                misfits.append(problem)
            elif name in self._settings:
                settings[name] = array.item()
            else:
                states[int(position)][kind] = array.item() if kind == "step" else array.astype(like.dtype)
        for number, state in enumerate(states):
            if state:
                missing += [f"{number}.{kind}" for kind in self._kept(settings) if kind not in state]
        problems = ([f"missing: {', '.join(missing)}"] if missing else []) + misfits
        problems += [f"surplus: {', '.join(surplus)}"] if surplus else []
        if problems:
            raise ValueError(
                f"{owner}.load_state_dict: the state does not fit, nothing was changed\n  " + "\n  ".join(problems)
            )
        for name, setting in settings.items():
            setattr(self, name, setting)
        self.state = states

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Return the names of what is kept per parameter: all there can be, or those that `settings` lead to."""
        return ()

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self._settings)
        return f"{type(self).__name__}({len(self.params)} parameters, {settings})"


class SGD(Optimizer):
    """
    Stochastic gradient descent.

    Parameters
    ----------
    params : iterable of Parameter
        For example ``model.parameters()``.
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

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    With g the gradient plus weight_decay · p: the velocity is v = g at the first step, then
    v = momentum · v + (1 - dampening) · g; the step is p -= lr · v, with Nesterov p -= lr · (g + momentum · v).
    """

    _settings = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        _check("SGD", "at least 0", lr >= 0, "lr", lr)
        _check("SGD", "at least 0", momentum >= 0, "momentum", momentum)
        _check("SGD", "at least 0", weight_decay >= 0, "weight_decay", weight_decay)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum > 0 and dampening = 0, got momentum={momentum}, dampening={dampening}"
            )
        super().__init__(params)
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov

    def _update(self, data: Array, grad: Array, state: dict[str, Any], one: Array, two: Array) -> None:
        if self.weight_decay:
            np.multiply(data, self.weight_decay, out=one)
            grad = np.add(one, grad, out=one)
        if self.momentum:
            velocity = state.get("momentum_buffer")
            if velocity is None:
                velocity = state["momentum_buffer"] = grad.copy()
            else:
                velocity *= self.momentum
                velocity += np.multiply(grad, 1 - self.dampening, out=two) if self.dampening else grad
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=two)
                grad = np.add(two, grad, out=one)
            else:
                grad = velocity
        data -= np.multiply(grad, float(self.lr), out=one)

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        return ("momentum_buffer",)


class Adam(Optimizer):
    """
    Adam (Kingma & Ba 2015).

    Parameters
    ----------
    params : iterable of Parameter
        For example ``model.parameters()``.
    lr : float
        Learning rate, at least 0.
    betas : (float, float)
        Decay of the running means of the gradient and of its square, each in [0, 1).
    eps : float
        Added to the denominator, at least 0.
    weight_decay : float
        Factor of the L2 penalty, which is added to the gradient; at least 0.
    amsgrad : bool
        Divide by the largest running mean of squares so far instead of the last (Reddi et al. 2018).

    Raises
    ------
    ValueError
        If a number is out of its range.

    Notes
    -----
    With g the gradient and t the number of the step: m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g²,
    p -= lr / (1 - β₁ᵗ) · m / (sqrt(v) / sqrt(1 - β₂ᵗ) + eps).
    """

    _settings = ("lr", "beta1", "beta2", "eps", "weight_decay", "amsgrad")

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        owner = type(self).__name__
        _check(owner, "at least 0", lr >= 0, "lr", lr)
        _check(owner, "two numbers in [0, 1)", len(betas) == 2 and all(0 <= b < 1 for b in betas), "betas", betas)
        _check(owner, "at least 0", eps >= 0, "eps", eps)
        _check(owner, "at least 0", weight_decay >= 0, "weight_decay", weight_decay)
        super().__init__(params)
        self.lr = lr
        self.beta1, self.beta2 = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.amsgrad = amsgrad

    def _decay(self, data: Array, grad: Array, one: Array) -> Array:
        """Apply the weight decay and return the gradient to go on with."""
        if not self.weight_decay:
            return grad
        np.multiply(data, self.weight_decay, out=one)
        return np.add(one, grad, out=one)

    def _update(self, data: Array, grad: Array, state: dict[str, Any], one: Array, two: Array) -> None:
        if not state:
            state["step"] = 0
            state["exp_avg"] = np.zeros_like(data)
            state["exp_avg_sq"] = np.zeros_like(data)
        if self.amsgrad and "max_exp_avg_sq" not in state:
            state["max_exp_avg_sq"] = np.zeros_like(data)
        step = state["step"] = state["step"] + 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        grad = self._decay(data, grad, one)

        np.subtract(grad, mean, out=two)
        two *= 1 - self.beta1
        mean += two

        square *= self.beta2
        np.multiply(grad, grad, out=two)
        two *= 1 - self.beta2
        square += two

        if self.amsgrad:
            square = np.maximum(state["max_exp_avg_sq"], square, out=state["max_exp_avg_sq"])
        np.sqrt(square, out=two)
        two /= math.sqrt(1 - self.beta2**step)
        two += self.eps
        np.divide(mean, two, out=two)
        two *= self.lr / (1 - self.beta1**step)
        data -= two

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        always = ("step", "exp_avg", "exp_avg_sq")
        return (*always, "max_exp_avg_sq") if settings is None or settings.get("amsgrad") else always


class AdamW(Adam):
    """
    Adam with decoupled weight decay (Loshchilov & Hutter 2019): p *= 1 - lr · weight_decay before the step.

    Parameters
    ----------
    params : iterable of Parameter
        For example ``model.parameters()``.
    lr : float
        Learning rate, at least 0.
    betas : (float, float)
        Decay of the running means of the gradient and of its square, each in [0, 1).
    eps : float
        Added to the denominator, at least 0.
    weight_decay : float
        Share by which, times `lr`, the parameters shrink in each step; at least 0.
    amsgrad : bool
        Divide by the largest running mean of squares so far instead of the last.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)

    def _decay(self, data: Array, grad: Array, one: Array) -> Array:
        if self.weight_decay:
            data *= 1 - self.lr * self.weight_decay
        return grad
