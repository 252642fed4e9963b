"""Optimisers whose arrays are edited by hand, and parameters that leave and come back."""

import copy
import pickle

import numpy as np
import pytest

from cyconv.nn import Parameter
from cyconv.optim import SGD, Adagrad, Adam, RMSprop

ALL = [
    lambda p: SGD(p, lr=0.1, momentum=0.9),
    lambda p: Adam(p, lr=0.1, amsgrad=True),
    lambda p: RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    lambda p: Adagrad(p, lr=0.1),
]


def ready(size, value=1.0, dtype=np.float64):
    parameter = Parameter(np.full(size, value, dtype))
    parameter.grad = np.ones(size, dtype)
    return parameter


def two(make):
    """An optimiser in the middle of training, two parameters in two groups."""
    first, second = ready(5), ready(3)
    optimizer = make([{"params": [first]}, {"params": [second]}])
    optimizer.step()
    return optimizer, first, second


def test_a_parameter_that_comes_back_finds_what_was_kept():
    optimizer, first, second = two(ALL[0])
    whole, one, _ = two(ALL[0])
    group = optimizer.param_groups.pop(0)
    optimizer.step()
    optimizer.param_groups.append(group)
    for each in (optimizer, whole):
        each.step()
    np.testing.assert_array_equal(first.data, one.data)
    assert optimizer.params == [second, first]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_may_be_edited_too(duplicate):
    optimizer, first, second = two(ALL[0])
    other = duplicate(optimizer)
    for each in (optimizer, other):
        each.param_groups.reverse()
        each.step()
    np.testing.assert_array_equal(other.params[0].data, second.data)
    np.testing.assert_array_equal(other.params[1].data, first.data)


@pytest.mark.parametrize("make", ALL)
def test_arrays_edited_in_place_are_looked_at_in_every_step(make):
    """The same array as in the step before, but larger; what is kept for it, but smaller."""
    parameter = Parameter(np.ones(6))
    parameter.grad = np.ones(6)
    optimizer = make([parameter])
    optimizer.step()
    parameter.data.resize(60_000, refcheck=False)
    parameter.grad = np.ones(60_000)
    before = parameter.data.copy()
    with pytest.raises(ValueError, match=r"a parameter of \(60000,\), float64 was of \(6,\), float64"):
        optimizer.step()
    np.testing.assert_array_equal(parameter.data, before)


def test_what_is_kept_may_be_spoiled_but_not_used():
    optimizer, first, _ = two(ALL[0])
    for wrong, error in ((np.ones(2), ValueError), (np.ones(5, np.float32), ValueError), (None, TypeError)):
        optimizer.state[0]["momentum_buffer"] = wrong
        before = first.data.copy()
        with pytest.raises(error, match=r"^SGD.step: "):
            optimizer.step()
        np.testing.assert_array_equal(first.data, before)
