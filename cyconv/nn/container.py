"""Layers made of layers: Sequential, Residual, Concat."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

import numpy as np

from cyconv import functional as F
from cyconv.nn._attributes import Axis, Layer
from cyconv.nn._learning import all_inside, lazy_inside, learning
from cyconv.nn.activation import ReLU
from cyconv.nn.module import Module, Pending
from cyconv.nn.normalization import _BatchNorm
from cyconv.nn.pooling import KeepsMaxima


def _refuse_repeats(container: Module) -> None:
    """A module remembers one forward pass only: standing in two places, it would differentiate the wrong one."""
    names: dict[int, str] = {}
    for name, module in container._named_modules(""):
        if id(module) in names:
            raise ValueError(
                f"{type(container).__name__}: the same {type(module).__name__} object stands at "
                f"{names[id(module)]!r} and at {name!r}; a layer remembers one forward pass, so make one for each "
                "place (to share weights, assign the same Parameter to both)"
            )
        names[id(module)] = name


#: Containers in which no layer stood twice when they were last looked at; empty again after any container was edited.
_looked_at: WeakSet[Module] = WeakSet()


class _Container(Module):
    """A module that calls its children. It, or one inside of it, may be edited after it was made."""

    # What forward runs, prepared when it is first called; None as long as a layer inside is lazy.
    _steps: tuple[Any, ...] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if value is self:
            raise ValueError(f"{type(self).__name__}: {name!r} is the container itself, which cannot hold itself")
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if isinstance(value, Module) or isinstance(before, Module):
            self._edited()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._edited()

    def _edited(self) -> None:
        _looked_at.clear()
        if self._steps is not None:
            self._forget()  # the pass that is remembered went through other layers
        self._steps = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_steps"}

    def _whole(self, run: Callable[..., Any], *inputs: Any) -> Any:
        """Run a forward pass that happens as a whole or, if it fails, not at all."""
        try:
            if self._steps is not None:
                return run(*inputs)
            if lazy_inside(self):
                with learning():
                    return run(*inputs)
            self._steps = ()
            return run(*inputs)
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """Forget the forward pass; after one that failed halfway, some layers remember it, others the one before."""
        for module in all_inside(self):
            module._saved = None

    def _before_backward(self) -> None:
        if self not in _looked_at:
            _refuse_repeats(self)
            _looked_at.add(self)


class _Children(_Container):
    """Children in order, by number or by name; they are ordinary attributes, and `_layers` follows these."""

    _layers: tuple[Module, ...] = ()

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], OrderedDict):
            named = list(modules[0].items())
        else:
            named = [(str(position), module) for position, module in enumerate(modules)]
        for name, module in named:
            self._insert(name, module)
        _refuse_repeats(self)

    def _insert(self, name: Any, module: Any) -> None:
        owner = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f"{owner}: a name must be a string, got {name!r}")
        if not name or "." in name or hasattr(self, name):
            raise ValueError(f"{owner}: a name must be new, not empty and without a dot, got {name!r}")
        if not isinstance(module, Module):
            hint = "" if not isinstance(module, (list, tuple)) else "; unpack the list with *"
            raise TypeError(f"{owner}: {name!r} must be a layer, got {type(module).__name__}{hint}")
        setattr(self, name, module)

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if isinstance(value, Module) or isinstance(before, Module):
            self._layers = tuple(self.children())

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._layers = tuple(self.children())

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    def __getitem__(self, index: Any) -> Any:
        """Return the child at a position, or for a slice a new container of the same children."""
        if isinstance(index, slice):
            return self._part(OrderedDict(list(self.named_children())[index]))
        return self._layers[self._place(index)]

    def _place(self, index: Any) -> int:
        """Return an index that is there; TypeError or IndexError."""
        owner, count = type(self).__name__, len(self._layers)
        if not hasattr(index, "__index__"):
            raise TypeError(f"{owner}: an index must be an int, got {index!r}")
        place = operator.index(index)
        if not -count <= place < count:
            raise IndexError(f"{owner}: index {place} is out of range; there are {count} layers")
        return place

    def _part(self, children: OrderedDict[str, Module]) -> Module:
        return Sequential(children)

    def __setitem__(self, index: Any, module: Any) -> None:
        """Put another layer at a position."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected a layer, got {type(module).__name__}")
        name, before = list(self.named_children())[self._place(index)]
        setattr(self, name, module)
        try:
            _refuse_repeats(self)
        except ValueError:
            setattr(self, name, before)
            raise


