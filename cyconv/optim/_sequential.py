"""One schedule after another."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

from cyconv.nn.module import Array
from cyconv.optim._base import Optimizer
from cyconv.optim._schedule import LRScheduler, integers


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
    >>> from cyconv.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
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
        if not isinstance(schedulers, (list, tuple)) or not schedulers:
            raise ValueError(f"SequentialLR: schedulers must be a list of at least one schedule, got {schedulers!r}")
        for position, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"SequentialLR: schedulers[{position}] must be a function of t, got {type(scheduler).__name__}"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedulers[{position}] belongs to another optimiser")
        milestones = integers("SequentialLR", milestones, 0)
        if len(milestones) != len(schedulers) - 1 or milestones != sorted(milestones):
            raise ValueError(
                f"SequentialLR: milestones must be {len(schedulers) - 1} rising numbers for {len(schedulers)} "
                f"schedules, got {milestones}"
            )
        self.schedulers: list[LRScheduler] = list(schedulers)
        self.milestones = milestones
        if type(last_epoch) is int and last_epoch == -1:  # the first begins again: what the others set is forgotten
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"]
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Array]:
        """Return how far the schedule is, and each of its parts (``"schedulers.0.base_lrs"``), as arrays."""
        parts = {
            f"schedulers.{number}.{name}": value
            for number, part in enumerate(self.schedulers)
            for name, value in part.state_dict().items()
            if name != "last_lr"
        }
        return {**super().state_dict(), **parts}

    def _take(self, values: dict[str, Any]) -> None:
        for position, part in enumerate(self.schedulers):
            prefix = f"schedulers.{position}."
            own = {name: values.pop(name) for name in list(values) if name.startswith(prefix)}
            part._take({"last_lr": values["last_lr"], **{name[len(prefix) :]: own[name] for name in own}})
        super()._take(values)

    def _at(self, t: int) -> tuple[int, int]:
        """Return which schedule holds after t steps, and the steps since it began."""
        number = bisect.bisect_right(self.milestones, t)
        return number, t - (self.milestones[number - 1] if number else 0)

    def _bases(self, number: int, bases: list[float]) -> list[float]:
        """Return the rates that a schedule begins with: the first, if it multiplies, goes on from what it finds."""
        part = self.schedulers[number]
        return bases if number == 0 and part._chained else part.base_lrs

    def _check_time(self, t: int) -> None:
        number, since = self._at(t)
        self.schedulers[number]._check_time(since)

    def _settings(self, t: int, bases: list[float], stepped: bool = False) -> list[dict[str, float]]:
        number, since = self._at(t)
        # At its milestone a schedule begins with its own rate, whatever the one before left.
        stepped = stepped and (since > 0 or number == 0)
        return self.schedulers[number]._settings(since, self._bases(number, bases), stepped)

    def _go_on(self, stepped: bool = True) -> None:
        super()._go_on(stepped)
        number, since = self._at(self.last_epoch)
        self.schedulers[number].last_epoch = since

    def _rate(self, base: float, t: int, group: int) -> float:
        number, since = self._at(t)
        bases = self._bases(number, [base] * len(self.base_lrs))
        return self.schedulers[number]._rate(bases[group], since, group)
