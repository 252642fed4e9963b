"""Interpolation: by hand, against the oracle and torch, gradients, memory orders, threads, errors."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from tolerances import assert_close

import cyconv
from cyconv import functional as F
from cyconv import nn
from cyconv import reference as ref
from cyconv.functional import _interpolate, _resize_tables

MODES = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
    3: ("nearest", "nearest-exact", "trilinear", "area"),
}
SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def last(x):
    """Return ``x`` in channels-last memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def is_last(x):
    return np.moveaxis(x, 1, -1).flags.c_contiguous


def assert_agrees(x, *args, **kwargs):
    """Forward and backward in both memory orders against the oracle."""
    expected = ref.interpolate(x, *args, **kwargs)
    dy = normal(*expected.shape, dtype=x.dtype, seed=1)
    (gradient,) = ref.interpolate_backward(dy, x, *args, **kwargs)
    for order in (np.ascontiguousarray, last):
        y = F.interpolate(order(x), *args, **kwargs)
        (dx,) = F.interpolate_backward(dy, order(x), *args, **kwargs)
        assert_close(y, expected, algorithm="sum")
        assert_close(dx, gradient, algorithm="sum")
        if order is last and x.shape[1] > 1 and x.ndim > 2 and np.prod(x.shape[2:]) > 1:
            assert is_last(y)
            assert is_last(dx)


# ---------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"size": 4}, [0, 0, 4, 4]),
        ({"size": 3}, [0, 0, 4]),
        ({"size": 3, "mode": "nearest-exact"}, [0, 4, 4]),
        ({"size": 1, "mode": "nearest-exact"}, [4]),
        ({"size": 4, "mode": "linear"}, [0, 1, 3, 4]),
        ({"size": 5, "mode": "linear", "align_corners": True}, [0, 1, 2, 3, 4]),
        ({"size": 1, "mode": "linear", "align_corners": True}, [0]),
        ({"size": 1, "mode": "linear"}, [2]),
        ({"size": 1, "mode": "area"}, [2]),
        ({"size": 3, "mode": "area"}, [0, 2, 4]),
        # 2 · 1.6 = 3.2: three outputs, 1/1.6 apart; or with the sizes recomputed 2/3 apart.
        ({"scale_factor": 1.6, "mode": "linear"}, [0, 1.75, 4]),
        ({"scale_factor": 1.6, "mode": "linear", "recompute_scale_factor": True}, [0, 2, 4]),
    ],
)
def test_two_numbers_by_hand(dtype, kwargs, expected):
    x = np.array([[[0, 4]]], dtype)
    for interpolate in (F.interpolate, ref.interpolate):
        assert_close(interpolate(x, **kwargs), np.array([[expected]], dtype), algorithm="pointwise")


def test_bilinear_by_hand():
    x = np.array([[[[0.0, 4.0], [8.0, 12.0]]]])
    expected = [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]
    y = F.interpolate(x, scale_factor=2, mode="bilinear")
    np.testing.assert_array_equal(y[0, 0], expected)
    dy = np.zeros((1, 1, 4, 4))
    dy[0, 0, 1, 1] = 16
    (dx,) = F.interpolate_backward(dy, x, scale_factor=2, mode="bilinear")
    np.testing.assert_array_equal(dx[0, 0], [[9, 3], [3, 1]])


def test_bicubic_by_hand():
    """In the middle between samples Keys' kernel with a = -3/4 weighs -3/32, 19/32, 19/32, -3/32."""
    x = np.array([[[[0.0, 0.0, 32.0, 0.0, 0.0]]]])
    y = F.interpolate(x, size=(1, 9), mode="bicubic", align_corners=True)
    np.testing.assert_allclose(y[0, 0, 0], [0, -3, 0, 19, 32, 19, 0, -3, 0], atol=1e-14)


def test_antialiasing_widens_the_triangle():
    """At half the size, output 1 of 4 lies at 2.5 between 8 inputs: (1, 3, 3, 1)/8 of inputs 1 to 4."""
    x = np.eye(8)[np.newaxis, :, np.newaxis]
    y = F.interpolate(x, size=(1, 4), mode="bilinear", antialias=True)
    np.testing.assert_allclose(y[0, :, 0, 1], np.array([0, 1, 3, 3, 1, 0, 0, 0]) / 8, atol=1e-15)


