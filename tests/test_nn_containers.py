"""Layers made of layers: names, modes, state, and gradients that are added whole or not at all."""

from collections import OrderedDict
from unittest.mock import Mock

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import functional as F
from cyconv import nn
from cyconv.functional import _pool


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def small_net():
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 3, 3, padding=1, dtype="float64", rng=0),
            act=nn.Tanh(),
            mix=nn.Residual(
                nn.Concat(nn.Conv2d(3, 1, 1, dtype="float64", rng=1), nn.Conv2d(3, 2, 3, padding=1, dtype="float64"))
            ),
            pool=nn.AvgPool2d(2),
            flat=nn.Flatten(),
            head=nn.Sequential(nn.Linear(12, 4, False, dtype="float64", rng=2), nn.LogSoftmax(1)),
        )
    )


SMALL_NET_NAMES = [
    *("conv.weight", "conv.bias", "mix.body.0.weight", "mix.body.0.bias", "mix.body.1.weight", "mix.body.1.bias"),
    "head.0.weight",
]


class Breaks(nn.Module):
    """Passes the input on; its backward fails."""

    def forward(self, input):
        return input

    def _backward(self, grad_output, pending, input_grad):
        raise MemoryError("in the middle")


class Scale(nn.Module):
    """A layer of one's own, as the documentation describes it."""

    def __init__(self, factor):
        self.factor = nn.Parameter(np.array([factor]))

    def forward(self, input):
        self._saved = input if self.training else None
        return input * self.factor.data

    def _backward(self, grad_output, pending, input_grad):
        if self._saved is None:
            raise self._nothing_remembered()
        pending.append((self.factor, np.array([(grad_output * self._saved).sum()])))
        return grad_output * self.factor.data if input_grad else None


class Composed(nn.Module):
    """Layers called by hand, with forward and backward only."""

    def __init__(self, breaks=False):
        self.first = Breaks() if breaks else nn.Identity()
        self.second = Scale(3.0)

    def forward(self, input):
        return self.second(self.first(input))

    def backward(self, grad_output, *, input_grad=True):
        return self.first.backward(self.second.backward(grad_output), input_grad=input_grad)


# ---------------------------------------------------------------------------------------------- finding what is inside


def test_names_are_those_of_torch():
    net = small_net()
    assert [name for name, _ in net.named_parameters()] == SMALL_NET_NAMES
    assert [name for name, _ in net.named_parameters("net")] == [f"net.{name}" for name in SMALL_NET_NAMES]
    assert list(net.state_dict()) == SMALL_NET_NAMES
    assert [name for name, _ in net.named_children()] == ["conv", "act", "mix", "pool", "flat", "head"]
    assert [name for name, _ in net.named_modules()] == [
        *("", "conv", "act", "mix", "mix.body", "mix.body.0", "mix.body.1", "pool", "flat", "head", "head.0", "head.1")
    ]
    assert list(net.children()) == [net.conv, net.act, net.mix, net.pool, net.flat, net.head]
    assert next(net.modules()) is net
    assert net.num_parameters() == (2 * 3 * 9 + 3) + (3 + 1) + (3 * 2 * 9 + 2) + 48


def test_a_shared_parameter_is_counted_once_and_saved_under_both_names():
    net = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1))
    net[1].weight = net[0].weight
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert net.num_parameters() == 15
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    x = normal(2, 3, dtype="float32")
    y = net(x)
    net.backward(y)
    apart = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    apart.load_state_dict(net.state_dict())
    apart(x)
    apart.backward(y)
    assert_close(net[0].weight.grad, apart[0].weight.grad + apart[1].weight.grad, algorithm="pointwise")


def test_modes_reach_every_module():
    net = small_net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    with pytest.raises(TypeError, match="mode must be True or False, got 'eval'"):
        net.train("eval")


