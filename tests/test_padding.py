"""Padding of arrays and its layers: by hand, against the oracle, against torch."""

import itertools

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, in_order
from hypothesis import given, note
from hypothesis import strategies as st
from tolerances import assert_close

import cyconv
from cyconv import _settings, nn, reference
from cyconv import functional as F
from cyconv.functional import _arrays

MODES = ("constant", "reflect", "replicate", "circular")


def row(*values):
    return np.array(values, float)


# ------------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("pad", [F.pad, reference.pad], ids=["kernel", "reference"])
@pytest.mark.parametrize(
    ("mode", "widths", "wanted"),
    [
        ("constant", (2, 1), (9, 9, 1, 2, 3, 9)),
        ("reflect", (2, 1), (3, 2, 1, 2, 3, 2)),
        ("replicate", (2, 1), (1, 1, 1, 2, 3, 3)),
        ("circular", (2, 1), (2, 3, 1, 2, 3, 1)),
        ("circular", (3, 3), (1, 2, 3, 1, 2, 3, 1, 2, 3)),
        ("constant", (-1, 2), (2, 3, 9, 9)),
        ("reflect", (-1, 2), (2, 3, 2, 1)),
        ("replicate", (2, -1), (1, 1, 1, 2)),
        ("circular", (-2, 2), (3, 1, 2)),
        ("constant", (-1, -1), (2,)),
        ("constant", (-3, 0), ()),
        ("constant", (3, -4), (9, 9)),  # of the padding, too, something is taken off
        ("constant", (-5, 3), (9,)),
        ("reflect", (2, -4), (3,)),
        ("replicate", (-4, 5), (3, 3, 3, 3)),
        ("reflect", (0, 0), (1, 2, 3)),
    ],
)
def test_rows_by_hand(pad, mode, widths, wanted):
    value = 9.0 if mode == "constant" else 0.0
    np.testing.assert_array_equal(pad(row(1, 2, 3), widths, mode, value), wanted)
    images = row(1, 2, 3).reshape(1, 3, 1)
    np.testing.assert_array_equal(pad(images, (0, 0, *widths), mode, value), np.reshape(wanted, (1, -1, 1)))


@pytest.mark.parametrize("backward", [F.pad_backward, reference.pad_backward], ids=["kernel", "reference"])
@pytest.mark.parametrize(
    ("mode", "widths", "wanted"),
    [
        # Place i of the output sends 10^i to the pixel that stands there.
        ("constant", (2, 1), (100, 1000, 10000)),
        ("reflect", (2, 1), (100, 101010, 10001)),
        ("replicate", (2, 1), (111, 1000, 110000)),
        ("circular", (2, 1), (100100, 1001, 10010)),
        ("constant", (-1, 2), (0, 1, 10)),
        ("reflect", (-1, 2), (1000, 101, 10)),
        ("constant", (3, -4), (0, 0, 0)),
        ("reflect", (2, -4), (0, 0, 1)),
        ("constant", (-3, 0), (0, 0, 0)),
    ],
)
def test_gradients_by_hand(backward, mode, widths, wanted):
    grad = 10.0 ** np.arange(3 + sum(widths))
    np.testing.assert_array_equal(backward(grad, row(1, 2, 3), widths, mode)[0], wanted)


def test_the_last_dimension_comes_first():
    x = np.arange(6.0).reshape(1, 2, 3)
    y = F.pad(x, (1, 0, 0, 2), value=-1)
    np.testing.assert_array_equal(y, [[[-1, 0, 1, 2], [-1, 3, 4, 5], [-1] * 4, [-1] * 4]])
    assert F.pad(x, (0, 0, 0, 0, 1, 1)).shape == (3, 2, 3)
    assert F.pad(x, ()).shape == x.shape
    assert F.pad(x, ()) is not x


