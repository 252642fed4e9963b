"""
Schedules of the learning rate, in the names and arguments of ``torch.optim.lr_scheduler``.

A schedule sets the ``lr`` of each group of its optimiser: when it is made, and at each ``step()``, which is called
after an epoch (or after a step of the optimiser, if that is what its numbers count). All but `ReduceLROnPlateau` are
functions of the number of steps t and of the rate that the group had at first; where another schedule, or the user,
has changed a rate, those that are made of factors multiply what they find, as in torch.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from cyconv._geometry import any_integer, integer
from cyconv.nn._named import name_methods
from cyconv.optim._base import Optimizer, check, check_number
from cyconv.optim._one_cycle import OneCycleLR
from cyconv.optim._schedule import LRScheduler, Schedule, integers, number
from cyconv.optim._sequential import SequentialLR

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


class StepLR(LRScheduler):
    """
    Multiply the rate by `gamma` every `step_size` steps.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
        At least 1.
    gamma : float
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        `step_size` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(4):
    ...     schedule.step()
    >>> optimizer.lr
    0.25
    """

    _chained = True

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = integer("StepLR", "step_size", step_size, 1)
        self.gamma = number("StepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """
    Multiply the rate by `gamma` at each milestone.

    Parameters
    ----------
    optimizer : Optimizer
    milestones : iterable of int
    gamma : float
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        A number is out of range, or `last_epoch` is not -1 where the groups have no first rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import MultiStepLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = MultiStepLR(optimizer, milestones=[2])
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.1
    """

    _chained = True

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(integers("MultiStepLR", milestones))
        self.gamma = number("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        return base * self.gamma ** bisect.bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """
    Multiply the rate by `gamma` at every step.

    Parameters
    ----------
    optimizer : Optimizer
    gamma : float
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        A number is out of range, or `last_epoch` is not -1 where the groups have no first rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import ExponentialLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = ExponentialLR(optimizer, gamma=0.5)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.125
    """

    _chained = True

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = number("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        return base * self.gamma**t


class ConstantLR(LRScheduler):
    """
    Multiply the rate by `factor` until `total_iters` steps are done.

    Parameters
    ----------
    optimizer : Optimizer
    factor : float
        In [0, 1].
    total_iters : int
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        A number is out of range, or `last_epoch` is not -1 where the groups have no first rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import ConstantLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = ConstantLR(optimizer, factor=0.5, total_iters=9)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.5
    """

    _chained = True

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        self.factor = number("ConstantLR", "factor", factor)
        check("ConstantLR", "in [0, 1]", 0 <= factor <= 1, "factor", factor)
        self.total_iters = any_integer("ConstantLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        return base * self.factor if t < self.total_iters else base


class LinearLR(LRScheduler):
    """
    Warm-up: a factor that goes in a straight line from one number to another in `total_iters` steps, and stays.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor : float
        In (0, 1].
    end_factor : float
        In [0, 1].
    total_iters : int
        At least 1.
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        A number is out of range, or `last_epoch` is not -1 where the groups have no first rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = LinearLR(optimizer, start_factor=0.5, total_iters=4)
    >>> schedule.step()
    >>> optimizer.lr
    0.625
    """

    _chained = True

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = number("LinearLR", "start_factor", start_factor)
        self.end_factor = number("LinearLR", "end_factor", end_factor)
        check("LinearLR", "in (0, 1]", 0 < start_factor <= 1, "start_factor", start_factor)
        check("LinearLR", "in [0, 1]", 0 <= end_factor <= 1, "end_factor", end_factor)
        self.total_iters = integer("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        share = min(t, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class PolynomialLR(LRScheduler):
    """
    Multiply the rate by (1 - t / total_iters) ** power; 0 from `total_iters` on.

    Parameters
    ----------
    optimizer : Optimizer
    total_iters : int
        At least 1.
    power : float
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        A number is out of range, or `last_epoch` is not -1 where the groups have no first rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import PolynomialLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = PolynomialLR(optimizer, total_iters=4)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.25
    """

    _chained = True

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = integer("PolynomialLR", "total_iters", total_iters, 1)
        self.power = number("PolynomialLR", "power", power)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        rest: float = 1 - min(t, self.total_iters) / self.total_iters
        return float(base * rest**self.power)


class CosineAnnealingLR(LRScheduler):
    """
    Half a cosine from the first rate down to `eta_min` in `T_max` steps (Loshchilov & Hutter 2017), and up again.

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        At least 1.
    eta_min : float
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        `T_max` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import CosineAnnealingLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = CosineAnnealingLR(optimizer, T_max=6)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.5
    """

    _chained = True

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = integer("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = self._floor = number("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """
    Half a cosine from the first rate down to `eta_min`, again and again (Loshchilov & Hutter 2017).

    Parameters
    ----------
    optimizer : Optimizer
    T_0 : int
        Steps of the first descent, at least 1.
    T_mult : int
        Factor by which each descent is longer than the one before, at least 1.
    eta_min : float
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        `T_0` or `T_mult` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import CosineAnnealingWarmRestarts
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        owner = "CosineAnnealingWarmRestarts"
        self.T_0, self.T_mult = integer(owner, "T_0", T_0, 1), integer(owner, "T_mult", T_mult, 1)
        self.eta_min = number(owner, "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        length = self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t -= length
            length *= self.T_mult
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * t / length)) / 2