def test_repr_shows_the_tree():
    net = nn.Sequential(OrderedDict(a=nn.Residual(nn.Linear(2, 2)), b=nn.Concat(nn.Dropout(0.1), dim=1), c=nn.ReLU()))
    assert repr(net).split("\n") == [
        "Sequential(",
        "  (a): Residual(",
        "    (body): Linear(in_features=2, out_features=2, bias=True)",
        "  )",
        "  (b): Concat(",
        "    dim=1",
        "    (0): Dropout(p=0.1)",
        "  )",
        "  (c): ReLU()",
        ")",
    ]
    conv = nn.Conv2d(4, 6, 3, 2, "same", 2, 2, False, algorithm="direct")
    assert repr(conv) == (
        "Conv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding='same', dilation=(2, 2), groups=2, bias=False, "
        "algorithm='direct')"
    )
    assert repr(nn.AvgPool2d(2)) == "AvgPool2d(kernel_size=2, stride=2, padding=0)"
    assert repr(nn.Softmax(1)) == "Softmax(dim=1)"
    assert repr(nn.LogSoftmax(1)) == "LogSoftmax(dim=1)"
    assert repr(nn.Parameter(np.zeros((2, 3)))) == "Parameter(shape=(2, 3), dtype=float64)"


# ---------------------------------------------------------------------------------------------- state


def test_state_dict_gives_copies_and_load_writes_in_place():
    net, other = small_net(), small_net()
    state = net.state_dict()
    arrays = [p.data for p in other.parameters()]
    assert other.load_state_dict(state) == ([], [])
    for name, parameter in net.named_parameters():
        assert_close(state[name], parameter.data, algorithm="exact")
        assert not np.shares_memory(state[name], parameter.data)
    for array, parameter, name in zip(arrays, other.parameters(), state, strict=True):
        assert parameter.data is array
        assert_close(array, state[name], algorithm="exact")
        assert not np.shares_memory(array, state[name])


def test_load_state_dict_lists_all_that_does_not_fit_and_changes_nothing():
    net = small_net()
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["conv.bias"], state["mix.body.0.weight"]
    state["head.0.weight"] = np.zeros((12, 4))
    state["conv.weight"] = state["conv.weight"] * 1j
    state["fc.weight"] = state["fc.bias"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"Sequential.load_state_dict: .* nothing was changed") as caught:
        net.load_state_dict(state)
    assert str(caught.value).split("\n")[1:] == [
        "  missing: conv.bias, mix.body.0.weight",
        "  surplus: fc.weight, fc.bias",
        "  not convertible: conv.weight is float64, the state has complex128",
        "  misshapen: head.0.weight is (4, 12), the state has (12, 4)",
    ]
    with pytest.raises(ValueError, match=r"changed\n  not convertible: conv[^\n]*\n  misshapen: head[^\n]*$"):
        net.load_state_dict(state, strict=False)
    for name, array in net.state_dict().items():
        assert_close(array, before[name], algorithm="exact")


def test_load_state_dict_not_strict_leaves_out_names_and_tells_them():
    net = small_net()
    before = net.state_dict()
    answer = net.load_state_dict({"conv.bias": [1, 2, 3], "other": np.zeros(2)}, strict=False)
    assert answer.unexpected_keys == ["other"]
    assert answer.missing_keys == [name for name in SMALL_NET_NAMES if name != "conv.bias"]
    assert_close(net.conv.bias.data, np.array([1.0, 2, 3]), algorithm="exact")
    assert_close(net.conv.weight.data, before["conv.weight"], algorithm="exact")


def test_load_state_dict_keeps_the_dtype_of_the_layer():
    wide, narrow = nn.Linear(3, 2, dtype="float64", rng=0), nn.Linear(3, 2)
    narrow.load_state_dict(wide.state_dict())
    assert_close(narrow.weight.data, wide.weight.data.astype("float32"), algorithm="exact")
    with pytest.raises(TypeError, match=r"Linear.load_state_dict: expected a mapping of names to arrays, got list"):
        narrow.load_state_dict([1, 2])


