"""Winograd's algorithm at stride 2: what it computes by hand, what it saves, where it goes, and where it does not; what
last tiles leave out, at stride 1 too."""

import itertools

import numpy as np
import pytest
import transposed_cases
from conv_cases import DTYPES, ORDERS, Case, check, expected, in_order, target
from tolerances import TOLERANCES, assert_close

import cyconv
from cyconv import _plan, _settings, kernels, reference
from cyconv import functional as F
from cyconv._geometry import conv_geometry
from cyconv._plan.winograd import tiling
from cyconv.functional import _conv
from cyconv.kernels import _threads

#: Several blocks of tiles, vectors of input channels and blocks of output channels, and remainders of each.
CASES = [
    Case(5, 37, 70, (37, 43), stride=(2, 2), padding=1),
    Case(2, 70, 37, (60, 58), stride=(2, 2), padding=((0, 2), (1, 0))),
    Case(3, 18, 35, (28, 80), (7, 4), (2, 2), 3),
    Case(2, 57, 105, (33, 60), stride=(2, 2), padding=1, groups=3),
    Case(2, 20, 40, (21, 50), stride=(1, 2), padding=1),
    Case(2, 20, 40, (50, 21), (5, 3), (2, 1), 2),
    Case(2, 20, 40, (1, 77), (1, 3), (1, 2), (0, 2)),
    Case(2, 20, 40, (76, 3), (3, 1), (2, 1), (1, 0)),
    Case(3, 17, 9, (8, 9), stride=(2, 2)),
]


