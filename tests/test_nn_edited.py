"""Networks that are edited after they were made: a layer must not come to stand in two places unseen."""

import copy
import pickle
import re

import numpy as np
import pytest

from cyconv import Add, Concat, Graph, Identity, Linear, ReLU, Residual, Sequential

X = np.linspace(-1, 1, 12, dtype=np.float64).reshape(3, 4)


def linear(seed):
    return Linear(4, 4, dtype=np.float64, rng=seed)


def edited_sequential():
    inner = Sequential(linear(0))
    model = Sequential(inner, linear(1))
    return model, lambda: inner.append(model[1]), "'0.1' and at '1'"


def edited_residual():
    inner = Residual(linear(0))
    model = Sequential(inner, ReLU(), linear(1))
    return model, lambda: setattr(inner, "body", model[2]), "'0.body' and at '2'"


def edited_shortcut():
    body = Sequential(linear(0), ReLU())
    model = Residual(body, Sequential(linear(1)))
    return model, lambda: body.append(model.shortcut[0]), "'body.2' and at 'shortcut.0'"


def edited_branch():
    inner = Sequential(linear(0))
    model = Concat(inner, linear(1), dim=-1)
    return model, lambda: inner.__setitem__(0, model[1]), "'0.0' and at '1'"


def edited_node():
    inner = Sequential(linear(0))
    model = Graph(("a", inner, "input"), ("b", linear(1), "a"), ("c", Add(), "a", "b"))
    return model, lambda: inner.append(model.b), "'a.1' and at 'b'"


@pytest.mark.parametrize("make", [edited_sequential, edited_residual, edited_shortcut, edited_branch, edited_node])
def test_a_layer_that_comes_to_stand_in_two_places_is_refused_before_anything_is_added(make):
    model, edit, places = make()
    grad = np.ones_like(model(X))
    model.backward(grad)
    parameters = list(model.parameters())
    before = [parameter.grad.copy() for parameter in parameters]
    edit()
    grad = np.ones_like(model(X))  # forward is right all the same
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(places)):
            model.backward(grad)
    for parameter, gradient in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_an_edit_that_is_taken_back_leaves_a_network_that_learns():
    inner = Sequential(linear(0))
    model = Sequential(inner, linear(1))
    inner.append(model[1])
    grad = np.ones_like(model(X))
    with pytest.raises(ValueError, match="stands at"):
        model.backward(grad)
    delattr(inner, "1")
    other = Sequential(Sequential(linear(0)), linear(1))
    for network in (model, other):
        network.backward(np.ones_like(network(X)))
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_looked_at_themselves(copied):
    model = Sequential(Sequential(linear(0)), linear(1))
    model.backward(np.ones_like(model(X)))
    twin = copied(model)
    twin[0].append(twin[1])
    grad = np.ones_like(twin(X))
    with pytest.raises(ValueError, match="stands at"):
        twin.backward(grad)
    model.backward(np.ones_like(model(X)))


def test_weights_may_be_shared():
    model = Sequential(Sequential(linear(0)), Identity(), linear(1))
    model[0][0].weight = model[2].weight
    model.backward(np.ones_like(model(X)))
    assert model[2].weight.grad is not None