def test_buffers_are_saved_and_not_learned():
    loss = nn.CrossEntropyLoss(weight=np.array([1.0, 2.0]))
    assert list(loss.parameters()) == []
    assert [name for name, _ in loss.named_buffers("loss")] == ["loss.weight"]
    loss.load_state_dict({"weight": np.array([3.0, 4.0])})
    np.testing.assert_array_equal(loss.weight, [3, 4])
    assert list(nn.CrossEntropyLoss().state_dict()) == []


# ---------------------------------------------------------------------------------------------- gradients


def test_gradients_of_nested_containers_are_the_slope_of_their_output():
    net, x = small_net(), normal(2, 2, 4, 4)
    y = net(x)
    dy = normal(*y.shape, seed=1)
    dx = net.backward(dy)
    rng = np.random.default_rng(2)
    directions = [(p.data, p.grad, rng.standard_normal(p.shape)) for p in net.parameters()]
    directions.append((x, dx, rng.standard_normal(x.shape)))
    for array, gradient, direction in directions:
        values = []
        for step in (1e-6, -2e-6):
            array += step * direction
            values.append(float((net(x) * dy).sum()))
        array += 1e-6 * direction
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("had_gradients", [False, True])
def test_a_failed_backward_adds_nothing(had_gradients):
    inner = nn.Sequential(Breaks(), Scale(2.0), nn.Linear(3, 3, dtype="float64", rng=0))
    net = nn.Sequential(nn.Linear(3, 3, dtype="float64", rng=1), nn.Residual(inner, Composed()), Scale(4.0))
    y = net(normal(2, 3))
    if had_gradients:
        for parameter in net.parameters():
            parameter.grad = np.full(parameter.shape, 7.0)
    with pytest.raises(MemoryError, match="in the middle"):
        net.backward(y)
    for parameter in net.parameters():
        if had_gradients:
            np.testing.assert_array_equal(parameter.grad, np.full(parameter.shape, 7.0))
        else:
            assert parameter.grad is None


def test_layers_of_ones_own():
    x, dy = np.array([[1.0, 2]]), np.array([[10.0, 20]])
    net = nn.Sequential(Scale(2.0), Composed())
    np.testing.assert_array_equal(net(x), 6 * x)
    for times in (1, 2):
        np.testing.assert_array_equal(net.backward(dy), 6 * dy)
        np.testing.assert_array_equal(net[0].factor.grad, [times * 150.0])
        np.testing.assert_array_equal(getattr(net, "1").second.factor.grad, [times * 100.0])
    assert [name for name, _ in net.named_parameters()] == ["0.factor", "1.second.factor"]
    alone = Composed()
    alone(x)
    assert alone.backward(dy, input_grad=False) is None
    np.testing.assert_array_equal(alone.second.factor.grad, [50.0])


def test_a_layer_with_only_backward_adds_nothing_when_it_fails_inside_a_container():
    net = nn.Sequential(Scale(2.0), Composed(breaks=True))
    y = net(np.array([[1.0, 2]]))
    net[1].second.factor.grad = kept = np.array([5.0])
    with pytest.raises(MemoryError):
        net.backward(y)
    assert net[1].second.factor.grad is kept
    assert kept == 5
    assert net[0].factor.grad is None


def test_a_class_without_forward_or_backward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(TypeError, match=r"Empty: the class defines no forward\(input\)"):
        Empty()(np.zeros(3))
    with pytest.raises(TypeError, match="Empty: the class defines neither backward"):
        Empty().backward(np.zeros(3))


def test_a_call_is_forward_also_where_a_subclass_overrides_it():
    class Twice(nn.ReLU):
        def forward(self, input):
            return 2 * super().forward(input)

    np.testing.assert_array_equal(Twice()(np.array([-1.0, 3])), [0, 6])
    np.testing.assert_array_equal(nn.Sequential(Twice())(np.array([-1.0, 3])), [0, 6])
    with pytest.raises(TypeError, match="Called: define forward instead of __call__"):
        type("Called", (nn.ReLU,), {"__call__": lambda self, input: -input})


# ---------------------------------------------------------------------------------------------- Sequential


