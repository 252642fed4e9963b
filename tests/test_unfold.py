"""unfold and fold: by hand, against the oracle and torch, adjoint of each other, in any order and number of threads."""

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pytest
from guarded import copy
from tolerances import assert_close

import cyconv
from cyconv import Fold, Unfold, _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _arrays, _unfold
from cyconv.kernels import _threads

DTYPES = ("float32", "float64")
ORDERS = ("C", "channels-last")

#: name: (input shape, kernel, dilation, padding, stride)
CASES = {
    "plain": ((2, 3, 7, 6), (3, 2), 1, 0, 1),
    "padded": ((2, 3, 7, 6), 3, 1, 1, 1),
    "stride 2": ((1, 4, 9, 8), (3, 3), 1, (1, 0), 2),
    "stride 3": ((1, 2, 9, 11), (2, 3), 1, 1, (1, 3)),
    "dilated": ((2, 2, 9, 9), (3, 2), (2, 3), (2, 1), (1, 2)),
    "one side": ((1, 3, 5, 6), (2, 3), 1, ((0, 2), (3, 0)), 1),
    "same": ((1, 2, 6, 7), (3, 4), 1, "same", 2),
    "same_lower": ((1, 2, 6, 7), (4, 2), 2, "same_lower", 1),
    "valid": ((1, 2, 6, 7), (2, 2), 1, "valid", 2),
    "padding only": ((1, 2, 2, 2), (2, 2), 1, 5, 3),
    "padding wider than the image": ((1, 1, 2, 3), (9, 9), 1, 6, 1),
    "kernel = image": ((3, 2, 4, 5), (4, 5), 1, 0, 1),
    "stride > kernel": ((2, 3, 8, 9), 2, 1, 0, 4),
    "1x1": ((2, 5, 4, 4), 1, 1, 0, 1),
    "signal": ((2, 3, 20), (5,), 2, 3, 2),
    "volume": ((2, 2, 5, 6, 7), (2, 3, 2), 1, (1, 0, 1), (2, 1, 1)),
    "dilated volume": ((1, 3, 7, 6, 5), (3, 2, 2), (2, 1, 3), 1, 1),
    "many channels": ((1, 37, 6, 5), 3, 1, 1, 1),
    "wide": ((1, 2, 3, 300), (2, 3), 1, 1, 1),
    "tall": ((1, 1, 150, 150), 3, 1, 1, 1),
    "no image": ((0, 3, 5, 5), 3, 1, 0, 1),
}


def ordered(x, order):
    return x if order == "C" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def draw(shape, dtype, order="C"):
    return ordered(np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype), order)


@pytest.fixture
def always_parallel(monkeypatch):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_against_the_oracle(name, dtype, order):
    shape, *how = CASES[name]
    x = draw(shape, dtype, order)
    wanted = reference.unfold(x, *how)
    got = F.unfold(x, *how)
    assert_close(got, wanted, algorithm="exact")
    assert got.flags.c_contiguous
    size, grad = shape[2:], draw(wanted.shape, dtype)
    folded = reference.fold(grad, size, *how)
    assert_close(F.fold(grad, size, *how), folded, algorithm="sum")
    (dx,) = F.unfold_backward(grad, x, *how)
    np.testing.assert_array_equal(dx, F.fold(grad, size, *how))
    if order != "C" and min(shape) > 1:
        assert np.moveaxis(dx, 1, -1).flags.c_contiguous
    (dcolumns,) = F.fold_backward(x, grad, size, *how)
    np.testing.assert_array_equal(dcolumns, got)
    assert_close(reference.unfold_backward(grad, x, *how)[0], folded, algorithm="exact")
    assert_close(reference.fold_backward(x, grad, size, *how)[0], wanted, algorithm="exact")


@pytest.mark.parametrize("name", CASES)
def test_adjoint(name):
    """⟨unfold(x), y⟩ = ⟨x, fold(y)⟩."""
    shape, *how = CASES[name]
    x = draw(shape, "float64")
    columns = F.unfold(x, *how)
    y = draw(columns.shape, "float64")
    assert np.vdot(columns, y) == pytest.approx(np.vdot(x, F.fold(y, shape[2:], *how)), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("place", [reference, F], ids=["reference", "functional"])
def test_by_hand(place):
    x = np.arange(1.0, 7.0).reshape(1, 1, 2, 3)  # 1 2 3 / 4 5 6
    columns = place.unfold(x, (2, 2))
    assert columns.tolist() == [[[1, 2], [2, 3], [4, 5], [5, 6]]]
    assert place.fold(columns, (2, 3), (2, 2)).tolist() == [[[[1, 4, 3], [4, 10, 6]]]]
    # Two channels of three, one zero before; taps two apart, windows two apart.
    signal = np.array([[1.0, 2, 3], [4, 5, 6]])
    columns = place.unfold(signal, (2,), 2, ((1, 0),), 1)
    assert columns.tolist() == [[0, 1], [2, 3], [0, 4], [5, 6]]
    assert place.fold(np.ones((4, 2)), (3,), (2,), 2, ((1, 0),), 1).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_convolution_is_a_product_with_columns():
    x, w = draw((2, 3, 8, 7), "float64"), draw((5, 3, 3, 2), "float64")
    y = w.reshape(5, -1) @ F.unfold(x, (3, 2), 1, (1, 0), 2)
    assert_close(y.reshape(2, 5, 4, 3), F.conv2d(x, w, None, 2, (1, 0)), algorithm="direct")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in CASES if "same" not in name and name != "valid"])
