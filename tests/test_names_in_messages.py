"""What Python says of wrong arguments names what the user called, not a private class behind it."""

import inspect
import re

import pytest

import cyconv
from cyconv import functional, nn, optim
from cyconv.nn import init, utils
from cyconv.optim import lr_scheduler

FACES = {
    "cyconv": cyconv,
    "functional": functional,
    "nn": nn,
    "init": init,
    "utils": utils,
    "optim": optim,
    "schedules": lr_scheduler,
}
#: Takes any arguments, as that of torch does.
TAKES_ALL = {"Identity"}
#: What the layers are made of, under the name that it has inside.
INSIDE = {"conv_engine": "engine"}


def public(face):
    return getattr(face, "__all__", None) or [
        name for name, value in vars(face).items() if not name.startswith("_") and inspect.isfunction(value)
    ]


CALLABLES = sorted(
    {
        (name, value)
        for face in FACES.values()
        for name in public(face)
        if (inspect.isclass(value := getattr(face, name)) or inspect.isfunction(value)) and name not in TAKES_ALL
    },
    key=lambda item: (item[0], item[1].__module__),
)
CLASSES = [(name, cls) for name, cls in CALLABLES if inspect.isclass(cls)]


def required(function):
    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def owner_of(error):
    return re.split(r"[ .(:]", str(error.value), maxsplit=1)[0]


def of(name, value):
    module = value.__module__.rpartition(".")[2]
    return f"{module}.{name}"


@pytest.mark.parametrize(("name", "called"), CALLABLES, ids=[of(*item) for item in CALLABLES])
def test_a_call_with_wrong_arguments_names_what_was_called(name, called):
    with pytest.raises(TypeError) as error:
        called(no_such_argument=1)
    assert owner_of(error) == INSIDE.get(name, name)
    if required(called):
        with pytest.raises(TypeError, match="missing") as error:
            called()
        assert owner_of(error) == INSIDE.get(name, name)
    if not any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(called).parameters.values()):
        with pytest.raises(TypeError, match="argument") as error:
            called(*range(50))
        assert owner_of(error) == INSIDE.get(name, name)


@pytest.mark.parametrize(("name", "cls"), CLASSES, ids=[of(*item) for item in CLASSES])
def test_methods_with_wrong_arguments_name_a_public_class(name, cls):
    known = {public_name for public_name, _ in CLASSES}
    methods = [method for key, method in inspect.getmembers(cls, inspect.isfunction) if not key.startswith("_")]
    methods += [cls.__call__] if issubclass(cls, nn.Module) else []
    for method in methods:
        with pytest.raises(TypeError) as error:
            method(no_such_argument=1)
        assert owner_of(error) in known, error.value
        assert method.__doc__


@pytest.mark.parametrize("name", ["Conv2d", "LazyConv2d", "MaxPool2d", "BatchNorm2d"])
def test_a_layer_names_itself_when_it_is_called(name):
    layer = {
        "Conv2d": lambda: nn.Conv2d(1, 1, 1),
        "LazyConv2d": lambda: nn.LazyConv2d(1, 1),
        "MaxPool2d": lambda: nn.MaxPool2d(2),
        "BatchNorm2d": lambda: nn.BatchNorm2d(1),
    }[name]()
    for call in (layer, layer.forward):
        with pytest.raises(TypeError, match=rf"^{name}\.forward\(\) missing 1 required positional argument: 'input'"):
            call()


def test_bases_of_users_keep_their_place():
    """A class of a user may stand behind a layer and before Module."""

    class Loud(nn.Module):
        def backward(self, grad_output, *, input_grad=True):
            return "loud"

    class Both(nn.Conv2d, Loud):
        pass

    assert Both(1, 1, 1).backward(None) == "loud"
