"""Every operation on arrays of every kind: what is no plain array computes the same bits or is refused, and results are
the caller's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from calls import CALLS, Call

import cyconv
from cyconv import _settings
from cyconv import functional as F

IDS = [f"{call.name}-{sum(other.name == call.name for other in CALLS[:i])}" for i, call in enumerate(CALLS)]
every_operation = pytest.mark.parametrize("call", CALLS, ids=IDS)
#: Updated in place: these must be arrays of NumPy's that can be written to, in the dtype of the input.
IN_PLACE = ("running_mean", "running_var")
#: Operations that return a view of their input, as NumPy's reshape does, and those whose gradients are views.
VIEWS, VIEWED = ("flatten", "unflatten"), ("flatten", "unflatten", "cat")


class Annotated(np.ndarray):
    """A subclass, such as libraries of physical units have."""


def misaligned(x: np.ndarray) -> np.ndarray:
    result = np.ndarray(x.shape, x.dtype, np.empty(x.nbytes + 1, np.uint8)[1:])
    result[...] = x
    assert not result.flags.aligned
    return result


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def sliced(x: np.ndarray) -> np.ndarray:
    wide = np.zeros([2 * size + 1 for size in x.shape], x.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def foreign(x: np.ndarray, *known: str) -> Any:
    """An object of a class of its own: NumPy looks for protocols on the class."""
    return type("Foreign", (), {name: property(lambda self, _n=name: getattr(x, _n)) for name in known})()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "DLPack": lambda x: foreign(x, "__dlpack__", "__dlpack_device__"),
    "array interface": lambda x: foreign(x, "__array_interface__"),
    "array protocol": lambda x: foreign(x, "__array__"),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "misaligned": misaligned,
    "read-only": read_only,
    "sliced": sliced,
    "subclass": lambda x: x.view(Annotated),
}


def parts(result: Any) -> list[np.ndarray]:
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,)) if part is not None]


def backward_of(call: Call, arguments: dict[str, Any], gradient: Any) -> Any:
    """Return the gradients, None of an operation that has none."""
    function = getattr(F, f"{call.name}_backward", None)
    if function is None:
        return ()
    arguments = {name: value for name, value in arguments.items() if name != "rng"}
    if "dropout" in call.name:
        arguments["mask"] = call(return_mask=True)[1]
    if "fractional" in call.name:
        arguments["indices"] = call(return_indices=True)[1]
    return function(gradient, **arguments)


def gradient_of(result: Any) -> np.ndarray:
    first = np.asarray(result[0] if isinstance(result, tuple) else result)
    return np.random.default_rng(7).standard_normal(first.shape).astype(first.dtype)


def computed(call: Call, arguments: dict[str, Any], gradient: Any = None) -> list[np.ndarray]:
    """Return output and gradients."""
    result = call.function(**arguments)
    gradient = gradient_of(result) if gradient is None else gradient
    return parts(result) + parts(backward_of(call, arguments, gradient))


def arrays_in(arguments: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays among the arguments, those in lists too."""
    found = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray)}
    for name, value in arguments.items():
        if isinstance(value, list):
            found |= {f"{name}[{i}]": item for i, item in enumerate(value)}
    return found


