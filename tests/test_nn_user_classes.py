"""Layers and containers that users derive: theirs is what runs, and no array that they keep is written."""

import copy

import numpy as np
import pytest

from cyconv import nn


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def conv(kind=nn.Conv2d, seed=0):
    return kind(3, 3, 1, dtype="float64", rng=seed)


def norm(kind=nn.BatchNorm2d):
    return kind(3, dtype="float64")


class Doubled(nn.Conv2d):
    """A forward of its own around that of the base, and its gradient."""

    calls = 0

    def forward(self, input):
        self.calls += 1
        return 2 * super().forward(input)

    def backward(self, grad_output, *, input_grad=True):
        return super().backward(2 * grad_output, input_grad=input_grad)


class DoubledTwice(Doubled):
    def forward(self, input):
        return 2 * super().forward(input)

    def backward(self, grad_output, *, input_grad=True):
        return super().backward(2 * grad_output, input_grad=input_grad)


class DoubledInside(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)

    def _backward(self, grad_output, pending, input_grad):
        return super()._backward(2 * grad_output, pending, input_grad)


class DoubledNorm(nn.BatchNorm2d):
    def forward(self, input):
        return 2 * super().forward(input)

    def backward(self, grad_output, *, input_grad=True):
        return super().backward(2 * grad_output, input_grad=input_grad)


class DoubledPool(nn.MaxPool2d):
    def forward(self, input):
        return 2 * super().forward(input)

    def backward(self, grad_output, *, input_grad=True):
        return super().backward(2 * grad_output, input_grad=input_grad)


class DoubledSequence(nn.Sequential):
    def forward(self, input):
        return 2 * super().forward(input)

    def backward(self, grad_output, *, input_grad=True):
        return super().backward(2 * grad_output, input_grad=input_grad)


class Wrapped(nn.Module):
    """A forward of its own around a Sequential."""

    def __init__(self):
        self.body = nn.Sequential(conv(), nn.ReLU(), conv(seed=1))

    def forward(self, input):
        return self.body(input) * 2

    def backward(self, grad_output, *, input_grad=True):
        return self.body.backward(grad_output * 2, input_grad=input_grad)


def assert_derivative(net, shape=(2, 3, 4, 4)):
    """The gradients of input and parameters are the derivatives."""
    x, parameters = normal(*shape), [*net.parameters()]
    before = [p.data.copy() for p in parameters]
    ways = [normal(*p.shape, seed=n) for n, p in enumerate((x, *parameters), start=1)]
    g = normal(*net(x).shape, seed=99)
    net.zero_grad()
    found = [net.backward(g), *(p.grad for p in parameters)]

    def at(offset):
        for p, data, way in zip(parameters, before, ways[1:], strict=True):
            p.data[...] = data + offset * way
        return np.vdot(g, net(x + offset * ways[0]))

    difference = (at(1e-6) - at(-1e-6)) / 2e-6
    at(0)
    inner = sum(np.vdot(a, b) for a, b in zip(found, ways, strict=True))
    assert abs(difference - inner) <= 1e-6 * sum(np.linalg.norm(item) for item in found)


NETS = {
    "alone": lambda: conv(Doubled),
    "twice": lambda: conv(DoubledTwice),
    "relu behind": lambda: nn.Sequential(conv(Doubled), nn.ReLU()),
    "relu behind, inside": lambda: nn.Sequential(conv(DoubledInside), nn.ReLU(), conv()),
    "graph": lambda: nn.Graph(("a", conv(Doubled), "input"), ("b", nn.ReLU(), "a")),
    "norm": lambda: nn.Sequential(conv(), norm(DoubledNorm), nn.ReLU(), conv()),
    "norm in residual": lambda: nn.Residual(nn.Sequential(conv(), norm(DoubledNorm))),
    "pool": lambda: nn.Sequential(conv(), nn.ReLU(), DoubledPool(2)),
    "sequence": lambda: nn.Sequential(nn.ReLU(), DoubledSequence(conv(), nn.ReLU()), nn.Sigmoid()),
    "wrapped": Wrapped,
    "wrapped inside": lambda: nn.Sequential(nn.Residual(Wrapped()), nn.ReLU(), conv()),
}


@pytest.mark.parametrize("name", NETS)
def test_what_a_user_wrote_is_what_runs(name):
    net = NETS[name]()
    assert_derivative(net)
    twin = copy.deepcopy(net)
    np.testing.assert_array_equal(twin(normal(2, 3, 4, 4)), net(normal(2, 3, 4, 4)))


@pytest.mark.parametrize("training", [True, False])
def test_neighbours_do_not_run_the_base_class_instead(training):
    x = normal(2, 3, 4, 4)
    for layer in (conv(Doubled), norm(DoubledNorm), DoubledPool(2), DoubledSequence(conv()), nn.Sequential(Wrapped())):
        layer.train(training)
        expected = np.maximum(copy.deepcopy(layer)(x), 0)
        graph = nn.Graph(("a", copy.deepcopy(layer), "input"), ("b", nn.ReLU(), "a"))
        for net in (nn.Sequential(layer, nn.ReLU()), graph):
            np.testing.assert_array_equal(net(x), expected)
    layer = norm(DoubledNorm).train(training)
    expected = x + copy.deepcopy(layer)(x)
    np.testing.assert_array_equal(nn.Residual(nn.Sequential(layer))(x), expected)


