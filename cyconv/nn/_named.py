"""Methods that public classes inherit, under the names that users know."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType

from cyconv.nn.module import Module


def _renamed(function: FunctionType, name: str) -> FunctionType:
    """Return the same function under another name: the same code, default values and cells."""
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__dict__.update(function.__dict__)
    twin.__doc__, twin.__module__ = function.__doc__, function.__module__
    twin.__annotations__, twin.__qualname__ = function.__annotations__, name
    return twin


def name_methods(classes: Iterable[type]) -> None:
    """
    Let what Python says of wrong arguments name the class that was called.

    A class that gets ``__init__`` or ``forward`` from a base that it shares with others would be called by the name of
    that base, as in "_Conv.__init__() missing 3 required positional arguments". It gets a function of its own instead,
    of the same code: a call costs what it did.

    Parameters
    ----------
    classes : iterable of type
        Those that users know. What they inherit from :class:`Module` itself stays there: classes of users that have
        several bases look for it last.

    Examples
    --------
    >>> from cyconv.nn import Conv2d
    >>> Conv2d.__init__.__qualname__
    'Conv2d.__init__'
    """
    known = list(classes)
    for cls in known:
        for base in cls.__mro__[1:]:
            if base is Module:
                continue
            for name, found in list(vars(base).items()):
                # A method of another class that users know goes on being that one, but for what they make objects by.
                taken = name == "__init__" or (base not in known and not name.startswith("_"))
                if taken and isinstance(found, FunctionType) and getattr(cls, name) is found:
                    setattr(cls, name, _renamed(found, f"{cls.__qualname__}.{name}"))
        if issubclass(cls, Module) and cls is not Module:
            cls.__call__ = cls.forward  # type: ignore[method-assign]