def with_array(arguments: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Return the arguments with another array in one place."""
    name, _, index = place.partition("[")
    if not index:
        return arguments | {name: value}
    items = list(arguments[name])
    items[int(index[:-1])] = value
    return arguments | {name: items}


def assert_same_bits(got: list[np.ndarray], wanted: list[np.ndarray], what: str) -> None:
    assert len(got) == len(wanted), what
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"{what}: entry {i} of results and gradients", strict=True)


@pytest.mark.parametrize("form", FORMS)
@every_operation
def test_an_array_of_another_kind_computes_the_same_bits(call: Call, form: str):
    wanted = computed(call, call.fresh())
    for place in arrays_in(call.arguments):
        if place in IN_PLACE:
            continue
        arguments = call.fresh()
        arguments = with_array(arguments, place, FORMS[form](arrays_in(arguments)[place]))
        got = computed(call, arguments)
        assert_same_bits(got, wanted, f"{place} is {form}")
        assert all(type(part) is np.ndarray and part.dtype.isnative for part in got)
    gradient = gradient_of(call())
    if gradient.ndim == 0:
        return  # that of a loss is a number
    gradient = FORMS[form](gradient)
    assert_same_bits(computed(call, call.fresh(), gradient), wanted, f"the gradient is {form}")


@every_operation
def test_a_masked_array_is_refused(call: Call):
    """Its numbers under the mask would count."""
    for place, array in arrays_in(call.arguments).items():
        if place in IN_PLACE:
            continue
        with pytest.raises(TypeError, match=rf"^{call.name}: .*masked"):
            call.function(**with_array(call.fresh(), place, np.ma.masked_array(array)))
    if hasattr(F, f"{call.name}_backward") and np.ndim(call()):
        with pytest.raises(TypeError, match=rf"^{call.name}_backward: .*masked"):
            backward_of(call, call.fresh(), np.ma.masked_array(gradient_of(call())))


@every_operation
def test_results_are_the_callers_own(call: Call):
    """They share no memory with an argument, with each other or with a later result, and no argument has changed."""
    arguments = call.fresh()
    before = {place: array.copy() for place, array in arrays_in(arguments).items()}
    result = parts(call.function(**arguments))
    gradient = gradient_of(result[0])
    kept, gradient_before = [part.copy() for part in result], gradient.copy()
    gradients = parts(backward_of(call, arguments, gradient))
    later = [] if call.name in VIEWS else parts(call.function(**arguments))
    others = [gradient, *arrays_in(arguments).values(), *later]
    for i, one in enumerate([*result, *gradients]):
        assert one.flags.writeable or one.ndim == 0
        if call.name in (VIEWS if i < len(result) else VIEWED):
            continue
        for other in [*others, *result, *gradients][: len(others) + i]:
            assert not np.shares_memory(one, other)
    assert_same_bits(result, kept, "a later call wrote to the result")
    np.testing.assert_array_equal(gradient, gradient_before)
    for place, array in arrays_in(arguments).items():
        if place not in IN_PLACE:
            np.testing.assert_array_equal(array, before[place], err_msg=place)


def test_eight_python_threads_find_the_same_bits_in_every_operation(monkeypatch):
    """All operations at once, each of them by two threads of its own."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    with cyconv.threads(2):
        alone = [computed(call, call.fresh()) for call in CALLS]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda call: computed(call, call.fresh()), CALLS * 8))
    for i, got in enumerate(together):
        assert_same_bits(got, alone[i % len(CALLS)], IDS[i % len(CALLS)])


@pytest.mark.parametrize(
    "attempt",
    [
        lambda m: cyconv.InstanceNorm2d(4)(m(2, 4, 6, 5)),
        lambda m: cyconv.BatchNorm2d(4)(m(2, 4, 6, 5)),
        lambda m: cyconv.Conv2d(4, 3, 3)(m(2, 4, 6, 5)),
        lambda m: cyconv.Linear(5, 2)(m(2, 5)),
        lambda m: cyconv.CrossEntropyLoss(m(5))(np.ones((3, 5), np.float32), np.array([0, 1, 2])),
        lambda m: cyconv.CrossEntropyLoss()(np.ones((3, 5), np.float32), m(3).astype(int)),
        lambda m: cyconv.BCEWithLogitsLoss(pos_weight=m(5))(np.ones((3, 5), np.float32), np.ones((3, 5), np.float32)),
    ],
)
def test_layers_refuse_masked_arrays_too(attempt: Callable[[Callable[..., Any]], Any]):
    attempt(lambda *shape: np.ones(shape, np.float32))
    with pytest.raises(TypeError, match="is a masked array; fill it first"):
        attempt(lambda *shape: np.ma.masked_array(np.ones(shape, np.float32)))