def geometry(n, c, k, size, stride=2, padding=1, dilation=1, kernel=3):
    shape, weight = (n, c, *size), (k, c, *(kernel,) * len(size))
    return conv_geometry(f"conv{len(size)}d", len(size), shape, weight, None, stride, padding, dilation, 1, "zeros")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_the_oracle(case, m, dtype, order):
    check(case, dtype, order, f"winograd_f{m}")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(
    ("x", "weight", "how"),
    [
        ((3, 37, 19, 22), (37, 70, 3, 3), {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
        ((2, 20, 8, 9), (20, 5, 3, 3), {"stride": 2, "padding": ((0, 2), (1, 0)), "output_padding": (0, 1)}),
        ((1, 12, 7, 6), (12, 9, 3, 3), {"stride": 2, "groups": 3}),
        ((2, 9, 40), (9, 20, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((1, 5, 4, 7, 6), (5, 20, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((2, 5, 9, 6), (5, 20, 3, 3), {"stride": 2, "padding": 1, "padding_mode": "circular", "output_padding": 1}),
    ],
    ids=str,
)
def test_a_transposed_convolution_with_a_bias_agrees_with_the_oracle(x, weight, how, m, dtype, order):
    transposed_cases.check(x, weight, how, dtype=dtype, order=order, algorithm=f"winograd_f{m}")
    geometry = transposed_cases.geometry_of(x, weight, **how)
    engine = _conv.engine(geometry, np.dtype(dtype), order != "C", f"winograd_f{m}")
    assert type(engine._ahead.transposed_walk()[1]) is kernels.load("winograd").Winograd


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("size", "padding"), [(9, 1), (10, 1), (11, 0), (3, 0), (1, 1)])
def test_by_hand(m, size, padding):
    """A kernel of powers of ten reads a ramp: digits of the result are the pixels, from the last one to the first."""
    ramp = np.arange(1.0, size + 1)
    padded = np.pad(ramp, padding)
    want = [padded[i] + 100 * padded[i + 1] + 10000 * padded[i + 2] for i in range(0, len(padded) - 2, 2)]
    taps = np.array([1.0, 100.0, 10000.0])
    for shape, strides, pads in (((1, -1), (1, 2), (0, padding)), ((-1, 1), (2, 1), (padding, 0))):
        x, weight = ramp.reshape(1, 1, *shape), taps.reshape(1, 1, *shape)
        y = F.conv2d(x, weight, None, strides, pads, algorithm=f"winograd_f{m}")
        np.testing.assert_allclose(y.ravel(), want, rtol=1e-12)
    square, weight = np.multiply.outer(ramp, ramp), np.multiply.outer(taps, taps)
    y = F.conv2d(square[None, None], weight[None, None], None, 2, padding, algorithm=f"winograd_f{m}")
    np.testing.assert_allclose(y[0, 0], np.multiply.outer(want, want), rtol=1e-11)


@pytest.mark.parametrize(
    ("m", "size", "products"),
    # Along an axis: one product for each output, one for each output of a tile and one more; a last tile that is not
    # whole needs one less.
    [(4, 28, 28 + 7 * 5), (4, 14, 14 + 4 * 5 - 1), (4, 7, 7 + 2 * 5 - 1), (2, 14, 14 + 7 * 3), (2, 7, 7 + 4 * 3 - 1)],
)
def test_products_and_weights(m, size, products):
    cut = tiling(geometry(1, 4, 4, (2 * size, 2 * size)), m)
    assert (cut.elements, cut.weights) == ((2 * m + 1) ** 2, (m + 2) ** 2)
    assert cut.products((size, size)) == products**2
    both = tiling(geometry(1, 4, 4, (size, 2 * size), stride=(1, 2)), m)
    assert both.products((size, size)) == (-(-size // m) * (m + 2) - (size % m > 0)) * products
    assert both.weights == (m + 2) ** 2


def test_a_kernel_takes_memory_for_its_weights_and_no_more():
    """36 elements of four vectors for each of 20 channels, and a vector beside each of two blocks of two."""
    lanes = target("float32").lanes
    walk = _conv.engine(geometry(1, 20, 4 * lanes, (30, 30)), np.dtype("f"), False, "winograd_f4").forward_walk()[1]
    assert walk.packed_size == 36 * (4 * 20 + 2) * lanes
    assert [walk.weight_of(xi) for xi in (0, 1, 2, 3, 8, 9, 10, 18, 80)] == [0, 5, 1, 5, 4, 30, 35, 6, 28]


@pytest.mark.parametrize("algorithm", ["winograd_f2", "winograd_f4"])
def test_sums_of_many_products_are_as_accurate_as_promised(algorithm):
    """512 channels: with points ±1/2, ±5/4 a tile of 4 x 4 outputs keeps the bound of one of 2 x 2."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 512, 25, 25), np.float32), rng.standard_normal((32, 512, 3, 3), np.float32)
    want = reference.conv2d(x.astype(float), weight.astype(float), None, 2, 1)
    y = F.conv2d(x, weight, None, 2, 1, algorithm=algorithm)
    assert np.abs(y - want).max() <= TOLERANCES["winograd_f2"].float32 * np.abs(want).max()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("m", [2, 4])
def test_a_nan_reaches_its_tiles_at_most(m, order):
    """Tiles of m x m outputs are made of (2 m + 1) x (2 m + 1) pixels together, and no others."""
    case = Case(2, 3, 5, (21, 27), stride=(2, 2), padding=1, bias=False)
    x, weight, _, _ = case.arrays("float32", order)
    clean = F.conv2d(x, weight, None, 2, 1, algorithm=f"winograd_f{m}")
    for place in ((0, 1, 0, 0), (1, 2, 5, 7), (1, 0, 12, 8), (1, 0, 20, 26)):
        bad = x.copy("K")
        bad[place] = np.nan
        y = F.conv2d(bad, weight, None, 2, 1, algorithm=f"winograd_f{m}")
        touched = reference.conv2d(np.isnan(bad).astype(float), np.ones(weight.shape), None, 2, 1) > 0
        assert np.isnan(y[touched]).all()
        _, _, rows, columns = np.nonzero(touched)
        tiles = np.zeros(y.shape, bool)
        low, high = (np.array([rows.min(), columns.min()]) // m * m, np.array([rows.max(), columns.max()]) // m * m + m)
        tiles[place[0], :, low[0] : high[0], low[1] : high[1]] = True
        np.testing.assert_array_equal(y[~tiles], clean[~tiles])


def test_what_a_last_tile_leaves_out_is_never_seen():
    """Elements without products hold whatever the workspace held: the same call twice, NaN between them."""
    for size, stride in itertools.product(((13, 13), (11, 17), (3, 29), (7, 7), (6, 5)), (1, 2)):
        case = Case(3, 20, 40, size, stride=(stride, stride), padding=1)
        x, weight, bias, _ = case.arrays("float32")
        for m in (2, 4):
            first = F.conv2d(x, weight, bias, stride, 1, algorithm=f"winograd_f{m}")
            F.conv2d(np.full_like(x, np.nan), weight, bias, stride, 1, algorithm=f"winograd_f{m}")
            again = F.conv2d(x, weight, bias, stride, 1, algorithm=f"winograd_f{m}")
            np.testing.assert_array_equal(first, again)
            assert_close(again, expected(case, "float32")[0], algorithm=f"winograd_f{m}")


@pytest.mark.parametrize(
    ("m", "size", "products"),
    # Along an axis: m + 2 products for each tile, one less for a last tile that is not whole.
    [(4, 28, 7 * 6), (4, 14, 4 * 6 - 1), (4, 7, 2 * 6 - 1), (2, 14, 7 * 4), (2, 7, 4 * 4 - 1)],
)
def test_products_of_stride_1(m, size, products):
    assert tiling(geometry(1, 4, 4, (size, size), stride=1), m).products((size, size)) == products**2
    dilated = tiling(geometry(1, 4, 4, (size, size), stride=1, padding=2, dilation=2), m)
    assert dilated.products((size, size)) == (2 * -(-size // (2 * m)) * (m + 2)) ** 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(
    "case",
    [
        # Rows that end in part of a tile, and maps of less than a vector; two vectors of channels; valid convolution.
        Case(5, 37, 70, (14, 14), padding=1),
        Case(2, 64, 33, (7, 7), padding=1),
        Case(3, 32, 35, (5, 3), padding=1),
        Case(2, 32, 40, (13, 9), padding=0),
        Case(2, 32, 16, (9, 15), padding=((2, 0), (0, 2))),
        Case(2, 48, 48, (10, 13), padding=1, groups=3),
    ],
    ids=str,
)
def test_whole_rows_agree_with_the_oracle(case, m, dtype, order):
    check(case, dtype, order, f"winograd_f{m}")


def kinds(case, m):
    """Return what computes the gradient of the input."""
    return type(_conv.engine(case.geometry(), np.dtype("f"), False, f"winograd_f{m}").transposed_walk()[1]).__name__


@pytest.mark.parametrize("m", [2, 4])
def test_input_gradients_go_the_same_way_where_they_can(m):
    want = ["Winograd", "Winograd", "Walk", "Winograd", "Walk", "Walk", "Winograd", "Winograd", "Winograd"]
    assert [kinds(case, m) for case in CASES] == want
    volume = geometry(1, 3, 4, (9, 15, 16), stride=(2, 2, 2))
    assert _plan.winograd_input_gradient_obstacle(volume, m) == _plan.winograd_gradient_obstacle(volume, m) == ""
    deep = geometry(1, 3, 4, (9, 15, 16), stride=(2, 1, 1))
    wanted = "the stride is (2, 1, 1) and the dilation (1, 1, 1): not 2 in height and width, or both"
    assert _plan.winograd_input_gradient_obstacle(deep, m) == wanted


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), 2, 1),
        ((3, 3, 3), 2, (0, 2, 1)),
        ((2, 3, 3), (1, 2, 2), (1, 0, 1)),
        ((5, 3, 3), (3, 2, 2), (2, 1, 0)),
    ],
)
def test_gradients_of_volumes(kernel, stride, padding, m, dtype):
    """Each depth of the input meets some slices of the kernel only."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 19, 7, 13, 20)), rng.standard_normal((37, 19, *kernel))
    grad = rng.standard_normal(reference.conv3d(x, weight, None, stride, padding).shape)
    want = reference.conv3d_backward(grad, x, weight, None, stride, padding)
    x, weight, grad = (v.astype(dtype) for v in (x, weight, grad))
    algorithm = f"winograd_f{m}"
    found = conv_geometry("conv3d", 3, x.shape, weight.shape, None, stride, padding, 1, 1, "zeros")
    assert type(_conv.engine(found, x.dtype, False, algorithm).transposed_walk()[1]).__name__ == "Winograd"
    for mine, theirs in zip(
        F.conv3d_backward(grad, x, weight, None, stride, padding, algorithm=algorithm), want, strict=True
    ):
        assert_close(mine, theirs.astype(dtype), algorithm=algorithm)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("size", "padding"), [(9, 1), (10, 1), (11, 0), (12, 0), (3, 0), (9, 2), (20, 3), (1, 1)])
def test_an_input_gradient_by_hand(m, size, padding):
    """Each output hands its number to three pixels, by a kernel of powers of ten."""
    outputs = (size + 2 * padding - 3) // 2 + 1
    ramp, taps = np.arange(1.0, outputs + 1), np.array([1.0, 100.0, 10000.0])
    padded = np.zeros(size + 2 * padding)
    for p in range(outputs):
        padded[2 * p : 2 * p + 3] += ramp[p] * taps
    want = padded[padding : padding + size]
    for shape, strides, pads in (((1, -1), (1, 2), (0, padding)), ((-1, 1), (2, 1), (padding, 0))):
        x, weight = np.zeros((1, 1, *want.reshape(shape).shape)), taps.reshape(1, 1, *shape)
        dx, _ = F.conv2d_backward(
            ramp.reshape(1, 1, *shape), x, weight, None, strides, pads, algorithm=f"winograd_f{m}"
        )
        np.testing.assert_allclose(dx.ravel(), want, rtol=1e-12, atol=1e-10)
    grad, weight = np.multiply.outer(ramp, ramp)[None, None], np.multiply.outer(taps, taps)[None, None]
    x = np.zeros((1, 1, size, size))
    dx, _ = F.conv2d_backward(grad, x, weight, None, 2, padding, algorithm=f"winograd_f{m}")
    np.testing.assert_allclose(dx[0, 0], np.multiply.outer(want, want), rtol=1e-11, atol=1e-6)


@pytest.mark.parametrize("m", [2, 4])
def test_products_of_an_input_gradient(m):
    """A tile of 2 m pixels takes as many products as one of m outputs; the last leaves out what lies behind the end."""
    for size, tiles, left_out in ((56, 28 // m, 0), (54, -(-27 // m), {2: 2, 4: 2}[m]), (55, -(-28 // m), 2)):
        cut = tiling(geometry(1, 4, 4, (size, size)), m, gradient=True)
        assert cut.elements == (2 * m + 1) ** 2
        assert cut.tiles((size, size)) == (tiles, tiles)
        assert cut.products((size, size)) == (tiles * (2 * m + 1) - left_out) ** 2


@pytest.mark.skipif(not _threads.OPENMP, reason="built without OpenMP")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
def test_any_number_of_threads_gives_the_same_input_gradient(monkeypatch, m, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    for case in CASES:
        x, weight, bias, grad = case.arrays(dtype)
        found = []
        for threads in (1, 2, 3, 5):
            with cyconv.threads(threads):
                found.append(F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=f"winograd_f{m}")[0])
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other, err_msg=str(case))


def test_what_a_last_tile_of_a_gradient_leaves_out_is_never_seen():
    for size in ((13, 13), (11, 18), (14, 12), (3, 29)):
        x, weight, bias, grad = Case(3, 40, 20, size, stride=(2, 2), padding=1).arrays("float32")
        for m in (2, 4):
            first = F.conv2d_backward(grad, x, weight, bias, 2, 1, algorithm=f"winograd_f{m}")
            nan = np.full_like(grad, np.nan)
            F.conv2d_backward(nan, np.full_like(x, np.nan), weight, bias, 2, 1, algorithm=f"winograd_f{m}")
            again = F.conv2d_backward(grad, x, weight, bias, 2, 1, algorithm=f"winograd_f{m}")
            for one, other in zip(first, again, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"stride": 3}, "the stride is (3, 3), not 1 or 2 in height and width"),
        ({"stride": (1, 4)}, "the stride is (1, 4), not 1 or 2 in height and width"),
        ({"stride": 2, "dilation": 2}, "the stride is (2, 2) and the dilation (2, 2): it computes one of them"),
        ({"stride": 2, "kernel": 1}, "the kernel has one tap in height and width"),
        ({"stride": 2}, ""),
        ({"stride": (2, 1)}, ""),
    ],
)
def test_what_it_can_compute(arguments, reason):
    found = geometry(1, 3, 4, (15, 16), **arguments)
    for m in (2, 4):
        assert _plan.winograd_obstacle(found, m) == reason
        mixed = f"the stride is {found.stride}, and not 2 wherever the kernel has more than one tap"
        wanted = reason if reason or found.stride == (2, 2) else mixed
        assert _plan.winograd_gradient_obstacle(found, m) == wanted
        assert _plan.winograd_input_gradient_obstacle(found, m) == wanted
    wide = geometry(1, 3, 4, (15, 16), kernel=5)
    assert _plan.winograd_gradient_obstacle(wide, 2) == ""
    assert (
        _plan.winograd_input_gradient_obstacle(wide, 2) == "the stride is (2, 2) and the kernel (5, 5), not of 3 taps"
    )
    assert _plan.winograd_obstacle(geometry(1, 3, 4, (9, 15, 16), stride=(3, 2, 2)), 4) == ""


def test_auto_takes_it_where_channels_are_many():
    def chosen(*arguments, precision="high", dtype="f"):
        return _plan.choose(geometry(*arguments), dtype, 16, precision)[0]

    assert chosen(1, 128, 128, (56, 56)) == "winograd_f4"
    assert chosen(16, 128, 256, (8, 28, 28)) == "winograd_f4"
    assert chosen(1, 512, 512, (14, 14)) == "winograd_f2"  # weights are read for a few tiles
    assert chosen(16, 512, 512, (28, 28), dtype="d").startswith("winograd")
    assert chosen(1, 3, 32, (224, 224)) == "direct"
    assert chosen(1, 128, 128, (56, 56), precision="strict") == "direct"


@pytest.mark.parametrize("order", ORDERS)
def test_auto_agrees_with_torch(order):
    torch = pytest.importorskip("torch")
    x, weight, bias, _ = Case(2, 64, 64, (31, 30), stride=(2, 2), padding=1).arrays("float32")
    x = in_order(x, order)
    assert _conv.engine(geometry(2, 64, 64, (31, 30)), x.dtype, order != "C").name == "winograd_f4"
    want = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, weight, bias)), 2, 1)
    assert_close(F.conv2d(x, weight, bias, 2, 1), want.numpy(), algorithm="winograd_f4")
