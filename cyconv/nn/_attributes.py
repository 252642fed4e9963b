"""Attributes of layers that are looked at when they are set, and read like any other."""

from __future__ import annotations

from typing import Any

import numpy as np

from cyconv.nn.module import Module, Parameter


class _Checked:
    """An attribute in the dictionary of the object; without ``__get__``, so that Python itself reads it there."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, layer: Any, value: Any) -> None:
        self._check(layer, value)
        vars(layer)[self._name] = value

    def __delete__(self, layer: Any) -> None:
        raise AttributeError(f"{type(layer).__name__}: {self._name} cannot be deleted")

    def _check(self, layer: Any, value: Any) -> None:
        """Raise an error for a value that cannot be."""
        raise NotImplementedError


class Learned(_Checked):
    """A weight or bias. ``optional``: None means that there is none."""

    def __init__(self, optional: bool = False) -> None:
        self._optional = optional

    def _check(self, layer: Any, value: Any) -> None:
        if not isinstance(value, Parameter) and not (self._optional and value is None):
            hint = f"; assign to {self._name}.data to replace its values" if hasattr(value, "dtype") else ""
            legal = "a Parameter or None" if self._optional else "a Parameter"
            raise TypeError(f"{type(layer).__name__}: {self._name} must be {legal}, got {type(value).__name__}{hint}")

    def __getattr__(self, name: str) -> Any:
        # What an object finds that has no parameter of its own.
        raise AttributeError("the layer has no weight yet; was super().__init__(...) called?")


class Buffer(_Checked):
    """An array that belongs to the state, or None. ``axes``: how many it has."""

    def __init__(self, axes: int) -> None:
        self._axes = axes

    def _check(self, layer: Any, value: Any) -> None:
        if value is not None and not (isinstance(value, np.ndarray) and value.ndim == self._axes):
            got = f"{value.ndim} axes" if isinstance(value, np.ndarray) else type(value).__name__
            raise TypeError(
                f"{type(layer).__name__}: {self._name} must be a NumPy array of {self._axes} axes or None, got {got}"
            )


class Axis(_Checked):
    """The number of an axis."""

    def _check(self, layer: Any, value: Any) -> None:
        if not hasattr(value, "__index__"):
            raise TypeError(f"{type(layer).__name__}: {self._name} must be an int, got {value!r}")


class Layer(_Checked):
    """A layer inside. ``optional``: None means that there is none."""

    def __init__(self, optional: bool = False) -> None:
        self._optional = optional

    def _check(self, layer: Any, value: Any) -> None:
        if not isinstance(value, Module) and not (self._optional and value is None):
            raise TypeError(f"{type(layer).__name__}: {self._name} must be a layer, got {type(value).__name__}")


class Missing:
    """Stands in a class for what ``__init__`` makes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError("the layer has no weight yet; was super().__init__(...) called?")


class Fixed(_Checked):
    """What the plans of a layer are made from: it is set at construction, before ``_conv``."""

    def _check(self, layer: Any, value: Any) -> None:
        if "_conv" in vars(layer):
            raise AttributeError(f"{type(layer).__name__}: {self._name} is fixed at construction; make a new layer")
