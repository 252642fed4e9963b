"""Every argument of every operation, bent: either it computes, or the error says which operation minds and why."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from calls import CALLS, Call

from cyconv import _geometry
from cyconv import functional as F


class Index:
    """An int by its protocol alone."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


NUMBERS = [0, -1, 1.5, 2**31 - 1, 2**31, 2**32, 2**55, 2**63, -(2**63), 10**30, float("nan"), float("inf"), None, "x"]
NUMBERS += [b"x", True, (), (0,), (1, 2, 3, 4, 5, 6, 7), [[1]], {}, np.float32(2), np.int64(-3), 1j, object()]
NUMBERS += [10**400, 1e308, np.array([1]), np.array([[1.0]]), np.array(1.5), (np.array([1]),), np.complex64(1)]
NUMBERS += [np.True_, Index(2), Fraction(3, 2), bytearray(b"\x02\x02"), range(1, 3)]
SHAPE = (2, 4, 6, 5)
GIANTS = [np.broadcast_to(np.float32(1), shape) for shape in ((2**20,) * 2, (2**10,) * 4)]
ARRAYS = [None, "x", 3, [[1, 2], [3]], object(), np.ma.masked_array(np.ones(SHAPE, np.float32))]
ARRAYS += [
    np.ones(SHAPE, dtype) for dtype in (complex, object, int, bool, np.float16, np.float64, ">f4", "M8[s]", "U1")
]
ARRAYS += [np.ones(shape, np.float32) for shape in ((), (0,), (3,), (3, 5), (1,) * 9, (2, 0, 6, 5), (0, 4, 6, 5))]
ARRAYS += [np.ones((2, 4, 0, 5), np.float32), np.array([-1, 2, 3]), np.array([0, 1, 99]), np.array([2**62] * 3)]
ARRAYS += [np.array([np.nan]), np.array("x"), *GIANTS]

IDS = [f"{call.name}-{sum(other.name == call.name for other in CALLS[:i])}" for i, call in enumerate(CALLS)]
#: Whose gradients only move, so that the dtype of the input plays no part.
VIEWS = ("cat",)
BACKWARD = [call for call in CALLS if hasattr(F, f"{call.name}_backward")]


@pytest.fixture(autouse=True)
def small_machine(monkeypatch):
    """A machine of 2 GiB: what is too large for it must be refused, not tried."""
    monkeypatch.setattr(_geometry, "physical_memory", lambda: 2.0**31)


