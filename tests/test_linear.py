"""The fully connected layer against the oracle, at sizes around the register tile; the same bits for any threads."""

import numpy as np
import pytest
from conv_cases import target
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close

import cyconv
from cyconv import _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _linear
from cyconv.kernels import _threads

DTYPES = ("float32", "float64")


def arrays(dtype, rows, features, outputs, bias=True):
    """Return (input, weight, bias or None, gradient of the output); ``rows``: an int or a shape."""
    shape = (rows,) if isinstance(rows, int) else rows
    rng = np.random.default_rng([*shape, features, outputs])
    x, weight, b, grad = (
        rng.standard_normal(s).astype(dtype)
        for s in ((*shape, features), (outputs, features), (outputs,), (*shape, outputs))
    )
    return x, weight, b if bias else None, grad


def check(dtype, rows, features, outputs, bias=True):
    """Output and gradients against the oracle."""
    x, weight, b, grad = arrays(dtype, rows, features, outputs, bias)
    scale = max(1.0, np.sqrt(features), np.sqrt(outputs), np.sqrt(np.prod(grad.shape[:-1])))
    try:
        assert_close(F.linear(x, weight, b), reference.linear(x, weight, b), scale=scale)
        got = F.linear_backward(grad, x, weight, b)
        for mine, theirs in zip(got, reference.linear_backward(grad, x, weight, b), strict=True):
            assert_close(mine, theirs, scale=scale)
    except Exception as error:
        raise AssertionError(f"{error}\nagain: check({dtype!r}, {rows}, {features}, {outputs}, {bias})") from error


def awkward(dtype):
    """Sizes (rows, features, outputs) around the vectors, the tile, the tasks and the stretches of the kernel."""
    lanes, tile = target(dtype).lanes, target(dtype).pixels
    sizes = [(1, 1, 1), (0, 3, 4), (5, 1, 7), (1, 97, 1), (19, 23, 29), (64, 400, 120), (1, 120, 84), (2, 3, 1000)]
    sizes += [(rows, 5, lanes + 1) for rows in (2, tile - 1, tile, tile + 1, 2 * tile, 2 * tile + 1, 55, 56, 57, 113)]
    sizes += [(3, 7, n) for n in (lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1, 5 * lanes + 3)]
    sizes += [(3, n, 5) for n in (1023, 1024, 1025, 2049)]
    sizes += [(n, 3, 5) for n in (1023, 1025, 5000)]  # the reduction of the weight gradient
    sizes += [(3, 5, n) for n in (1024, 1025)]  # and that of the input gradient
    sizes += [(rows, 1030, n) for rows in (1, 2, 7, 8, 9) for n in (57, 515)]  # few samples, and one more
    return sizes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_linear_agrees_with_the_oracle(dtype, bias):
    for size in awkward(dtype):
        check(dtype, *size, bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (4, 1, 5), (2, 0, 3)], ids=str)
def test_any_leading_dimensions(dtype, shape):
    check(dtype, shape, 6, 7)
    x, weight, b, _ = arrays(dtype, shape, 6, 7)
    assert F.linear(x, weight, b).shape == (*shape, 7)


@given(st.sampled_from(DTYPES), st.integers(0, 70), st.integers(1, 60), st.integers(1, 80), st.booleans())
def test_any_size(dtype, rows, features, outputs, bias):
    check(dtype, rows, features, outputs, bias)


def test_by_hand():
    x, weight = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 3.0]])
    y = F.linear(x, weight, np.array([0.0, 10.0, 1.0]))
    np.testing.assert_array_equal(y, [[3, 9, 7], [2, 14, -2]])
    dx, dw, db = F.linear_backward(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]), x, weight, np.zeros(3))
    np.testing.assert_array_equal(dx, [[1, 7], [1, 2]])
    np.testing.assert_array_equal(dw, [[1, 2], [3, -1], [5, 3]])
    np.testing.assert_array_equal(db, [1, 1, 3])


@pytest.mark.skipif(not _threads.OPENMP, reason="built without OpenMP")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "size", [(64, 400, 120), (130, 33, 70), (3, 2049, 300), (1, 500, 301), (8, 1100, 130)], ids=str
)
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, dtype, size):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    reached, real = [], _linear._product
    monkeypatch.setattr(_linear, "_product", lambda *a: (reached.append(a[-1]), real(*a))[1])
    x, weight, b, grad = arrays(dtype, *size)

    def results():
        return F.linear(x, weight, b), *F.linear_backward(grad, x, weight, b)

    with cyconv.threads(1):
        alone = results()
    for n in (2, 3, 5):
        reached.clear()
        with cyconv.threads(n):
            for got, wanted in zip(results(), alone, strict=True):
                np.testing.assert_array_equal(got, wanted)
        assert reached == [n, n, n]