def test_without_input_grad_only_what_learns_is_differentiated(monkeypatch):
    net = nn.Sequential(
        nn.AvgPool2d(2), nn.Tanh(), nn.Sequential(nn.Tanh(), nn.Conv2d(2, 3, 3, dtype="float64", rng=0)), nn.Tanh()
    )
    y = net(normal(1, 2, 10, 10))
    net.backward(y)
    expected = [p.grad for p in net.parameters()]
    net.zero_grad()

    asked = []
    conv_backward, tanh_backward = F.ConvLayer.backward, F.tanh_backward

    def conv(*args):
        asked.append(args[5])  # after the layer, grad_output, input, weight and bias
        return conv_backward(*args)

    def tanh(*args, **kwargs):
        asked.append("tanh")
        return tanh_backward(*args, **kwargs)

    monkeypatch.setattr(F.ConvLayer, "backward", conv)
    monkeypatch.setattr(F, "tanh_backward", tanh)
    assert net.backward(y, input_grad=False) is None
    assert asked == ["tanh", False]  # the last tanh, then the convolution; nothing before it
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient, algorithm="exact")
    asked.clear()
    net.backward(y)
    assert asked == ["tanh", True, "tanh", "tanh"]


def test_sequential_without_parameters_or_layers():
    x = normal(2, 3)
    assert nn.Sequential(nn.Tanh()).backward(x, input_grad=False) is None
    empty = nn.Sequential()
    assert len(empty) == 0
    assert empty(x) is x
    assert empty.backward(x) is x


def test_sequential_backward_before_forward():
    with pytest.raises(RuntimeError, match="LogSoftmax: backward needs a forward pass"):
        small_net().backward(normal(2, 4))


def test_sequential_is_a_sequence():
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)]
    net = nn.Sequential(*layers)
    assert len(net) == 3
    assert list(net) == layers
    assert (net[0], net[-1]) == (layers[0], layers[2])
    with pytest.raises(IndexError):
        net[3]
    tail = net[1:]
    assert type(tail) is nn.Sequential
    assert list(tail.named_children()) == [("1", layers[1]), ("2", layers[2])]
    more = nn.Tanh()
    assert tail.append(more) is tail  # the numbers 1 and 2 are taken
    assert [name for name, _ in tail.named_children()] == ["1", "2", "3"]
    assert tail[2] is more
    assert len(net) == 3
    net[1] = more
    assert list(net) == [layers[0], more, layers[2]]
    net[-1] = nn.Identity()
    assert [name for name, _ in net.named_children()] == ["0", "1", "2"]


def test_sequential_runs_what_its_attributes_say():
    net = nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.Identity()))
    x = np.array([-1.0, 2])
    net.b = Scale(2.0)
    np.testing.assert_array_equal(net(x), [0, 4])
    net.c = Scale(10.0)
    np.testing.assert_array_equal(net(x), [0, 40])
    del net.a
    np.testing.assert_array_equal(net(x), [-20, 40])
    net.b = None
    np.testing.assert_array_equal(net(x), [-10, 20])
    assert [name for name, _ in net.named_children()] == ["c"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Sequential([nn.ReLU()]), TypeError, r"'0' must be a layer, got list; unpack the list with \*"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, "Sequential: '0' must be a layer, got type"),
        (lambda: nn.Sequential(np.tanh), TypeError, "Sequential: '0' must be a layer, got ufunc"),
        (lambda: nn.Sequential(OrderedDict({"a.b": nn.ReLU()})), ValueError, "without a dot, got 'a.b'"),
        (lambda: nn.Sequential(OrderedDict({"": nn.ReLU()})), ValueError, "not empty"),
        (lambda: nn.Sequential(OrderedDict(forward=nn.ReLU())), ValueError, "must be new, .* got 'forward'"),
        (lambda: nn.Sequential(OrderedDict(training=nn.ReLU())), ValueError, "must be new, .* got 'training'"),
        (lambda: nn.Sequential(OrderedDict({1: nn.ReLU()})), TypeError, "a name must be a string, got 1"),
        (lambda: nn.Sequential().append(3), TypeError, "Sequential: '0' must be a layer, got int"),
        (lambda: nn.Residual(np.tanh), TypeError, "Residual: body must be a layer, got ufunc"),
        (lambda: nn.Residual(nn.Tanh(), 0), TypeError, "Residual: shortcut must be a layer, got int"),
        (lambda: nn.Concat(), ValueError, "Concat: at least one branch is needed"),
    ],
)
def test_what_is_no_layer_or_no_name_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_in_two_places_is_refused():
    act = nn.ReLU()
    message = "the same ReLU object stands at '0' and at '2'; a layer remembers one forward pass"
    with pytest.raises(ValueError, match=message):
        nn.Sequential(act, nn.Tanh(), act)
    with pytest.raises(ValueError, match=r"at 'body.0' and at 'shortcut'"):
        nn.Residual(nn.Sequential(act), act)
    with pytest.raises(ValueError, match="Concat: the same ReLU"):
        nn.Concat(act, nn.Sequential(act))
    net = nn.Sequential(act, nn.Tanh())
    with pytest.raises(ValueError, match="the same ReLU"):
        net.append(act)
    with pytest.raises(ValueError, match="the same ReLU"):
        net[1] = act
    with pytest.raises(TypeError, match="expected a layer, got int"):
        net[1] = 4
    assert [type(layer) for layer in net] == [nn.ReLU, nn.Tanh]


