"""Lazy layers and separable convolutions."""

import copy
import pickle

import numpy as np
import pytest

from cyconv import nn, optim
from cyconv.summary import summary

RNG = np.random.default_rng(0)


def example(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


#: Lazy layer, the plain one that it must equal after an input of this shape.
CASES = [
    (lambda: nn.LazyConv1d(6, 3, groups=2, rng=1), lambda: nn.Conv1d(4, 6, 3, groups=2, rng=1), (2, 4, 9)),
    (lambda: nn.LazyConv2d(6, 3, 2, 1, rng=1), lambda: nn.Conv2d(4, 6, 3, 2, 1, rng=1), (2, 4, 9, 8)),
    (lambda: nn.LazyConv2d(6, 3, bias=False, rng=1), lambda: nn.Conv2d(4, 6, 3, bias=False, rng=1), (4, 9, 8)),
    (lambda: nn.LazyConv3d(2, 2, rng=1), lambda: nn.Conv3d(3, 2, 2, rng=1), (1, 3, 4, 4, 4)),
    (lambda: nn.LazyConvTranspose1d(2, 3, 2, rng=1), lambda: nn.ConvTranspose1d(3, 2, 3, 2, rng=1), (1, 3, 5)),
    (
        lambda: nn.LazyConvTranspose2d(4, 3, 2, 1, 1, 2, rng=1),
        lambda: nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, 2, rng=1),
        (1, 6, 5, 4),
    ),
    (lambda: nn.LazyConvTranspose3d(2, 2, rng=1), lambda: nn.ConvTranspose3d(3, 2, 2, rng=1), (1, 3, 3, 3, 3)),
    (lambda: nn.LazyLinear(5, rng=1), lambda: nn.Linear(7, 5, rng=1), (2, 3, 7)),
    (lambda: nn.LazyBatchNorm1d(momentum=0.3), lambda: nn.BatchNorm1d(3, momentum=0.3), (4, 3)),
    (lambda: nn.LazyBatchNorm2d(1e-3), lambda: nn.BatchNorm2d(3, 1e-3), (2, 3, 4, 4)),
    (lambda: nn.LazyBatchNorm2d(affine=False), lambda: nn.BatchNorm2d(3, affine=False), (2, 3, 4, 4)),
    (
        lambda: nn.LazyBatchNorm3d(affine=False, track_running_stats=False),
        lambda: nn.BatchNorm3d(3, affine=False, track_running_stats=False),
        (2, 3, 2, 2, 2),
    ),
]


@pytest.mark.parametrize(("lazy", "plain", "shape"), CASES)
def test_the_first_call_makes_a_plain_layer(lazy, plain, shape):
    layer, twin, x = lazy(), plain(), example(*shape)
    before = list(layer.parameters())
    assert repr(layer).startswith("Lazy")
    y = layer(x)
    assert type(layer) is type(twin)
    assert repr(layer) == repr(twin)
    assert vars(layer).keys() == vars(twin).keys() | {"_saved"}
    np.testing.assert_array_equal(y, twin(x))
    assert [id(p) for p in layer.parameters()] == [id(p) for p in before]
    assert all(type(p) is nn.Parameter for p in before)
    for found, expected in zip(layer.state_dict().items(), twin.state_dict().items(), strict=True):
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(layer.backward(y), twin.backward(y))
    np.testing.assert_array_equal(layer(x), twin(x))


@pytest.mark.parametrize(("lazy", "plain", "shape"), CASES[:-1])
def test_a_state_makes_a_plain_layer(lazy, plain, shape):
    layer, twin = nn.Sequential(lazy()), nn.Sequential(plain())
    for array in twin._state().values():
        array += array.dtype.type(1)
    layer.load_state_dict(twin.state_dict())
    assert type(layer[0]) is type(twin[0])
    x = example(*shape)
    np.testing.assert_array_equal(layer(x), twin(x))