# ---------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "result"),
    [
        ((1, 1), (1, 1)),
        ((5, 7), (10, 14)),
        ((3, 8), (6, 16)),
        ((4, 16), (8, 32)),
        ((3, 17), (6, 34)),
        ((2, 33), (5, 66)),
        ((6, 40), (3, 20)),
        ((9, 70), (4, 11)),
        ((3, 5), (40, 47)),
        ((4, 6), (4, 13)),
        ((4, 6), (9, 6)),
        ((37, 3), (2, 5)),
    ],
)
def test_images_agrees_with_the_oracle(dtype, size, result):
    for channels, mode in itertools.product((1, 3, 16, 19, 35), MODES[2]):
        x = normal(2, channels, *size, dtype=dtype)
        assert_agrees(x, result, mode=mode)
        if mode in SMOOTH:
            assert_agrees(x, result, mode=mode, align_corners=True)
            assert_agrees(x, result, mode=mode, antialias=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 56])
def test_rows_of_pairs_agree_with_the_oracle(dtype, width):
    """Nearest backward, area and bilinear forward: each output has two inputs of its own, around a vector of them."""
    for height, factor in ((3, 2), (2, 1), (2, 3)):
        assert_agrees(normal(2, 3, height, width, dtype=dtype), scale_factor=(factor, 2))
        x = normal(2, 3, 2 * height, 2 * width, dtype=dtype)
        for mode in ("area", "bilinear"):
            assert_agrees(x, (height, width), mode=mode)
            assert_agrees(x, (2 * height, width), mode=mode)
            assert_agrees(x, (4 * height, width), mode=mode)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 3])
def test_signals_and_volumes_agrees_with_the_oracle(dtype, rank):
    sizes = {1: [((9,), (18,)), ((40,), (13,)), ((67,), (134,))], 3: [((3, 4, 5), (6, 8, 10)), ((5, 3, 17), (2, 6, 9))]}
    for (size, result), channels, mode in itertools.product(sizes[rank], (1, 5, 17), MODES[rank]):
        x = normal(2, channels, *size, dtype=dtype)
        assert_agrees(x, result, mode=mode)
        if mode in SMOOTH:
            assert_agrees(x, result, mode=mode, align_corners=True)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), rank=st.integers(1, 3), dtype=st.sampled_from(["float32", "float64"]))
def test_any_size_and_factor_agrees_with_the_oracle(data, rank, dtype):
    limit = {1: 70, 2: 24, 3: 9}[rank]
    length = st.integers(1, limit)
    spatial = tuple(data.draw(st.tuples(*[length] * rank)))
    mode = data.draw(st.sampled_from(MODES[rank]))
    kwargs = {"mode": mode}
    if data.draw(st.booleans()):
        kwargs["size"] = tuple(data.draw(st.tuples(*[length] * rank)))
    else:
        factor = st.floats(0.1, 4) | st.sampled_from([0.5, 1.0, 2.0, 3.0, 1 / 3])
        kwargs["scale_factor"] = tuple(data.draw(st.tuples(*[factor] * rank)))
        kwargs["recompute_scale_factor"] = mode == "area" or data.draw(st.booleans())
        assume(all(int(n * f) > 0 for n, f in zip(spatial, kwargs["scale_factor"], strict=True)))
    if mode in SMOOTH:
        kwargs["align_corners"] = data.draw(st.booleans())
        kwargs["antialias"] = rank == 2 and data.draw(st.booleans())
    shape = (data.draw(st.sampled_from([2, 1, 0])), data.draw(st.sampled_from([1, 4, 18])), *spatial)
    note(f"again: assert_agrees(normal(*{shape}, dtype={dtype!r}), **{kwargs})")
    assert_agrees(normal(*shape, dtype=dtype), **kwargs)


# ---------------------------------------------------------------------------------------------- against torch


def torch_both(x, dy_of, **kwargs):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    if x.ndim > 3 and kwargs["mode"].startswith("nearest"):
        # For these torch takes the places that its gradients take, for others it computes them otherwise.
        tensor = tensor.to(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    tensor.requires_grad_()
    y = torch.nn.functional.interpolate(tensor, **kwargs)
    y.backward(torch.from_numpy(dy_of(tuple(y.shape))))
    return y.detach().numpy(), tensor.grad.numpy()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rank=st.integers(1, 3), dtype=st.sampled_from(["float32", "float64"]))