def test_corners_repeat_both_ways():
    image = np.array([[1.0, 2], [3, 4]])
    np.testing.assert_array_equal(F.pad(image, (1, 1, 1, 1), "reflect"), F.pad(image, (1, 1, 1, 1), "circular"))
    np.testing.assert_array_equal(
        F.pad(image, (1, 0, 1, 0), "replicate"),
        [[1, 1, 2], [1, 1, 2], [3, 3, 4]],
    )
    np.testing.assert_array_equal(F.pad(image, (1, 0, 1, 0), "reflect"), [[4, 3, 4], [2, 1, 2], [4, 3, 4]])


# ----------------------------------------------------------------------------------------------------------- the oracle


def run(x, widths, mode, value=0.0):
    """Output and gradient against the oracle, bit for bit but for sums, with the axes of the input in memory."""
    got = F.pad(x, widths, mode, value)
    want = reference.pad(x, widths, mode, value)
    np.testing.assert_array_equal(got, want, strict=True)
    grad = np.random.default_rng(1).standard_normal(want.shape).astype(x.dtype)
    for given_as in (grad, np.asfortranarray(grad)):
        (dx,) = F.pad_backward(given_as, x, widths, mode, value)
        (theirs,) = reference.pad_backward(grad, x, widths, mode, value)
        assert dx.shape == x.shape
        assert_close(dx, theirs, algorithm="sum", scale=10.0)
    return got, dx


@st.composite
def paddings(draw):
    """Draw (array, widths, mode): up to five dimensions, in any order of memory, of any width that can be."""
    ndim = draw(st.integers(1, 5))
    shape = draw(st.tuples(*[st.integers(0 if ndim > 1 else 1, 6)] * ndim))
    mode = draw(st.sampled_from(MODES))
    widths = []
    for length in reversed(shape[draw(st.integers(0, ndim - 1)) :]):
        most = {"reflect": max(length - 1, 0), "circular": length, "replicate": 9 if length else 0}.get(mode, 9)
        low = draw(st.integers(-length, min(most, 9)))
        widths += [low, draw(st.integers(max(-length, -length - low), min(most, 9)))]
    dtype = draw(st.sampled_from(DTYPES))
    note(f"again: run(np.random.default_rng(0).standard_normal({shape}).astype({dtype!r}), {tuple(widths)}, {mode!r})")
    return np.random.default_rng(0).standard_normal(shape).astype(dtype), widths, mode


@given(paddings(), st.permutations(range(5)))
def test_drawn_paddings_against_the_oracle(drawn, order):
    x, widths, mode = drawn
    order = [axis for axis in order if axis < x.ndim]
    laid = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    try:
        F.pad(laid, tuple(widths), mode)
    except ValueError:
        with pytest.raises(ValueError, match=r"repeats at most|takes more off|is empty"):
            F.pad(laid, tuple(widths), mode)
        return
    got, dx = run(laid, tuple(widths), mode, 0.0)
    if min((*x.shape, *got.shape)) > 1:
        assert got.transpose(order).flags.c_contiguous
        assert dx.transpose(order).flags.c_contiguous


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_images_of_sizes_that_hurt(mode, order, dtype):
    rng = np.random.default_rng(0)
    for c, size in itertools.product((1, 3, 16, 17), ((3, 4), (5, 15), (6, 16), (4, 129), (3, 300), (130, 3))):
        x = in_order(rng.standard_normal((2, c, *size)).astype(dtype), order)
        for widths in ((1, 2), (2, 1, 1, 2), (0, 0, 2, 0), (-1, 2, 1, -2), (1, 1, 2, 2, 0, 0)):
            got, dx = run(x, widths, mode, 3.5 if mode == "constant" else 0.0)
            for result in (got, dx):
                if c > 1:
                    assert (result if order == "C" else np.moveaxis(result, 1, -1)).flags.c_contiguous


def test_empty_arrays():
    for mode in MODES:
        x = np.zeros((0, 3, 4, 5), "f")
        assert F.pad(x, (1, 1, 1, 1), mode).shape == (0, 3, 6, 7)
        assert F.pad_backward(np.zeros((0, 3, 6, 7), "f"), x, (1, 1, 1, 1), mode)[0].shape == x.shape
    np.testing.assert_array_equal(F.pad(np.zeros((2, 0)), (1, 2), value=5.0), np.full((2, 3), 5.0))
    (dx,) = F.pad_backward(np.zeros((2, 0)), np.ones((2, 3)), (-1, -2))
    np.testing.assert_array_equal(dx, np.zeros((2, 3)))
    assert F.pad(np.array(3.0), ()).item() == 3
    assert F.pad_backward(np.array(3.0), np.array(1.0), ())[0].item() == 3