@pytest.mark.parametrize(("lazy", "plain", "shape"), CASES[:-1])
def test_a_state_that_does_not_fit_leaves_the_layer_lazy(lazy, plain, shape):
    net = nn.Sequential(lazy(), nn.Linear(2, 2))
    kind = type(net[0])
    state = {f"0.{name}": value for name, value in plain().state_dict().items()}
    with pytest.raises(ValueError, match=r"nothing was changed\n  missing: 1.weight, 1.bias"):
        net.load_state_dict(state)
    assert type(net[0]) is kind
    assert net[0]._unknown
    assert all(type(p) is nn.UninitializedParameter for p in net[0].parameters())
    with pytest.raises(RuntimeError, match="the lazy layer '0' has no state yet"):
        net.state_dict()
    missing, _ = net.load_state_dict(state, strict=False)
    assert missing == ["1.weight", "1.bias"]
    np.testing.assert_array_equal(net[0](example(*shape)).shape, plain()(example(*shape)).shape)


def test_a_state_without_its_names_leaves_the_layer_lazy():
    net = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(ValueError, match=r"missing: 0.weight, 0.bias"):
        net.load_state_dict({})
    assert net.load_state_dict({}, strict=False).missing_keys == ["0.weight", "0.bias"]
    assert type(net[0]) is nn.LazyLinear


def test_what_is_not_known_yet_says_so():
    layer = nn.LazyConv2d(4, 3)
    weight, bias = layer.parameters()
    assert repr(weight) == "UninitializedParameter()"
    for ask in (lambda: weight.shape, lambda: weight.dtype, lambda: weight.size, lambda: bias.data):
        with pytest.raises(RuntimeError, match="its lazy layer has not seen an input: call the network once"):
            ask()
    with pytest.raises(RuntimeError, match="its lazy layer has not seen an input"):
        layer.num_parameters()
    with pytest.raises(RuntimeError, match=r"LazyConv2d\.state_dict: the lazy layer 'LazyConv2d' has no state yet"):
        layer.state_dict()
    layer.zero_grad()
    layer.eval().train()
    # An optimiser that was made too early goes on to work, as the parameters stay the same objects.
    step = optim.SGD(layer.parameters(), 0.1)
    y = layer(example(1, 2, 5, 5))
    layer.backward(np.ones_like(y))
    before = weight.data.copy()
    step.step()
    assert not np.array_equal(weight.data, before)


def test_mistakes_are_found_at_construction_or_at_the_first_call():
    with pytest.raises(ValueError, match="out_channels must be divisible by groups"):
        nn.LazyConv2d(3, 3, groups=2)
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        nn.LazyLinear(3, dtype=int)
    layer = nn.LazyConv2d(4, 3, groups=2)
    with pytest.raises(ValueError, match=r"LazyConv2d: input must have 3 or 4 axes, got shape \(4, 5\)"):
        layer(example(4, 5))
    with pytest.raises(ValueError, match="in_channels must be divisible by groups, got 3"):
        layer(example(1, 3, 5, 5))
    assert type(layer) is nn.LazyConv2d
    assert layer(example(1, 6, 5, 5)).shape == (1, 4, 3, 3)
    with pytest.raises(ValueError, match=r"LazyBatchNorm2d: input must have 4 axes, got shape \(2, 3\)"):
        nn.LazyBatchNorm2d()(example(2, 3))
    with pytest.raises(ValueError, match="LazyLinear: input must have an axis"):
        nn.LazyLinear(2)(np.float32(1))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_of_lazy_layers_are_lazy_by_themselves(duplicate):
    net = nn.Sequential(nn.LazyConv2d(3, 3, rng=0), nn.ReLU())
    twin = duplicate(net)
    x = example(1, 2, 5, 5)
    y = net(x)
    assert type(twin[0]) is nn.LazyConv2d
    np.testing.assert_array_equal(twin(x), y)
    np.testing.assert_array_equal(duplicate(net)(x), y)


