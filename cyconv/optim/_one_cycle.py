"""The one-cycle schedule: the rate up and far down again, and the momentum against it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cyconv._geometry import integer
from cyconv.optim._base import Optimizer, check
from cyconv.optim._schedule import LRScheduler, number

Numbers = float | Sequence[float]


class OneCycleLR(LRScheduler):
    """
    From max_lr / div_factor up to max_lr, then down to a small part of what it began with (Smith & Topin 2018).

    The momentum (of SGD and RMSprop; beta1 of Adam) goes down where the rate goes up, and back. One step for each step
    of the optimiser; after `total_steps` the cycle is over.

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float or sequence of float
        Highest rate, of all groups or of each.
    total_steps : int, optional
        Steps of the cycle; None takes `epochs` times `steps_per_epoch`.
    epochs, steps_per_epoch : int, optional
    pct_start : float, 0 to 1
        Share of the steps in which the rate goes up.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum : bool
        Whether the momentum is changed, too.
    base_momentum, max_momentum : float or sequence of float
        Lowest and highest momentum.
    div_factor : float
        `max_lr` over the first rate.
    final_div_factor : float
        The first rate over the last.
    three_phase : bool
        Go down as fast as up, and to the last rate in a third phase, instead of at once.
    last_epoch : int
        -1 to begin; to go on, the last t that has been.

    Raises
    ------
    ValueError
        If a number is out of its range, there is no number of steps, numbers do not fit the groups, or the momentum is
        to be changed of an optimiser that has none; in ``step``, if the cycle is over.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import OneCycleLR
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0, momentum=0.9)
    >>> schedule = OneCycleLR(optimizer, max_lr=1.0, total_steps=5, pct_start=0.5, div_factor=4.0)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(round(optimizer.lr, 4))
    ...     schedule.step()
    >>> rates
    [0.25, 0.8125, 0.9045, 0.3455]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Numbers,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Numbers = 0.85,
        max_momentum: Numbers = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        owner, groups = "OneCycleLR", getattr(optimizer, "param_groups", [])
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(f"{owner}: give total_steps, or both epochs and steps_per_epoch")
            epochs = integer(owner, "epochs", epochs, 1)
            total_steps = epochs * integer(owner, "steps_per_epoch", steps_per_epoch, 1)
        total_steps = integer(owner, "total_steps", total_steps, 1)
        pct_start = number(owner, "pct_start", pct_start)
        check(owner, "from 0 to 1", 0 <= pct_start <= 1, "pct_start", pct_start)
        check(owner, '"cos" or "linear"', anneal_strategy in ("cos", "linear"), "anneal_strategy", anneal_strategy)
        for name, factor in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            check(owner, "above 0", number(owner, name, factor) > 0, name, factor)
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self._first, self._last = 1 / div_factor, 1 / div_factor / final_div_factor
        self.max_lrs = _of_each(owner, "max_lr", max_lr, len(groups))
        check(owner, "at least 0", all(rate >= 0 for rate in self.max_lrs), "max_lr", max_lr)
        self.base_momentums = _of_each(owner, "base_momentum", base_momentum, len(groups))
        self.max_momentums = _of_each(owner, "max_momentum", max_momentum, len(groups))
        for name, values in (("base_momentum", self.base_momentums), ("max_momentum", self.max_momentums)):
            check(owner, "in [0, 1)", not cycle_momentum or all(0 <= m < 1 for m in values), name, values)
        # Where each phase ends, and the height of the rate there, 1 at its highest.
        up, end = pct_start * total_steps - 1, total_steps - 1
        down = 2 * pct_start * total_steps - 2
        self._phases = [(up, "max"), (down, "first"), (end, "last")] if three_phase else [(up, "max"), (end, "last")]
        self._momentum = ""
        if cycle_momentum and groups:
            self._momentum = next((name for name in ("momentum", "beta1") if name in groups[0]), "")
            if not self._momentum:
                raise ValueError(f"{owner}: the optimiser has no momentum to change; give cycle_momentum=False")
        if last_epoch == -1:
            for group, highest in zip(groups, self.max_lrs, strict=True):
                group["initial_lr"] = highest / div_factor
        super().__init__(optimizer, last_epoch)

    def _check_time(self, t: int) -> None:
        if t > self.total_steps:
            raise ValueError(f"OneCycleLR: the cycle has {self.total_steps} steps; step number {t} is one too many")

    def _settings(self, t: int, bases: list[float], stepped: bool = False) -> list[dict[str, float]]:
        found = super()._settings(t, bases, stepped)
        for settings, lowest, highest in zip(found, self.base_momentums, self.max_momentums, strict=True):
            if self._momentum:
                settings[self._momentum] = self._between(t, {"max": lowest, "first": highest, "last": highest})
        return found

    def _rate(self, base: float, t: int, group: int) -> float:
        highest = self.max_lrs[group]
        return self._between(t, {"max": highest, "first": highest * self._first, "last": highest * self._last})

    def _between(self, t: int, ends: dict[str, float]) -> float:
        begin, value = 0.0, ends["first"]
        for end, name in self._phases[:-1]:
            if t <= end:
                break
            begin, value = end, ends[name]
        else:
            end, name = self._phases[-1]
        share = (t - begin) / (end - begin) if end != begin else 1.0
        if self.anneal_strategy == "linear":
            return value + (ends[name] - value) * share
        return ends[name] + (value - ends[name]) * (1 + math.cos(math.pi * share)) / 2


def _of_each(owner: str, name: str, value: Numbers, groups: int) -> list[float]:
    several = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim)
    values = [number(owner, name, v) for v in (value if several else [value] * groups)]  # type: ignore[union-attr]
    if len(values) != groups:
        raise ValueError(f"{owner}: expected {groups} values of {name}, one for each group, got {len(values)}")
    return values
