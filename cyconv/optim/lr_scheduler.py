"""
Schedules of the learning rate, in the names and arguments of ``torch.optim.lr_scheduler``.

A schedule sets the ``lr`` of each group of its optimiser: when it is made, and at each ``step()``, which is called
after an epoch (or after a step of the optimiser, if that is what its numbers count). All but `ReduceLROnPlateau` are
functions of the number of steps t and of the rate that the group had at first.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence

from cyconv.nn._named import name_methods
from cyconv.optim._base import Optimizer, check
from cyconv.optim._one_cycle import OneCycleLR
from cyconv.optim._schedule import LRScheduler, Schedule

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

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        check("StepLR", "at least 1", step_size >= 1, "step_size", step_size)
        self.step_size, self.gamma = step_size, gamma
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

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
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

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
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

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        check("ConstantLR", "in [0, 1]", 0 <= factor <= 1, "factor", factor)
        self.factor, self.total_iters = factor, total_iters
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

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check("LinearLR", "in (0, 1]", 0 < start_factor <= 1, "start_factor", start_factor)
        check("LinearLR", "in [0, 1]", 0 <= end_factor <= 1, "end_factor", end_factor)
        check("LinearLR", "at least 1", total_iters >= 1, "total_iters", total_iters)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
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

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        check("PolynomialLR", "at least 1", total_iters >= 1, "total_iters", total_iters)
        self.total_iters, self.power = total_iters, power
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

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        check("CosineAnnealingLR", "at least 1", T_max >= 1, "T_max", T_max)
        self.T_max, self.eta_min = T_max, eta_min
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
        check("CosineAnnealingWarmRestarts", "at least 1", T_0 >= 1, "T_0", T_0)
        check("CosineAnnealingWarmRestarts", "at least 1", T_mult >= 1, "T_mult", T_mult)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
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
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"LambdaLR: expected {groups} functions, one for each group, got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def _rate(self, base: float, t: int, group: int) -> float:
        return base * self.lr_lambdas[group](t)


class SequentialLR(LRScheduler):
    """
    One schedule after another, each beginning at its milestone with t = 0: for example warm-up, then a cosine.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : sequence of LRScheduler
        Of the same optimiser; from then on only this schedule is to be stepped.
    milestones : sequence of int
        At which t the second begins, the third, ...
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        The schedules do not fit to the milestones, or to one optimiser.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> warm, down = LinearLR(optimizer, 0.5, total_iters=2), CosineAnnealingLR(optimizer, T_max=4)
    >>> schedule = SequentialLR(optimizer, [warm, down], milestones=[2])
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.8536, 0.5, 0.1464]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        for position, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"SequentialLR: schedulers[{position}] must be a function of t, got {type(scheduler).__name__}"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedulers[{position}] belongs to another optimiser")
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise ValueError(
                f"SequentialLR: milestones must be {len(schedulers) - 1} rising numbers for {len(schedulers)} "
                f"schedules, got {list(milestones)}"
            )
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def _at(self, t: int) -> tuple[LRScheduler, int]:
        """Return the schedule that holds after t steps, and the steps since it began."""
        number = bisect.bisect_right(self.milestones, t)
        return self.schedulers[number], t - (self.milestones[number - 1] if number else 0)

    def _apply(self, t: int, bases: list[float]) -> None:
        schedule, since = self._at(t)
        schedule._apply(since, bases)  # which sets the momentum, too, where it is a cycle

    def _rate(self, base: float, t: int, group: int) -> float:
        schedule, since = self._at(t)
        return schedule._rate(base, since, group)


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
        check("ReduceLROnPlateau", "below 1", factor < 1, "factor", factor)
        check("ReduceLROnPlateau", "'min' or 'max'", mode in ("min", "max"), "mode", mode)
        modes = ("rel", "abs")
        check("ReduceLROnPlateau", "'rel' or 'abs'", threshold_mode in modes, "threshold_mode", threshold_mode)
        groups = len(optimizer.param_groups)
        self.min_lrs = [float(m) for m in (min_lr if isinstance(min_lr, Sequence) else [min_lr] * groups)]
        if len(self.min_lrs) != groups:
            raise ValueError(f"ReduceLROnPlateau: min_lr must have {groups} numbers, got {len(self.min_lrs)}")
        self.mode, self.factor, self.patience, self.eps = mode, factor, patience, eps
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.best = math.inf if mode == "min" else -math.inf
        self.last_epoch = self.num_bad_epochs = self.cooldown_counter = 0

    def step(self, metrics: float) -> None:
        """Take a measured value into account; reduce the rates if it is time."""
        value = float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                rate = max(group["lr"] * self.factor, lowest)
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, value: float) -> bool:
        if math.isinf(self.best):  # the first value, whatever the margin
            return value < self.best if self.mode == "min" else value > self.best
        margin = self.threshold * self.best if self.threshold_mode == "rel" else self.threshold
        return value < self.best - margin if self.mode == "min" else value > self.best + margin


name_methods(globals()[name] for name in __all__)
