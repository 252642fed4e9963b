"""What all schedules of the learning rate share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cyconv._geometry import any_integer
from cyconv.nn.module import Array
from cyconv.optim._base import Optimizer, check


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
        owner = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{owner}.load_state_dict: expected a mapping, got {type(state_dict).__name__}")
        if set(state_dict) != set(self._kept):
            raise ValueError(
                f"{owner}.load_state_dict: expected {', '.join(self._kept)}, got {', '.join(map(str, state_dict))}"
            )
        arrays = {name: np.asarray(state_dict[name]) for name in self._kept}
        for name, array in arrays.items():
            if array.shape != np.shape(getattr(self, name)):
                raise ValueError(
                    f"{owner}.load_state_dict: {name} is {np.shape(getattr(self, name))}, the state has {array.shape}"
                )
        for name, array in arrays.items():
            setattr(self, name, array.tolist())


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
    A schedule of your own defines ``_rate(base, t, group)``.

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
        self.last_epoch = last_epoch + 1
        self._set()

    def step(self) -> None:
        """Go on by one, and set the rates."""
        self._check_groups()
        self.last_epoch += 1
        self._set()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state of a schedule of the same class and arguments, as above, and set the rates to its own."""
        self._check_groups()
        super().load_state_dict(state_dict)
        self._set()

    def _check_groups(self) -> None:
        groups = len(self.optimizer.param_groups)
        if groups != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: made for {len(self.base_lrs)} groups of parameters, and the optimiser has "
                f"{groups} now; make a new schedule"
            )

    def _set(self) -> None:
        self._apply(self.last_epoch, self.base_lrs)

    def _apply(self, t: int, bases: list[float]) -> None:
        """Set what the schedule says after t steps, of groups that began with these rates."""
        rates = [self._rate(base, t, number) for number, base in enumerate(bases)]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _rate(self, base: float, t: int, group: int) -> float:
        """Return the rate of a group after t steps."""
        raise TypeError(f"{type(self).__name__}: the class defines no _rate(base, t, group)")