def complaint(operation: str, attempt: Callable[[], Any]) -> str | None:
    """Return what is wrong with how a call ends, None if it computes or is refused as it should be."""
    try:
        attempt()
    except (ValueError, TypeError, MemoryError) as error:
        message = str(error)
        # An input can be larger than the machine: the copy or the result finds no memory, and no argument is wrong.
        lacking = isinstance(error, MemoryError) and message.startswith(("cyconv: no ", "Unable to allocate"))
        return None if message.startswith(f"{operation}: ") or lacking else f"{type(error).__name__}: {message}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def shown(value: Any) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else f"{value!r:.50}"


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_a_bent_argument_computes_or_is_refused_by_name(call: Call):
    call()
    wrong = []
    for name, value in call.arguments.items():
        for bent in ARRAYS if isinstance(value, np.ndarray | list) else NUMBERS:
            said = complaint(call.name, lambda: call(**{name: bent}))  # noqa: B023
            if said:
                wrong.append(f"{name}={shown(bent)}: {said}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_after_every_refusal_the_operation_computes_as_before(call: Call):
    first = call()
    for name, value in call.arguments.items():
        for bent in ARRAYS[:8] if isinstance(value, np.ndarray | list) else NUMBERS[:8]:
            complaint(call.name, lambda: call(**{name: bent}))  # noqa: B023
    for before, after in zip(_arrays(first), _arrays(call()), strict=True):
        np.testing.assert_array_equal(before, after)


def _arrays(result: Any) -> list[np.ndarray]:
    return list(result) if isinstance(result, tuple) else [np.asarray(result)]


def _of_another_shape(g: np.ndarray) -> list[np.ndarray]:
    longer = [np.ones([n + (axis == i) for i, n in enumerate(g.shape)], g.dtype) for axis in range(g.ndim)]
    shorter = [np.ones([n - (axis == i) for i, n in enumerate(g.shape)], g.dtype) for axis in range(g.ndim)]
    return [*longer, *shorter, g[..., None], g[None], g.reshape(-1, 1), np.ones((0, *g.shape), g.dtype)]


@pytest.mark.parametrize("call", BACKWARD, ids=lambda call: call.name)
def test_a_bent_gradient_is_refused_by_name(call: Call):
    arguments = call.fresh()
    result = call()
    gradient = np.ones_like(result[0] if isinstance(result, tuple) else result)
    backward, operation = getattr(F, f"{call.name}_backward"), f"{call.name}_backward"
    arguments.pop("rng", None)
    if "dropout" in call.name:
        arguments["mask"] = call(return_mask=True)[1]
    if "fractional" in call.name:
        arguments["indices"] = call(return_indices=True)[1]
    backward(gradient, **arguments)
    bent = [None, "x", [[1, 2], [3]], object(), *GIANTS, gradient.astype(complex)]
    if gradient.ndim:  # a loss takes numbers of any kind
        bent += _of_another_shape(gradient) + [gradient.astype(dtype) for dtype in (object, int, np.float16)]
        bent += [] if call.name in VIEWS else [gradient.astype(np.float64)]
    wrong = []
    for value in bent:
        try:
            backward(value, **arguments)
        except (ValueError, TypeError, MemoryError) as error:
            if not str(error).startswith(f"{operation}: "):
                wrong.append(f"{shown(value)}: {type(error).__name__}: {error}")
        else:
            wrong.append(f"{shown(value)}: accepted")
    assert not wrong, "\n".join(wrong)


def test_a_truth_value_in_a_tuple_is_no_number_even_where_the_same_sizes_came_before():
    """(1, 1) and (True, 1.0) are equal, and would be found under the same key of a cache."""
    x = np.ones((1, 2, 4, 4), np.float32)
    for call in (
        lambda value: F.max_pool2d(x, value),
        lambda value: F.avg_pool2d(x, 2, value),
        lambda value: F.adaptive_avg_pool2d(x, value),
        lambda value: F.unfold(x, value),
        lambda value: F.conv2d(x, np.ones((1, 2, 1, 1), np.float32), None, value),
        lambda value: F.interpolate(x, value),
        lambda value: F.pad(x, value),
        lambda value: F.unflatten(x, 1, (*value, 2)),
    ):
        call((1, 1))
        with pytest.raises(TypeError, match="must be"):
            call((True, 1.0))


def test_what_stands_for_an_int_or_a_number_is_taken_as_one():
    """Each of these meant something to the check, and then something else to what came behind it."""
    x, labels = np.ones((2, 3), np.float32), np.array([0, 2])
    assert F.cross_entropy(x, labels, None, Index(2)) == F.cross_entropy(x, labels, None, 2)
    assert F.nll_loss(x, labels, None, Index(2)) == F.nll_loss(x, labels, None, 2)
    line = np.ones((1, 1, 4), np.float32)
    for factor in (np.array(1.5), Fraction(3, 2), np.float16(1.5)):
        np.testing.assert_array_equal(F.interpolate(line, scale_factor=factor), F.interpolate(line, scale_factor=1.5))
        assert F.dropout(x, Fraction(1, 2), True, rng=1).tolist() == F.dropout(x, 0.5, True, rng=1).tolist()


def test_no_number_is_too_large_to_be_refused_by_name():
    x = np.ones((1, 1, 4, 4), np.float32)
    for name, call in {
        "batch_norm": lambda: F.batch_norm(x, None, None, training=True, momentum=10**400),
        "dropout": lambda: F.dropout(x, 10**400, True),
        "interpolate: scale_factor must be": lambda: F.interpolate(x, scale_factor=-(10**400)),
        "interpolate: scale_factor makes an axis longer": lambda: F.interpolate(x, scale_factor=1e308),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()
    assert F.hardtanh(x, -1, 10**400).sum() == 16