def test_dense_arrays_are_read_where_they_lie():
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    before = _arrays.copies
    for order in itertools.permutations(range(4)):
        laid = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        np.testing.assert_array_equal(F.pad(laid, (1, 1), "reflect"), F.pad(x, (1, 1), "reflect"))
    assert _arrays.copies == before
    np.testing.assert_array_equal(F.pad(x[:, ::2], (1, 1)), F.pad(x, (1, 1))[:, ::2])
    assert _arrays.copies == before + 1


def test_gradient_is_adjoint():
    rng = np.random.default_rng(0)
    for mode, order in itertools.product(MODES, ORDERS):
        x = in_order(rng.standard_normal((2, 3, 7, 5)), order)
        y = F.pad(x, (2, 3, -1, 4), mode)
        grad = rng.standard_normal(y.shape)
        (dx,) = F.pad_backward(grad, x, (2, 3, -1, 4), mode)
        assert np.vdot(x, dx) == pytest.approx(np.vdot(y, grad), rel=1e-12)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    x = np.random.default_rng(0).standard_normal((4, 16, 60, 50)).astype("f")
    for mode, order in itertools.product(MODES, ORDERS):
        runs = []
        for n in (1, 2, 3):
            with cyconv.threads(n):
                y = F.pad(in_order(x, order), (7, 3, 2, 9), mode)
                runs.append((y, F.pad_backward(y, in_order(x, order), (7, 3, 2, 9), mode)[0]))
        for run_ in runs[1:]:
            for one, other in zip(run_, runs[0], strict=True):
                np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------------------------------------------------------- torch


@given(paddings(), st.floats(-9, 9, width=32))
def test_as_torch_pads(drawn, value):
    torch = pytest.importorskip("torch")
    x, widths, mode = drawn
    if mode != "constant":
        value = 0.0
        if x.ndim not in (len(widths) // 2 + 1, len(widths) // 2 + 2) or len(widths) > 6 or 0 in x.shape:
            return
    try:
        y = F.pad(x, tuple(widths), mode, value)
    except ValueError:
        return
    if y.size == 0:
        return
    tensor = torch.tensor(x, requires_grad=True)
    try:
        theirs = torch.nn.functional.pad(tensor, tuple(widths), mode=mode, value=value)
    except RuntimeError:
        # Beyond torch: more taken off at one end than there is, and padding at the other.
        return
    np.testing.assert_array_equal(y, theirs.detach().numpy())
    grad = np.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    theirs.backward(torch.tensor(grad))
    assert_close(F.pad_backward(grad, x, tuple(widths), mode)[0], tensor.grad.numpy(), algorithm="sum", scale=10.0)


# --------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "mode", "value"),
    [
        ("ZeroPad", "constant", ()),
        ("ConstantPad", "constant", (2.5,)),
        ("ReflectionPad", "reflect", ()),
        ("ReplicationPad", "replicate", ()),
        ("CircularPad", "circular", ()),
    ],
)
def test_layers(name, mode, value, rank):
    make = getattr(nn, f"{name}{rank}d")
    assert getattr(cyconv, f"{name}{rank}d") is make
    widths = tuple(range(1, 2 * rank + 1))[::-1] if mode == "constant" else (1, 2) * rank
    layer = make(widths, *value)
    for shape in ((2, 3, *[4] * rank), (3, *[4] * rank)):
        x = np.random.default_rng(0).standard_normal(shape).astype("f")
        y = layer(x)
        np.testing.assert_array_equal(y, F.pad(x, widths, mode, *value))
        np.testing.assert_array_equal(layer.backward(y), F.pad_backward(y, x, widths, mode)[0])
    np.testing.assert_array_equal(make(1, *value)(x), F.pad(x, (1,) * (2 * rank), mode, *value))
    assert repr(layer).startswith(f"{name}{rank}d(")
    assert str(widths) in repr(layer)
    if value:
        assert "value=2.5" in repr(layer)
        assert layer.value == 2.5
    assert layer.padding == widths
    assert not list(layer.parameters())
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        make(1, *value).backward(y)


