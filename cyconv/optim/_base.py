"""What the optimisers share: parameters in groups with settings of their own, their state, and its names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from cyconv.functional._update import check_job
from cyconv.nn.module import Array, Module, Parameter, misfit

Groups = Iterable[Parameter] | Iterable[Mapping[str, Any]]
#: A function of :mod:`cyconv.functional` that takes steps, its factors, the arrays of one parameter, and what is kept
#: of it from then on.
Update = tuple[Callable[[Any, tuple[float, ...]], None], tuple[float, ...], tuple[Any, ...], dict[str, Any]]


def check(owner: str, rule: str, legal: bool, name: str, value: Any) -> None:
    """Raise ValueError if a setting is not legal."""
    if not legal:
        raise ValueError(f"{owner}: {name} must be {rule}, got {value!r}")


def at_least_zero(owner: str, settings: Mapping[str, Any], *names: str) -> None:
    """Raise ValueError if one of the settings is negative or NaN, TypeError if it is no number."""
    for name in names:
        check_number(owner, name, settings[name])
        check(owner, "at least 0", settings[name] >= 0, name, settings[name])


def check_number(owner: str, name: str, value: Any) -> None:
    """Raise TypeError if a setting is no number."""
    if type(value) is float or (isinstance(value, (int, float, np.number, np.bool_)) and not np.iscomplexobj(value)):
        return
    if not (isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "biuf"):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")


class Optimizer:
    """
    What the optimisers share: the parameters, their state, and its names.

    Parameters
    ----------
    params : iterable of Parameter, or of dict
        For example ``model.parameters()``. Dicts are groups of parameters with settings of their own:
        ``{"params": ..., "lr": 0.01}``; what a group does not name is that of the optimiser.
    defaults : dict
        The settings of the optimiser, by name.

    Attributes
    ----------
    param_groups : list of dict
        For each group its parameters, ``"params"``, and its settings. All of it may be changed between steps: what is
        kept for a parameter stays with it, wherever it stands.
    params : list of Parameter
        Those of all groups, as they are now: a new list each time.
    lr, ... : float
        Each setting is an attribute, too: that of the first group. Setting it sets it for all groups.

    Raises
    ------
    TypeError
        If `params` holds something else than parameters.
    ValueError
        If it is empty or holds a parameter twice, or a group has settings that the optimiser does not know.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import SGD, Parameter
    >>> optimizer = SGD([Parameter(np.zeros(2))], lr=0.1)
    >>> optimizer.lr
    0.1
    """

    # Settings that belong to the saved state.
    _settings: tuple[str, ...] = ()
    # Arguments that stand in a group as several settings, not under their own name.
    _several: tuple[str, ...] = ()
    lr: float

    def __init_subclass__(cls) -> None:
        for name in cls._settings:
            setattr(cls, name, _setting(name))

    def __init__(self, params: Groups, defaults: Mapping[str, Any]) -> None:
        owner = type(self).__name__
        if isinstance(params, Module):
            raise TypeError(f"{owner}: params must be parameters, got a layer; pass layer.parameters()")
        if isinstance(params, Parameter):
            raise TypeError(f"{owner}: params must be an iterable of parameters; put the one parameter into a list")
        self.defaults = self._taken(defaults)
        self._check_settings(self.defaults)
        self.param_groups: list[dict[str, Any]] = []
        # The parameters that `state` and `_seen` belong to: those of the groups, as they last were.
        self._members: list[Parameter] = []
        # For each parameter what is kept from step to step: arrays in its shape, and "step", a count.
        self.state: list[dict[str, Any]] = []
        # The array of each that the last step has checked.
        self._seen: list[Array | None] = []
        # What is kept for those that are in no group now, but may come back.
        self._away: list[tuple[Parameter, dict[str, Any]]] = []
        # The settings of the groups that the last step has checked.
        self._checked: list[tuple[Any, ...]] = []
        try:
            given = list(params)
        except TypeError:
            raise TypeError(f"{owner}: params must be an iterable of parameters, got {params!r}") from None
        if not given:
            raise ValueError(f"{owner}: params is empty (a generator such as model.parameters() runs only once)")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)  # type: ignore[arg-type]

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """
        Take over further parameters, with settings of their own.

        Parameters
        ----------
        param_group : dict
            ``"params"``, a parameter or an iterable of them, and any settings by the names of the constructor.

        Raises
        ------
        TypeError
            If it is no dict, or holds something else than parameters.
        ValueError
            If a setting is unknown or out of range, there are no parameters, or the optimiser has one of them already.
        """
        owner = type(self).__name__
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(f'{owner}: a group must be a dict with "params", got {param_group!r}')
        own = param_group["params"]
        found = self._parameters_in([own] if isinstance(own, Parameter) else own)
        if not found:
            raise ValueError(f"{owner}: params is empty (a generator such as model.parameters() runs only once)")
        self._refuse_twice([*self.params, *found])
        settings = self._taken({name: value for name, value in param_group.items() if name != "params"})
        unknown = [name for name in settings if name not in self._settings]
        if unknown:
            raise ValueError(f"{owner}: a group has no setting {unknown[0]!r}, only {', '.join(self._settings)}")
        settings = {**self.defaults, **settings}
        self._check_settings(settings)
        self.param_groups.append({"params": found, **settings})
        self._follow()

    def _parameters_in(self, given: Any) -> list[Parameter]:
        """Return the parameters of a group as a list; TypeError if it holds something else."""
        owner = type(self).__name__
        if isinstance(given, Module):
            raise TypeError(f"{owner}: params must be parameters, got a layer; pass layer.parameters()")
        if not isinstance(given, Iterable):
            raise TypeError(f"{owner}: params must be an iterable of parameters, got {given!r}")
        found = list(given)
        for position, parameter in enumerate(found):
            if not isinstance(parameter, Parameter):
                raise TypeError(f"{owner}: params[{position}] must be a Parameter, got {type(parameter).__name__}")
        return found

    def _refuse_twice(self, parameters: list[Parameter]) -> None:
        if len({id(parameter) for parameter in parameters}) < len(parameters):
            owner = type(self).__name__
            raise ValueError(f"{owner}: params holds a parameter twice; it would be updated twice in one step")

    @property
    def params(self) -> list[Parameter]:
        """Return the parameters of all groups, in their order."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _follow(self) -> None:
        """Let what is kept stand where its parameters are now, and check the groups if those are others than before.

        Groups are lists and dicts that belong to the user. What is kept for a parameter belongs to it alone: the
        kernels of a step trust that it has its shape.
        """
        try:
            if [p for group in self.param_groups for p in group["params"]] == self._members:
                return
        except (TypeError, KeyError):
            pass  # something else than groups: what, is said below
        if not isinstance(self.param_groups, list):
            raise TypeError(f"{type(self).__name__}: param_groups must be a list of dicts, got {self.param_groups!r}")
        for number, group in enumerate(self.param_groups):
            self._settings_of(number, group)
            self._parameters_in(group["params"])
        parameters = self.params
        self._refuse_twice(parameters)
        kept = {id(p): (p, state) for p, state in (*self._away, *zip(self._members, self.state, strict=True))}
        self.state = [kept.pop(id(parameter), (parameter, {}))[1] for parameter in parameters]
        self._members, self._seen = parameters, [None for _ in parameters]
        self._away = [(parameter, state) for parameter, state in kept.values() if state]

    def _settings_of(self, number: int, group: Any) -> tuple[Any, ...]:
        """Return the settings of a group; TypeError or ValueError if it is none."""
        owner = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f'{owner}: param_groups[{number}] must be a dict with "params", got {group!r}')
        if not isinstance(group["params"], (list, tuple)):  # a generator would be empty at the next step
            raise TypeError(
                f"{owner}: param_groups[{number}]['params'] must be a list or tuple of parameters, "
                f"got {group['params']!r}"
            )
        for name in self._several:
            if name in group:
                raise ValueError(
                    f"{owner}: param_groups[{number}] has {name!r}, which nothing reads; its settings are "
                    f"{', '.join(self._settings)}"
                )
        try:
            return tuple([group[name] for name in self._settings])
        except KeyError as error:
            raise ValueError(
                f"{owner}: param_groups[{number}] has no {error.args[0]!r}; add_param_group gives a group what it lacks"
            ) from None

    @staticmethod
    def _taken(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings by the names under which they are kept."""
        return dict(settings)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError if a setting is out of its range."""
        raise TypeError(f"{type(self).__name__}: the class defines no _check_settings")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with `set_to_none` False fill them with 0 instead."""
        self._follow()
        for parameter in self._members:
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.fill(0)

    def step(self) -> None:
        """
        Update every parameter that has a gradient.

        Raises
        ------
        TypeError
            If a setting is no number, a parameter is neither float32 nor float64, or a gradient is no array.
        ValueError
            If a gradient does not fit its parameter, the parameter is read-only (that of a layer in eval mode), or it
            has another shape or dtype than in the steps before. Nothing has been changed then.
        """
        self._follow()
        self._check_step()
        updates: dict[Any, list[tuple[Any, ...]]] = {}
        news = []
        states = iter(self.state)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = next(states)
                if parameter.grad is not None:
                    step, factors, arrays, kept = self._update(parameter.data, parameter.grad, state, group)
                    updates.setdefault((step, *map(float, factors)), []).append(arrays)
                    news.append((state, kept))
        for state, kept in news:  # not before memory was found for all of them
            state.update(kept)
        # Those with the same factors, as a rule all of them, in one go.
        for (step, *factors), jobs in updates.items():
            step(jobs, tuple(factors))

    def _check_step(self) -> None:
        """Look at all that a step needs before anything is changed."""
        operation = f"{type(self).__name__}.step"
        settings = [self._settings_of(number, group) for number, group in enumerate(self.param_groups)]
        if settings != self._checked:
            for group, values in zip(self.param_groups, settings, strict=True):
                self._check_numbers(operation, values)
                self._check_settings(group)
            # Arrays without axes could be written to behind the back of a comparison.
            plain = all(type(value) in (float, int, bool) for values in settings for value in values)
            self._checked = settings if plain else []
        for position, (parameter, seen) in enumerate(zip(self._members, self._seen, strict=True)):
            grad = parameter.grad
            if grad is None:
                continue
            data = parameter.data
            state = self.state[position]
            if data is seen and type(grad) is np.ndarray and data.flags.writeable:
                # What is usual, found quickly. The array is the same, but may have been resized, and a state edited.
                dtype, shape = data.dtype, data.shape
                for one in (grad, *state.values()):
                    if not (
                        type(one) is int or (type(one) is np.ndarray and one.dtype is dtype and one.shape == shape)
                    ):
                        break
                else:
                    continue
            kept = [value for name, value in state.items() if name != "step"]
            check_job(operation, data, grad, kept)
            self._seen[position] = data

    def _check_numbers(self, operation: str, values: tuple[Any, ...]) -> None:
        for name, value in zip(self._settings, values, strict=True):
            check_number(operation, name, value)
            if value != value:
                raise ValueError(f"{operation}: {name} is nan; every parameter would be, too")

    def _update(self, data: Array, grad: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Update:
        """Return the function that updates `data` in place, its factors, the arrays of one of its jobs, and what is
        kept of the parameter from then on. Nothing is changed yet."""
        raise TypeError(f"{type(self).__name__}: the class defines no _update")

    def _names(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Return for each name of a setting in the saved state its group and its name there."""
        return {
            f"group{number}.{name}" if number else name: (group, name)
            for number, group in enumerate(self.param_groups)
            for name in self._settings
        }

    # ---------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Array]:
        """
        Return copies of the settings and of what is kept for each parameter, by name.

        Returns
        -------
        dict of str to ndarray
            Settings such as ``"lr"`` as arrays without axes (``"group1.lr"`` for the second group), and entries such as
            ``"0.momentum_buffer"`` for the first parameter: flat, so that ``cyconv.save`` can write it.
        """
        self._follow()
        result = {name: np.array(group[setting]) for name, (group, setting) in self._names().items()}
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
            Lists all missing, surplus and misshapen names and settings that are out of range; nothing has been changed
            then.
        TypeError
            If `state_dict` is no mapping.
        """
        owner = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{owner}.load_state_dict: expected a mapping of names to arrays, got {type(state_dict).__name__}"
            )
        self._follow()
        own = self._names()
        missing = [name for name in own if name not in state_dict]
        surplus: list[str] = []
        misfits: list[str] = []
        settings: dict[str, Any] = {}
        states: list[dict[str, Any]] = [{} for _ in self._members]
        for name, value in state_dict.items():
            position, _, kind = str(name).partition(".")
            if name in own:
                like: Array = np.empty(())
            elif position.isdecimal() and int(position) < len(self._members) and kind in self._kept():
                like = np.empty((), np.int64) if kind == "step" else self._members[int(position)].data
            else:
                surplus.append(str(name))
                continue
            array = np.asarray(value)
            if problem := misfit(name, like, array):
                misfits.append(problem)
            elif name in own:
                settings[name] = array.item()
            elif kind == "step":
                states[int(position)][kind] = array.item()
                if array < 1:
                    misfits.append(f"out of range: {name} must be at least 1, got {array}")
            else:  # in the memory order of the parameter
                states[int(position)][kind] = copy = np.empty_like(like)
                copy[...] = array
        missing += self._incomplete(states, settings)
        problems = ([f"missing: {', '.join(missing)}"] if missing else []) + misfits
        problems += [f"surplus: {', '.join(surplus)}"] if surplus else []
        problems += [] if problems else self._out_of_range(settings)
        if problems:
            raise ValueError(
                f"{owner}.load_state_dict: the state does not fit, nothing was changed\n  " + "\n  ".join(problems)
            )
        for name, setting in settings.items():
            group, key = own[name]
            group[key] = setting
        self.state, self._seen = states, [None for _ in states]

    def _out_of_range(self, settings: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with settings that a state has, all of them given."""
        problems = []
        for number in range(len(self.param_groups)):
            prefix = f"group{number}." if number else ""
            try:
                self._check_settings({name: settings[prefix + name] for name in self._settings})
            except ValueError as error:
                problems.append(f"out of range: {prefix}{str(error).partition(': ')[2]}")
        return problems

    def _incomplete(self, states: list[dict[str, Any]], settings: Mapping[str, Any]) -> list[str]:
        """Return the names that are missing of parameters that have some state."""
        missing, position = [], 0
        for number, group in enumerate(self.param_groups):
            prefix = f"group{number}." if number else ""
            given = {name: settings[prefix + name] for name in self._settings if prefix + name in settings}
            for state in states[position : position + len(group["params"])]:
                if state:
                    missing += [f"{position}.{kind}" for kind in self._kept(given) if kind not in state]
                position += 1
        return missing

    def _kept(self, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Return the names of what is kept per parameter: all there can be, or those that `settings` lead to."""
        return ()

    def __repr__(self) -> str:
        groups = [", ".join(f"{name}={group[name]}" for name in self._settings) for group in self.param_groups]
        if len(groups) == 1:
            return f"{type(self).__name__}({len(self.params)} parameters, {groups[0]})"
        lines = [f"{len(g['params'])} parameters, {text}" for g, text in zip(self.param_groups, groups, strict=True)]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"


def _setting(name: str) -> property:
    def get(self: Optimizer) -> Any:
        return self.param_groups[0][name]

    def set_(self: Optimizer, value: Any) -> None:
        for group in self.param_groups:
            group[name] = value

    return property(get, set_, doc=f"``{name}`` of the first group; setting it sets it for all groups.")
