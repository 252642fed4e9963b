"""Transposed convolution layers: state, eval, output_size, what containers and tables make of them."""

import copy
import math
import pickle

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, ReLU, Sequential, explain, nn
from cyconv import functional as F
from cyconv.summary import Row, summary


def normal(*shape, dtype="float32"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    ("layer", "shape"), [(ConvTranspose1d, (4, 7)), (ConvTranspose2d, (4, 5, 6)), (ConvTranspose3d, (4, 3, 4, 5))]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_does_what_the_function_does(layer, shape, dtype):
    # As in torch: stride, padding, output_padding, groups, bias, dilation.
    made = layer(4, 6, 3, 2, 1, 1, 2, True, 2, dtype=dtype, rng=0)
    how = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2}
    twin = layer.__name__.lower().replace("transpose", "_transpose")
    x = normal(2, *shape, dtype=dtype)
    y = made(x)
    np.testing.assert_array_equal(y, getattr(F, twin)(x, made.weight.data, made.bias.data, **how))
    dx = made.backward(y)
    wanted = getattr(F, f"{twin}_backward")(y, x, made.weight.data, made.bias.data, **how)
    for one, other in zip((dx, made.weight.grad, made.bias.grad), wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert made.backward(y, input_grad=False) is None
    np.testing.assert_array_equal(made.weight.grad, 2 * wanted[1])
    np.testing.assert_array_equal(made(x[0]), y[0])
    assert made.backward(y[0]).shape == x[0].shape
    with pytest.raises(ValueError, match=f"{layer.__name__}: input must have shape"):
        made(np.ones(3, dtype))


def test_channels_last_stays_channels_last():
    x = np.moveaxis(normal(2, 5, 6, 4), -1, 1)
    layer = ConvTranspose2d(4, 3, 4, 2, 1, rng=0)
    y = layer(x)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    assert_close(y, layer(np.ascontiguousarray(x)))
    assert np.moveaxis(layer.eval()(x), 1, -1).flags.c_contiguous


def test_output_size_takes_the_place_of_output_padding():
    layer, x = ConvTranspose2d(3, 4, 3, 3, 1, 1, rng=0), normal(2, 3, 4, 5)
    assert layer(x).shape == (2, 4, 11, 14)
    for size in ((10, 13), (12, 15), [11, 14], (2, 3, 12, 13)):
        y = layer(x, size)
        how = {"stride": 3, "padding": 1, "output_size": size}
        np.testing.assert_array_equal(y, F.conv_transpose2d(x, layer.weight.data, layer.bias.data, **how))
        # Backward knows which size it was.
        layer.zero_grad()
        dx = layer.backward(y)
        wanted = F.conv_transpose2d_backward(y, x, layer.weight.data, layer.bias.data, **how)
        for one, other in zip((dx, layer.weight.grad, layer.bias.grad), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    layer.eval()
    for size in ((10, 13), None, (12, 15), (10, 13)):
        got = layer(x, output_size=size)
        assert got.shape == (2, 4, *(size or (11, 14)))
        np.testing.assert_array_equal(
            got, F.conv_transpose2d(x, layer.weight.data, layer.bias.data, 3, 1, output_size=size or (11, 14))
        )
    with pytest.raises(
        ValueError, match=r"^ConvTranspose2d: output_size \(13, 13\) cannot be: .* gives height 10 to 12"
    ):
        layer(x, 13)
    with pytest.raises(TypeError, match=r"^ConvTranspose2d: output_size must be an int or 2 ints, got 1\.5"):
        layer(x, 1.5)
    with pytest.raises(TypeError, match=r"^ConvTranspose2d: output_size must be an int, got \[1\]"):
        layer(x, ([1], [2]))


def test_eval_keeps_packed_weights_and_guards_them():
    for layer in (ConvTranspose2d(2, 4, 4, 2, rng=0), ConvTranspose2d(16, 40, 3, padding=1, rng=0)):
        x = normal(1, layer.in_channels, 9, 9)
        before = layer(x)
        packed = layer._conv
        layer.eval()
        assert_close(layer(x), before, algorithm="winograd_f4")
        kept = packed._frozen[2]
        assert kept is not None
        layer(x)
        assert packed._frozen[2] is kept
        with pytest.raises(ValueError, match="read-only"):
            layer.weight.data += 1
        layer.train()
        layer.weight.data *= 2
        layer.bias.data *= 2
        assert_close(layer.eval()(x), 2 * before, algorithm="winograd_f4")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", ["C", "channels-last"])
def test_a_relu_behind_is_part_of_the_walk(monkeypatch, bias, order):
    layer, x = ConvTranspose2d(5, 3, 4, 2, 1, bias=bias, rng=0), normal(2, 5, 6, 40)
    if order != "C":
        x = np.moveaxis(normal(2, 6, 40, 5), -1, 1)
    net, apart = Sequential(layer, ReLU()), layer(x)
    y = net(x)
    np.testing.assert_array_equal(y, np.maximum(apart, 0))
    assert (y == 0).any()
    dx = net.backward(y)
    np.testing.assert_array_equal(dx, F.conv_transpose2d_backward(y * (apart > 0), x, layer.weight.data, None, 2, 1)[0])
    monkeypatch.setattr(nn.ReLU, "forward", lambda *_: pytest.fail("the ReLU ran by itself"))
    np.testing.assert_array_equal(Sequential(layer, ReLU()).eval()(x), np.maximum(apart, 0))


def test_starting_values_are_those_of_torch():
    """torch takes the second axis of the weight for its inputs: fan_in = 64/2 · 3 · 5."""
    layer, bound = ConvTranspose2d(8, 64, (3, 5), groups=2, rng=0), 1 / math.sqrt(32 * 15)
    for parameter, share in ((layer.weight, 0.99), (layer.bias, 0.9)):
        assert share * bound < np.abs(parameter.data).max() <= bound * (1 + 1e-6)
    assert layer.weight.shape == (8, 32, 3, 5)
    assert layer.bias.shape == (64,)
    torch = pytest.importorskip("torch")
    theirs = torch.nn.ConvTranspose2d(8, 64, (3, 5), groups=2)
    for mine, its in ((layer.weight, theirs.weight), (layer.bias, theirs.bias)):
        assert np.abs(mine.data).max() == pytest.approx(its.abs().max().item(), rel=0.1)


def test_copies_compute_the_same():
    layer, x = ConvTranspose2d(3, 4, 3, 2, ((1, 0), (0, 2)), (1, 0), rng=0), normal(1, 3, 5, 4)
    y = layer.eval()(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x), y)
        other.train()
        other(x)
        assert other.backward(y).shape == x.shape


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ConvTranspose2d(4, 6, 3), "ConvTranspose2d(4, 6, kernel_size=(3, 3), stride=(1, 1))"),
        (
            lambda: ConvTranspose2d(4, 6, 3, 2, ((1, 0), (0, 1)), (1, 0), 2, False, 2, algorithm="direct"),
            "ConvTranspose2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=((1, 0), (0, 1)), dilation=(2, 2), "
            "output_padding=(1, 0), groups=2, bias=False, algorithm='direct')",
        ),
        (
            lambda: ConvTranspose1d(4, 6, 3, 2, "same"),
            "ConvTranspose1d(4, 6, kernel_size=(3,), stride=(2,), padding='same')",
        ),
    ],
)
def test_repr(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConvTranspose2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
        (lambda: ConvTranspose2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible by groups"),
        (lambda: ConvTranspose2d(3, 4, 0), ValueError, "kernel_size must be at least 1"),
        (lambda: ConvTranspose2d(3, 4, 3, 0), ValueError, "stride must be at least 1"),
        (lambda: ConvTranspose2d(3, 4, 3, padding="full"), ValueError, "padding must be .* got 'full'"),
        (
            lambda: ConvTranspose2d(3, 4, 3, 2, output_padding=2),
            ValueError,
            "output_padding must be smaller than the stride or the dilation, got 2 for the height",
        ),
        (lambda: ConvTranspose2d(3, 4, 3, output_padding=0.5), TypeError, "output_padding must be an int or 2 ints"),
        (lambda: ConvTranspose2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode must be one of zeros"),
        (
            lambda: ConvTranspose2d(3, 4, 5, padding_mode="reflect")(np.zeros((3, 4, 6), np.float32)),
            ValueError,
            "padding_mode 'reflect' repeats at most 3 of the 4 pixels along the height",
        ),
        (lambda: ConvTranspose2d(3, 4, 3, algorithm="fft"), ValueError, "algorithm must be one of"),
        (lambda: ConvTranspose2d(3, 4, 3, dtype=int), TypeError, "dtype must be float32 or float64"),
        (lambda: ConvTranspose2d(2**31 - 1, 2**31 - 1, 3), MemoryError, "the weight of shape"),
    ],
)
def test_constructor_errors_name_the_argument(make, error, message):
    with pytest.raises(error, match=f"^ConvTranspose2d: {message}"):
        make()


def test_backward_needs_a_forward_pass():
    layer = ConvTranspose2d(3, 4, 3)
    with pytest.raises(RuntimeError, match="ConvTranspose2d: backward needs a forward pass in training mode"):
        layer.backward(np.ones((1, 4, 5, 5), "f"))
    layer(normal(1, 3, 4, 4))
    with pytest.raises(ValueError, match=r"^ConvTranspose2d: grad_output must have the shape .* \(1, 4, 6, 6\)"):
        layer.backward(np.ones((1, 4, 5, 5), "f"))
    assert layer.weight.grad is None


def test_summary_has_the_arithmetic():
    up = ConvTranspose2d(8, 4, 3, 2, (1, 0), 1, 2)
    net = Sequential(up, ConvTranspose2d(4, 2, (1, 2), bias=False), nn.Flatten(), nn.Linear(2 * 10 * 15, 3))
    table = summary(net, (8, 5, 6))
    assert table.rows[:2] == [
        Row(
            "0",
            "ConvTranspose2d 3×3, 2 groups",
            (4, 10, 14),
            ("(5−1)·2 − 2·1 + 1·(3−1) + 1 + 1 = 10", "(6−1)·2 − 2·0 + 1·(3−1) + 1 + 1 = 14"),
            "(8/2·3·3 + 1)·4 =",
            148,
        ),
        Row(
            "1",
            "ConvTranspose2d 1×2",
            (2, 10, 15),
            ("(10−1)·1 − 2·0 + 1·(1−1) + 1 = 10", "(14−1)·1 − 2·0 + 1·(2−1) + 1 = 15"),
            "4·1·2·2 =",
            16,
        ),
    ]
    for row in table.rows:
        if row.arithmetic:
            assert eval(row.arithmetic.rstrip("= ").replace("·", "*")) == row.parameters
        for size in row.size:
            left, right = size.replace("−", "-").replace("·", "*").rsplit(" = ", 1)
            assert eval(left) == int(right)
    assert table.parameters == net.num_parameters()
    with pytest.raises(ValueError, match=r"summary: layer 0 \(ConvTranspose2d\), given one example .* channels"):
        summary(net, (7, 5, 6))


def test_explain_tells_what_runs():
    found = explain(ConvTranspose2d(64, 32, 3, 2, 1, 1), (1, 64, 28, 28))
    assert (found.chosen, found.macs, found.parameters) == ("winograd_f4", 64 * 32 * 9 * 28 * 28, 64 * 32 * 9 + 32)
    assert found.geometry.output_shape == (1, 32, 56, 56)
    assert "(28−1)·2 − 2·1 + 1·(3−1) + 1 + 1 = 56" in str(found)
    obstacles = {c.name: c.obstacle for c in found.candidates}
    assert obstacles["winograd_f4"] == ""
    assert obstacles["depthwise"] == "1 groups share 64 input channels"
    found = explain(ConvTranspose2d(64, 32, 4, 2, 1), (1, 64, 28, 28))
    assert found.chosen == "direct"
    obstacles = {c.name: c.obstacle for c in found.candidates}
    assert obstacles["winograd_f4"] == "the stride is (2, 2) and the kernel (4, 4), not of 3 taps"
    found = explain(ConvTranspose2d(8, 8, 3, (3, 2), 1, groups=8), (1, 8, 5, 6))
    obstacles = {c.name: c.obstacle for c in found.candidates}
    assert obstacles["depthwise"] == "the stride of the transposed convolution is (3, 2), not 1 or 2"
    assert explain(ConvTranspose2d(8, 8, 3, 2, 1, 1, groups=8), (1, 8, 5, 6)).chosen == "depthwise"
    assert found.candidates[0].expected > 0
    found = explain(ConvTranspose2d(64, 64, 3, padding=1), (8, 64, 56, 56), channels_last=True)
    assert found.chosen.startswith("winograd")
    measured = explain(ConvTranspose1d(2, 3, 4, 2), (1, 2, 9), measure=True)
    assert measured.candidates[0].measured > 0
    assert explain(ConvTranspose3d(4, 4, 3, 1, 1, groups=4), (1, 4, 5, 5, 5)).chosen == "direct"
    with pytest.raises(TypeError, match="explain: expected a convolution layer, got Linear"):
        explain(nn.Linear(2, 3), (1, 2))


def test_an_autoencoder_learns():
    """Down by a convolution and up again: the gradient of the whole goes downhill."""
    net = Sequential(cyconv.Conv2d(1, 4, 3, 2, 1, rng=0), ReLU(), ConvTranspose2d(4, 1, 3, 2, 1, 1, rng=1))
    x, loss, optimizer = normal(8, 1, 8, 8), cyconv.MSELoss(), cyconv.Adam(net.parameters(), 0.02)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        values.append(loss(net(x), x))
        net.backward(loss.backward())
        optimizer.step()
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_torch_layer_loads_as_it_is(rank):
    torch = pytest.importorskip("torch")
    arguments = (4, 6, 3, 2, 1, 1, 2, True, 2)
    theirs = getattr(torch.nn, f"ConvTranspose{rank}d")(*arguments).double()
    ours = getattr(cyconv, f"ConvTranspose{rank}d")(*arguments, dtype=np.float64)
    assert repr(ours) == repr(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 4, *range(5, 5 + rank)))
    for size in (None, [2 * n + 2 for n in x.shape[2:]], (2, 4, *(2 * n + 1 for n in x.shape[2:]))):
        tensor = torch.from_numpy(x).requires_grad_()
        wanted = theirs(tensor, None if size is None else list(size))
        got = ours(x, size)
        assert_close(got, wanted.detach().numpy())
        theirs.zero_grad(), ours.zero_grad()
        wanted.backward(wanted.detach())
        assert_close(ours.backward(got), tensor.grad.numpy())
        assert_close(ours.weight.grad, theirs.weight.grad.numpy())
        assert_close(ours.bias.grad, theirs.bias.grad.numpy())
    for refused in ([2 * n for n in x.shape[2:]], [2 * n + 3 for n in x.shape[2:]]):
        with pytest.raises(ValueError, match="valid sizes range"):
            theirs(torch.from_numpy(x), refused)
        with pytest.raises(ValueError, match=f"ConvTranspose{rank}d: output_size .* cannot be: an input of"):
            ours(x, refused)