def takes_relu(layer: Module) -> bool:
    """Return whether a layer can apply the ReLU behind it."""
    return layer._fuses and hasattr(layer, "_forward_rectified")


def _rectified_step(layer: Any, relu: ReLU) -> Callable[[Any], Any]:
    """Return the forward pass of a layer and the ReLU behind it: the ReLU is applied while the output is at hand."""

    def step(input: Any) -> Any:
        output = layer._forward_rectified(input)
        relu._saved = output if relu.training else None
        return output

    return step


def _run(steps: tuple[Callable[[Any], Any], ...], input: Any) -> Any:
    for step in steps:
        input = step(input)
    return input


class Sequential(_Children):
    """
    Run layers one after the other.

    Parameters
    ----------
    *modules : Module, or one OrderedDict of str to Module
        The layers. Without names they are called "0", "1", ..., as in torch.

    Raises
    ------
    TypeError
        If an argument is no layer.
    ValueError
        If a name cannot be used, or one layer object stands in two places.

    Examples
    --------
    >>> from cyconv.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
    >>> model = Sequential(Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2), Flatten(), Linear(6 * 14 * 14, 10))
    >>> model[0].weight.shape
    (6, 1, 5, 5)
    """

    def append(self, module: Module) -> Sequential:
        """Add a layer at the end, under the next free number; return self."""
        number = len(self._layers)
        while str(number) in vars(self):
            number += 1
        name = str(number)
        self._insert(name, module)
        try:
            _refuse_repeats(self)
        except ValueError:
            delattr(self, name)
            raise
        return self

    def forward(self, input: Any) -> Any:
        """Return what the last layer makes of the input."""
        try:
            for step in self._steps or self._arrange():
                input = step(input)
        except BaseException:
            self._forget()
            raise
        return input

    def _arrange(self) -> tuple[Callable[[Any], Any], ...]:
        """Return what forward calls: all steps, or one that runs them all where layers have yet to learn."""
        if lazy_inside(self):
            return (self._learn_and_run,)
        self._steps = steps = self._joined_steps()
        return steps

    def _learn_and_run(self, input: Any) -> Any:
        with learning():
            return _run(self._joined_steps(), input)

    def _joined_steps(self) -> tuple[Callable[[Any], Any], ...]:
        """Return a step for each layer, but one for a layer and the ReLU behind it."""
        steps: list[Callable[[Any], Any]] = []
        before: Module | None = None
        for layer in self._layers:
            if type(layer) is ReLU and before is not None and takes_relu(before):
                steps[-1] = _rectified_step(before, layer)
            else:
                steps.append(layer.forward)
            before = layer
        return tuple(steps)

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        layers, first = self._layers, -1
        if not input_grad:
            # Before the first parameters there is nothing to learn: those layers need no backward pass at all.
            first = next((i for i, layer in enumerate(layers) if any(True for _ in layer.parameters())), len(layers))
        ours = False  # whether a layer made the gradient for us alone
        place, end = len(layers), max(first, 0)
        while place > end:
            place -= 1
            layer, before = layers[place], layers[place - 1] if place > end else None
            if type(layer) is ReLU:
                if isinstance(before, _BatchNorm) and before._fuses and before._rectified(layer):
                    place -= 1
                    grad_output = before._differentiate(grad_output, pending, place > first, True, ours)
                elif ours:
                    grad_output = layer._backward_into(grad_output)
                else:
                    grad_output = layer._backward(grad_output, pending, place > first)
            elif isinstance(layer, _BatchNorm) and layer._fuses:
                grad_output = layer._differentiate(grad_output, pending, place > first, False, ours)
            elif type(layer) is Residual and type(before) is ReLU and not self._joined(place - 1):
                place -= 1
                grad_output = layer._backward_rectified(grad_output, pending, before)
            elif isinstance(layer, KeepsMaxima) and layer._fuses and type(before) is ReLU and self._pooled(place - 1):
                place -= 1
                grad_output = layer._backward_rectified(grad_output)
            else:
                grad_output = layer._backward(grad_output, pending, place > first)
            ours = layer._makes_gradients
        return grad_output if input_grad else None

    def _joined(self, place: int) -> bool:
        """Whether the ReLU at this place and a batch norm before it go backward in one pass."""
        before = self._layers[place - 1] if place > 0 else None
        return isinstance(before, _BatchNorm) and before._fuses and before._rectified(self._layers[place])

    def _pooled(self, place: int) -> bool:
        """Whether the ReLU at this place goes backward with the maxima behind it, and not with a batch norm before."""
        layers = self._layers
        return bool(layers[place + 1]._follows(layers[place])) and not self._joined(place)  # type: ignore[attr-defined]

    @property
    def _makes_gradients(self) -> bool:  # type: ignore[override]
        return bool(self._layers) and self._layers[0]._makes_gradients

    def _before_norm(self, input: Any) -> Any:
        """Return what the last layer, a batch norm, is given."""
        if self._steps is None and not lazy_inside(self):
            self._steps = self._joined_steps()
        return _run((self._steps or self._joined_steps())[:-1], input)