def test_sizes_places_and_weights_are_those_of_torch(data, rank, dtype):
    limit = {1: 90, 2: 30, 3: 9}[rank]
    length = st.integers(1, limit)
    spatial = tuple(data.draw(st.tuples(*[length] * rank)))
    mode = data.draw(st.sampled_from(MODES[rank]))
    kwargs = {"mode": mode}
    if data.draw(st.booleans()):
        kwargs["size"] = tuple(data.draw(st.tuples(*[st.integers(2, limit)] * rank)))
    else:
        factor = st.floats(0.1, 4) | st.sampled_from([0.5, 1.0, 2.0, 3.0, 1.3, 1 / 3])
        factors = tuple(data.draw(st.tuples(*[factor] * rank)))
        # torch's antialiased image of width 1 is wrong where the height changes.
        assume(all(int(n * f) > 1 for n, f in zip(spatial, factors, strict=True)))
        kwargs |= {"scale_factor": factors, "recompute_scale_factor": data.draw(st.sampled_from([None, True, False]))}
    if mode in SMOOTH:
        kwargs["align_corners"] = data.draw(st.sampled_from([None, True, False]))
        if rank == 2 and data.draw(st.booleans()):
            # With a factor, torch's antialiased gradient is not that of its output where a size stays.
            assume("size" in kwargs or kwargs["recompute_scale_factor"])
            kwargs["antialias"] = True
    x = normal(1, 8, *spatial, dtype=dtype)
    note(f"again: F.interpolate(normal(*{x.shape}, dtype={dtype!r}), **{kwargs})")
    gradients = []

    def dy_of(shape):
        gradients.append(normal(*shape, dtype=dtype, seed=1))
        return gradients[0]

    y, dx = torch_both(x, dy_of, **kwargs)
    found = F.interpolate(x, **kwargs)
    assert found.shape == y.shape
    # torch computes places of float32 in float32: at pixel 60 a weight is good to 4e-6.
    tolerance = 3e-5 if dtype == "float32" else 1e-13
    if not (rank == 1 and mode.startswith("nearest")):
        np.testing.assert_allclose(found, y, atol=tolerance, rtol=0)
    (gradient,) = F.interpolate_backward(gradients[0], x, **kwargs)
    np.testing.assert_allclose(gradient, dx, atol=tolerance * max(1, np.abs(dx).max()), rtol=0)


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        ("Upsample", {"size": (7, 3)}),
        ("Upsample", {"scale_factor": 2.0, "mode": "bilinear"}),
        ("Upsample", {"scale_factor": (1.5, 2.0), "mode": "bicubic", "align_corners": True}),
        ("UpsamplingNearest2d", {"scale_factor": 2}),
        ("UpsamplingBilinear2d", {"size": (7, 9)}),
    ],
)
def test_layers_are_those_of_torch(layer, arguments):
    torch = pytest.importorskip("torch")
    mine, theirs = getattr(nn, layer)(**arguments), getattr(torch.nn, layer)(**arguments)
    x = normal(2, 3, 4, 5)
    y = mine(x)
    np.testing.assert_allclose(y, theirs(torch.from_numpy(x)).numpy(), atol=1e-14)
    dx = mine.backward(y)
    kwargs = {"size": mine.size, "scale_factor": mine.scale_factor, "mode": mine.mode}
    expected = F.interpolate_backward(y, x, align_corners=mine.align_corners, **kwargs)[0]
    np.testing.assert_array_equal(dx, expected)
    assert repr(mine).startswith(f"{layer}(")
    assert f"mode={mine.mode!r}" in repr(mine)
    mine.eval()(x)
    with pytest.raises(RuntimeError, match="in eval mode forward remembers nothing"):
        mine.backward(y)


