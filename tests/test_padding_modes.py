"""Padding that repeats pixels, in the walks of all convolutions and transposed convolutions, with gradients."""

import itertools

import numpy as np
import pytest
import transposed_cases
from conv_cases import DTYPES, MODES, ORDERS, Case, awkward, check, in_modes, in_order, suits
from tolerances import assert_close

import cyconv
from cyconv import Conv1d, Conv2d, Conv3d, ConvTranspose2d, _settings, explain, nn
from cyconv import functional as F
from cyconv._geometry import conv_geometry
from cyconv.functional import _arrays, _conv
from cyconv.summary import summary

ALGORITHMS = ("direct", "winograd_f2", "winograd_f4", "depthwise", "im2col", "reference")


def row(*values):
    return np.array(values, float).reshape(1, 1, -1)


# ------------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("mode", "padded", "back"),
    [
        # What stands where (2 before, 1 behind); what each of three pixels gets where place i sends 10^i.
        ("reflect", (3, 2, 1, 2, 3, 2), (100, 101010, 10001)),
        ("replicate", (1, 1, 1, 2, 3, 3), (111, 1000, 110000)),
        ("circular", (2, 3, 1, 2, 3, 1), (100100, 1001, 10010)),
    ],
)
@pytest.mark.parametrize("algorithm", ["direct", "im2col", "reference"])
def test_one_tap_shows_what_padding_holds(mode, padded, back, algorithm):
    x, one = row(1, 2, 3), row(1)
    if algorithm == "im2col":  # needs an image
        x, one = x[..., None], one[..., None]
    sides = ((2, 1), (0, 0))[: x.ndim - 2]
    conv, backward = (F.conv1d, F.conv1d_backward) if x.ndim == 3 else (F.conv2d, F.conv2d_backward)
    y = conv(x, one, padding=sides, padding_mode=mode, algorithm=algorithm)
    assert tuple(y.ravel()) == padded
    grad = (10.0 ** np.arange(6)).reshape(y.shape)
    dx, dw = backward(grad, x, one, padding=sides, padding_mode=mode, algorithm=algorithm)
    assert tuple(dx.ravel()) == back
    assert dw.item() == sum(value * 10**i for i, value in enumerate(padded))


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        # [4 3 4 3], [2 1 2 1], [4 3 4 3], [2 1 2 1]: an image of 2 x 2 mirrored or wrapped
        ("reflect", [[27, 24], [21, 18]]),
        ("circular", [[27, 24], [21, 18]]),
        # [1 1 2 2], [1 1 2 2], [3 3 4 4], [3 3 4 4]
        ("replicate", [[18, 21], [24, 27]]),
    ],
)
def test_corners_repeat_both_ways(mode, wanted):
    image = np.array([[[1.0, 2], [3, 4]]])
    np.testing.assert_array_equal(F.conv2d(image, np.ones((1, 1, 3, 3)), padding=1, padding_mode=mode)[0], wanted)


# ----------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ["direct", "winograd_f2", "winograd_f4", "depthwise", "im2col"])
def test_awkward_sizes_against_the_oracle(algorithm, order, dtype):
    cases = [case for case in in_modes(awkward(dtype)).values() if suits(case, algorithm, order)]
    assert len(cases) > 20
    assert {case.mode for case in cases} == set(MODES)
    for case in cases:
        check(case, dtype, order, algorithm)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ["direct", "winograd_f2", "winograd_f4", "reference"])
def test_transposed_against_the_oracle(algorithm, order, dtype):
    done = set()
    for x, weight, how in transposed_cases.in_modes(dtype).values():
        if transposed_cases.suits(x, weight, how, algorithm, order):
            transposed_cases.check(x, weight, how, dtype=dtype, order=order, algorithm=algorithm)
            done.add(how["padding_mode"])
    assert done == set(MODES)


def draws(x, weight, outputs):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in (x, weight, outputs)]


# ---------------------------------------------------------------------------------------------------------------- torch