def test_as_torch(name, dtype):
    torch = pytest.importorskip("torch")
    shape, kernel, dilation, padding, stride = CASES[name]
    if len(shape) != 4 or 0 in shape or (isinstance(padding, tuple) and isinstance(padding[0], tuple)):
        pytest.skip("torch's has two dimensions, images, and the same padding on both sides")
    x = draw(shape, dtype)
    how = (kernel, dilation, padding, stride)
    wanted = torch.nn.functional.unfold(torch.from_numpy(x), *how).numpy()
    assert_close(F.unfold(x, *how), wanted, algorithm="exact")
    grad = draw(wanted.shape, dtype)
    assert_close(
        F.fold(grad, shape[2:], *how),
        torch.nn.functional.fold(torch.from_numpy(grad), shape[2:], *how).numpy(),
        algorithm="sum",
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("isa", kernels.available())
def test_every_instruction_set(monkeypatch, isa, order):
    monkeypatch.setattr(_unfold, "_kernel", importlib.import_module(f"cyconv.kernels.unfold_{isa}"))
    _unfold._windows.cache_clear()
    try:
        for name, (shape, *how) in CASES.items():
            x = draw(shape, "float32", order)
            columns = F.unfold(x, *how)
            np.testing.assert_array_equal(columns, reference.unfold(x, *how), err_msg=name)
            wanted = reference.fold(columns, shape[2:], *how)
            assert_close(F.unfold_backward(columns, x, *how)[0], wanted, algorithm="sum")
    finally:
        _unfold._windows.cache_clear()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["padded", "dilated", "volume", "tall", "many channels", "stride 3"])
def test_any_number_of_threads_gives_the_same_bits(always_parallel, name, order):
    shape, *how = CASES[name]
    x = draw(shape, "float32", order)
    with cyconv.threads(1):
        columns = F.unfold(x, *how)
        grad = draw(columns.shape, "float32")
        (dx,) = F.unfold_backward(grad, x, *how)
    for n in (2, 3, 5):
        with cyconv.threads(n):
            np.testing.assert_array_equal(F.unfold(x, *how), columns)
            np.testing.assert_array_equal(F.unfold_backward(grad, x, *how)[0], dx)


def test_the_number_of_threads_reaches_the_kernel(always_parallel, monkeypatch):
    reached = []

    class Recorded(_unfold._kernel.Windows):
        def unfold(self, *arguments):
            reached.append(arguments[-1])
            return super().unfold(*arguments)

        def fold(self, *arguments):
            reached.append(arguments[-1])
            return super().fold(*arguments)

    monkeypatch.setattr(_unfold, "_kernel", SimpleNamespace(Windows=Recorded))
    _unfold._windows.cache_clear()
    x = draw((1, 2, 6, 7), "float32")
    for n in (1, 3):
        with cyconv.threads(n):
            F.fold(F.unfold(x, 2), (6, 7), 2)
        expected = n if _threads.OPENMP else 1
        assert reached == [expected, expected]
        reached.clear()
    _unfold._windows.cache_clear()


def test_the_last_bits_of_arrays_are_left_alone():
    """Nothing is written behind a result, and everything in it is."""
    for shape, *how in (CASES["padded"], CASES["stride 2"], CASES["volume"], CASES["signal"]):
        for at_end in (True, False):
            x = copy(draw(shape, "float32"), at_end)
            columns = copy(F.unfold(x, *how), at_end)
            windows = _unfold._windows(_unfold.unfold_geometry("unfold", shape, *how))
            windows.unfold(columns, x, shape[0], False, 1)
            windows.fold(x, columns, shape[0], False, 1)
            assert np.isfinite(x).all()


def test_unbatched_sliced_and_foreign_arrays():
    x = draw((3, 8, 9), "float32")
    columns = F.unfold(x, 3)
    np.testing.assert_array_equal(columns, F.unfold(x[np.newaxis], 3)[0])
    assert F.fold(columns, (8, 9), 3).shape == x.shape
    before = _arrays.copies
    np.testing.assert_array_equal(F.unfold(x[:, ::-1], 3), reference.unfold(x[:, ::-1], 3))
    assert _arrays.copies == before + 1
    turned = np.asfortranarray(columns)
    np.testing.assert_array_equal(F.fold(turned, (8, 9), 3), F.fold(columns, (8, 9), 3))