def test_forward_runs_once():
    layer = conv(Doubled)
    for net in (nn.Sequential(layer, nn.ReLU()), nn.Residual(layer), nn.Concat(layer)):
        before = layer.calls
        net(normal(2, 3, 4, 4))
        assert layer.calls == before + 1


def test_a_forward_of_its_own_without_its_gradient_is_refused():
    class Scaled(nn.Conv2d):
        def forward(self, input):
            return 2 * super().forward(input)

    class Loud:
        def forward(self, input):
            return super().forward(input)

    class LoudNet(Loud, nn.Sequential):
        pass

    x = normal(2, 3, 4, 4)
    for net, name, base in ((conv(Scaled), "Scaled", "Conv"), (LoudNet(conv()), "LoudNet", "Sequential")):
        for outer in (net, nn.Sequential(net, nn.ReLU()), nn.Residual(net)):
            y = outer(x)
            with pytest.raises(TypeError, match=rf"^{name}: the class has a forward of its own.*gradient of {base}$"):
                outer.backward(y)
        assert all(p.grad is None for p in net.parameters())

    class Right(Scaled):
        def backward(self, grad_output, *, input_grad=True):
            return super().backward(2 * grad_output, input_grad=input_grad)

    assert_derivative(conv(Right))
    assert_derivative(nn.Sequential(conv(Right), nn.ReLU()))


class Kept(nn.Module):
    """Gives back arrays that it keeps, or that it was given."""

    def __init__(self):
        self.bias = nn.Parameter(np.full((2, 3, 4, 4), 0.25))

    def forward(self, input):
        return input + self.bias.data

    def _backward(self, grad_output, pending, input_grad):
        self.given = grad_output
        pending.append((self.bias, grad_output))
        return grad_output


class KeptByBackward(nn.Module):
    """The same by the public methods alone."""

    def __init__(self):
        self.bias = nn.Parameter(np.full((2, 3, 4, 4), 0.25))

    def forward(self, input):
        return input + self.bias.data

    def backward(self, grad_output, *, input_grad=True):
        self.given = grad_output
        self.bias.add_grad(grad_output)
        return grad_output


class KeptConv(nn.Conv2d):
    def _backward(self, grad_output, pending, input_grad):
        self.given = super()._backward(grad_output, pending, input_grad)
        return self.given


@pytest.mark.parametrize("kind", [Kept, KeptByBackward, lambda: conv(KeptConv)])
@pytest.mark.parametrize(
    "make",
    [
        lambda kind: nn.Residual(kind()),
        lambda kind: nn.Residual(kind(), kind()),
        lambda kind: nn.Residual(nn.Sequential(kind(), kind()), nn.Sequential(nn.Identity(), kind())),
        lambda kind: nn.Sequential(conv(), nn.ReLU(), kind(), nn.ReLU(), nn.Residual(kind())),
        lambda kind: nn.Sequential(conv(), norm(), kind(), norm(), nn.ReLU(), nn.Residual(kind())),
        lambda kind: nn.Concat(kind(), conv(), kind()),
        lambda kind: nn.Graph(("a", kind(), "input"), ("b", kind(), "a"), ("c", nn.Add(), "a", "b", "input")),
    ],
)
def test_arrays_that_a_user_keeps_are_not_written(make, kind):
    net, x = make(kind), normal(2, 3, 4, 4)
    g = normal(*net(x).shape, seed=5)
    before = g.copy()
    found = net.backward(g)
    expected, grads = found.copy(), [p.grad.copy() for p in net.parameters()]
    kept = [(m.given, m.given.copy()) for m in net.modules() if hasattr(m, "given")]
    net.backward(g)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(g, before)
    for array, values in kept:
        np.testing.assert_array_equal(array, values)
    for p, grad in zip(net.parameters(), grads, strict=True):
        np.testing.assert_array_equal(p.grad, 2 * grad)
    assert_derivative(net)


def test_gradients_that_do_not_fit_their_parameter_are_refused():
    class Wrong(nn.Module):
        def __init__(self, gradient):
            self.scale, self.gradient = nn.Parameter(np.ones(3)), gradient

        def forward(self, input):
            return input * self.scale.data

        def _backward(self, grad_output, pending, input_grad):
            pending.append((self.scale, self.gradient))
            return grad_output

    for gradient, got in (
        (np.ones((2, 3)), r"\(2, 3\), float64"),
        (np.ones(3, np.float32), r"\(3,\), float32"),
        (2.0, r"\(\), float"),
        ([1.0, 2.0, 3.0], r"\(3,\), list"),
    ):
        net = nn.Sequential(nn.Linear(3, 3, dtype="float64"), Wrong(gradient))
        y = net(np.ones((2, 3)))
        with pytest.raises(ValueError, match=rf"Wrong: the gradient of scale must be .* \(3,\), float64, got {got}"):
            net.backward(y)
        assert all(p.grad is None for p in net.parameters())
