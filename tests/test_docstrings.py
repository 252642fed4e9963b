"""Docstrings of all public names: numpydoc sections that are true of the signature, and examples that run."""

import doctest
import importlib
import inspect
import re

import pytest

import cyconv
from cyconv import functional, models, nn, optim
from cyconv.nn import init, utils
from cyconv.optim import lr_scheduler

#: Rooms whose public names users call.
ROOMS = (cyconv, functional, nn, optim, lr_scheduler, init, utils, models)
#: What layers and optimisers of this package are made of: told what they do, not shown at work.
INNER = {
    *("ConvLayer", "ConvTransposeLayer", "conv_engine", "conv_expected_time", "batch_norm_scale_shift", "Maxima"),
    *("sgd_step", "adam_step", "rmsprop_step", "adagrad_step", "scale_", "clamp_"),
}
#: They take whatever they are given.
RAISE_NOTHING = {"Identity", "get_num_threads", "show_config", "uniform_", "normal_", "constant_"}


def public():
    """Return {name: object} of all that is public in a room and written in this package."""
    found = {}
    for room in ROOMS:
        names = getattr(room, "__all__", [name for name in vars(room) if not name.startswith("_")])
        for name in names:
            value = getattr(room, name)
            if callable(value) and value.__module__.startswith("cyconv"):
                found.setdefault(id(value), (name, value))
    return dict(found.values())


NAMES = public()


def has(text, title):
    """Whether a docstring has a section, underlined as long as its title."""
    return re.search(rf"^{title}\n-{{{len(title)}}}\n\S", text, re.MULTILINE) is not None


def lacking(name, value):
    """Return the sections that a docstring should have and has not."""
    text = inspect.getdoc(value) or ""
    missing = [] if text else ["everything"]
    if name in INNER:
        return missing
    parameters = [p for p in inspect.signature(value).parameters.values() if not p.name.startswith("_")]
    if parameters and not has(text, "Parameters"):
        missing.append("Parameters")
    if not inspect.isclass(value):
        returned = inspect.signature(value).return_annotation
        if returned not in (None, "None") and not (has(text, "Returns") or has(text, "Yields")):
            missing.append("Returns")
    if name not in RAISE_NOTHING and not has(text, "Raises"):
        missing.append("Raises")
    if not has(text, "Examples") or ">>> " not in text:
        missing.append("Examples")
    return missing


def test_every_public_name_has_its_sections():
    gaps = [f"{name}: {', '.join(found)}" for name, value in sorted(NAMES.items()) if (found := lacking(name, value))]
    assert not gaps, "\n".join(["docstrings lack sections:", *gaps])
    assert len(NAMES) > 330
    assert {"Conv2d", "conv2d_backward", "cross_entropy", "StepLR", "kaiming_normal_", "LeNet5"} <= NAMES.keys()
    assert NAMES.keys() >= INNER | RAISE_NOTHING


@pytest.mark.parametrize("name", sorted(NAMES.keys() - INNER))
def test_every_argument_is_described(name):
    """By its name in the section of the parameters, alone or in a row of others."""
    text = inspect.getdoc(NAMES[name])
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n---|\Z)", text, re.MULTILINE | re.DOTALL)
    listed = [line.split(":")[0] for line in section.group(1).split("\n") if line[:1].strip()] if section else []
    described = {word.strip("*` ") for line in listed for word in line.split(",")}
    arguments = {p.name for p in inspect.signature(NAMES[name]).parameters.values() if p.name[0] != "_"}
    # Forward's switch, which gradients only pass through.
    assert arguments - described - ({"return_indices"} if name.endswith("_backward") else set()) == set(), name


def test_examples_run():
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(verbose=False)
    shown = []
    for name, value in NAMES.items():
        for test in finder.find(value, name, globs=dict(vars(importlib.import_module(value.__module__)))):
            runner.run(test, out=shown.append)
    assert runner.failures == 0, "".join(shown)
    assert runner.tries > 800


def test_a_gap_is_told():
    def nothing(a, b=1): ...

    def half(a):
        """
        Return.

        Parameters
        ----------
        a : int
        """

    assert lacking("nothing", nothing) == ["everything", "Parameters", "Returns", "Raises", "Examples"]
    assert lacking("half", half) == ["Returns", "Raises", "Examples"]