# ---------------------------------------------------------------------------------------------- Residual, Concat


@pytest.mark.parametrize("shortcut", [None, 5.0])
def test_residual_by_hand(shortcut):
    net = nn.Residual(Scale(3.0), None if shortcut is None else Scale(shortcut))
    factor = 1 if shortcut is None else shortcut
    x, dy = np.array([[1.0, 2]]), np.array([[10.0, 20]])
    np.testing.assert_array_equal(net(x), (3 + factor) * x)
    np.testing.assert_array_equal(net.backward(dy), (3 + factor) * dy)
    assert [p.grad.tolist() for p in net.parameters()] == ([[50.0]] if shortcut is None else [[50.0], [50.0]])
    assert net.backward(dy, input_grad=False) is None
    np.testing.assert_array_equal(net.body.factor.grad, [100.0])


def test_residual_refuses_results_that_do_not_match():
    net = nn.Residual(nn.Linear(3, 1))
    with pytest.raises(ValueError, match=r"body gives shape \(2, 1\), shortcut \(2, 3\)"):
        net(np.zeros((2, 3), np.float32))  # would broadcast
    mixed = nn.Residual(nn.Linear(3, 3), Scale(1.0))
    with pytest.raises(TypeError, match="body gives float32, shortcut float64"):
        mixed(np.zeros((2, 3), np.float32))


def test_concat_by_hand():
    net = nn.Concat(nn.Identity(), Scale(3.0), nn.Identity())
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    y = net(x)
    np.testing.assert_array_equal(y, np.concatenate([x, 3 * x, x], axis=1))
    dy = normal(1, 6, 2, 2)
    before = dy.copy()
    np.testing.assert_allclose(net.backward(dy), dy[:, :2] + 3 * dy[:, 2:4] + dy[:, 4:], rtol=1e-15)
    np.testing.assert_array_equal(dy, before)
    np.testing.assert_allclose(net[1].factor.grad, [(dy[:, 2:4] * x).sum()], rtol=1e-15)
    assert net.backward(dy, input_grad=False) is None
    np.testing.assert_array_equal(net(x[0]), y[0])  # unbatched: the channels are the first axis
    single = nn.Concat(nn.Identity())
    np.testing.assert_array_equal(single(x), x)
    np.testing.assert_array_equal(single.backward(x), x)
    part = net[1:]
    assert type(part) is nn.Concat
    np.testing.assert_array_equal(part(x), y[:, 2:])