@pytest.mark.parametrize("rectified", [False, True])
def test_rectified_product(rectified):
    """The kernel's own ReLU, which networks use after a layer, lets NaN pass."""
    x, weight, b, _ = arrays("float32", 9, 40, 37)
    x[4] = np.nan
    y = np.empty((9, 37), np.float32)
    kernels.load("matmul").product(y, x, weight, b, False, True, rectified, 1)
    wanted = reference.linear(x, weight, b)
    assert_close(y, np.maximum(wanted, 0) if rectified else wanted)
    assert np.isnan(y[4]).all()
    assert rectified == (not (y < 0).any())


@pytest.mark.parametrize("which", range(4), ids=["input", "weight", "bias", "grad_output"])
@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: x.tolist(),
    ],
    ids=["Fortran", "reversed", "sliced", "byte-swapped", "lists"],
)
def test_any_array_will_do(form, which):
    plain = arrays("float64", (2, 5), 6, 7)
    given_arrays = [*plain]
    given_arrays[which] = form(plain[which])
    got = F.linear(*given_arrays[:3]), *F.linear_backward(given_arrays[3], *given_arrays[:3])
    wanted = F.linear(*plain[:3]), *F.linear_backward(plain[3], *plain[:3])
    for mine, theirs in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs, strict=True)


def test_arguments_are_left_as_they_were():
    plain = arrays("float32", 5, 6, 7)
    before = [x.copy() for x in plain]
    F.linear(*plain[:3])
    F.linear_backward(plain[3], *plain[:3])
    for x, kept in zip(plain, before, strict=True):
        np.testing.assert_array_equal(x, kept)


def test_input_grad_false_leaves_only_that_out():
    x, weight, b, grad = arrays("float32", 5, 6, 7)
    full, part = (F.linear_backward(grad, x, weight, b, input_grad=flag) for flag in (True, False))
    assert part[0] is None
    for mine, theirs in zip(part[1:], full[1:], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_nan_stays_in_its_row_and_column():
    x, weight, b, _ = arrays("float32", 20, 30, 40)
    clean = F.linear(x, weight, b)
    x[3, 5] = weight[17, 8] = np.nan
    got = F.linear(x, weight, b)
    reached = np.zeros(got.shape, bool)
    reached[3], reached[:, 17] = True, True
    np.testing.assert_array_equal(got, np.where(reached, np.float32(np.nan), clean))


def array(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (array(2, 5), array(3, 4)),
            ValueError,
            "linear: input must have 4 features in its last dimension (weight has shape (3, 4)), got shape (2, 5)",
        ),
        (
            (array(), array(3, 4)),
            ValueError,
            "linear: input must have 4 features in its last dimension (weight has shape (3, 4)), got shape ()",
        ),
        (
            (array(2, 4), array(4)),
            ValueError,
            "linear: weight must have shape (out_features, in_features), got (4,)",
        ),
        (
            (array(2, 4), array(3, 4), array(4)),
            ValueError,
            "linear: bias must have shape (3,), got (4,)",
        ),
        (
            (array(2, 4), array(3, 4, dtype=np.float64)),
            TypeError,
            "linear: mixed dtypes: input float32, weight float64; convert one of them, e.g. with .astype(np.float32)",
        ),
        (
            (array(2, 4), array(3, 4), array(3, dtype=np.float64)),
            TypeError,
            "linear: mixed dtypes: input float32, weight float32, bias float64; convert one of them, "
            "e.g. with .astype(np.float32)",
        ),
        (
            (array(2, 4, dtype=np.int64), array(3, 4)),
            TypeError,
            "linear: input has dtype int64, expected float32 or float64; convert it with input.astype(np.float32)",
        ),
        (
            (array(2, 4), array(3, 4, dtype=np.float16)),
            TypeError,
            "linear: weight has dtype float16, expected float32 or float64; convert it with weight.astype(np.float32)",
        ),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error) as caught:
        F.linear(*arguments)
    assert str(caught.value) == message
    grad = array(2, 3)
    with pytest.raises(error) as caught:
        F.linear_backward(grad, *arguments)
    assert str(caught.value).replace("linear_backward", "linear") == message


def test_errors_of_the_gradient():
    x, weight = array(2, 4), array(3, 4)
    with pytest.raises(
        ValueError,
        match=r"^linear_backward: grad_output must have the shape of the output, "
        r"\(2, 3\), got \(2, 4\)$",
    ):
        F.linear_backward(array(2, 4), x, weight)
    with pytest.raises(TypeError, match=r"^linear_backward: mixed dtypes: grad_output float64, input float32; "):
        F.linear_backward(array(2, 3, dtype=np.float64), x, weight)


def test_an_output_that_fits_no_memory():
    x = np.broadcast_to(np.float32(0), (2**23, 1))
    weight = np.broadcast_to(np.float32(0), (2**23, 1))
    with pytest.raises(MemoryError, match=r"^linear: the output of shape \(8388608, 8388608\) has more than"):
        F.linear(x, weight)
