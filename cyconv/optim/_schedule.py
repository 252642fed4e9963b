"""What all schedules of the learning rate share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cyconv._geometry import any_integer
from cyconv.nn.module import Array
from cyconv.optim._base import Optimizer, check, check_number


def number(owner: str, name: str, value: Any) -> float:
    """Return a number as a float; TypeError or ValueError if it is none."""
    check_number(owner, name, value)
    check(owner, "a number", value == value, name, value)
    return float(value)


def integers(owner: str, milestones: Any, minimum: int | None = None) -> list[int]:
    """Return milestones as a list of ints; TypeError or ValueError if they are none."""
    if isinstance(milestones, str) or not isinstance(milestones, Iterable):
        raise TypeError(f"{owner}: milestones must be a list of ints, got {milestones!r}")
    found = [any_integer(owner, "milestones", one) for one in milestones]
    check(owner, f"at least {minimum}", minimum is None or all(m >= minimum for m in found), "milestones", found)
    return found


class Schedule:
    """What all schedules share: an optimiser, and a state that can be saved."""

    # Attributes that belong to the saved state: numbers, or lists of a number for each group.
    _kept: tuple[str, ...] = ()
    last_epoch: int

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer

    def get_last_lr(self) -> list[float]:
        """Return the rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Array]:
        """Return how far the schedule is, as arrays: what ``cyconv.save`` can write. Functions are not part of it."""
        return {name: np.array(getattr(self, name)) for name in self._kept}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """
        Take over the state of a schedule of the same class and arguments.

        Parameters
        ----------
        state_dict : mapping of str to array
            As ``state_dict()`` gives it.

        Raises
        ------
        ValueError
            If names are missing or surplus, or there are other groups; nothing has been changed then.
        TypeError
            If `state_dict` is no mapping.
        """
        if not isinstance(state_dict, Mapping):
            owner = type(self).__name__
            raise TypeError(f"{owner}.load_state_dict: expected a mapping, got {type(state_dict).__name__}")
        self._take(self._checked(state_dict))

    def _checked(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that a state has; an error if they are not those of this schedule."""
        owner, own = f"{type(self).__name__}.load_state_dict", self.state_dict()
        if set(state_dict) != set(own):
            raise ValueError(f"{owner}: expected {', '.join(own)}, got {', '.join(map(str, state_dict))}")
        arrays = {name: np.asarray(state_dict[name]) for name in own}
        for name, array in arrays.items():
            if array.shape != own[name].shape:
                raise ValueError(f"{owner}: {name} is {own[name].shape}, the state has {array.shape}")
            if array.dtype.kind not in ("iu" if own[name].dtype.kind == "i" else "iuf"):
                kind = "integers" if own[name].dtype.kind == "i" else "numbers"
                raise ValueError(f"{owner}: {name} must be {kind}, got {array.tolist()!r}")
            if np.isnan(array).any() or (own[name].dtype.kind == "i" and (array < 0).any()):
                raise ValueError(f"{owner}: {name} must be at least 0, got {array.tolist()!r}")
        return {name: array.tolist() for name, array in arrays.items()}

    def _take(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)


class LRScheduler(Schedule):
    """
    A schedule that is a function of t, the number of steps so far.

    Parameters
    ----------
    optimizer : Optimizer
        Each group's ``"initial_lr"``, its rate when the first schedule was made, is what the function multiplies.
    last_epoch : int
        -1 to begin; to go on, the last t that has been, as in torch: the schedule is made for the one behind it.

    Raises
    ------
    TypeError
        `last_epoch` is no int.
    ValueError
        `last_epoch` is below -1, or not -1 where the groups have no first rate. In ``step``, if the optimiser has got
        another number of groups.

    Notes
    -----
    As in torch, several schedules of one optimiser multiply, and so does one with a rate that the user set meanwhile:
    all but `LambdaLR`, `CosineAnnealingWarmRestarts`, `OneCycleLR` and schedules of your own, which set the rate to
    what they say. A schedule of your own defines ``_rate(base, t, group)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> from cyconv.optim.lr_scheduler import LRScheduler
    >>> class Halving(LRScheduler):
    ...     def _rate(self, base, t, group):
    ...         return base / 2**t
    >>> optimizer = SGD([Parameter(np.zeros(1))], lr=1.0)
    >>> Halving(optimizer).step()
    >>> optimizer.lr
    0.5
    """

    _kept = ("last_epoch", "base_lrs")
    # Whether a step multiplies the rate that it finds, which another schedule or the user may have set.
    _chained = False
    # The rate that such a factor leaves as it is.
    _floor = 0.0

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        super().__init__(optimizer)
        owner, last_epoch = type(self).__name__, any_integer(type(self).__name__, "last_epoch", last_epoch)
        check(owner, "at least -1", last_epoch >= -1, "last_epoch", last_epoch)
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"{owner}: last_epoch is {last_epoch}, but param_groups[{number}] has no 'initial_lr', which the "
                    "first schedule of an optimiser sets"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        # To go on with a rate that is still the first means with that of the schedule alone.
        fresh = all(group["lr"] == base for group, base in zip(optimizer.param_groups, self.base_lrs, strict=True))
        self._go_on(last_epoch == -1 or not fresh)

    def step(self) -> None:
        """Go on by one, and set the rates."""
        self._go_on()

    def state_dict(self) -> dict[str, Array]:
        """Return how far the schedule is, as arrays: what ``cyconv.save`` can write. Functions are not part of it."""
        return {**super().state_dict(), "last_lr": np.array(self.get_last_lr(), np.float64)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state of a schedule of the same class and arguments, as above, and set the rates to its own."""
        self._check_groups()
        super().load_state_dict(state_dict)

    def _checked(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        values = super()._checked(state_dict)
        self._check_time(values["last_epoch"])
        return values

    def _take(self, values: dict[str, Any]) -> None:
        rates = values.pop("last_lr")
        super()._take(values)
        for group, settings, rate in zip(
            self.optimizer.param_groups, self._settings(self.last_epoch, self.base_lrs), rates, strict=True
        ):
            group.update({**settings, "lr": rate})

    def _check_groups(self) -> None:
        groups = len(self.optimizer.param_groups)
        if groups != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: made for {len(self.base_lrs)} groups of parameters, and the optimiser has "
                f"{groups} now; make a new schedule"
            )

    def _check_time(self, t: int) -> None:
        """Raise ValueError if the schedule is over before t."""

    def _go_on(self, stepped: bool = True) -> None:
        self._check_groups()
        t = self.last_epoch + 1
        self._check_time(t)
        found = self._settings(t, self.base_lrs, stepped)
        for group, settings in zip(self.optimizer.param_groups, found, strict=True):
            group.update(settings)
        self.last_epoch = t

    def _settings(self, t: int, bases: list[float], stepped: bool = False) -> list[dict[str, float]]:
        """Return what the schedule says of each group after t steps, of groups that began with these rates.

        `stepped` means that the groups have the rates of the step before.
        """
        found = []
        for number, (base, group) in enumerate(zip(bases, self.optimizer.param_groups, strict=True)):
            rate = self._checked_rate(base, t, number)
            if stepped and self._chained:
                rate = self._carried(group["lr"], self._checked_rate(base, t - 1, number) if t else base, rate)
            found.append({"lr": rate})
        return found

    def _checked_rate(self, base: float, t: int, group: int) -> float:
        rate = self._rate(base, t, group)
        check_number(type(self).__name__, "the rate of each step", rate)
        check(type(self).__name__, "a number", rate == rate, "the rate of each step", rate)
        return rate

    def _carried(self, now: float, before: float, after: float) -> float:
        """Return the rate after a step that leads from one to another, of a group that has yet another."""
        if now == before:
            return after
        if before == after:
            return now
        if before == self._floor:
            return now + (after - before)
        return self._floor + (now - self._floor) * ((after - self._floor) / (before - self._floor))

    def _rate(self, base: float, t: int, group: int) -> float:
        """Return the rate of a group after t steps."""
        raise TypeError(f"{type(self).__name__}: the class defines no _rate(base, t, group)")
