"""Docstrings of gradients: what is said of all of them, written once and filled in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

_Gradient = TypeVar("_Gradient", bound=Callable[..., Any])

_ORDER = ("Parameters", "Returns", "Raises", "Notes", "Examples")
#: Arguments that gradients have and their functions do not.
_MORE = {
    "grad_output": ("ndarray", "In the shape and dtype of the output; a number where the output is one."),
    "output": ("ndarray, optional", "What forward returned, which tells the same; then `input` may be None."),
    "indices": ("ndarray of int64, optional", "What forward returned. Without it the maxima are looked up again."),
    "mask": ("ndarray of bool", "What forward returned."),
    "statistics": ("(ndarray, ndarray), optional", "What forward returned with ``return_statistics=True``."),
    "input_grad": ("bool", "False leaves the gradient of `input` out: None stands in its place."),
    "target_grad": ("bool", "False leaves the gradient of `target` out."),
}


def gradient_of(function: Callable[..., Any], *example: str) -> Callable[[_Gradient], _Gradient]:
    """
    Complete the docstring of a gradient by the sections that it lacks; the gradient itself stays what it is.

    Parameters
    ----------
    function : callable
        What it is the gradient of: its docstring says what the arguments are.
    *example : str
        Lines of Python in which the functions stand in ``F``, and last what they print.

    Returns
    -------
    callable
        A decorator.

    Examples
    --------
    >>> def double(input): ...
    >>> @gradient_of(double, "F.double_backward(1.0)", "(2.0,)")
    ... def double_backward(grad_output, input):
    ...     'Return ``(d_input,)``: twice the gradient.'
    >>> "As :func:`double` took it." in double_backward.__doc__
    True
    """
    *lines, result = example
    shown = ["import numpy as np", "from cyconv import functional as F", *lines]

    def complete(gradient: _Gradient) -> _Gradient:
        raises = f"As :func:`{function.__name__}`, and if `grad_output` has another shape or dtype."
        text = inspect.cleandoc(gradient.__doc__ or "")  # what Python 3.13 keeps; before, it is indented
        for title, body in (
            ("Parameters", _parameters(function, gradient)),
            ("Returns", "tuple of ndarray\n    One gradient for each array argument, in its shape and dtype."),
            ("Raises", f"TypeError, ValueError\n    {raises}"),
            ("Examples", "\n".join([*(f">>> {line}" for line in shown), result])),
        ):
            text = _with_section(text, title, body)
        gradient.__doc__ = text
        return gradient

    return complete


def _parameters(function: Callable[..., Any], gradient: Any) -> str:
    code = gradient.__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    described = [f"{name} : {_MORE[name][0]}\n    {_MORE[name][1]}" for name in arguments if name in _MORE]
    if taken := [name for name in arguments if name not in _MORE]:
        as_given = "them" if len(taken) > 1 else "it"
        described.insert(1, f"{', '.join(taken)}\n    As :func:`{function.__name__}` took {as_given}.")
    return "\n".join(described)


def _with_section(text: str, title: str, body: str) -> str:
    """Return a docstring with a section that it lacks, before the sections that come behind it."""
    if f"\n{title}\n---" in text:
        return text
    section = f"{title}\n{'-' * len(title)}\n{body}"
    behind = _ORDER[_ORDER.index(title) + 1 :]
    places = [at for at in (text.find(f"\n\n{other}\n---") for other in behind) if at >= 0]
    at = min(places, default=len(text))
    return f"{text[:at]}\n\n{section}{text[at:]}"
