"""Activations and softmax: against the oracle and longer arithmetic, at the ends of the range, by differences."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conv_cases import DTYPES
from processes import output_of
from tolerances import assert_close

import cyconv
from cyconv import _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _activation, _arrays

POINTWISE = ("relu", "sigmoid", "tanh")
SOFTMAX = ("softmax", "log_softmax")
#: Around one and two vectors of either type, and several chunks of the threads.
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 84, 8191, 8193, 20011)
#: Shape and axis: rows, columns, both ends of a vector in either, one class, one sample, nothing.
AXES = [
    *[((5, n), 1) for n in (1, 3, 7, 8, 9, 10, 15, 16, 17, 33, 100, 1000)],
    *[((3, 4, n), 1) for n in (1, 2, 7, 8, 9, 15, 16, 17, 33, 127, 128, 129, 300)],
    ((70, 3, 5), 0),
    ((300, 10), -1),
    ((10,), 0),
    ((2, 21, 9, 11), 1),
    ((2, 40, 3, 5), -2),
    ((0, 10), 1),
    ((4, 0), 1),
    ((3, 0, 5), 2),
]


def normal(shape: Any, dtype: str, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), dtype)


def orders_of(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the array in every memory order that is told apart somewhere."""
    found = {"C": x, "Fortran": np.asfortranarray(x), "gaps": np.repeat(x, 2, axis=-1)[..., ::2]}
    found["reversed"] = x[::-1].copy()[::-1]
    if x.ndim > 2:
        found["channels-last"] = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    return found


# --------------------------------------------------------------------------------------------------- of single elements


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", POINTWISE)
def test_functions_of_elements(name, n, dtype):
    x, grad = normal(n, dtype, scale=3), normal(n, dtype, 1)
    oracle, gradient = getattr(reference, name), getattr(reference, f"{name}_backward")
    y = getattr(F, name)(x)
    assert_close(y, oracle(x), algorithm="exact" if name == "relu" else "pointwise")
    # Near 1 the gradient is a difference that cancels: relative to what it is multiplied by.
    scale = float(np.abs(grad).max(initial=0))
    for how in ({"input": x}, {"input": None, "output": y}):
        (got,) = getattr(F, f"{name}_backward")(grad, **how)
        assert_close(got, gradient(grad, **how)[0], algorithm="exact" if name == "relu" else "pointwise", scale=scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "limit"), [("tanh", 2.5), ("sigmoid", 2.5)])