# ---------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_gradient_is_the_adjoint(rank):
    for mode, factor in itertools.product(MODES[rank], (0.4, 1.7, 2, 3)):
        x = normal(2, 3, *(11, 8, 6)[:rank])
        y = F.interpolate(x, scale_factor=factor, mode=mode)
        dy = normal(*y.shape, seed=3)
        (dx,) = F.interpolate_backward(dy, x, scale_factor=factor, mode=mode)
        assert np.vdot(dy, y) == pytest.approx(np.vdot(dx, x), rel=1e-12)


def test_the_gradient_is_the_directional_difference():
    x, direction, step = normal(1, 2, 5, 6), normal(1, 2, 5, 6, seed=1), 1e-3
    for mode in MODES[2]:
        dy = normal(1, 2, 8, 9, seed=2)
        up, down = (np.vdot(dy, F.interpolate(x + s * direction, (8, 9), mode=mode)) for s in (step, -step))
        (dx,) = F.interpolate_backward(dy, x, (8, 9), mode=mode)
        assert (up - down) / (2 * step) == pytest.approx(np.vdot(dx, direction), rel=1e-9)


# ---------------------------------------------------------------------------------------------- arrays, threads


@pytest.mark.parametrize("order", [np.ascontiguousarray, last])
def test_the_same_bits_for_any_number_of_threads(order):
    cases = [((2, 20, 60, 61), "bilinear", 2), ((2, 3, 90, 70), "bicubic", 1.7), ((1, 33, 64, 64), "nearest", 2)]
    cases += [((2, 18, 90, 80), "area", 0.4), ((1, 5, 12, 30, 31), "trilinear", 2)]
    for shape, mode, factor in cases:
        x = order(normal(*shape, dtype="float32"))
        results = []
        for threads in (1, 2, 3, 4):
            with cyconv.threads(threads):
                y = F.interpolate(x, scale_factor=factor, mode=mode)
                results.append((y, *F.interpolate_backward(y, x, scale_factor=factor, mode=mode)))
        for y, dx in results[1:]:
            np.testing.assert_array_equal(y, results[0][0])
            np.testing.assert_array_equal(dx, results[0][1])


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_empty_batches_and_no_channels(shape):
    x = np.zeros(shape, "float32")
    y = F.interpolate(x, (8, 3), mode="bilinear")
    assert y.shape == (*shape[:2], 8, 3)
    assert F.interpolate_backward(y, x, (8, 3), mode="bilinear")[0].shape == shape


def test_any_array_is_taken_and_none_is_changed():
    x = normal(2, 3, 9, 8)
    x.flags.writeable = False
    expected = F.interpolate(x, scale_factor=1.5, mode="bilinear")
    for y in (
        x[:, :, ::-1, ::-1][:, :, ::-1, ::-1],
        np.asfortranarray(x),
        np.repeat(x, 2, 3)[..., ::2],
        x.astype(">f8"),
    ):
        np.testing.assert_array_equal(F.interpolate(y, scale_factor=1.5, mode="bilinear"), expected)
    np.testing.assert_array_equal(
        F.interpolate(x, [13, 12], mode="bilinear"), F.interpolate(x, (13, 12), mode="bilinear")
    )


def test_nan_and_infinity_reach_what_they_touch_and_no_more():
    for value, order, mode in itertools.product(
        (np.nan, np.inf), (np.ascontiguousarray, last), ("nearest", "bilinear")
    ):
        for channels in (1, 3, 17):
            x = np.ones((1, channels, 9, 20), "float32")
            x[0, :, 4, 7] = value
            y = F.interpolate(order(x), scale_factor=2, mode=mode)
            reach = 2 if mode == "nearest" else 4
            start = (reach - 2) // 2
            touched = np.zeros((18, 40), bool)
            touched[8 - start : 8 - start + reach, 14 - start : 14 - start + reach] = True
            for plane in y[0]:
                np.testing.assert_array_equal(plane != 1, touched)
                np.testing.assert_array_equal(plane[touched], np.full(touched.sum(), value, "float32"))
            dy = np.ones_like(y)
            dy[0, :, 8, 14] = value
            (dx,) = F.interpolate_backward(dy, order(x), scale_factor=2, mode=mode)
            bad = np.argwhere(~np.isfinite(dx[0, 0])).tolist()
            assert bad == ([[4, 7]] if mode == "nearest" else [[3, 6], [3, 7], [4, 6], [4, 7]])
            if value == np.inf:
                assert not np.isnan(dx).any()