def test_nan_goes_where_its_pixel_goes():
    x = np.zeros((1, 4, 4))
    x[0, 1, 2] = np.nan
    columns = F.unfold(x, 2)
    np.testing.assert_array_equal(columns, reference.unfold(x, 2))
    assert np.isnan(columns).sum() == 4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.unfold(x, 7), ValueError, "unfold: kernel 7 does not fit into the padded input of height 6 (6 + "),
        (lambda x: F.unfold(x, 0), ValueError, "unfold: kernel_size must be at least 1, got 0"),
        (lambda x: F.unfold(x, 2.0), TypeError, "unfold: kernel_size must be an int or 2 ints, got 2.0"),
        (lambda x: F.unfold(x, (2, 2, 2, 2)), ValueError, "unfold: kernel_size must be an int or one to three ints"),
        (lambda x: F.unfold(x, 2, 0), ValueError, "unfold: dilation must be at least 1, got 0"),
        (lambda x: F.unfold(x, 2, 1, -1), ValueError, "unfold: padding must be at least 0, got -1"),
        (lambda x: F.unfold(x, 2, 1, "full"), ValueError, "unfold: padding must be ints, pairs or one of"),
        (lambda x: F.unfold(x, 2, 1, 0, (1, 0)), ValueError, "unfold: stride must be at least 1, got 0"),
        (lambda x: F.unfold(x[0, 0], 2), ValueError, "unfold: input must have shape (N, C, height, width) or (C,"),
        (lambda x: F.unfold(x, (2,)), ValueError, "unfold: input must have shape (N, C, length) or (C, length), got"),
        (lambda x: F.unfold(x[:, :0], 2), ValueError, "unfold: input must have at least one channel"),
        (lambda x: F.unfold(x.astype(int), 2), TypeError, "unfold: input has dtype int64, expected float32 or float64"),
        (lambda x: F.fold(F.unfold(x, 2), (6, 8), 2), ValueError,
         "fold: input must have 5 · 7 = 35 columns (height (6 + 2·0 − 1·(2−1) − 1)/1 + 1 = 5, "
         "width (8 + 2·0 − 1·(2−1) − 1)/1 + 1 = 7), got 30"),
        (lambda x: F.fold(x[0], (6, 7), 4), ValueError,
         "fold: the second last dimension of input must be channels times the 16 taps of a kernel of (4, 4), got 6"),
        (lambda x: F.fold(x, (6, 7), 2), ValueError, "fold: input must have shape (N, C·K·K, L) or without N"),
        (lambda x: F.fold(F.unfold(x, 2), 0, 2), ValueError, "fold: output_size must be at least 1, got 0"),
        (lambda x: F.fold(F.unfold(x, 2), (6, 7), (2, 2, 2)), ValueError, "fold: kernel_size must be an int or 2 ints"),
        (lambda x: F.unfold_backward(F.unfold(x, 2)[:, :, 1:], x, 2), ValueError,
         "unfold_backward: grad_output must have the shape of the output, (1, 8, 30), got (1, 8, 29)"),
        (lambda x: F.unfold_backward(F.unfold(x, 2).astype("f4"), x, 2), TypeError, "unfold_backward: mixed dtypes"),
        (lambda x: F.fold_backward(x[:, :1], F.unfold(x, 2), (6, 7), 2), ValueError,
         "fold_backward: grad_output must have the shape of the output, (1, 2, 6, 7), got (1, 1, 6, 7)"),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call(draw((1, 2, 6, 7), "float64"))


def test_layers():
    x = draw((2, 3, 7, 6), "float32")
    unfold, fold = Unfold((3, 2), 1, (1, 0), 2), Fold((7, 6), (3, 2), padding=(1, 0), stride=2)
    columns = unfold(x)
    np.testing.assert_array_equal(columns, F.unfold(x, (3, 2), 1, (1, 0), 2))
    images = fold(columns)
    np.testing.assert_array_equal(images, F.fold(columns, (7, 6), (3, 2), 1, (1, 0), 2))
    back = fold.backward(images)
    np.testing.assert_array_equal(back, F.unfold(images, (3, 2), 1, (1, 0), 2))
    np.testing.assert_array_equal(unfold.backward(back), F.fold(back, (7, 6), (3, 2), 1, (1, 0), 2))
    assert repr(unfold) == "Unfold(kernel_size=(3, 2), dilation=1, padding=(1, 0), stride=2)"
    assert repr(fold) == "Fold(output_size=(7, 6), kernel_size=(3, 2), dilation=1, padding=(1, 0), stride=2)"
    for layer in (unfold.eval(), fold.eval()):
        assert not layer.state_dict()
    unfold(x)
    with pytest.raises(RuntimeError):
        unfold.backward(columns)
    fold(columns)
    with pytest.raises(RuntimeError):
        fold.backward(images)
