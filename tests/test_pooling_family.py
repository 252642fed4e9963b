"""Every pool, in one to three dimensions, both memory orders and dtypes: against the oracle, by hand, as torch; what
must not matter; what is refused."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_cases import DTYPES
from processes import output_of
from tolerances import assert_close

import cyconv
from cyconv import _settings, kernels, nn, reference
from cyconv import functional as F
from cyconv.functional import _pool, _pool_fractional, _pool_unpool

ORDERS = ("C", "channels-last")
#: Operation, shape of the input, arguments behind the input.
MAXIMA = [
    ("max_pool1d", (2, 3, 41), (3, 2, 1)),
    ("max_pool1d", (2, 3, 64), (2,)),
    ("max_pool1d", (3, 17), (4, 3, ((3, 1),), 1, True)),
    ("max_pool1d", (2, 5, 33), (3, 1, "same", 4)),
    ("max_pool2d", (2, 3, 13, 35), (3, 2, "same")),
    ("max_pool2d", (2, 17, 9, 8), ((4, 3), (3, 1), "same_lower", (1, 2))),
    ("max_pool2d", (2, 5, 9, 18), (3, (1, 2), ((2, 1), (0, 2)))),
    ("max_pool2d", (1, 3, 9, 30), (3, 4, ((1, 0), (2, 1)), 1, True)),
    ("max_pool2d", (2, 3, 20, 21), ((2, 3), (3, 5), 1)),
    ("max_pool3d", (2, 3, 6, 7, 18), (2,)),
    ("max_pool3d", (2, 3, 5, 8, 35), (3, 2, 1)),
    ("max_pool3d", (1, 17, 4, 5, 6), (3, 1, 1)),
    ("max_pool3d", (3, 7, 6, 9), ((3, 2, 4), (2, 3, 3), (1, 0, 2), (2, 1, 1), True)),
    ("max_pool3d", (1, 2, 9, 5, 40), ((2, 3, 3), (1, 2, 2), ((3, 0), (0, 2), (1, 1)), (4, 1, 2))),
    ("max_pool3d", (0, 3, 4, 4, 4), (2,)),
    # Beyond what has buffers of its own: a stride, a kernel, a reach.
    ("max_pool1d", (2, 3, 210), (3, 70)),
    ("max_pool2d", (2, 3, 90, 110), ((80, 101), (5, 2), (40, 50))),
    ("max_pool2d", (2, 3, 8, 9), (2, (1, 3), 2**29, 2**30)),
    ("max_pool3d", (1, 2, 4, 4, 4), (2**31 - 1, 2**31 - 1, 2**30 - 1)),
    ("adaptive_max_pool1d", (2, 3, 41), (7,)),
    ("adaptive_max_pool1d", (2, 3, 6), (13,)),
    ("adaptive_max_pool2d", (2, 17, 13, 14), ((6, None),)),
    ("adaptive_max_pool2d", (3, 14, 14), ([7, 2],)),
    ("adaptive_max_pool2d", (2, 37, 7, 9), ((7, 9),)),
    ("adaptive_max_pool2d", (2, 40, 11, 13), ((4, 6),)),
    ("adaptive_max_pool2d", (1, 3, 150, 170), ((7, 9),)),
    ("adaptive_max_pool3d", (2, 3, 5, 9, 18), ((2, 4, 7),)),
    ("global_max_pool1d", (2, 33, 101), ()),
    ("global_max_pool2d", (3, 7, 7, 7), ()),
    ("global_max_pool2d", (70, 1, 3), ()),
    ("global_max_pool3d", (2, 17, 3, 4, 5), ()),
]
MEANS = [
    *(
        (name.replace("max", "avg"), shape, (*how[:3], False, True, None, *how[3:4]) if how[3:] else how)
        for name, shape, how in MAXIMA
        if name[:4] == "max_"
    ),
    *((name.replace("max", "avg"), shape, how) for name, shape, how in MAXIMA if name[:4] != "max_"),
    ("avg_pool1d", (2, 3, 41), (4, 3, 2, True)),
    ("avg_pool1d", (2, 3, 41), (4, 3, ((3, 0),), True, False, None, 2)),
    ("avg_pool2d", (2, 5, 12, 37), (3, 2, 1, True, False)),
    ("avg_pool2d", (2, 5, 12, 37), ((3, 2), (2, 1), "same", False, False, None, (2, 3))),
    ("avg_pool2d", (1, 17, 12, 13), (3, (3, 4), ((1, 2), (0, 2)), True, True, 7, (3, 2))),
    # Windows at both ends that meet no pixel: their mean is 0.
    ("avg_pool2d", (1, 2, 1, 2), ((1, 2), 1, (0, 2), False, False, None, 3)),
    ("avg_pool3d", (2, 3, 5, 8, 19), (3, 2, 1, True)),
    ("avg_pool3d", (2, 3, 5, 8, 19), (3, 1, 1, False, False)),
    ("avg_pool3d", (17, 6, 7, 8), ((2, 3, 1), (3, 2, 1), "same_lower", False, True, -3, (3, 1, 1))),
    ("avg_pool2d", (2, 40, 7, 7), (7,)),
    ("avg_pool2d", (2, 3, 56, 56), (7,)),
    ("avg_pool2d", (5, 3, 8, 34), (2,)),
    ("avg_pool2d", (5, 3, 9, 35), (2,)),
    ("lp_pool1d", (2, 3, 20), (2, 4, 3, True)),
    ("lp_pool2d", (2, 3, 9, 11), (3.5, (3, 2), 2)),
    ("lp_pool2d", (2, 3, 9, 11), (1, 3, 2, False, 1, 2)),
    ("lp_pool3d", (3, 5, 6, 7), (4, 2)),
]


def in_order(x: np.ndarray, order: str, batched: bool = True) -> np.ndarray:
    """Return ``x`` in a memory order; without a batch the channels come first."""
    axis = 1 if batched else 0
    return x.copy() if order == "C" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, axis, -1)), -1, axis)


def batched(name: str, x: np.ndarray) -> bool:
    return x.ndim == int(name[-2]) + 2


def values_of(shape: tuple[int, ...], dtype: str, kind: str = "normal", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((seed, *shape))
    x = rng.standard_normal(shape)
    if kind == "ties":
        x = np.round(x)
    if kind == "nan":
        x[rng.random(shape) < 0.1] = np.nan
    if kind == "inf":
        x[rng.random(shape) < 0.7] = -np.inf
    if kind == "all nan":
        x[...] = np.nan
    if kind == "all -inf":
        x[...] = -np.inf
    return x.astype(dtype)


def check_maxima(name: str, shape: tuple[int, ...], how: tuple[Any, ...], dtype: str, order: str, kind: str) -> None:
    x = values_of(shape, dtype, kind)
    x = in_order(x, order, batched(name, x))
    wanted, places = getattr(reference, name)(x, *how, return_indices=True)
    got, indices = getattr(F, name)(x, *how, return_indices=True)
    np.testing.assert_array_equal(got, wanted, strict=True)
    np.testing.assert_array_equal(indices, places, strict=True)
    np.testing.assert_array_equal(getattr(F, name)(x, *how), wanted, strict=True)
    grad = in_order(values_of(wanted.shape, dtype, seed=1), order, batched(name, x))
    (dx,) = getattr(reference, f"{name}_backward")(grad, x, *how)
    again, kept = F.keep_maxima(name, x, *how)
    np.testing.assert_array_equal(again, wanted, strict=True)
    for ours in (
        *getattr(F, f"{name}_backward")(grad, x, *how),
        *getattr(F, f"{name}_backward")(grad, x, *how, indices=indices),
        kept.backward(grad),
    ):
        assert_close(ours, dx, algorithm="sum", scale=max(1.0, float(np.abs(dx).max(initial=0))))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [c for c in MAXIMA if 2**29 not in c[2] and 2**31 - 1 not in c[2]], ids=str)
def test_maxima(case, dtype, order):
    check_maxima(*case, dtype, order, "normal")


@pytest.mark.parametrize("kind", ["ties", "nan", "inf", "all nan", "all -inf"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", [c for c in MAXIMA if 2**29 not in c[2] and 2**31 - 1 not in c[2]][::2], ids=str)
def test_maxima_of_equals_nan_and_infinities(case, order, kind):
    check_maxima(*case, "float32", order, kind)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [c for c in MEANS if 2**31 - 1 not in c[2] and 2**29 not in c[2]], ids=str)
def test_means(case, dtype, order):
    name, shape, how = case
    x = values_of(shape, dtype)
    x = in_order(np.abs(x) if name[0] == "l" else x, order, batched(name, x))
    wanted = getattr(reference, name)(x, *how)
    got = getattr(F, name)(x, *how)
    assert_close(got, wanted, algorithm="sum", scale=max(1.0, np.abs(wanted).max(initial=0)))
    grad = in_order(values_of(wanted.shape, dtype, seed=1), order, batched(name, x))
    (dx,) = getattr(reference, f"{name}_backward")(grad, x, *how)
    (ours,) = getattr(F, f"{name}_backward")(grad, x, *how)
    assert_close(ours, dx, algorithm="normalization", scale=max(1.0, np.abs(dx).max(initial=0)))
    if x.size > 1 and min(x.shape) > 1:
        assert ours.flags.c_contiguous == x.flags.c_contiguous


@pytest.mark.parametrize("order", ORDERS)
def test_kernels_far_larger_than_the_input(order):
    """A kernel of 2^31 - 1 pixels, all but a few of them padding."""
    x = in_order(values_of((2, 3, 4, 5), "float64"), order)
    huge = 2**31 - 1
    y, indices = F.max_pool2d(x, huge, huge, 2**30 - 1, return_indices=True)
    np.testing.assert_array_equal(y[..., 0, 0], x.max((2, 3)))
    np.testing.assert_array_equal(indices[..., 0, 0], x.reshape(2, 3, 20).argmax(2))
    mean = F.avg_pool2d(x, huge, huge, 2**30 - 1, count_include_pad=False)
    assert_close(mean[..., 0, 0], x.mean((2, 3)), algorithm="sum")
    (dx,) = F.avg_pool2d_backward(np.ones_like(mean), x, huge, huge, 2**30 - 1, count_include_pad=False)
    assert_close(dx, np.full_like(x, 0.05), algorithm="sum")
    (dx,) = F.max_pool2d_backward(np.ones_like(y), x, huge, huge, 2**30 - 1)
    np.testing.assert_array_equal(dx, x == y)
    # The two taps of a window, 2^30 pixels apart, never meet the input together.
    y, indices = F.max_pool1d(x[..., 0, :], 2, 1, 2**29, 2**30, return_indices=True)
    assert y.shape[-1] == 5
    assert (indices == -1).all()


# ------------------------------------------------------------------------------------------- fractional, and unpooling


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "shape", "how"),
    [
        ("fractional_max_pool2d", (3, 5, 23, 30), ((3, 2), (9, 13))),
        ("fractional_max_pool2d", (5, 12, 13), (2, None, (0.5, 0.7))),
        ("fractional_max_pool3d", (2, 3, 12, 13, 14), (2, (5, 1, 7))),
        ("fractional_max_pool3d", (0, 3, 5, 5, 5), (2, 3)),
    ],
)
def test_fractional(name, shape, how, dtype, order):
    how = (*how, None)[:3]
    x = values_of(shape, dtype, "ties")
    x = in_order(x, order, batched(name, x))
    rank = int(name[-2])
    planes = shape[: len(shape) - rank]
    samples = np.random.default_rng(3).random((*(1,) * (2 - len(planes)), *planes, rank)).astype(dtype)
    wanted, places = getattr(reference, name)(x, *how, True, samples)
    got, indices = getattr(F, name)(x, *how, True, samples)
    np.testing.assert_array_equal(got, wanted, strict=True)
    np.testing.assert_array_equal(indices, places, strict=True)
    grad = values_of(wanted.shape, dtype, seed=1)
    (dx,) = getattr(reference, f"{name}_backward")(grad, x, *how, indices=places)
    backward = getattr(F, f"{name}_backward")
    assert_close(backward(grad, x, *how, indices=indices)[0], dx, algorithm="sum", scale=10.0)
    assert_close(backward(grad, x, *how, _random_samples=samples)[0], dx, algorithm="sum", scale=10.0)
    with pytest.raises(ValueError, match="needs the indices or the _random_samples"):
        backward(grad, x, *how)


def test_fractional_windows_are_random_but_for_their_seed():
    x = values_of((2, 3, 20, 20), "float32")
    one, other = (F.fractional_max_pool2d(x, 2, 9, rng=seed, return_indices=True)[1] for seed in (1, 2))
    assert (one != other).any()
    np.testing.assert_array_equal(one, F.fractional_max_pool2d(x, 2, 9, rng=1, return_indices=True)[1])
    layer = nn.FractionalMaxPool2d(2, 9, rng=1)
    y = layer(x)
    assert (layer(x) != y).any()
    assert layer.backward(y).shape == x.shape
    assert layer.eval()(x).shape == y.shape


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 41), (2, 70, 9, 8), (3, 9, 8), (2, 3, 5, 6, 7)], ids=str)
def test_unpool(shape, dtype, order):
    rank = {3: 1, 4: 2, 5: 3}[len(shape)] if shape != (3, 9, 8) else 2
    name = f"max_unpool{rank}d"
    x = values_of(shape, dtype)
    x = in_order(x, order, batched(name, x))
    y, indices = getattr(F, f"max_pool{rank}d")(x, 3, 2, 1, return_indices=True)
    how = (3, 2, 1, shape[-rank:])
    out = getattr(F, name)(y, indices, *how)
    np.testing.assert_array_equal(out, getattr(reference, name)(np.ascontiguousarray(y), indices.copy(), *how))
    assert out.shape == x.shape
    # What the pool kept stands where it was, all else is zero.
    kept = out != 0
    np.testing.assert_array_equal(out[kept], x[kept])
    grad = values_of(shape, dtype, seed=1)
    (back,) = getattr(F, f"{name}_backward")(grad, y, indices, *how)
    (wanted,) = getattr(reference, f"{name}_backward")(grad, y.copy(), np.ascontiguousarray(indices), *how)
    np.testing.assert_array_equal(back, wanted, strict=True)
    layer = getattr(nn, f"MaxUnpool{rank}d")(3, 2, 1)
    np.testing.assert_array_equal(layer(y, indices, output_size=shape[-rank:]), out)
    np.testing.assert_array_equal(layer.backward(grad), back)


# ----------------------------------------------------------------------------------------------------- by hand, numbers


def row(*numbers: float) -> np.ndarray:
    return np.array(numbers, float).reshape(1, 1, -1)


def test_conventions_where_torch_and_onnx_differ():
    """The numbers of both. ceil_mode: torch (and ONNX since opset 19) drop a last window that begins behind the input,
    and count no place beyond the padding; ONNX before divided by the whole kernel."""
    x = row(1, 2, 3)
    # (3 + 2 - 2)/2 rounded up, + 1: 3 windows, at -1, 1, 3. The third begins behind the input, and is dropped.
    assert F.max_pool1d(x, 2, 2, 1, ceil_mode=True).tolist() == [[[1, 3]]]
    x = row(1, 2, 3, 4)
    # Windows at -1, 1, 3; the last has pixel 4, one place of padding, and one beyond.
    assert F.avg_pool1d(x, 3, 2, 1, True, True).tolist() == [[[1, 3, 4 / 2]]]
    assert F.avg_pool1d(x, 3, 2, 1, True, False).tolist() == [[[1.5, 3, 4]]]
    # ONNX's older rule, as asked for by its own divisor.
    assert F.avg_pool1d(x, 3, 2, 1, True, True, divisor_override=3).tolist() == [[[1, 3, pytest.approx(4 / 3)]]]


@pytest.mark.parametrize("opset", [12, 19, 22])
def test_onnx_runtime_has_these_numbers(opset):
    """Where it is installed; its own default is to count no padding, torch's to count it."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

    def run(kind, x, **attributes):
        helper, number = onnx.helper, onnx.TensorProto.FLOAT
        x = x.astype("float32")
        node = helper.make_node(kind, ["x"], ["y"], **attributes)
        ends = [helper.make_tensor_value_info(name, number, shape) for name, shape in (("x", x.shape), ("y", None))]
        graph = helper.make_graph([node], "pool", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # it warns that its own rule for shapes leaves one window more
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x})[0].tolist()

    how = {"strides": [2], "pads": [1, 1]}
    assert run("MaxPool", row(1, 2, 3), kernel_shape=[2], **how, ceil_mode=1) == [[[1, 3]]]
    how |= {"kernel_shape": [3]}
    assert run("AveragePool", row(1, 2, 3, 4), **how, ceil_mode=1, count_include_pad=1) == [[[1, 3, 2]]]
    assert run("AveragePool", row(1, 2, 3, 4), **how, ceil_mode=1) == [[[1.5, 3, 4]]]
    assert run("AveragePool", row(1, 2, 3, 4), **how) == [[[1.5, 3]]]
    assert F.avg_pool1d(row(1, 2, 3, 4), 3, 2, 1).tolist() == [[[1, 3]]]
    assert F.avg_pool1d(row(1, 2, 3, 4), 3, 2, 1, count_include_pad=False).tolist() == [[[1.5, 3]]]