def test_pixels_that_no_output_reads_have_no_gradient():
    x = normal(1, 2, 9, 40)
    dy = np.full((1, 2, 2, 5), np.nan)
    for order in (np.ascontiguousarray, last):
        (dx,) = F.interpolate_backward(dy, order(x), (2, 5))
        assert np.isnan(dx).sum() == 2 * 2 * 5
        np.testing.assert_array_equal(dx[~np.isnan(dx)], 0)


def test_nearest_moves_bits():
    x = np.full((1, 17, 3, 20), 1e-42, "float32")  # a denormal
    for order in (np.ascontiguousarray, last):
        np.testing.assert_array_equal(
            F.interpolate(order(x), scale_factor=2), np.full((1, 17, 6, 40), 1e-42, "float32")
        )


def test_tables_are_made_once():
    before = _interpolate._cached_plan.cache_info()
    for _ in range(3):
        F.interpolate(normal(1, 2, 13, 29), scale_factor=1.37, mode="bilinear")
    after = _interpolate._cached_plan.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)


def test_tables_of_transposed_tables_are_the_first():
    for mode, inputs, outputs in (("nearest", 7, 20), ("linear", 9, 4), ("area", 12, 5), ("bicubic", 6, 13)):
        table = _resize_tables.axis_table(mode, inputs, outputs, None, False, False)
        again = _resize_tables.transposed(_resize_tables.transposed(table))
        for found, expected in zip(again[1:], table[1:], strict=True):
            np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------------------------------------- errors

IMAGE = np.zeros((1, 2, 4, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.interpolate(IMAGE), ValueError, "one of size and scale_factor is needed, got none"),
        (lambda: F.interpolate(IMAGE, 3, 2), ValueError, "one of size and scale_factor is needed, got both"),
        (lambda: F.interpolate(IMAGE, (3, 3, 3)), ValueError, r"size must be one number or 2, got \(3, 3, 3\)"),
        (lambda: F.interpolate(IMAGE, 2.5), TypeError, "size must be an int or a tuple of ints, got 2.5"),
        (lambda: F.interpolate(IMAGE, 0), ValueError, "the output has no pixels: its height is 0, from 4"),
        (lambda: F.interpolate(IMAGE, scale_factor=0.1), ValueError, "the output has no pixels: its height is 0"),
        (lambda: F.interpolate(IMAGE, scale_factor=-1), ValueError, "greater than 0 and finite, got -1"),
        (lambda: F.interpolate(IMAGE, scale_factor="2"), TypeError, "scale_factor must be a number"),
        (lambda: F.interpolate(IMAGE, 3, mode="cubic"), ValueError, "mode must be one of nearest, nearest-exact, area"),
        (
            lambda: F.interpolate(IMAGE, 3, mode="linear"),
            ValueError,
            r"'linear' takes an input of shape \(N, C, length",
        ),
        (lambda: F.interpolate(IMAGE[0, 0], 3), ValueError, "with 1 to 3 spatial axes, got"),
        (lambda: F.interpolate(IMAGE, 3, align_corners=True), ValueError, "align_corners is for the modes linear"),
        (lambda: F.interpolate(IMAGE, 3, mode="bilinear", align_corners=1), TypeError, "True, False or None, got 1"),
        (
            lambda: F.interpolate(IMAGE, 3, antialias=True),
            ValueError,
            "antialias is for the modes bilinear and bicubic",
        ),
        (lambda: F.interpolate(IMAGE, 3, recompute_scale_factor=True), ValueError, "means nothing with a size"),
        (lambda: F.interpolate(IMAGE[:, :, :0], 3), ValueError, "the input has no pixels: its height is 0"),
        (lambda: F.interpolate(IMAGE.astype(int), 3), TypeError, "interpolate: input has dtype int64"),
        (lambda: F.interpolate(IMAGE, 10**6), ValueError, "a plane of the output has more than"),
        (lambda: F.interpolate_backward(IMAGE, IMAGE, 3), ValueError, "interpolate_backward: grad_output must have"),
        (lambda: F.interpolate_backward(IMAGE.astype("f"), IMAGE, (4, 5)), TypeError, "mixed dtypes"),
    ],
)
def test_mistakes_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()