def test_concat_keeps_channels_last_memory():
    x = np.ascontiguousarray(normal(2, 3, 4, 5).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = nn.Concat(nn.Identity(), nn.Identity())(x)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous


def test_concat_of_branches_with_different_channels_along_another_axis():
    net = nn.Concat(nn.Linear(3, 2, dtype="float64", rng=0), nn.Linear(3, 4, dtype="float64", rng=1), dim=1)
    x = normal(5, 3)
    y = net(x)
    assert y.shape == (5, 6)
    dy = normal(5, 6, seed=1)
    expected = net[0].backward(dy[:, :2].copy()) + net[1].backward(dy[:, 2:].copy())
    assert_close(net.backward(dy), expected)
    assert net[0:1].dim == 1


def test_concat_refuses_what_does_not_match():
    x = np.zeros((2, 3, 8, 8))
    message = r"branch 0 gives shape \(2, 3, 8, 8\), branch 1 \(2, 3, 4, 4\); they may differ along axis 1 only"
    with pytest.raises(ValueError, match=message):
        nn.Concat(nn.Identity(), nn.MaxPool2d(2))(x)
    with pytest.raises(ValueError, match="branch 1"):
        nn.Concat(nn.Identity(), nn.Flatten())(x)
    with pytest.raises(TypeError, match="branch 0 gives float32, branch 1 float64"):
        nn.Concat(nn.Identity(), Scale(1.0))(x.astype("float32"))
    with pytest.raises(ValueError, match=r"dim is -3, but the branches give 2 axes \(shape \(2, 3\)\)"):
        nn.Concat(nn.Identity())(np.zeros((2, 3)))
    net = nn.Concat(nn.Identity(), nn.Identity())
    with pytest.raises(RuntimeError, match="Concat: backward needs a forward"):
        net.backward(x)
    net(x)
    with pytest.raises(ValueError, match=r"shape of the output \(2, 6, 8, 8\), got \(2, 3, 8, 8\)"):
        net.backward(x)


# ------------------------------------------------------------------------------------ gradients written over


def test_a_relu_writes_over_the_gradient_of_the_layer_behind_it_and_over_nothing_else(monkeypatch):
    rng = np.random.default_rng(3)
    convolutions = nn.Conv2d(2, 3, 3, rng=0), nn.Conv2d(3, 2, 3, rng=1)
    behind = nn.Identity(), nn.ReLU(), nn.Identity()
    model = nn.Sequential(nn.ReLU(), convolutions[0], nn.ReLU(), convolutions[1], *behind)
    x = rng.standard_normal((2, 2, 8, 8), np.float32)
    y = model(x)
    grad = rng.standard_normal(y.shape, np.float32)
    given, written = grad.copy(), []
    real = F.relu_backward

    def spy(grad_output, input, *, output=None, out=None):
        result = real(grad_output, input, output=output, out=out)
        written.append(result[0] is grad_output)
        return result

    monkeypatch.setattr(F, "relu_backward", spy)
    got = model.backward(grad)
    np.testing.assert_array_equal(grad, given)  # the caller's own, which Identity only passed on
    assert written == [False, True, True]
    monkeypatch.undo()
    by_hand = grad
    for layer in reversed(list(model)):
        layer.zero_grad()
        by_hand = layer.backward(by_hand)
    np.testing.assert_array_equal(got, by_hand)


def test_relu_backward_writes_into_its_gradient_only():
    x = np.array([-1.0, 2.0])
    grad = np.array([3.0, 4.0])
    with pytest.raises(ValueError, match="out must be grad_output itself"):
        F.relu_backward(grad, x, out=np.empty(2))
    (result,) = F.relu_backward(grad, x, out=grad)
    assert result is grad
    np.testing.assert_array_equal(grad, [0.0, 4.0])
    fixed = np.array([3.0, 4.0])
    fixed.flags.writeable = False
    (result,) = F.relu_backward(fixed, x, out=fixed)
    assert result is not fixed
    np.testing.assert_array_equal(fixed, [3.0, 4.0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("training", [True, False])
def test_a_relu_behind_batch_norm_or_a_residual_is_the_same_as_one_by_itself(dtype, order, training):
    x = normal(3, 4, 5, 6, dtype=dtype)
    x[0, 0, 0, 0] = np.nan if not training else 0
    if order == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    norm = nn.BatchNorm2d(4, dtype=dtype)
    residual = nn.Residual(nn.Conv2d(4, 4, 3, padding=1, dtype=dtype, rng=1), nn.Conv2d(4, 4, 1, dtype=dtype, rng=2))
    for layer in (norm, residual):
        joined = nn.Sequential(layer, nn.ReLU()).train(training)
        got = joined(x)
        assert got.flags.c_contiguous == (order == "NCHW")
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
        np.testing.assert_array_equal(got, F.relu(layer(x)))
        if training:
            grad = normal(*got.shape, dtype=dtype, seed=4)
            joined(x)
            fused = joined.backward(grad)
            layer(x)
            np.testing.assert_array_equal(fused, layer.backward(np.where(got > 0, grad, 0).astype(dtype)))


def test_the_sum_of_a_residual_uses_every_element_once():
    """Longer than a chunk of the kernel, and no whole number of vectors."""
    x, y = normal(8192 * 2 + 5, dtype="float32"), normal(8192 * 2 + 5, dtype="float32", seed=1)
    for threads in (1, 3):
        with cyconv.threads(threads):
            np.testing.assert_array_equal(F.add(x, y), x + y)
            np.testing.assert_array_equal(F.add_relu(x, y), np.maximum(x + y, 0))
    with pytest.raises(ValueError, match="one shape"):
        F.add_relu(x, y[:-1])
    with pytest.raises(TypeError, match="mixed dtypes"):
        F.add_relu(x, y.astype("float64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_a_residual_block_are_those_of_its_layers(dtype):
    """Norms, ReLUs and sums that go together in a container, against the same layers one by one."""

    def block(seed):
        rng = np.random.default_rng(seed)
        conv = [nn.Conv2d(4, 4, 3, padding=1, bias=False, dtype=dtype, rng=rng) for _ in range(2)]
        norm = [nn.BatchNorm2d(4, dtype=dtype) for _ in range(2)]
        for layer in norm:
            layer.weight.data[...] = rng.standard_normal(4)
            layer.bias.data[...] = rng.standard_normal(4)
        return nn.Residual(nn.Sequential(conv[0], norm[0], nn.ReLU(), conv[1], norm[1]))

    def one_by_one(layers, x, grad):
        for layer in layers:
            if isinstance(layer, nn.Residual):
                main = x
                for inner in layer.body:
                    main = inner(main)
                x = F.add(main, x)
            else:
                x = layer(x)
        output = x
        for layer in reversed(list(layers)):
            if isinstance(layer, nn.Residual):
                main = grad
                for inner in reversed(list(layer.body)):
                    main = inner.backward(main)
                grad = F.add(main, grad)
            else:
                grad = layer.backward(grad)
        return output, grad

    def network():
        return nn.Sequential(nn.BatchNorm2d(4, dtype=dtype), nn.ReLU(), block(1), nn.ReLU(), block(2), nn.ReLU())

    x, grad = normal(3, 4, 6, 5, dtype=dtype), normal(3, 4, 6, 5, dtype=dtype, seed=1)
    kept = grad.copy()
    joined, apart = network(), network()
    wanted, dx = one_by_one(apart, x, kept.copy())
    np.testing.assert_array_equal(joined(x), wanted)
    np.testing.assert_array_equal(joined.backward(grad), dx)
    np.testing.assert_array_equal(grad, kept)  # the caller's array is nobody's to write into
    for (name, one), (_, other) in zip(joined.named_parameters(), apart.named_parameters(), strict=True):
        np.testing.assert_array_equal(one.grad, other.grad, err_msg=name)
    for (_, one), (_, other) in zip(joined.named_buffers(), apart.named_buffers(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_norm_that_ran_by_itself_in_between_goes_backward_by_itself():
    norm, relu = nn.BatchNorm2d(3), nn.ReLU()
    model = nn.Sequential(norm, relu)
    x, grad = normal(2, 3, 4, 4, dtype="float32"), normal(2, 3, 4, 4, dtype="float32", seed=1)
    y = model(x)
    norm(x)  # remembers a pass without the ReLU
    assert not norm._rectified(relu)
    got = model.backward(grad)
    norm(x)
    np.testing.assert_array_equal(got, norm.backward(np.where(y > 0, grad, 0).astype("float32")))


def test_parameters_that_change_before_backward_do_not_change_what_the_relu_let_through():
    norm, relu = nn.BatchNorm2d(3), nn.ReLU()
    model = nn.Sequential(norm, relu)
    x, grad = normal(2, 3, 4, 4, dtype="float32"), normal(2, 3, 4, 4, dtype="float32", seed=1)
    y = model(x)
    assert norm._rectified(relu)
    norm.bias.data -= 0.5
    got = model.backward(grad)
    wanted = norm.backward(np.where(y > 0, grad, 0).astype("float32"))
    np.testing.assert_array_equal(got, wanted)


def test_join_gradients_adds_and_lets_through_what_the_relu_did():
    """Longer than a chunk of the kernel, and no whole number of vectors; in place each element is added once."""
    for size in (1, 5, 8192 * 2 + 5):
        x, y, z = (normal(size, dtype="float32", seed=seed) for seed in range(3))
        for threads in (1, 3):
            with cyconv.threads(threads):
                for output, wanted in ((None, x + y), (z, np.where(z <= 0, 0, x + y))):
                    np.testing.assert_array_equal(F.join_gradients(x, y, output=output), wanted)
                    own = x.copy()
                    assert F.join_gradients(own, y, output=output, out=own) is own
                    np.testing.assert_array_equal(own, wanted)
    with pytest.raises(ValueError, match="join_gradients: gradient, other and output must have one shape"):
        F.join_gradients(x, y[:-1])
    with pytest.raises(ValueError, match="join_gradients: out must be gradient itself"):
        F.join_gradients(x, y, out=y)
    with pytest.raises(TypeError, match="mixed dtypes"):
        F.join_gradients(x, y.astype("float64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(5, 1), nn.AdaptiveMaxPool2d(3)], ids=repr
)
def test_a_relu_goes_backward_at_the_maxima_behind_it(monkeypatch, pool, dtype):
    rng = np.random.default_rng(5)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, rng=0, dtype=dtype), nn.ReLU(), pool)
    for turn in (np.ascontiguousarray, lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)):
        x = turn(rng.standard_normal((2, 2, 13, 12)).astype(dtype))
        x[0, 1, 4, 4] = np.nan
        y = model(x)
        grad = rng.standard_normal(y.shape).astype(dtype)
        spy = Mock(wraps=F.relu_backward)
        monkeypatch.setattr(_pool, "relu_backward", spy)
        model.zero_grad()
        got = model.backward(grad)
        weights = [p.grad.copy() for p in model.parameters()]
        assert [call.args[0].shape for call in spy.call_args_list] == [y.shape]
        monkeypatch.undo()
        by_hand = grad
        for layer in reversed(list(model)):
            layer.zero_grad()
            by_hand = layer.backward(by_hand)
        np.testing.assert_array_equal(got, by_hand)
        for mine, theirs in zip(weights, (p.grad for p in model.parameters()), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_relu_goes_backward_by_itself_where_the_maxima_are_of_something_else():
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    model = nn.Sequential(relu, pool)
    model(np.ones((1, 1, 4, 4)))
    other = np.full((1, 1, 4, 4), -1.0)
    other[0, 0, ::2, ::2] = -0.5
    pool(other)  # maxima below 0, of which the ReLU knows nothing
    np.testing.assert_array_equal(model.backward(np.ones((1, 1, 2, 2))), (other > -1).astype(float))
    relu(other)
    model.eval()(other)
    with pytest.raises(RuntimeError, match="backward needs a forward pass in training mode"):
        model.backward(np.ones((1, 1, 2, 2)))
