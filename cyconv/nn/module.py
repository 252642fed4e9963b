"""What every layer has in common: parameters, children, modes, remembered inputs, and the walk of the gradients."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cyconv.functional._arrays import any_array
from cyconv.nn import _users

Array = NDArray[Any]
# What a backward pass found and has not yet added: (parameter, its gradient).
Pending = list[tuple["Parameter", Array]]
# typing has one from Python 3.11 on.
Self = TypeVar("Self", bound="Module")


class Parameter:
    """
    An array that is learned, and the gradient that has added up for it.

    Parameters
    ----------
    data : ndarray
        The values, any shape; kept as they are, without a copy.

    Attributes
    ----------
    data : ndarray
        The values. Optimisers and ``load_state_dict`` write into this array in place.
    grad : ndarray or None
        The sum of all gradients since the last ``zero_grad``, in the shape of `data`; None when there are none.

    Raises
    ------
    TypeError
        `data` is no NumPy array.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Parameter
    >>> p = Parameter(np.zeros(2))
    >>> p.shape, p.grad is None
    ((2,), True)
    """

    __slots__ = ("__weakref__", "data", "grad")

    def __init__(self, data: Array) -> None:
        self.data = data
        self.grad: Array | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data" and not isinstance(value, np.ndarray):
            raise TypeError(f"Parameter: data must be a NumPy array, got {type(value).__name__}")
        object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of `data`."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """Number of elements of `data`."""
        return self.data.size

    def add_grad(self, gradient: Array) -> None:
        """
        Add a gradient to those that are there.

        Parameters
        ----------
        gradient : ndarray
            In the shape and dtype of `data`. The first one is kept without a copy, and later ones are added into
            it: it must be an array that nobody else goes on using.
        """
        if self.grad is None:
            self.grad = gradient
        else:
            self.grad += gradient

    def _check_sum(self, gradient: Array) -> None:
        """Raise ValueError if a gradient cannot be added to the one that is there."""
        held = self.grad
        if held is None or (
            type(held) is np.ndarray
            and held.shape == gradient.shape
            and held.dtype == gradient.dtype
            and held.flags.writeable
        ):
            return
        shape, kind = np.shape(held), getattr(held, "dtype", type(held).__name__)
        locked = "" if getattr(getattr(held, "flags", None), "writeable", True) else " that is read-only"
        raise ValueError(
            f"backward: a parameter of {self.shape}, {self.dtype} holds a gradient of {shape}, {kind}{locked}, to "
            "which none can be added; set it to None"
        )

    def __getstate__(self) -> Any:
        return None, {"data": self.data, "grad": self.grad}

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            for name, value in (part or {}).items():
                # Out of a pickle come arrays in the memory of other objects, which NumPy may never let be written.
                setattr(self, name, _own(value) if name in ("data", "grad") else value)

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"


def _own(array: Any) -> Any:
    """Return an array in memory of its own, of the one dtype object that there is of its dtype."""
    dtype = np.dtype(array.dtype.str) if isinstance(array, np.ndarray) else None
    return array if dtype is None or (array.dtype is dtype and array.flags.owndata) else np.asarray(array).astype(dtype)


class UninitializedParameter(Parameter):
    """
    A parameter of a lazy layer before its first call: it has no shape and no values, and says so when asked for them.

    It becomes an ordinary :class:`Parameter`, the same object, when its layer learns its sizes.

    Raises
    ------
    RuntimeError
        Values, shape or dtype are asked for.

    Examples
    --------
    >>> from cyconv import LazyLinear
    >>> LazyLinear(10).weight
    UninitializedParameter()
    """

    __slots__ = ()

    def __init__(self) -> None:
        self.grad = None

    @property
    def data(self) -> Array:  # type: ignore[override]
        """Raise: there are no values yet."""
        raise RuntimeError(
            "this parameter has no values yet, as its lazy layer has not seen an input: call the network once on an "
            "example, or load a state into it"
        )

    @data.setter
    def data(self, value: Any) -> None:
        raise RuntimeError("this parameter gets its values from its lazy layer: call the network once before")

    def materialize(self, data: Array) -> None:
        """Become an ordinary parameter of these values."""
        self.__class__ = Parameter  # type: ignore[assignment]
        self.data = data  # type: ignore[misc]

    @classmethod
    def forget(cls, parameter: Parameter) -> None:
        """Take its values from a parameter: the opposite of ``materialize``."""
        del parameter.data
        parameter.__class__ = cls

    def __reduce__(self) -> Any:
        return UninitializedParameter, ()

    def __repr__(self) -> str:
        return "UninitializedParameter()"


class IncompatibleKeys(NamedTuple):
    """Names that did not match in ``load_state_dict(..., strict=False)``."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """
    Base of all layers, containers and losses.

    A layer of one's own defines ``forward(input)`` and ``_backward(grad_output, pending, input_grad)``, or, if it is
    only made of other layers, ``forward`` and ``backward`` that call theirs. Parameters and children are found where
    they are assigned: every attribute that is a :class:`Parameter` or a :class:`Module` counts, in the order of
    assignment.

    A class that derives from a layer and has a ``forward`` of its own needs its ``backward``, too; ``super().forward``
    and ``super().backward`` are those of the layer. No ``backward`` may write into the ``grad_output`` it is given.

    In training mode a forward pass remembers the arrays that the backward pass needs, by reference: do not write into
    an input, an output or a parameter before ``backward`` has run, as nobody would notice. Each forward replaces what
    the one before remembered; a forward in eval mode, or one that fails in a container, remembers nothing.

    ``copy.deepcopy`` and pickles make networks of their own, without what a forward pass remembered. ``copy.copy``
    makes another object of the same parameters and layers inside, which remember one forward pass, whoever ran it.

    Attributes
    ----------
    training : bool
        True after construction and ``train()``, False after ``eval()``.

    Raises
    ------
    RuntimeError
        ``backward`` comes before a forward pass in training mode.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Module
    >>> class Double(Module):
    ...     def forward(self, input):
    ...         return 2 * input
    ...
    ...     def _backward(self, grad_output, pending, input_grad):
    ...         return 2 * grad_output if input_grad else None
    >>> layer = Double()
    >>> layer(np.ones(2)).tolist(), layer.backward(np.ones(2)).tolist()
    ([2.0, 2.0], [2.0, 2.0])
    """

    # Class attributes, so that a subclass need not call super().__init__().
    training: bool = True
    _saved: Any = None
    # Whether the gradient that `_backward` returns is an array of its own that the layer does not keep.
    _makes_gradients: bool = False
    # Whether containers may run it together with its neighbours, by other methods than forward and _backward.
    _fuses: bool = True
    # Attributes that are arrays and belong to the state without being learned.
    _buffer_names: tuple[str, ...] = ()
    # Names of the state of a lazy layer that has not learnt its sizes yet; see lazy.py.
    _unknown: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in cls.__dict__:
            raise TypeError(f"{cls.__name__}: define forward instead of __call__; containers call forward")
        # A call is forward itself, with no Python frame between: at batch 1 a LeNet feels each of them.
        cls.__call__ = cls.forward  # type: ignore[method-assign]
        _users.adopt(cls)

    # ---------------------------------------------------------------- forward and backward

    def __call__(self, *args: Any) -> Any:
        """Run ``forward``."""
        return self.forward(*args)

    def forward(self, *args: Any) -> Any:
        """Compute the output; every layer defines its own."""
        raise TypeError(f"{type(self).__name__}: the class defines no forward(input)")

    def backward(self, grad_output: Any, *, input_grad: bool = True) -> Any:
        """
        Carry the gradient of the last training-mode forward from the output back to the input.

        Gradients of the parameters add up in their ``grad``. If anything fails on the way, none of them is changed.

        Parameters
        ----------
        grad_output : array
            Gradient with respect to what ``forward`` returned, in its shape and dtype.
        input_grad : bool
            False leaves out the gradient with respect to the input, as the first layer of a network has no use
            for it.

        Returns
        -------
        ndarray or None
            Gradient with respect to the input; None if `input_grad` is False.

        Raises
        ------
        RuntimeError
            If there was no forward in training mode.
        """
        self._before_backward()
        pending: Pending = []
        run = type(self)._backward
        if run is _users.collect_from_backward:  # a `backward` of its own brought us here, by super().backward
            run = _users.inherited_backward(type(self))
        grad_input = run(self, grad_output, pending, input_grad)
        for parameter, gradient in pending:
            parameter._check_sum(gradient)
        for parameter, gradient in pending:
            parameter.add_grad(gradient)
        return grad_input

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        """
        Like ``backward``, but append ``(parameter, gradient)`` to `pending` instead of adding.

        Containers hand one list through all their layers; the outermost ``backward`` adds when all has succeeded.
        """
        raise TypeError(
            f"{type(self).__name__}: the class defines neither backward(grad_output, *, input_grad=True) "
            "nor _backward(grad_output, pending, input_grad)"
        )

    def _before_backward(self) -> None:
        """Look, in a container, whether a backward pass would be right; for the outermost only."""

    def _nothing_remembered(self) -> RuntimeError:
        why = "there was none, or the network was edited, or a pass failed, after it"
        if not self.training:
            why = "in eval mode forward remembers nothing (call train() before the forward pass)"
        return RuntimeError(f"{type(self).__name__}: backward needs a forward pass in training mode before it; {why}")

    # ---------------------------------------------------------------- what is inside

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly inside, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Yield the modules directly inside."""
        for _, child in self.named_children():
            yield child

    def _named_modules(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """Yield this module and all below, one that occurs twice under both names; ValueError if one holds itself."""
        yield prefix, self
        # For each module from here down to where the walk is: the module, its name and its children.
        path = [(self, prefix, self.named_children())]
        above = {id(self)}
        while path:
            module, name, children = path[-1]
            step = next(children, None)
            if step is None:
                above.discard(id(path.pop()[0]))
                continue
            inside = f"{name}.{step[0]}" if name else step[0]
            if id(step[1]) in above:
                raise ValueError(f"{type(module).__name__}: {inside!r} is a module that holds it; none can hold itself")
            yield inside, step[1]
            path.append((step[1], inside, step[1].named_children()))
            above.add(id(step[1]))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all below with dotted names, each once; this one under `prefix`."""
        seen: set[int] = set()
        for name, module in self._named_modules(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below, each once."""
        for _, module in self.named_modules():
            yield module

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value

    def _own_buffers(self) -> Iterator[tuple[str, Array]]:
        for name in self._buffer_names:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Yield all parameters with dotted names such as ``"0.weight"``; a shared one once, under its first name."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for name, parameter in module._own_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def parameters(self) -> Iterator[Parameter]:
        """Yield all parameters, each once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Array]]:
        """Yield with dotted names the arrays that belong to the state but are not learned."""
        for path, module in self.named_modules(prefix):
            for name, buffer in module._own_buffers():
                yield (f"{path}.{name}" if path else name), buffer

    def num_parameters(self) -> int:
        """Return how many numbers are learned."""
        return sum(parameter.size for parameter in self.parameters())

    # ---------------------------------------------------------------- modes

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode (or eval mode, if `mode` is False) here and in all modules below; return self."""
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(f"{type(self).__name__}.train: mode must be True or False, got {mode!r}")
        for module in list(self.modules()):
            module.training = bool(mode)
            if mode:
                module._thaw()
        return self

    def _thaw(self) -> None:
        """Forget what was prepared from the parameters for eval mode: they may change now."""

    def eval(self: Self) -> Self:
        """Set eval mode here and in all modules below; return self."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """
        Forget the gradients of all parameters.

        Parameters
        ----------
        set_to_none : bool
            True drops the arrays, so that the next gradient is kept without an addition; False fills them with 0.
        """
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.fill(0)

    # ---------------------------------------------------------------- state

    def _state(self) -> dict[str, Array]:
        """Return the arrays themselves, by name: of each module first its parameters, then its buffers.

        Lazy layers that do not know their sizes are left out.
        """
        state: dict[str, Array] = {}
        for path, module in self._named_modules(""):
            if module._unknown:
                continue
            prefix = f"{path}." if path else ""
            own = {name: parameter.data for name, parameter in module._own_parameters()}
            for name, array in (own | dict(module._own_buffers())).items():
                if prefix + name in state:
                    raise ValueError(
                        f"{type(self).__name__}: two arrays of the state are called {prefix + name!r}, as the name of "
                        "an attribute has a dot in it"
                    )
                state[prefix + name] = array
        return state

    def state_dict(self) -> dict[str, Array]:
        """
        Return copies of all parameters and buffers by name.

        Returns
        -------
        dict of str to ndarray
            Names, order and shapes are those of the same network in torch.

        Raises
        ------
        RuntimeError
            A lazy layer has not seen an input yet.
        """
        for path, module in self._named_modules(""):
            if module._unknown:
                raise RuntimeError(
                    f"{type(self).__name__}.state_dict: the lazy layer {path or type(module).__name__!r} has no state "
                    "yet; call the network once on an example"
                )
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """
        Copy the values of a state dictionary into the parameters and buffers.

        Parameters
        ----------
        state_dict : mapping of str to array
            As ``state_dict()`` gives it, or ``{k: v.numpy() for k, v in torch_module.state_dict().items()}``.
            Values are converted to the dtype of the parameter.
        strict : bool
            False leaves out names that are missing or surplus. Shapes must fit in any case.

        Returns
        -------
        IncompatibleKeys
            ``missing_keys`` and ``unexpected_keys``; both are empty if `strict`.

        Raises
        ------
        ValueError
            Lists all missing, surplus and misshapen names, and those of arrays that are read-only; nothing has been
            changed then.
        TypeError
            If `state_dict` is no mapping.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{type(self).__name__}.load_state_dict: expected a mapping of names to arrays, "
                f"got {type(state_dict).__name__}"
            )
        undo: list[Callable[[], None]] = []
        try:
            for path, module in list(self._named_modules("")):
                if module._unknown:
                    prefix = f"{path}." if path else ""
                    names = [name for name in module._unknown if prefix + name in state_dict]
                    undo += module._learn_from({name: np.shape(state_dict[prefix + name]) for name in names})
            return self._copy_state(state_dict, strict)
        except BaseException:
            for restore in reversed(undo):
                restore()
            raise

    def _learn_from(self, shapes: dict[str, tuple[int, ...]]) -> list[Callable[[], None]]:
        """Let a lazy layer take its sizes from its part of a state; return what makes it lazy again."""
        return []

    def _copy_state(self, state_dict: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
        own = self._state()
        missing = [name for name in own if name not in state_dict]
        for path, module in self._named_modules(""):
            missing += [f"{path}.{name}" if path else name for name in module._unknown]
        surplus = [str(name) for name in state_dict if name not in own]
        given, problems = self._arrays_of(state_dict, own)
        if strict:
            if surplus:
                problems.insert(0, "surplus: " + ", ".join(surplus))
            if missing:
                problems.insert(0, "missing: " + ", ".join(missing))
        if not problems:
            for module in self.modules():
                module._thaw()
            own = self._state()  # in place of an array that stays read-only, a layer may have put a copy
            problems = [f"read-only: {name}" for name in given if not own[name].flags.writeable]
        if problems:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state does not fit, nothing was changed\n  "
                + "\n  ".join(problems)
            )
        for name, array in given.items():
            np.copyto(own[name], array, casting="same_kind")
        return IncompatibleKeys(missing, surplus)

    def _arrays_of(self, state_dict: Mapping[str, Any], own: dict[str, Array]) -> tuple[dict[str, Array], list[str]]:
        """Return the values that a state has for arrays of ours, and why some of them cannot be taken."""
        given: dict[str, Array] = {}
        problems: list[str] = []
        mine = {id(array) for array in own.values()}
        for name in own:
            if name not in state_dict:
                continue
            try:
                array = any_array(state_dict[name], "load_state_dict", name)
            except (TypeError, ValueError, RuntimeError, BufferError) as error:
                problems.append(f"no array: {name}: {error}")
                continue
            # What is another array of ours, or a view of it, has changed when its turn comes.
            given[name] = array.copy() if id(array) in mine or id(array.base) in mine else array
            if problem := misfit(name, own[name], array):
                problems.append(problem)
        return given, problems

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles carry the state, not the activations of the last batch.
        return {name: value for name, value in vars(self).items() if name != "_saved"}

    # ---------------------------------------------------------------- text

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return ""

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        children = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not children:
            return f"{type(self).__name__}({extra})"
        return f"{type(self).__name__}(\n  " + "\n  ".join([extra, *children] if extra else children) + "\n)"


def misfit(name: str, own: Array, given: Array) -> str:
    """Return why `given` cannot become the values of `own`, or an empty string."""
    if own.shape != given.shape:
        return f"misshapen: {name} is {own.shape}, the state has {given.shape}"
    if not np.can_cast(given.dtype, own.dtype, casting="same_kind"):
        return f"not convertible: {name} is {own.dtype}, the state has {given.dtype}"
    return ""
