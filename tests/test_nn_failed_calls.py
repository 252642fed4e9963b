"""Forward passes that fail halfway: lazy layers stay lazy, and nobody remembers half of a pass."""

import threading

import numpy as np
import numpy_memory
import pytest

from cyconv import nn


def normal(*shape, dtype="float32"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


class Refuse(nn.Module):
    """Pass the input on, but for those that hold a NaN."""

    def forward(self, input):
        if np.isnan(input).any():
            raise FloatingPointError("a NaN")
        return input

    def _backward(self, grad_output, pending, input_grad):
        return grad_output


SPATIAL = {"1d": (7,), "2d": (7, 6), "3d": (5, 6, 4)}
LAZY = [
    *((f"LazyConv{rank}", (4, 3), (2, 3, *shape)) for rank, shape in SPATIAL.items()),
    *((f"LazyConvTranspose{rank}", (4, 3), (2, 3, *shape)) for rank, shape in SPATIAL.items()),
    *((f"LazyBatchNorm{rank}", (), (2, 3, *shape)) for rank, shape in SPATIAL.items()),
    ("LazyLinear", (5,), (2, 3)),
]


def assert_lazy(layer, name):
    assert type(layer) is getattr(nn, name)
    assert all(type(p) is nn.UninitializedParameter for p in layer.parameters())
    assert layer._unknown
    with pytest.raises(RuntimeError, match="has no state yet"):
        layer.state_dict()


@pytest.mark.parametrize(("name", "arguments", "shape"), LAZY)
def test_a_lazy_layer_is_lazy_after_a_call_that_failed(name, arguments, shape):
    layer = getattr(nn, name)(*arguments)
    x = normal(*shape)
    more = (shape[0], shape[1] + 1, *shape[2:])
    with pytest.raises(TypeError, match="dtype"):
        layer(normal(*more, dtype="float64"))
    assert_lazy(layer, name)
    with pytest.raises(TypeError):
        layer(normal(*more), "surplus")
    assert_lazy(layer, name)
    if "Conv" in name:
        with pytest.raises(ValueError, match=r"input|kernel"):
            layer(normal(*more)[..., :0])
        assert_lazy(layer, name)
    output = layer(x)
    assert type(layer).__name__ == name.removeprefix("Lazy")
    assert layer.backward(output).shape == x.shape


def nets():
    def sequential():
        return nn.Sequential(nn.LazyConv2d(4, 3, rng=0), nn.ReLU(), nn.LazyBatchNorm2d(), Refuse())

    def residual():
        return nn.Residual(nn.LazyConv2d(2, 1, rng=0), nn.Sequential(nn.LazyConv2d(2, 1, rng=1), Refuse()))

    def normalized():
        return nn.Residual(nn.Sequential(nn.LazyConv2d(2, 1, rng=0), nn.LazyBatchNorm2d()), Refuse())

    def concat():
        return nn.Concat(nn.LazyConv2d(2, 1, rng=0), nn.Sequential(nn.LazyConv2d(2, 1, rng=1), Refuse()))

    def graph():
        return nn.Graph(("a", nn.LazyConv2d(2, 1, rng=0), "input"), ("b", nn.ReLU(), "a"), ("c", Refuse(), "b"))

    def nested():
        return nn.Sequential(nn.Residual(nn.LazyConv2d(2, 1, rng=0)), nn.Concat(nn.LazyConv2d(3, 1, rng=1)), Refuse())

    return [sequential, residual, normalized, concat, graph, nested]


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("make", nets(), ids=lambda make: make.__name__)
def test_all_lazy_layers_of_a_container_learn_or_none(make, mode):
    net, twin = make().train(mode), make().train(mode)
    before = {name: type(module) for name, module in net.named_modules()}
    parameters = [*net.parameters()]
    for bad in (np.full((2, 5, 4, 4), np.nan, np.float32), normal(2, 2, 4, 4, dtype="float64")):
        for _ in range(2):
            with pytest.raises((FloatingPointError, TypeError, ValueError)):
                net(bad)
            assert {name: type(module) for name, module in net.named_modules()} == before
            assert all(type(p) is nn.UninitializedParameter for p in parameters)
    x = normal(2, 2, 4, 4)
    for _ in range(2):
        np.testing.assert_array_equal(net(x), twin(x))
    assert repr(net) == repr(twin)
    assert [id(p) for p in net.parameters()] == [id(p) for p in parameters]
    assert not any("Lazy" in type(module).__name__ for module in net.modules())
    if mode:
        np.testing.assert_array_equal(net.backward(net(x)), twin.backward(twin(x)))


def test_an_allocation_that_fails_leaves_a_layer_lazy():
    layer, x = nn.LazyLinear(50), normal(1, 300)
    failures = 0
    with numpy_memory.watched():
        while True:
            numpy_memory.fail_allocation(failures + 1)
            try:
                output = layer(x)
            except MemoryError:
                assert_lazy(layer, "LazyLinear")
                failures += 1
            else:
                break
            finally:
                numpy_memory.fail_allocation(0)
    assert failures >= 2  # the weight and the bias at least
    assert output.shape == (1, 50)


def test_a_generator_gives_the_numbers_that_it_would_have_given():
    rng = np.random.default_rng(5)
    net = nn.Sequential(nn.LazyConv2d(4, 3, rng=rng), Refuse(), nn.LazyConv2d(4, 1, rng=rng))
    with pytest.raises(FloatingPointError):
        net(np.full((1, 7, 5, 5), np.nan, np.float32))
    x = normal(1, 2, 5, 5)
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(net(x), nn.Sequential(nn.Conv2d(2, 4, 3, rng=rng), nn.Conv2d(4, 4, 1, rng=rng))(x))


def test_what_a_user_set_before_the_first_call_stays():
    norm = nn.LazyBatchNorm1d()
    norm.momentum, norm.eps = 0.5, 0.25
    twin = nn.BatchNorm1d(3, 0.25, 0.5)
    x = normal(4, 3)
    np.testing.assert_array_equal(norm(x), twin(x))
    np.testing.assert_array_equal(norm.running_mean, twin.running_mean)
    without = nn.LazyLinear(2)
    without.bias = None
    without(x)
    assert without.bias is None
    one, two = nn.LazyLinear(2, rng=0), nn.LazyLinear(2, rng=1)
    two.weight = one.weight
    net = nn.Concat(one, two, dim=-1)
    net(x)
    assert two.weight is one.weight
    two.bias = one.bias
    np.testing.assert_array_equal(net(x)[:, :2], net(x)[:, 2:])


def test_classes_of_users_derive_from_plain_layers():
    with pytest.raises(TypeError, match=r"Mine: a lazy layer becomes a Conv2d with its.* derive it from Conv"):

        class Mine(nn.LazyConv2d):
            pass


def test_another_thread_waits_until_it_is_clear_what_becomes_of_the_first_call():
    entered, go_on = threading.Event(), threading.Event()

    class Wait(nn.Module):
        def forward(self, input):
            if not entered.is_set():
                entered.set()
                assert go_on.wait(30)
                raise FloatingPointError
            return input

    net = nn.Sequential(nn.LazyLinear(3, rng=0), Wait())
    first, second = [], []

    def fail():
        try:
            net(normal(1, 5))
        except FloatingPointError:
            first.append("failed")

    threads = [threading.Thread(target=fail), threading.Thread(target=lambda: second.append(net(normal(1, 4))))]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert first == ["failed"]
    np.testing.assert_array_equal(second[0], nn.Linear(4, 3, rng=0)(normal(1, 4)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1, rng=0), nn.ReLU(), Refuse()),
        lambda: nn.Residual(nn.Conv2d(2, 2, 1, rng=0), nn.Sequential(nn.Sigmoid(), Refuse())),
        lambda: nn.Concat(nn.Conv2d(2, 2, 1, rng=0), Refuse()),
        lambda: nn.Graph(("a", nn.Conv2d(2, 2, 1, rng=0), "input"), ("b", Refuse(), "a")),
    ],
)
def test_nobody_remembers_half_of_a_forward_pass(make):
    """Backward would take some layers' inputs from the pass that failed, and others' from the one before."""
    net, x = make(), normal(2, 2, 4, 4)
    y = net(x)
    with pytest.raises(FloatingPointError):
        net(x * np.float32(np.nan))
    with pytest.raises(RuntimeError, match="backward needs a forward pass in training mode before it; there was none"):
        net.backward(y)
    assert all(p.grad is None for p in net.parameters())
    net(x)
    assert net.backward(y).shape == x.shape