def test_layers_in_a_network():
    net = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(2, 3, 3, rng=0), nn.ReLU())
    same = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect", rng=0), nn.ReLU())
    x = np.random.default_rng(0).standard_normal((2, 2, 6, 5)).astype("f")
    y = net(x)
    np.testing.assert_allclose(y, same(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.backward(y), same.backward(y), rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------------------------------- errors

IMAGE = np.ones((1, 2, 3, 4), "f")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((1,),), ValueError, r"pad must be \(low, high\) of the last dimension, .* got \(1,\)"),
        ((1,), TypeError, r"pad must be \(low, high\) of the last dimension, .* got 1"),
        (((1, 1.0),), TypeError, "pad must be ints, got 1.0"),
        (((1, True),), TypeError, "pad must be ints, got True"),
        (((1, 2**31),), ValueError, "pad must be at most 2147483647, got 2147483648"),
        (((1,) * 10,), ValueError, r"pad has 5 pairs, but the input of shape \(1, 2, 3, 4\) has 4 dimensions"),
        (((-3, -2),), ValueError, r"pad takes more off dimension 3 than there is: 4 \+ -3 \+ -2 = -1"),
        (((4, 0), "reflect"), ValueError, r"mode 'reflect' repeats at most 3 of the 4 elements of dimension 3, but"),
        (((0, 0, 0, 4), "circular"), ValueError, r"mode 'circular' repeats at most 3 of the 3 elements of dimension 2"),
        (((1, 1), "mirror"), ValueError, "mode must be one of constant, reflect, replicate, circular, got 'mirror'"),
        (((1, 1), None), ValueError, "mode must be one of .* got None"),
        (((1, 1), "reflect", 1.0), ValueError, 'value is what mode "constant" fills in; mode .reflect. has none'),
        (((1, 1), "constant", "1"), TypeError, "value must be a number, got '1'"),
        (((1, 1), "constant", 1j), TypeError, "value must be a number, got 1j"),
        (((2**31 - 1, 2**31 - 1, 2**31 - 1, 0),), MemoryError, "the output of shape"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=f"^pad: {message}"):
        F.pad(IMAGE, *arguments)


def test_more_errors():
    with pytest.raises(TypeError, match=r"^pad: input has dtype int64"):
        F.pad(np.ones((1, 2), int), (1, 1))
    with pytest.raises(ValueError, match="mode 'replicate' finds nothing to repeat: dimension 1 is empty"):
        F.pad(np.ones((2, 0)), (1, 0), "replicate")
    with pytest.raises(
        ValueError, match=r"^pad_backward: grad_output must have the shape of the output, \(1, 2, 3, 6\)"
    ):
        F.pad_backward(IMAGE, IMAGE, (1, 1))
    with pytest.raises(TypeError, match=r"^pad_backward: mixed dtypes"):
        F.pad_backward(np.ones((1, 2, 3, 6)), IMAGE, (1, 1))
    for make, error, message in (
        (lambda: nn.ZeroPad2d(1.5), TypeError, r"ZeroPad2d: padding must be an int or 4 ints, got 1.5"),
        (lambda: nn.ZeroPad2d((1, 2)), ValueError, r"ZeroPad2d: padding must be an int or 4 ints, got \(1, 2\)"),
        (lambda: nn.ReflectionPad1d((1, 2.0)), TypeError, "ReflectionPad1d: pad must be ints, got 2.0"),
        (lambda: nn.ConstantPad3d(1, "a"), TypeError, "ConstantPad3d: value must be a number, got 'a'"),
    ):
        with pytest.raises(error, match=message):
            make()


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0, 1e300])
def test_values_of_all_kinds(value):
    y = F.pad(np.ones((1, 3)), (1, 1), value=value)
    np.testing.assert_array_equal(y[0], [value, 1, 1, 1, value])