def test_lazy_layers_in_containers():
    def net(lazy):
        return nn.Sequential(
            nn.LazyConv2d(4, 3, rng=0) if lazy else nn.Conv2d(2, 4, 3, rng=0),
            nn.ReLU(),
            nn.Residual(nn.LazyConv2d(4, 1, rng=1) if lazy else nn.Conv2d(4, 4, 1, rng=1)),
            nn.LazyBatchNorm2d() if lazy else nn.BatchNorm2d(4),
            nn.Flatten(),
            nn.LazyLinear(3, rng=2) if lazy else nn.Linear(36, 3, rng=2),
            nn.ReLU(),
        )

    lazy, plain, x = net(True), net(False), example(2, 2, 5, 5)
    for _ in range(2):
        y = lazy(x)
        np.testing.assert_array_equal(y, plain(x))
        lazy.backward(y, input_grad=False)
        plain.backward(y, input_grad=False)
    assert repr(lazy) == repr(plain)
    for found, expected in zip(lazy.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(found.grad, expected.grad)
    for mode in ("eval", "train"):
        np.testing.assert_array_equal(getattr(lazy, mode)()(x), getattr(plain, mode)()(x))


def test_a_summary_leaves_lazy_layers_lazy():
    net = nn.Sequential(nn.LazyConv2d(4, 3, dtype="float64"), nn.Flatten(), nn.LazyLinear(3, dtype="float64"))
    table = summary(net, (2, 5, 5))
    assert [row.layer for row in table.rows] == ["Conv2d 3×3", "Flatten", "Linear"]
    assert table.parameters == (2 * 9 + 1) * 4 + (36 + 1) * 3
    assert type(net[0]) is nn.LazyConv2d


# ---------------------------------------------------------------------------------------------- separable


@pytest.mark.parametrize(
    ("layer", "plain", "shape"),
    [
        (nn.SeparableConv1d, nn.Conv1d, (2, 3, 9)),
        (nn.SeparableConv2d, nn.Conv2d, (2, 3, 9, 7)),
        (nn.SeparableConv3d, nn.Conv3d, (2, 3, 5, 4, 6)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_separable_convolutions_are_two_convolutions(layer, plain, shape, bias):
    separable = layer(3, 5, 3, 2, 1, 1, 2, bias, dtype="float64", rng=0)
    first = plain(3, 6, 3, 2, 1, groups=3, bias=False, dtype="float64")
    second = plain(6, 5, 1, bias=bias, dtype="float64")
    names = ["depthwise.weight", "pointwise.weight"] + ["pointwise.bias"] * bias
    assert list(separable.state_dict()) == names
    by_hand = nn.Sequential(first, second)
    by_hand.load_state_dict(dict(zip(by_hand.state_dict(), separable.state_dict().values(), strict=True)))
    x = example(*shape, dtype="float64")
    y = separable(x)
    np.testing.assert_array_equal(y, by_hand(x))
    np.testing.assert_array_equal(separable.backward(y), by_hand.backward(y))
    for found, expected in zip(separable.parameters(), by_hand.parameters(), strict=True):
        np.testing.assert_array_equal(found.grad, expected.grad)
    np.testing.assert_array_equal(nn.Sequential(separable, nn.ReLU())(x), np.maximum(y, 0))


def test_separable_convolutions_draw_as_they_are_asked_to():
    one, two = (nn.SeparableConv2d(2, 3, 3, rng=4) for _ in range(2))
    np.testing.assert_array_equal(one.pointwise.weight.data, two.pointwise.weight.data)
    assert one.depth_multiplier == 1
    rows = summary(nn.Sequential(one), (2, 5, 5)).rows
    assert [(row.name, row.layer) for row in rows] == [
        ("0", "SeparableConv2d"),
        ("0.depthwise", "Conv2d 3×3, 2 groups"),
        ("0.pointwise", "Conv2d 1×1"),
    ]
    for arguments, message in (((0, 3, 3), "in_channels"), ((2, 0, 3), "out_channels"), ((2, 3, 0), "kernel_size")):
        with pytest.raises(ValueError, match=message):
            nn.SeparableConv2d(*arguments)
    with pytest.raises(ValueError, match="SeparableConv2d: depth_multiplier must be"):
        nn.SeparableConv2d(2, 3, 3, depth_multiplier=0)
    with pytest.raises(TypeError, match="it has two parts"):
        one.append(nn.ReLU())