def of_torch(torch, function, arrays):
    """Return output and gradients of a function of tensors, for a gradient of the output that is drawn."""
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*tensors)
    grad = torch.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape)))
    y.backward(grad)
    return y.detach().numpy(), grad.numpy(), [t.grad.numpy() for t in tensors]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("rank", "kernel", "stride", "padding", "output_padding", "dilation"),
    [
        (2, 4, 2, 1, 0, 1),
        (2, 3, 1, 1, 0, 1),
        (2, 3, 2, 1, 1, 1),
        (1, 5, 3, 2, 2, 1),
        (3, 3, 2, 0, 0, 1),
        (2, 3, 2, 2, 0, 2),
    ],
)
def test_transposed_is_what_torch_users_write_by_hand(mode, rank, kernel, stride, padding, output_padding, dilation):
    """Pad the input, transpose the convolution, cut what is too much off the output."""
    torch = pytest.importorskip("torch")
    name, more, length = f"conv_transpose{rank}d", 4, 6
    arrays = draws((2, 3, *[length] * rank), (3, 2, *[kernel] * rank), 2)
    output = (length - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding

    def function(x, w, b):
        x = torch.nn.functional.pad(x, (more,) * (2 * rank), mode=mode)
        y = getattr(torch.nn.functional, name)(x, w, b, stride, 0, 0, 1, dilation)
        first = more * stride + padding
        return y[(..., *[slice(first, first + output)] * rank)]

    want, grad, gradients = of_torch(torch, function, arrays)
    how = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    assert_close(getattr(F, name)(*arrays, **how, padding_mode=mode), want, algorithm="winograd_f4")
    got = getattr(F, f"{name}_backward")(grad, *arrays, **how, padding_mode=mode)
    for mine, theirs in zip(got, gradients, strict=True):
        assert_close(mine, theirs, algorithm="winograd_f4")


# ----------------------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_are_adjoint(algorithm, mode, order):
    """<conv(x), y> = <x, gradient(y)>, and the weight's gradient is that of the same number."""
    groups = 8 if algorithm == "depthwise" else 1
    case = Case(2, 8, 8, (9, 11), (3, 3), padding=((2, 1), (0, 2)), groups=groups, bias=False, mode=mode)
    x, weight, _, y = case.arrays("float64", order)
    product = np.vdot(F.conv2d(x, weight, None, *case.how, algorithm=algorithm), y)
    dx, dw = F.conv2d_backward(y, x, weight, None, *case.how, algorithm=algorithm)
    assert np.vdot(x, dx) == pytest.approx(product, rel=1e-11)
    assert np.vdot(weight, dw) == pytest.approx(product, rel=1e-11)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("algorithm", ["direct", "winograd_f2", "reference"])
def test_gradients_of_transposed_convolutions_are_adjoint(algorithm, mode):
    rng = np.random.default_rng(0)
    stride = 1 if algorithm == "winograd_f2" else 2
    x, weight = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((3, 4, 3, 3))
    how = {"stride": stride, "padding": ((1, 0), (0, 1)), "padding_mode": mode, "algorithm": algorithm}
    y = F.conv_transpose2d(x, weight, **how)
    grad = rng.standard_normal(y.shape)
    dx, dw = F.conv_transpose2d_backward(grad, x, weight, **how)
    assert np.vdot(x, dx) == pytest.approx(np.vdot(y, grad), rel=1e-11)
    assert np.vdot(weight, dw) == pytest.approx(np.vdot(y, grad), rel=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_image_has_no_borders(mode):
    """With zeros it has, in both directions."""
    x, w = np.full((1, 2, 7, 9), 3.0), np.random.default_rng(0).standard_normal((4, 2, 4, 4))
    y = F.conv2d(x, w, padding=2, padding_mode=mode)
    np.testing.assert_allclose(y, np.broadcast_to(3 * w.sum((1, 2, 3)).reshape(4, 1, 1), y.shape))
    up = F.conv_transpose2d(x, w.swapaxes(0, 1), stride=2, padding=1, padding_mode=mode)
    assert up.shape == (1, 4, 14, 18)
    np.testing.assert_allclose(up, np.tile(up[:, :, 4:6, 4:6], (1, 1, 7, 9)))
    assert np.ptp(F.conv2d(x, w, padding=2)[0, 0]) > 0.1


def test_a_circular_shift_goes_through():
    """A circular convolution of a shifted image is shifted likewise; a transposed one stride times as far."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 3, 8, 6)), rng.standard_normal((4, 3, 3, 3))
    moved = np.roll(x, (3, -2), (2, 3))
    how = {"padding": 1, "padding_mode": "circular", "algorithm": "direct"}
    np.testing.assert_allclose(F.conv2d(moved, w, **how), np.roll(F.conv2d(x, w, **how), (3, -2), (2, 3)))
    how |= {"stride": 2, "output_padding": 1}
    up = F.conv_transpose2d(x, w.swapaxes(0, 1), **how)
    assert up.shape == (1, 4, 16, 12)
    np.testing.assert_allclose(
        F.conv_transpose2d(moved, w.swapaxes(0, 1), **how), np.roll(up, (6, -4), (2, 3)), atol=1e-12
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("case", "algorithm"),
    [
        (Case(3, 5, 37, (13, 17), padding=1), "direct"),
        (Case(7, 3, 2, (19, 23), (5, 5), padding=2), "direct"),
        (Case(5, 20, 33, (9, 8), padding=2), "winograd_f2"),
        (Case(5, 20, 33, (9, 8), padding=2), "winograd_f4"),
        (Case(3, 24, 24, (12, 10), padding=1, groups=24), "depthwise"),
        (Case(3, 24, 24, (12, 10), (5, 5), (2, 2), padding=2, groups=24), "depthwise"),
        (Case(3, 5, 37, (13, 17), padding=1), "im2col"),
    ],
    ids=str,
)
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, case, algorithm, order):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    x, weight, bias, grad = case.arrays("float32", order)
    for mode in MODES:
        how = {"padding": case.padding, "stride": case.stride, "groups": case.groups, "padding_mode": mode}
        runs = []
        for n in (1, 2, 3):
            with cyconv.threads(n):
                y = F.conv2d(x, weight, bias, **how, algorithm=algorithm)
                runs.append((y, *F.conv2d_backward(grad, x, weight, bias, **how, algorithm=algorithm)))
        for run in runs[1:]:
            for one, other in zip(run, runs[0], strict=True):
                np.testing.assert_array_equal(one, other)


def test_any_number_of_threads_gives_the_same_bits_transposed(monkeypatch):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype("f") for shape in ((3, 20, 9, 8), (20, 17, 4, 4)))
    for mode, stride in itertools.product(MODES, (1, 2)):
        how = {"padding_mode": mode, "stride": stride, "padding": 1}
        runs = []
        for n in (1, 2, 3):
            with cyconv.threads(n):
                y = F.conv_transpose2d(x, weight, **how)
                runs.append((y, *F.conv_transpose2d_backward(y, x, weight, **how)))
        for run in runs[1:]:
            for one, other in zip(run, runs[0], strict=True):
                np.testing.assert_array_equal(one, other)


def test_no_batch_no_images_no_padding():
    w, b = np.ones((2, 3, 3, 3), "f"), np.ones(2, "f")
    for mode in MODES:
        how = {"padding": 1, "padding_mode": mode}
        x = np.random.default_rng(0).standard_normal((3, 5, 6)).astype("f")
        np.testing.assert_array_equal(F.conv2d(x, w, b, **how), F.conv2d(x[None], w, b, **how)[0])
        grad = np.ones((2, 5, 6), "f")
        alone, batch = F.conv2d_backward(grad, x, w, b, **how), F.conv2d_backward(grad[None], x[None], w, b, **how)
        np.testing.assert_array_equal(alone[0], batch[0][0])
        none = np.zeros((0, 3, 5, 6), "f")
        assert F.conv2d(none, w, b, **how).shape == (0, 2, 5, 6)
        dx, dw, db = F.conv2d_backward(np.zeros((0, 2, 5, 6), "f"), none, w, b, **how)
        assert dx.shape == none.shape
        assert not dw.any()
        assert not db.any()
        # Without padding all modes are one, and one pixel may be "reflected".
        one = np.ones((1, 3, 3, 3), "f")
        np.testing.assert_array_equal(F.conv2d(one, w, padding_mode=mode), F.conv2d(one, w))


def test_inputs_are_not_copied():
    """In either memory order: what padding holds is read in the walk."""
    x = np.random.default_rng(0).standard_normal((2, 8, 12, 12)).astype("f")
    w = np.ones((8, 8, 3, 3), "f")
    for order in ORDERS:
        before = _arrays.copies
        F.conv2d(in_order(x, order), w, padding=1, padding_mode="reflect")
        assert _arrays.copies == before


def test_nan_reaches_what_repeats_it():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1, 1] = np.nan
    y = F.conv2d(x, np.ones((1, 1, 1, 1)), padding=2, padding_mode="reflect", algorithm="direct")
    wanted = F.pad(x, (2, 2, 2, 2), "reflect")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
    assert np.isnan(y).sum() == 9  # in rows and columns -1, 1 and 5


# --------------------------------------------------------------------------------------------------- layers, messages


@pytest.mark.parametrize("mode", MODES)
def test_layers(mode):
    rng = np.random.default_rng(0)
    for layer, shape in (
        (Conv1d(2, 3, 3, padding=1, padding_mode=mode, rng=0), (2, 2, 7)),
        (Conv2d(2, 3, 3, padding="same", padding_mode=mode, rng=0), (2, 2, 7, 5)),
        (Conv3d(2, 3, 3, padding=1, padding_mode=mode, rng=0), (2, 2, 4, 5, 3)),
        (nn.ConvTranspose1d(2, 3, 3, 2, 1, padding_mode=mode, rng=0), (2, 2, 7)),
        (ConvTranspose2d(2, 3, 4, 2, 1, padding_mode=mode, rng=0), (2, 2, 7, 5)),
        (nn.ConvTranspose3d(2, 3, 2, 2, padding_mode=mode, rng=0), (2, 2, 4, 5, 3)),
    ):
        x = rng.standard_normal(shape).astype("f")
        name = {"C": "conv", "T": "conv_transpose"}["T" if "Transpose" in type(layer).__name__ else "C"]
        name += f"{len(shape) - 2}d"
        how = {"stride": layer.stride, "padding": layer.padding, "padding_mode": mode}
        arrays = x, layer.weight.data, layer.bias.data
        y = layer(x)
        np.testing.assert_array_equal(y, getattr(F, name)(*arrays, **how))
        dx = layer.backward(y)
        got = dx, layer.weight.grad, layer.bias.grad
        for mine, theirs in zip(got, getattr(F, f"{name}_backward")(y, *arrays, **how), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_allclose(layer.eval()(x), y, rtol=1e-4, atol=1e-4)
        assert f"padding_mode={mode!r}" in repr(layer)


def test_explain_and_summary_state_the_mode():
    said = str(explain(Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), (1, 4, 9, 9)))
    assert "padding      reflect" in said
    said = str(explain(ConvTranspose2d(4, 4, 3, padding_mode="circular"), (1, 4, 9, 9)))
    assert "padding      circular: the input goes on for ((2, 2), (2, 2))" in said
    assert "im2col       cannot: the padding is 'circular'" in said
    assert "reflect" not in str(explain(Conv2d(4, 4, 3, padding=1), (1, 4, 9, 9)))
    layers = nn.Sequential(Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), Conv2d(2, 2, 3))
    assert [row.layer for row in summary(layers, (1, 9, 9)).rows] == ["Conv2d 3×3, reflect", "Conv2d 3×3"]


def test_a_transposed_depthwise_convolution_takes_another_way():
    found = explain(ConvTranspose2d(8, 8, 3, padding=1, groups=8, padding_mode="replicate"), (1, 8, 9, 9))
    assert found.chosen == "direct"
    assert "its transposed walks read zeros there" in found.why
    x = np.ones((1, 8, 5, 5), "f")
    with pytest.raises(ValueError, match="'depthwise' cannot compute this convolution: the padding is 'circular'"):
        F.conv_transpose2d(x, x[0, :, None], groups=8, padding_mode="circular", algorithm="depthwise")


def test_a_small_workspace_is_enough():
    """Of depthwise planes a padded copy is made; where it finds no room, columns do."""
    x, w = np.random.default_rng(0).standard_normal((1, 2, 260, 260)), np.ones((2, 1, 3, 3))
    how = {"padding": 1, "padding_mode": "reflect", "groups": 2}
    with cyconv.configure(max_workspace=1 << 18):
        got = F.conv2d(x, w, **how)
        geometry = conv_geometry("conv2d", 2, x.shape, w.shape, None, 1, 1, 1, 2, "reflect")
        assert _conv.engine(geometry, x.dtype, False).name == "im2col"
    assert_close(got, F.conv2d(x, w, **how))


@pytest.mark.parametrize(
    ("name", "x", "how", "message"),
    [
        (
            "conv1d",
            (1, 1, 4),
            {"padding": 4, "padding_mode": "reflect"},
            "conv1d: padding_mode 'reflect' repeats at most 3 of the 4 pixels along the length, but the padding there "
            "is (4, 4)",
        ),
        (
            "conv3d",
            (1, 1, 4, 5, 6),
            {"padding": ((5, 0), (0, 0), (0, 0)), "padding_mode": "circular"},
            "conv3d: padding_mode 'circular' repeats at most 4 of the 4 pixels along the depth, but the padding there "
            "is (5, 0)",
        ),
        (
            "conv_transpose2d",
            (1, 1, 4, 2),
            {"padding_mode": "reflect"},
            "conv_transpose2d: padding_mode 'reflect' repeats at most 1 of the 2 pixels along the width, but the reach "
            "of the kernel beyond the input there is (2, 2)",
        ),
    ],
)
def test_padding_larger_than_the_input(name, x, how, message):
    weight = np.ones((1, 1, *[3] * (len(x) - 2)))
    with pytest.raises(ValueError) as caught:
        getattr(F, name)(np.ones(x), weight, **how)
    assert str(caught.value) == message
    assert getattr(F, name)(np.ones(x), weight, **how | {"padding_mode": "replicate"}).size