def test_every_value_is_within_a_few_units_of_its_last_place(name, limit, dtype):
    """Relative to each value, against arithmetic in long double: small results are as exact as large ones."""
    tiny = np.finfo(dtype).tiny
    x = np.concatenate([np.linspace(-12, 12, 200_001), np.geomspace(1e-6, 80, 50_001), -np.geomspace(1e-6, 80, 50_001)])
    x = np.concatenate([x, np.geomspace(float(tiny), 1e-6, 1001)]).astype(dtype)
    x = x[x != 0]
    long = x.astype(np.longdouble)
    wanted = np.tanh(long) if name == "tanh" else 1 / (1 + np.exp(-long))
    error = np.abs(getattr(F, name)(x) / wanted - 1)
    assert error.max() <= limit * np.finfo(dtype).eps, x[error.argmax()]


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential(dtype):
    """What the others are made of: all of its range, and both ends."""
    info = np.finfo(dtype)
    low, high = float(np.log(info.tiny)), float(np.log(info.max))
    x = np.linspace(low, high, 300_001).astype(dtype)[1:-1]
    y = np.empty_like(x)
    kernel = kernels.load("pointwise")
    kernel.exp(y, x, 1)
    error = np.abs(y / np.exp(x.astype(np.longdouble)) - 1)
    assert error.max() <= 1.5 * info.eps, x[error.argmax()]
    ends = np.array([np.nan, np.inf, -np.inf, high * 1.01, low * 2, 0, -0.0], dtype)
    y = np.empty_like(ends)
    kernel.exp(y, ends, 1)
    np.testing.assert_array_equal(y, np.array([np.nan, np.inf, 0, np.inf, 0, 1, 1], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ends_of_the_range(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, -0.0], dtype)
    np.testing.assert_array_equal(F.relu(x), np.array([np.nan, np.inf, 0, 1e30, 0, 0, 0], dtype))
    np.testing.assert_array_equal(F.sigmoid(x), np.array([np.nan, 1, 0, 1, 0, 0.5, 0.5], dtype))
    y = F.tanh(x)
    np.testing.assert_array_equal(y, np.array([np.nan, 1, -1, 1, -1, 0, 0], dtype))
    assert np.signbit(y[-1])
    assert not np.signbit(y[-2])
    (dx,) = F.relu_backward(np.full(7, 2, dtype), x)
    np.testing.assert_array_equal(dx, np.array([2, 2, 0, 2, 0, 0, 0], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_every_size(dtype):
    """From the smallest to the largest, of either sign: under sanitizers, no step on the way overflows."""
    most = int(np.log10(np.finfo(dtype).max)) - 1
    sizes = 10 ** np.linspace(-most, most, 4000)
    x = np.concatenate([-sizes, sizes]).astype(dtype)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-x.astype("f8")))
    y, tiny = F.sigmoid(x), np.finfo(dtype).tiny  # what is denormal may be zero
    np.testing.assert_allclose(y, expected, 1e-6, 4 * tiny)
    np.testing.assert_allclose(F.tanh(x), np.tanh(x.astype("f8")), 1e-6)
    shares = F.softmax(np.stack([x, np.zeros_like(x)], 1), 1)
    np.testing.assert_allclose(shares[:, 0], y, 1e-5, 4 * tiny)


def test_relu_knows_denormals():
    """It only compares: a tiny negative number is below zero, a tiny positive one above."""
    x = np.array([-1e-310, 1e-310])
    assert F.relu(x).tolist() == [0, 1e-310]
    assert F.relu_backward(np.ones(2), x)[0].tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5, 6), (2, 0, 3)])
@pytest.mark.parametrize("name", POINTWISE)
def test_any_shape(name, shape):
    x = normal(shape, "float32")
    assert_close(getattr(F, name)(x), getattr(reference, name)(np.asarray(x)), algorithm="pointwise")


# -------------------------------------------------------------------------------------------------------------- softmax


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), AXES)
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax(name, shape, dim, dtype):
    plain, grads = normal(shape, dtype, scale=4), orders_of(normal(shape, dtype, 1))
    scale = max(1.0, float(np.abs(grads["C"]).sum(axis=dim).max(initial=0)))
    with np.errstate(divide="ignore"):  # the logarithm of no classes at all
        wanted, gradient = (
            getattr(reference, name)(plain, dim),
            getattr(reference, f"{name}_backward")(grads["C"], plain, dim)[0],
        )
    for order, x in orders_of(plain).items():
        y = getattr(F, name)(x, dim)
        assert_close(y, wanted, algorithm="sum")
        if order not in ("gaps", "reversed"):
            assert y.strides == x.strides or x.size == 0
        for grad in (grads["C"], grads[order]):
            for how in ({"input": x}, {"input": None, "output": y}):
                (got,) = getattr(F, f"{name}_backward")(grad, **how, dim=dim)
                assert_close(got, gradient, algorithm="sum", scale=scale)