def test_same_padding():
    x = row(1, 5, 2, 3)
    assert F.max_pool1d(x, 2, 1, "same").tolist() == [[[5, 5, 3, 3]]]
    assert F.max_pool1d(x, 2, 1, "same_lower").tolist() == [[[1, 5, 5, 3]]]
    assert F.avg_pool1d(x, 3, 2, "same", count_include_pad=False).tolist() == [[[8 / 3, 2.5]]]
    assert F.avg_pool1d(x, 3, 2, "same").tolist() == [[[8 / 3, pytest.approx(5 / 3)]]]
    for length, stride, kernel in itertools.product(range(1, 9), (1, 2, 3), (1, 2, 3, 4, 5)):
        assert F.max_pool1d(np.ones((1, length)), kernel, stride, "same").shape == (1, -(-length // stride))


def test_power_averages():
    assert F.lp_pool1d(row(3, 4, 6, 8, 5), 2, 2, ceil_mode=True)[0, 0] == pytest.approx([5, 10, np.sqrt(50)])
    assert F.lp_pool1d_backward(row(10, 5), row(3, 4, 0, 0), 2, 2)[0].tolist() == [[[6, 8, 0, 0]]]
    assert np.isnan(F.lp_pool1d(row(-2, 1), 3, 2)).all()
    assert F.lp_pool1d(row(-2, 1), 1, 2).tolist() == [[[-1]]]


def test_adaptive_and_global():
    assert F.adaptive_avg_pool1d(row(1, 2, 3, 4, 5), 2).tolist() == [[[2, 4]]]
    assert F.adaptive_avg_pool1d_backward(row(3, 6), row(1, 2, 3, 4, 5), 2)[0].tolist() == [[[1, 1, 3, 2, 2]]]
    y, indices = F.adaptive_max_pool1d(row(3, 9, 4, 4, 4), 2, True)
    assert (y.tolist(), indices.tolist()) == ([[[9, 4]]], [[[1, 2]]])
    y, indices = F.global_max_pool2d(np.array([[[1.0, 7], [7, 2]]]), True)
    assert (y.tolist(), indices.tolist()) == ([[[7]]], [[[1]]])
    assert F.global_avg_pool2d_backward(np.full((1, 1, 1, 1), 8.0), np.ones((1, 1, 2, 2)))[0].tolist() == [
        [[[2, 2], [2, 2]]]
    ]


@pytest.mark.parametrize("order", ORDERS)
def test_long_sums_stay_accurate(order):
    """A mean of a million equal numbers is that number, nearly: long sums are cut into parts."""
    x = in_order(np.full((1, 3, 1000, 1000), 0.1, np.float32), order)
    assert F.global_avg_pool2d(x).ravel() == pytest.approx(0.1, rel=2e-5 if order == "C" else 2e-2)


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", [c for c in [*MAXIMA[:15], *MEANS[-20:]] if c[1][0]], ids=str)
def test_gradients_by_directional_differences(case, order):
    name, shape, how = case
    x = values_of(shape, "float64")
    x = in_order(np.abs(x) + 0.1 if name[0] == "l" else x, order, batched(name, x))
    direction, h = values_of(shape, "float64", seed=2), 1e-6
    forward = getattr(F, name)
    grad = values_of(forward(x, *how).shape, "float64", seed=3)
    difference = (forward(x + h * direction, *how) - forward(x - h * direction, *how)) / (2 * h)
    (dx,) = getattr(F, f"{name}_backward")(grad, x, *how)
    assert np.vdot(dx, direction) == pytest.approx(np.vdot(grad, difference), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(
    "case", [c for c in MEANS if c[0][0] != "l" and c[1][0] and 2**31 - 1 not in c[2] and 2**29 not in c[2]], ids=str
)
def test_means_are_linear_and_their_gradient_the_adjoint(case):
    name, shape, how = case
    x = values_of(shape, "float64")
    y = getattr(F, name)(x, *how)
    grad = values_of(y.shape, "float64", seed=3)
    (dx,) = getattr(F, f"{name}_backward")(grad, x, *how)
    assert np.vdot(dx, x) == pytest.approx(np.vdot(grad, y), rel=1e-10, abs=1e-10)


# ------------------------------------------------------------------------------------------------- what must not matter


@pytest.fixture
def always_parallel(monkeypatch):
    """Small work is shared between threads too."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)


def everything(name: str, shape: tuple[int, ...], how: tuple[Any, ...], dtype: str, order: str) -> list[np.ndarray]:
    x = values_of(shape, dtype)
    x = in_order(np.abs(x), order, batched(name, x))
    y = getattr(F, name)(x, *how)
    results = [y, *getattr(F, f"{name}_backward")(y, x, *how)]
    if "max" in name:
        _, indices = getattr(F, name)(x, *how, return_indices=True)
        results += [indices, *getattr(F, f"{name}_backward")(y, x, *how, indices=indices)]
        results.append(F.keep_maxima(name, x, *how)[1].backward(y))
    return results


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "case",
    [
        ("max_pool3d", (3, 5, 9, 20, 21), (3, 2, 1)),
        ("avg_pool3d", (3, 5, 9, 20, 21), (3, 1, 1)),
        ("avg_pool2d", (20, 70, 7, 7), (7,)),
        ("avg_pool2d", (5, 11, 40, 40), (2,)),
        ("avg_pool1d", (9, 5, 2000), (5, 2)),
        ("max_pool1d", (9, 5, 2000), (5, 2)),
        ("adaptive_avg_pool2d", (5, 33, 31, 30), (7,)),
        ("adaptive_avg_pool2d", (9, 330, 9, 10), (5,)),
        ("adaptive_max_pool2d", (9, 330, 9, 10), (5,)),
        ("adaptive_max_pool2d", (5, 33, 31, 30), (7,)),
        ("global_max_pool2d", (1, 700, 9, 9), ()),
        ("global_avg_pool2d", (1, 700, 9, 9), ()),
    ],
    ids=str,
)
def test_any_number_of_threads_gives_the_same_bits(always_parallel, case, order):
    for dtype in DTYPES:
        with cyconv.threads(1):
            alone = everything(*case, dtype, order)
        for n in (2, 3):
            with cyconv.threads(n):
                for i, (one, other) in enumerate(zip(everything(*case, dtype, order), alone, strict=True)):
                    np.testing.assert_array_equal(one, other, err_msg=f"{dtype} {i}", strict=True)


def test_fractional_and_unpool_with_threads(always_parallel):
    x = values_of((4, 70, 30, 31), "float32")
    for order in ORDERS:
        given = in_order(x, order)
        results = []
        for n in (1, 2, 3):
            with cyconv.threads(n):
                y, indices = F.fractional_max_pool2d(given, 2, 14, rng=3, return_indices=True)
                out = F.max_unpool2d(y, indices, 2, 2, 0, (28, 28)) if indices.max() < 784 else None
                y2, at = F.max_pool2d(given, 2, return_indices=True)
                results.append([y, indices, out, F.max_unpool2d(y2, at, 2, output_size=(30, 31))])
        for other in results[1:]:
            for one, same in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("case", [*MAXIMA[::3], *MEANS[::3]], ids=str)
def test_unbatched_is_a_batch_of_one(case):
    name, shape, how = case
    rank = int(name[-2])
    x = np.abs(values_of(shape, "float32"))
    x = x if batched(name, x) else x[np.newaxis]
    x = x[:1] if len(x) else np.ones((1, *x.shape[1:]), "float32")
    y = getattr(F, name)(x, *how)
    np.testing.assert_array_equal(getattr(F, name)(x[0], *how), y[0], strict=True)
    backward = getattr(F, f"{name}_backward")
    np.testing.assert_array_equal(backward(y[0], x[0], *how)[0], backward(y, x, *how)[0][0], strict=True)
    assert y.ndim == rank + 2


# ------------------------------------------------------------------------------------------------------ protected pages


def run_guarded(at_end: bool) -> None:
    """Run all cases on arrays that end, or begin, beside pages that nobody may touch."""
    import guarded

    def empty(shape: tuple[int, ...], dtype: Any, last: bool = False) -> np.ndarray:
        if not last:
            return guarded.empty(shape, dtype, at_end)
        return np.moveaxis(guarded.empty((shape[0], *shape[2:], shape[1]), dtype, at_end), -1, 1)

    def copy(x: np.ndarray, last: bool) -> np.ndarray:
        result = empty(x.shape, x.dtype, last)
        result[...] = x
        return result

    for module in (_pool, _pool_fractional, _pool_unpool):
        module.empty = empty  # type: ignore[attr-defined]
    for (name, shape, how), dtype, last in itertools.product([*MAXIMA, *MEANS], DTYPES, (False, True)):
        if 2**31 - 1 in how:
            continue
        print(name, shape, how, dtype, last, flush=True)
        x = np.abs(values_of(shape, dtype))
        x = copy(x if batched(name, x) else x[np.newaxis], last)
        y = copy(getattr(F, name)(x, *how), last)
        getattr(F, f"{name}_backward")(y, x, *how)
        if "max" in name:
            _, indices = getattr(F, name)(x, *how, return_indices=True)
            getattr(F, f"{name}_backward")(y, x, *how, indices=indices)
            F.keep_maxima(name, x, *how)[1].backward(y)
    print("done")


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(at_end):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_pooling_family\n"
    printed = output_of("-c", code + f"test_pooling_family.run_guarded({at_end})", CYCONV_ISA=kernels.ISA)
    assert printed.splitlines()[-1] == "done"


# --------------------------------------------------------------------------------------------------------------- errors

X = np.ones((2, 3, 8, 9), np.float32)
INDICES = np.zeros((2, 3, 8, 9), np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.max_pool1d(X, 2), ValueError, "max_pool1d: input must have shape (N, C, length) or (C, length)"),
        (lambda: F.max_pool2d(X, 3, 1, ((2, 2), (0, 0))), ValueError, "max_pool2d: padding 2 exceeds half of kernel 3"),
        (
            lambda: F.max_pool2d(X, 3, 1, ((0, 3), (0, 0))),
            ValueError,
            "max_pool2d: padding 0 and 3 of the height must be less than kernel 3 on each side, and no more than it",
        ),
        (lambda: F.avg_pool2d(X, 1, 1, ((0, 0), (1, 0))), ValueError, "padding 1 and 0 of the width must be less than"),
        (lambda: F.max_pool2d(X, 3, 1, "full"), ValueError, "padding must be ints, pairs or one of valid, same"),
        (lambda: F.max_pool2d(X, 2, (2, 2.0)), TypeError, "max_pool2d: stride must be an int, got 2.0"),
        (lambda: F.max_pool2d(X, (2, True)), TypeError, "max_pool2d: kernel_size must be an int, got True"),
        (lambda: F.max_pool2d(X, np.ones(2)), TypeError, "max_pool2d: kernel_size must be an int or 2 ints"),
        (lambda: F.max_pool2d(X, {2: 3}), TypeError, "max_pool2d: kernel_size must be an int or 2 ints"),
        (lambda: F.avg_pool2d(X, 2, divisor_override=2**31), ValueError, "must be at most 2147483647 in size"),
        (lambda: F.avg_pool2d(X, 2, ceil_mode="yes"), TypeError, "ceil_mode must be True or False, got 'yes'"),
        (lambda: F.avg_pool2d(X, 2, count_include_pad=[1]), TypeError, "count_include_pad must be True or False"),
        (lambda: F.adaptive_avg_pool2d(X, 0), ValueError, "adaptive_avg_pool2d: output_size must be at least 1, got 0"),
        (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), ValueError, "output_size must be an int or 2 ints"),
        (lambda: F.adaptive_max_pool2d(X, 2.0), TypeError, "output_size must be an int, got 2.0"),
        (lambda: F.adaptive_max_pool2d(X, np.ones(2)), TypeError, "output_size must be an int"),
        (lambda: F.lp_pool2d(X, 0, 2), ValueError, "lp_pool2d: norm_type must be finite and above 0, got 0"),
        (lambda: F.lp_pool2d(X, float("inf"), 2), ValueError, "the limit at infinity is a maximum"),
        (lambda: F.lp_pool2d(X, float("nan"), 2), ValueError, "norm_type must be finite and above 0"),
        (lambda: F.lp_pool2d(X, "2", 2), TypeError, "lp_pool2d: norm_type must be a number, got '2'"),
        (lambda: F.lp_pool2d(X, 10**400, 2), ValueError, "norm_type must be finite"),
        (lambda: F.fractional_max_pool2d(X, 2), ValueError, "exactly one of output_size and output_ratio is needed"),
        (lambda: F.fractional_max_pool2d(X, 2, 3, 0.5), ValueError, "exactly one of output_size and output_ratio"),
        (lambda: F.fractional_max_pool2d(X, 2, 8), ValueError, "8 windows of 2 do not fit into the height 8"),
        (lambda: F.fractional_max_pool2d(X, 2, None, 0.1), ValueError, "output_ratio leaves no window of the height 8"),
        (lambda: F.fractional_max_pool2d(X, 2, None, 1.5), ValueError, "output_ratio must be between 0 and 1"),
        (lambda: F.fractional_max_pool2d(X, 2, None, "a"), TypeError, "output_ratio must be a number or 2 numbers"),
        (lambda: F.fractional_max_pool2d(X, 2, 3, _random_samples=X), ValueError, "must have shape (2, 3, 2), got"),
        (
            lambda: F.fractional_max_pool2d(X, 2, 3, _random_samples=X[..., :2, 0]),
            ValueError,
            "_random_samples must be in [0, 1)",
        ),
        (lambda: F.max_unpool2d(X, INDICES.astype(float), 2), TypeError, "max_unpool2d: indices must be integers"),
        (lambda: F.max_unpool2d(X, INDICES[:1], 2), ValueError, "indices must have the shape of the input"),
        (lambda: F.max_unpool2d(X, INDICES - 1, 2), ValueError, "indices must lie in the plane of 16 x 18"),
        (lambda: F.max_unpool2d(X, INDICES + 288, 2), ValueError, "indices must lie in the plane of 16 x 18"),
        (lambda: F.max_unpool2d(X, INDICES + 2**62, 2), ValueError, "indices must lie in the plane of 16 x 18"),
        (lambda: F.max_unpool2d(X, INDICES, 2, output_size=(18, 18)), ValueError, "between 14 and 18 (exclusive)"),
        (lambda: F.max_unpool2d(X, INDICES, 2, output_size=(16, 18.0)), TypeError, "output_size must be an int"),
        (lambda: F.max_unpool2d(X, INDICES, 1, 1, 9), ValueError, "nothing is left of the height"),
        (lambda: F.max_unpool2d_backward(X, X, INDICES, 2), ValueError, "grad_output must have the shape of the out"),
        (
            lambda: F.max_unpool2d_backward(np.ones((2, 3, 16, 18), np.float32), X, INDICES - 1, 2),
            ValueError,
            "max_unpool2d_backward: indices must lie in the plane of 16 x 18",
        ),
        (lambda: F.global_avg_pool2d_backward(X, X), ValueError, "shape of the output, (2, 3, 1, 1), got (2, 3, 8, 9)"),
        (lambda: F.lp_pool2d_backward(X, X, 2, 2), ValueError, "lp_pool2d_backward: grad_output must have the shape"),
        (
            lambda: F.adaptive_max_pool2d_backward(np.ones((2, 3, 3, 4)), X, (3, 4)),
            TypeError,
            "adaptive_max_pool2d_backward: mixed dtypes: grad_output float64, input float32",
        ),
        (
            lambda: F.adaptive_max_pool2d_backward(X[:, :, :3, :4], X, (3, 4), indices=INDICES[:, :, :3, :4] + 72),
            ValueError,
            "adaptive_max_pool2d_backward: indices must lie in the plane of 8 x 9",
        ),
        (lambda: F.global_max_pool1d(X[0, :, :, :0]), ValueError, "the input has no pixels: its length is 0"),
        (lambda: nn.FractionalMaxPool2d(2), ValueError, "FractionalMaxPool2d: exactly one of output_size and"),
        (lambda: nn.AvgPool3d(2).backward(X), RuntimeError, "AvgPool3d: backward needs a forward pass"),
    ],
)
def test_errors(call, error, message):
    F.max_pool2d(X, (2, 2), (2, 2))
    F.avg_pool2d(X, (2, 1))
    for _ in range(2):  # what was refused once is refused again, though plans are kept
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**32, 2**47, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)])
@pytest.mark.parametrize("argument", ["kernel_size", "stride", "padding", "dilation", "divisor_override", "pair"])
def test_huge_numbers_are_values_or_errors(argument, number):
    for name, x in (("max_pool2d", X), ("avg_pool2d", X), ("max_pool3d", X), ("avg_pool1d", X[0])):
        how: dict[str, Any] = {"kernel_size": 2}
        if argument == "divisor_override" and name[0] == "m":
            continue
        how.update({"padding": ((number, 0),) * int(name[-2])} if argument == "pair" else {argument: number})
        try:
            y = getattr(F, name)(x, **how)
        except (ValueError, MemoryError):
            continue
        assert y.shape[:-1][:1] == x.shape[:1]
        getattr(F, f"{name}_backward")(y, x, **how)
    for call in (
        lambda: F.adaptive_avg_pool3d(np.ones((2**10, 1, 1, 1), "f4"), (number, number, 2)),
        lambda: F.fractional_max_pool2d(X, number, 2),
        lambda: F.fractional_max_pool2d(X, 2, number),
        lambda: F.max_unpool2d(X, INDICES, number, 1),
        lambda: F.max_unpool2d(X, INDICES, 2, number),
        lambda: F.max_unpool2d(X, INDICES, 2, 2, number),
        lambda: F.max_unpool2d(X, INDICES, 2, 2, 0, number),
    ):
        with pytest.raises((ValueError, MemoryError)):
            call()


# --------------------------------------------------------------------------------------------------------------- layers

LAYERS = [
    *((f"{k}Pool{r}d", {"kernel_size": 3, "stride": 2, "padding": 1}) for k in ("Max", "Avg") for r in (1, 2, 3)),
    *((f"{k}Pool{r}d", {"kernel_size": 2, "padding": "same", "dilation": 2}) for k in ("Max", "Avg") for r in (1, 3)),
    *((f"LPPool{r}d", {"norm_type": 2, "kernel_size": 2, "ceil_mode": True}) for r in (1, 2, 3)),
    *((f"Adaptive{k}Pool{r}d", {"output_size": 3}) for k in ("Avg", "Max") for r in (1, 2, 3)),
    *((f"Global{k}Pool{r}d", {}) for k in ("Avg", "Max") for r in (1, 2, 3)),
]


@pytest.mark.parametrize(("name", "how"), LAYERS, ids=str)
def test_layers_do_what_functions_do(name, how):
    layer = getattr(nn, name)(**how)
    assert getattr(cyconv, name) is type(layer)
    rank = int(name[-2])
    function = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_").replace("l_p_pool", "lp_pool")
    x = np.abs(values_of((2, 3, *(7, 8, 9)[:rank]), "float32"))
    if name[0] == "L":
        how = dict(how)
    y = layer(x)
    np.testing.assert_array_equal(y, getattr(F, function)(x, **how), strict=True)
    (dx,) = getattr(F, f"{function}_backward")(y, x, **how)
    np.testing.assert_array_equal(layer.backward(y), dx, strict=True)
    assert layer.backward(y, input_grad=False) is None
    layer.eval()(x)
    with pytest.raises(RuntimeError, match=name):
        layer.backward(y)
    if "Max" in name:
        layer = getattr(nn, name)(**how, return_indices=True)
        for one, other in zip(layer(x), getattr(F, function)(x, **how, return_indices=True), strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        np.testing.assert_array_equal(layer.backward(y), dx, strict=True)
    assert repr(layer).startswith(name)


# ---------------------------------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("name", "shape", "how"),
    [
        ("max_pool3d", (2, 3, 5, 8, 19), (3, 2, 1)),
        ("max_pool1d", (2, 3, 41), (3, 2, 1)),
        ("avg_pool3d", (2, 3, 5, 8, 19), (3, 2, 1, True, False)),
        ("avg_pool2d", (2, 3, 8, 19), (3, 2, 1, True, True)),
        ("lp_pool2d", (2, 3, 8, 19), (3, 2, 2, True)),
        ("adaptive_avg_pool3d", (2, 3, 5, 8, 19), ((2, 3, 7),)),
        ("adaptive_max_pool2d", (2, 3, 8, 19), ((3, 7),)),
    ],
)
def test_as_torch(name, shape, how, order):
    torch = pytest.importorskip("torch")
    x = in_order(np.abs(values_of(shape, "float64")), order)
    t = torch.from_numpy(x.copy()).requires_grad_()
    y = getattr(torch.nn.functional, name)(t, *how)
    assert_close(getattr(F, name)(x, *how), y.detach().numpy(), algorithm="sum")
    grad = values_of(tuple(y.shape), "float64", seed=1)
    y.backward(torch.from_numpy(grad))
    assert_close(getattr(F, f"{name}_backward")(grad, x, *how)[0], t.grad.numpy(), algorithm="sum")


@pytest.mark.parametrize("dtype", DTYPES)
def test_fractional_as_torch(dtype):
    torch = pytest.importorskip("torch")
    for shape, how in (((3, 4, 21, 25), ((2, 3), (9, 11))), ((2, 3, 9, 10, 11), (2, (4, 5, 3)))):
        rank = len(shape) - 2
        x, u = values_of(shape, dtype), np.random.default_rng(5).random((*shape[:2], rank)).astype(dtype)
        name = f"fractional_max_pool{rank}d"
        theirs = getattr(torch.nn.functional, name)(torch.from_numpy(x), *how, None, True, torch.from_numpy(u))
        for ours, other in zip(getattr(F, name)(x, *how, None, True, u), theirs, strict=True):
            np.testing.assert_array_equal(ours, other.numpy())
