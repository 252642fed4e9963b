"""Networks that are edited after they were made: a layer must not come to stand in two places unseen."""

import copy
import pickle
import re

import numpy as np
import pytest

from cyconv import Add, Concat, Graph, Identity, Linear, Module, ReLU, Residual, Sequential, Sigmoid

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


def remove(net):
    delattr(net, "1")


def replace(net):
    net[1] = Identity()


def append(net):
    net.append(ReLU())


@pytest.mark.parametrize("edit", [remove, replace, append])
@pytest.mark.parametrize("outer", [lambda net: net, Sequential, Residual, lambda net: Graph(("a", net, "input"))])
def test_a_network_that_was_edited_after_its_forward_pass_is_not_differentiated(edit, outer):
    """Without the sigmoid that the pass went through, the gradient would be that of another function."""
    inner = Sequential(linear(0), Sigmoid(), linear(1))
    net = outer(inner)
    grad = np.ones_like(net(X))
    edit(inner)
    with pytest.raises(RuntimeError, match="there was none, or the network was edited"):
        net.backward(grad)
    assert all(parameter.grad is None for parameter in net.parameters())
    net(X)
    assert net.backward(grad).shape == X.shape


def test_a_part_of_a_network_leaves_what_it_remembers():
    net = Sequential(linear(0), Sigmoid(), linear(1))
    grad = np.ones_like(net(X))
    whole, part = net.backward(grad), net[1:].backward(grad)
    np.testing.assert_array_equal(net[0].backward(part), whole)


def circle_by_attribute():
    class Net(Module):
        def __init__(self):
            self.body = Sequential(linear(0))
            self.body[0].owner = self

    return Net()


def circle_of_containers():
    inner = Sequential(linear(0))
    net = Sequential(inner)
    inner.net = net
    return net


@pytest.mark.parametrize("make", [circle_by_attribute, circle_of_containers])
@pytest.mark.parametrize(
    "ask", ["train", "eval", "state_dict", "zero_grad", "num_parameters", "parameters", "modules", "named_buffers"]
)
def test_a_module_that_holds_itself_is_named(make, ask):
    net = make()
    with pytest.raises(ValueError, match=r"^(Linear|Sequential): '(body\.0\.owner|0\.net)' is a module that holds it"):
        list(getattr(net, ask)() or ())
    assert "..." in repr(net)


def test_a_container_does_not_take_itself():
    net = Sequential(linear(0))
    for put in (lambda: net.append(net), lambda: net.__setitem__(0, net), lambda: setattr(net, "me", net)):
        with pytest.raises(ValueError, match=r"^Sequential: .* hold itself"):
            put()
    residual = Residual(linear(0))
    with pytest.raises(ValueError, match=r"^Residual: 'body' is the container itself"):
        residual.body = residual
    assert [name for name, _ in net.named_modules()] == ["", "0"]
    assert net(X).shape == residual(X).shape


def test_a_thousand_containers_one_inside_the_other():
    net = linear(0)
    for _ in range(1000):
        net = Sequential(net)
    name = "0." * 1000
    assert [key for key, _ in net.named_parameters()] == [f"{name}weight", f"{name}bias"]
    twin = linear(1)
    net.load_state_dict({f"{name}{key}": value for key, value in twin.state_dict().items()})
    assert net.eval().num_parameters() == 20
    np.testing.assert_array_equal(next(net.parameters()).data, twin.weight.data)


def test_two_arrays_of_one_name_are_refused():
    class Net(Module):
        def __init__(self):
            self.body = Sequential(linear(0))
            setattr(self, "body.0", linear(1))

    for ask in (Net().state_dict, lambda: Net().load_state_dict({})):
        with pytest.raises(ValueError, match=r"Net: two arrays of the state are called 'body.0.weight'"):
            ask()


def test_an_index_that_is_not_there_is_named():
    net = Sequential(linear(0), ReLU())
    for index in (2, -3):
        for use in (lambda i=index: net[i], lambda i=index: net.__setitem__(i, ReLU())):
            with pytest.raises(IndexError, match=rf"^Sequential: index {index} is out of range; there are 2 layers"):
                use()
    for wrong in ("0", 1.0, None):
        with pytest.raises(TypeError, match=r"^Sequential: an index must be an int, got "):
            net[wrong]
    assert net[np.int64(-1)] is net[1]
