"""Arguments as torch has them: names, order and defaults of every function, layer, optimiser and schedule of both."""

import ast
import inspect
import re

import pytest

from cyconv import functional, nn, optim
from cyconv.nn import init, utils
from cyconv.optim import lr_scheduler

torch = pytest.importorskip("torch")
F = torch.nn.functional

#: What torch alone has: where a result is kept and how it is computed, what it gave up, and conversion of dtypes.
NOT_HERE = {
    *("inplace", "device", "foreach", "fused", "capturable", "differentiable", "out"),
    *("size_average", "reduce", "_stacklevel", "min_value", "max_value"),
    *("requires_grad", "generator", "decoupled_weight_decay"),
}
#: By name: what has another meaning, or another default, and why.
OTHERWISE = {
    "softmax": {"dim", "dtype"},  # torch guesses a dim, and says that it should be given
    "log_softmax": {"dim", "dtype"},
    "Softmax": {"dim"},
    "LogSoftmax": {"dim"},
    "add": {"input", "other", "alpha"},  # any number of arrays
    "multiply": {"input", "other"},
    "cat": {"tensors", "inputs"},
    "RMSprop": {"maximize"},  # a keyword here, as of all others
    "pad": {"value"},  # None there, which means 0
    "Parameter": {"data"},
    "Sequential": {"args"},
    "Identity": {"args", "kwargs"},
}
#: Keywords that stand where torch has dtype=None: numbers are float32 here unless told otherwise.
DTYPE = "dtype"


def parameters_of(function):
    """Return [(name, default)] of a function of torch; of one without a signature as its docstring gives it."""
    name = getattr(function, "__name__", "")
    try:
        found = inspect.signature(function).parameters.values()
        kinds = {p.kind for p in found}
        if not kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            return [(p.name, p.default) for p in found if p.kind is not p.KEYWORD_ONLY]
    except ValueError:
        pass
    first = re.search(rf"{name}\((.*?)\)\s*->", function.__doc__ or "", re.DOTALL)
    if not first:
        return None
    text = first.group(1).replace("*, ", "")
    tree = ast.parse(f"def f({text}): ...").body[0].args
    missing = [inspect.Parameter.empty] * (len(tree.args) - len(tree.defaults))
    return list(zip((arg.arg for arg in tree.args), [*missing, *map(ast.literal_eval, tree.defaults)], strict=True))


def same(ours, theirs):
    return ours == theirs or (ours in (0, 0.0) and theirs in (0, 0.0)) or (theirs is None and ours == ())


def deviations(name, ours, theirs):
    """Return how the arguments of ours differ from those of torch's, of which ours may have more behind them."""
    skipped = NOT_HERE | OTHERWISE.get(name, set()) | {DTYPE}
    wanted = [(key, default) for key, default in parameters_of(theirs) if key not in skipped]
    found = [
        (p.name, p.default)
        for p in inspect.signature(ours).parameters.values()
        if p.name not in skipped and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    if [key for key, _ in found[: len(wanted)]] != [key for key, _ in wanted]:
        return f"{name}: {[key for key, _ in found]}, torch has {[key for key, _ in wanted]}"
    wrong = [
        f"{key}={one!r} ({other!r})"
        for (key, one), (_, other) in zip(found, wanted, strict=False)
        if not same(one, other)
    ]
    required = [key for key, default in found[len(wanted) :] if default is inspect.Parameter.empty]
    return f"{name}: {', '.join(wrong + required)}" if wrong or required else None


def twins():
    """Yield (name, ours, torch's) of all that both have by one name."""
    for name in functional.__all__:
        theirs = getattr(F, f"{name}_with_indices", None) or getattr(F, name, None) or getattr(torch, name, None)
        if theirs is not None and not name.endswith("_"):
            yield name, getattr(functional, name), theirs
    rooms = [(nn, torch.nn), (optim, torch.optim), (lr_scheduler, torch.optim.lr_scheduler)]
    for ours, theirs in rooms:
        for name in ours.__all__:
            if isinstance(getattr(ours, name), type) and hasattr(theirs, name):
                yield name, getattr(ours, name), getattr(theirs, name)
    for ours, theirs in ((utils, torch.nn.utils), (init, torch.nn.init)):
        for name in ours.__all__:
            if hasattr(theirs, name):
                yield name, getattr(ours, name), getattr(theirs, name)


TWINS = {name: (ours, theirs) for name, ours, theirs in twins() if name not in ("Module", "UninitializedParameter")}


@pytest.mark.parametrize("name", sorted(TWINS))
def test_arguments_are_those_of_torch(name):
    ours, theirs = TWINS[name]
    if parameters_of(theirs) is None:
        # Written in C, without a signature: functions of one array, and layers of none.
        required = [p for p in inspect.signature(ours).parameters.values() if p.default is p.empty]
        assert len(required) <= 1
        return
    found = deviations(name, ours, theirs)
    assert found is None, found


def test_what_is_compared_and_that_a_deviation_is_told():
    assert len(TWINS) > 200
    assert {"conv2d", "max_pool3d", "cross_entropy", "BatchNorm1d", "AdamW", "OneCycleLR"} <= TWINS.keys()

    def relu(x): ...

    def gelu(input, approximate="tanh"): ...

    assert "torch has ['input']" in deviations("relu", relu, F.relu)
    assert deviations("gelu", gelu, F.gelu) == "gelu: approximate='tanh' ('none')"
