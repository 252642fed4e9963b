"""Classes of users: what a layer that is derived from :class:`Module` or from a layer of ours may be taken to do.

Layers of ours have promises between them: that a gradient is an array which nobody else goes on using, or that a ReLU
behind may be applied while the output is at hand. Of a class that brings a ``forward`` or ``backward`` of its own none
of them is known, so containers call these, and keep no array that it may keep.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

Backward = Any


def adopt(cls: type) -> None:
    """Look at a new class: give it the ``_backward`` that goes with its ``backward``, and note what is its own."""
    own = vars(cls)
    if "backward" in own and "_backward" not in own:
        cls._backward = collect_from_backward  # type: ignore[attr-defined]
    if _ours(cls):
        return
    forward, backward = _theirs(cls, "forward"), _theirs(cls, "backward") or _theirs(cls, "_backward")
    if not (forward or backward):
        return
    cls._fuses = cls._makes_gradients = False  # type: ignore[attr-defined]
    if forward and not backward and _owner(cls, "_backward").__name__ != "Module":
        cls._backward = refuse_backward  # type: ignore[attr-defined]
    elif "_backward" in own and own["_backward"] is not collect_from_backward:
        cls._backward = _guarded(own["_backward"])  # type: ignore[attr-defined]


def _ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "cyconv"


def _owner(cls: type, name: str) -> type:
    """Return the class that a method comes from."""
    return next(base for base in cls.__mro__ if name in vars(base))


def _theirs(cls: type, name: str) -> bool:
    """Return whether a class of a user defines a method that an object would be asked for."""
    owner = _owner(cls, name)
    return not _ours(owner) and vars(owner)[name] is not refuse_backward


def collect_from_backward(module: Any, grad_output: Any, pending: Any, input_grad: bool) -> Any:
    """Serve as ``_backward`` of a module that has only ``backward``: what that adds up is moved to `pending`."""
    parameters = list(module.parameters())
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        grad_input = module.backward(grad_output, input_grad=input_grad)
        found = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
    pending.extend(found)
    _check_and_copy(module, pending, len(pending) - len(found))
    return grad_input


def refuse_backward(module: Any, grad_output: Any, pending: Any, input_grad: bool) -> Any:
    """Serve as ``_backward`` of a class that has a ``forward`` of its own, and inherits the gradient of another."""
    name, base = type(module).__name__, _owner_of_gradient(type(module)).__name__.lstrip("_")
    raise TypeError(
        f"{name}: the class has a forward of its own, whose gradient is not known; define "
        f"backward(grad_output, *, input_grad=True), in which super().backward(...) is the gradient of {base}"
    )


def inherited_backward(cls: type) -> Backward:
    """Return the ``_backward`` that ``super().backward(...)`` means in the ``backward`` of a class."""
    return vars(_owner_of_gradient(cls))["_backward"]


def _owner_of_gradient(cls: type) -> type:
    made = (None, collect_from_backward, refuse_backward)
    return next(base for base in cls.__mro__ if vars(base).get("_backward") not in made)


def _guarded(backward: Backward) -> Backward:
    """Return a ``_backward`` of a user, whose gradients of parameters are checked and copied."""

    @functools.wraps(backward)
    def guarded(self: Any, grad_output: Any, pending: Any, input_grad: bool) -> Any:
        start = len(pending)
        grad_input = backward(self, grad_output, pending, input_grad)
        _check_and_copy(self, pending, start)
        return grad_input

    return guarded


def _check_and_copy(module: Any, pending: Any, start: int) -> None:
    """Look at the gradients that a class of a user found for its own parameters, not for those of layers inside.

    They may be ``grad_output`` or an array that the layer keeps, and a parameter adds later gradients into its own.
    """
    names = {id(parameter): name for name, parameter in module._own_parameters()}
    for place in range(start, len(pending)):
        parameter, gradient = pending[place]
        name = names.get(id(parameter))
        if name is None:
            continue
        shape, kind = np.shape(gradient), getattr(gradient, "dtype", type(gradient).__name__)
        if shape != parameter.shape or kind != parameter.dtype:
            raise ValueError(
                f"{type(module).__name__}: the gradient of {name} must be an array of {parameter.shape}, "
                f"{parameter.dtype}, got {shape}, {kind}"
            )
        pending[place] = parameter, np.asarray(gradient).copy()