@pytest.mark.parametrize("inner", [1, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_neither_overflows_nor_vanishes(dtype, inner):
    big = 1e4 if dtype == "float64" else 200.0
    x = np.repeat(np.array([[0, big, big], [-big, 0, -3], [-np.inf, 1, 2], [big, -big, 0]], dtype)[..., None], inner, 2)
    for name in SOFTMAX:
        assert_close(getattr(F, name)(x, 1), getattr(reference, name)(x, 1), algorithm="sum")
    assert_close(F.softmax(x, 1).sum(axis=1), np.ones((4, inner), dtype), algorithm="sum")


@pytest.mark.parametrize("inner", [1, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_what_has_none_is_nan(dtype, inner):
    """As in torch: a row with NaN or +inf in it, or of -inf only; the rows beside it are none of its business."""
    rows = [[np.nan, 0, 0], [1, 2, 3], [np.inf, 0, 1], [-np.inf] * 3, [0, 0, np.nan]]
    x = np.repeat(np.array(rows, dtype)[..., None], inner, 2)
    for name in SOFTMAX:
        y = getattr(F, name)(x, 1)
        assert np.isnan(y[[0, 2, 3, 4]]).all()
        assert_close(y[1], getattr(reference, name)(x[1:2], 1)[0], algorithm="sum")


def test_softmax_of_many_classes_adds_up():
    x = normal((2, 300_000), "float32")
    assert_close(F.softmax(x, 1), reference.softmax(x, 1), algorithm="sum")
    columns = np.ascontiguousarray(x[:, :50_000].T)
    assert_close(F.softmax(columns, 0), reference.softmax(columns, 0), algorithm="sum")


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("name", [*POINTWISE, *SOFTMAX])
def test_gradients_by_directional_differences(name):
    x, direction, grad = (normal((4, 5, 7), "float64", seed) for seed in range(3))
    dim = (1,) if name in SOFTMAX else ()
    forward, h = getattr(F, name), 1e-6
    difference = (forward(x + h * direction, *dim) - forward(x - h * direction, *dim)) / (2 * h)
    (dx,) = getattr(F, f"{name}_backward")(grad, x, *dim)
    assert np.vdot(dx, direction) == pytest.approx(np.vdot(grad, difference), rel=1e-7)


# ------------------------------------------------------------------------------------------------- what must not matter


def all_results(x: np.ndarray, grad: np.ndarray) -> list[np.ndarray]:
    found = []
    for name in POINTWISE:
        found += [getattr(F, name)(x), *getattr(F, f"{name}_backward")(grad, x)]
    for name, dim in itertools.product(SOFTMAX, range(x.ndim)):
        found += [getattr(F, name)(x, dim), *getattr(F, f"{name}_backward")(grad, x, dim)]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    x, grad = normal((300, 7, 33), dtype, scale=3), normal((300, 7, 33), dtype, 1)
    with cyconv.threads(1):
        alone = all_results(x, grad)
    for n in (2, 3):
        with cyconv.threads(n):
            for i, (one, other) in enumerate(zip(all_results(x, grad), alone, strict=True)):
                np.testing.assert_array_equal(one, other, err_msg=str(i), strict=True)


@pytest.mark.parametrize("name", POINTWISE)
def test_the_place_of_an_element_changes_no_bit(name):
    """Whole vectors, part vectors and the last one, which reaches back, all compute alike."""
    x, grad = normal(70, "float32", scale=3), normal(70, "float32", 1)
    y, (dx,) = getattr(F, name)(x), getattr(F, f"{name}_backward")(grad, x)
    for first, last in itertools.combinations(range(0, 70, 3), 2):
        part = slice(first, last)
        np.testing.assert_array_equal(getattr(F, name)(x[part]), y[part])
        np.testing.assert_array_equal(getattr(F, f"{name}_backward")(grad[part], x[part])[0], dx[part])


@pytest.mark.parametrize("name", POINTWISE)
def test_memory_order_is_kept_and_costs_nothing(name):
    plain, grad = normal((3, 4, 5, 6), "float32"), normal((3, 4, 5, 6), "float32", 1)
    wanted, (gradient,) = getattr(F, name)(plain), getattr(F, f"{name}_backward")(grad, plain)
    for order, x in orders_of(plain).items():
        before = _arrays.copies
        y = getattr(F, name)(x)
        np.testing.assert_array_equal(y, wanted, strict=True)
        (dx,) = getattr(F, f"{name}_backward")(orders_of(grad)[order], x)
        np.testing.assert_array_equal(dx, gradient, strict=True)
        if order not in ("gaps", "reversed"):
            assert y.strides == x.strides == dx.strides
            assert _arrays.copies == before
        else:
            assert _arrays.copies > before


def run_guarded(at_end: bool) -> None:
    """Run all of it on arrays that end, or begin, beside pages that nobody may touch."""
    import guarded

    def like(x: np.ndarray, dtype: Any = None) -> np.ndarray:
        return guarded.empty(x.shape, dtype or x.dtype, at_end)

    _activation.np = SimpleNamespace(**{**vars(np), "empty_like": like})  # type: ignore[attr-defined]
    _activation.empty_like = like
    shapes = [(n,) for n in LENGTHS[1:]] + [shape for shape, _ in AXES]
    for shape, dtype in itertools.product(shapes, DTYPES):
        print(shape, dtype, flush=True)
        x = guarded.empty(shape, dtype, at_end)
        x[...] = normal(shape, dtype)
        all_results(x, x)
    print("done")


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(at_end):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_activation\n"
    printed = output_of("-c", code + f"test_activation.run_guarded({at_end})", CYCONV_ISA=kernels.ISA)
    assert printed.splitlines()[-1] == "done"


# --------------------------------------------------------------------------------------------------------------- errors

X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.relu(np.arange(3)), TypeError, "relu: input has dtype int64, expected float32 or float64"),
        (lambda: F.tanh([True]), TypeError, "tanh: input has dtype bool"),
        (lambda: F.relu_backward(X, None), TypeError, "relu_backward: needs input, or output="),
        (
            lambda: F.relu_backward(X, X.astype(float)),
            TypeError,
            "relu_backward: mixed dtypes: grad_output float32, input float64",
        ),
        (
            lambda: F.sigmoid_backward(X[:1], None, output=X),
            ValueError,
            "sigmoid_backward: grad_output must have the shape of output, (2, 3), got (1, 3)",
        ),
        (lambda: F.softmax(X, 2), ValueError, "softmax: dim must be in [-2, 2) for an array of 2 dimensions, got 2"),
        (lambda: F.log_softmax(X, 1.0), TypeError, "log_softmax: dim must be an int, got 1.0"),
        (lambda: F.softmax(X, True), TypeError, "softmax: dim must be an int, got True"),
        (lambda: F.softmax(X[0, 0], 0), ValueError, "softmax: dim must be in [0, 0) for an array of 0 dimensions"),
        (lambda: F.softmax_backward(X, X, -3), ValueError, "softmax_backward: dim must be in [-2, 2)"),
    ],
)
def test_errors(call, error, message):
    for _ in range(2):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("name", [*POINTWISE, *SOFTMAX])
def test_as_torch(name):
    torch = pytest.importorskip("torch")
    x, grad = normal((5, 6, 7), "float64", scale=3), normal((5, 6, 7), "float64", 1)
    t, dim = torch.from_numpy(x).requires_grad_(), (1,) if name in SOFTMAX else ()
    y = getattr(torch, name)(t, *dim)
    y.backward(torch.from_numpy(grad))
    assert_close(getattr(F, name)(x, *dim), y.detach().numpy(), algorithm="sum")
    assert_close(getattr(F, f"{name}_backward")(grad, x, *dim)[0], t.grad.numpy(), algorithm="sum")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("gelu", 0, np.inf), ("silu", 0, np.inf), ("mish", 0, np.inf), ("hardswish", 0, np.inf), ("softsign", -1, 1)],
)
def test_at_infinity_they_have_their_limits(name, low, high, dtype):
    """Where torch has NaN: infinity times 0, or divided by itself."""
    x = np.array([-np.inf, np.inf, np.nan] * 40, dtype)
    # At -38 and below gelu is -38 times what is denormal: zero where kernels flush it, which not all processors can.
    rest = 38 * np.finfo(dtype).tiny
    np.testing.assert_allclose(getattr(F, name)(x), np.array([low, high, np.nan] * 40, dtype), rtol=0, atol=rest)
    (dx,) = getattr(F, f"{name}_backward")(np.ones_like(x), x)
    slope = [0, int(high == np.inf), np.nan]
    np.testing.assert_allclose(dx, np.array(slope * 40, dtype), atol=1e-30)