class Residual(_Container):
    """
    Add what a shortcut makes of the input to what a body makes of it: y = body(x) + shortcut(x).

    Parameters
    ----------
    body : Module
        The main way.
    shortcut : Module, optional
        The other way; None passes the input on as it is.

    Raises
    ------
    TypeError
        If an argument is no layer; in forward, if the two results differ in dtype.
    ValueError
        If one layer object stands in both; in forward, if the two results differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Identity, Residual
    >>> Residual(Identity())(np.ones(3)).tolist()
    [2.0, 2.0, 2.0]
    """

    _makes_gradients = True

    body: Any = Layer()
    shortcut: Any = Layer(optional=True)

    def __init__(self, body: Module, shortcut: Module | None = None) -> None:
        self.body = body
        self.shortcut = shortcut
        _refuse_repeats(self)

    def forward(self, input: Any) -> Any:
        """Return body(input) + shortcut(input)."""
        return self._whole(self._sum, input, False)

    def _forward_rectified(self, input: Any) -> Any:
        return self._whole(self._sum, input, True)

    def _sum(self, input: Any, rectified: bool) -> Any:
        body = self.body
        # A batch norm at the end of the body adds the shortcut while its output is at hand.
        norm = body._layers[-1] if type(body) is Sequential and body._layers else None
        if isinstance(body, Sequential) and isinstance(norm, _BatchNorm) and norm._fuses and not norm._unknown:
            main = body._before_norm(input)
            return norm._forward_added(main, self._other(input, main), rectified)
        main = body(input)
        other = self._other(input, main)
        return F.add_relu(main, other) if rectified else F.add(main, other)

    def _other(self, input: Any, main: Any) -> Any:
        """Return what the shortcut gives; `main` has the shape and dtype of what the body gives."""
        other = np.asarray(input) if self.shortcut is None else self.shortcut(input)
        for name, found in (("body", main), ("shortcut", other)):
            if not isinstance(found, np.ndarray):
                raise TypeError(f"Residual: {name} must give an array, got {type(found).__name__}")
        if main.shape != other.shape:
            raise ValueError(f"Residual: body gives shape {main.shape}, shortcut {other.shape}; they must be equal")
        if main.dtype != other.dtype:
            raise TypeError(f"Residual: body gives {main.dtype}, shortcut {other.dtype}; they must be equal")
        return other

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        main, other = self._gradients(grad_output, pending, input_grad)
        return F.join_gradients(main, other, out=self._to(main)) if input_grad else None

    def _backward_rectified(self, grad_output: Any, pending: Pending, relu: ReLU) -> Any:
        """Go backward through the ReLU before as well, whose output was the input, while the sum is at hand."""
        if relu._saved is None:
            raise relu._nothing_remembered()
        main, other = self._gradients(grad_output, pending, True)
        return F.join_gradients(main, other, output=relu._saved, out=self._to(main))

    def _gradients(self, grad_output: Any, pending: Pending, input_grad: bool) -> tuple[Any, Any]:
        main = self.body._backward(grad_output, pending, input_grad)
        if self.shortcut is None:
            return main, grad_output
        return main, self.shortcut._backward(grad_output, pending, input_grad)

    def _to(self, main: Any) -> Any:
        return main if self.body._makes_gradients else None