class LambdaLR(LRScheduler):
    """
    Multiply the rate by a function of t.

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : callable, or list of callables
        t to factor; a list has one for each group.
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        A number is out of range, or `last_epoch` is not -1 where the groups have no first rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import LambdaLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = LambdaLR(optimizer, lambda t: 1 / (1 + t))
    >>> for _ in range(3):
    ...     schedule.step()
    >>> round(optimizer.lr, 4)
    0.25
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(getattr(optimizer, "param_groups", ()))
        if not callable(lr_lambda) and not (isinstance(lr_lambda, (list, tuple)) and all(map(callable, lr_lambda))):
            raise TypeError(f"LambdaLR: lr_lambda must be a function or a list of functions, got {lr_lambda!r}")
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"LambdaLR: expected {groups} functions, one for each group, got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        factor = self.lr_lambdas[group](t)
        check_number("LambdaLR", f"the factor of step {t}", factor)
        return float(base * factor)


class ReduceLROnPlateau(Schedule):
    """
    Multiply the rate by `factor` when a measured value has not become better for more than `patience` steps.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
        Whether better is smaller (a loss) or larger (an accuracy).
    factor : float
        Below 1.
    patience : int
        Steps without a better value that are let pass.
    threshold : float
        How much better counts.
    threshold_mode : {"rel", "abs"}
        Whether `threshold` is a share of the best value or a difference from it.
    cooldown : int
        Steps after a reduction in which nothing is counted.
    min_lr : float or list of float
        Lowest rate, of all groups or of each.
    eps : float
        A smaller change of the rate is left out.

    Raises
    ------
    ValueError
        If a number is out of its range or a mode unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.5
    """

    _kept = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(optimizer)
        check("ReduceLROnPlateau", "below 1", number("ReduceLROnPlateau", "factor", factor) < 1, "factor", factor)
        check("ReduceLROnPlateau", "'min' or 'max'", mode in ("min", "max"), "mode", mode)
        modes = ("rel", "abs")
        check("ReduceLROnPlateau", "'rel' or 'abs'", threshold_mode in modes, "threshold_mode", threshold_mode)
        owner = type(self).__name__
        several = isinstance(min_lr, (list, tuple)) or (isinstance(min_lr, np.ndarray) and min_lr.ndim > 0)
        self.min_lr = (
            [number(owner, "min_lr", m) for m in np.ravel(min_lr).tolist()]
            if several
            else number(owner, "min_lr", min_lr)
        )
        self._lowest()
        self.mode, self.factor, self.eps = mode, factor, number(owner, "eps", eps)
        self.threshold, self.threshold_mode = number(owner, "threshold", threshold), threshold_mode
        self.patience, self.cooldown = (
            any_integer(owner, name, value) for name, value in (("patience", patience), ("cooldown", cooldown))
        )
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0

    def step(self, metrics: float) -> None:
        """Take a measured value into account; reduce the rates if it is time."""
        check_number("ReduceLROnPlateau.step", "metrics", metrics)
        value, min_lrs = float(metrics), self._lowest()
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, lowest in zip(self.optimizer.param_groups, min_lrs, strict=True):
                rate = max(group["lr"] * self.factor, lowest)
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _lowest(self) -> list[float]:
        """Return the lowest rate of each group that the optimiser has now."""
        groups = len(self.optimizer.param_groups)
        lowest = self.min_lr if isinstance(self.min_lr, list) else [self.min_lr] * groups
        if len(lowest) != groups:
            raise ValueError(f"ReduceLROnPlateau: min_lr must have {groups} numbers, got {len(lowest)}")
        return lowest

    def _better(self, value: float) -> bool:
        if math.isinf(self.best):  # the first value, whatever the margin
            return value < self.best if self.mode == "min" else value > self.best
        margin = self.threshold * self.best if self.threshold_mode == "rel" else self.threshold
        return value < self.best - margin if self.mode == "min" else value > self.best + margin


name_methods(globals()[name] for name in __all__)