class Concat(_Children):
    """
    Run branches side by side on the same input and join their outputs along the channels.

    Parameters
    ----------
    *modules : Module, or one OrderedDict of str to Module
        The branches, at least one.
    dim : int
        The axis to join along. The default, third from the end, is that of the channels in (N, C, H, W) and
        (C, H, W).

    Raises
    ------
    TypeError
        If an argument is no layer; in forward, if the results differ in dtype.
    ValueError
        If there is no branch, a name cannot be used, or one layer object stands in two places; in forward, if the
        results differ in shape other than along `dim`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Concat, Conv2d
    >>> layer = Concat(Conv2d(3, 4, 1), Conv2d(3, 8, 3, padding=1))
    >>> layer(np.ones((2, 3, 6, 6), np.float32)).shape
    (2, 12, 6, 6)
    """

    dim: Any = Axis()

    def __init__(self, *modules: Any, dim: int = -3) -> None:
        self.dim = dim
        super().__init__(*modules)
        if not self._layers:
            raise ValueError("Concat: at least one branch is needed")

    def _part(self, children: OrderedDict[str, Module]) -> Module:
        return Concat(children, dim=self.dim)

    def forward(self, input: Any) -> Any:
        """Return the outputs of all branches, joined."""
        return self._whole(self._join, input)

    def _join(self, input: Any) -> Any:
        outputs = [branch(input) for branch in self._layers]
        if not outputs:
            raise ValueError("Concat: at least one branch is needed")
        for position, output in enumerate(outputs):
            if not isinstance(output, np.ndarray):
                raise TypeError(f"Concat: branch {position} must give an array, got {type(output).__name__}")
        dim, first = operator.index(self.dim), outputs[0]
        if not -first.ndim <= dim < first.ndim:
            raise ValueError(f"Concat: dim is {dim}, but the branches give {first.ndim} axes (shape {first.shape})")
        dim %= first.ndim
        for position, output in enumerate(outputs):
            if (
                output.ndim != first.ndim
                or output.shape[:dim] + output.shape[dim + 1 :] != first.shape[:dim] + first.shape[dim + 1 :]
            ):
                raise ValueError(
                    f"Concat: branch 0 gives shape {first.shape}, branch {position} {output.shape}; "
                    f"they may differ along axis {dim} only"
                )
            if output.dtype != first.dtype:
                raise TypeError(f"Concat: branch 0 gives {first.dtype}, branch {position} {output.dtype}")
        result = np.concatenate(outputs, axis=dim)
        self._saved = (dim, tuple(output.shape[dim] for output in outputs), result.shape) if self.training else None
        return result

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        dim, sizes, shape = self._saved
        grad_output = np.asarray(grad_output)
        if grad_output.shape != shape:
            raise ValueError(f"Concat: grad_output must have the shape of the output {shape}, got {grad_output.shape}")
        total, owned, start = None, False, 0
        for branch, size in zip(self._layers, sizes, strict=True):
            part = grad_output[(slice(None),) * dim + (slice(start, start + size),)]
            start += size
            gradient = branch._backward(part, pending, input_grad)
            if not input_grad:
                continue
            if total is None:
                total = gradient
            else:
                # The first sum is a new array, as an Identity gives back a part of grad_output itself.
                total = np.add(total, gradient, out=total if owned else None)
                owned = True
        return total

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}"
