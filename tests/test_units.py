"""Activations of the kernel's table, and prelu: against the oracle and torch, to the last place, at the ends."""

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
from cyconv.functional import _arrays, _prelu, _units

#: Function and arguments behind the input, the name of the layer, and its value at -infinity.
CASES: list[tuple[str, tuple[Any, ...], str, float]] = [
    ("relu6", (), "ReLU6", 0),
    ("leaky_relu", (), "LeakyReLU", -np.inf),
    ("leaky_relu", (0.2,), "LeakyReLU", -np.inf),
    ("elu", (), "ELU", -1),
    ("elu", (0.7,), "ELU", -0.7),
    ("selu", (), "SELU", -1.7580993408473766),
    ("gelu", (), "GELU", 0),
    ("gelu", ("tanh",), "GELU", 0),
    ("silu", (), "SiLU", 0),
    ("mish", (), "Mish", 0),
    ("hardswish", (), "Hardswish", 0),
    ("hardsigmoid", (), "Hardsigmoid", 0),
    ("hardtanh", (), "Hardtanh", -1),
    ("hardtanh", (-0.5, 2.0), "Hardtanh", -0.5),
    ("softplus", (), "Softplus", 0),
    ("softplus", (2.0, 3.0), "Softplus", 0),
    ("softsign", (), "Softsign", -1),
]
NAMES = [f"{name}{args}" for name, args, *_ in CASES]
every = pytest.mark.parametrize(("name", "args", "layer", "limit"), CASES, ids=NAMES)
LENGTHS = (0, 1, 3, 8, 15, 16, 17, 33, 84, 8193, 20011)
#: Largest error in units of the last place of the value, over all x but where the value is denormal or passes zero.
ULPS = {"softplus": 4, "gelu": 5, "mish": 6, "silu": 4, "elu": 3}


def normal(shape: Any, dtype: str, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), dtype)


def channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def test_every_row_of_the_tables_has_a_case():
    assert {name for name, *_ in CASES} | {"gelu_tanh"} == set(_units.UNITS)
    assert {unit.kernel for unit in _units.UNITS.values()} == set(kernels.load("activation").NUMBERS.values())


@pytest.mark.parametrize("dtype", DTYPES)
@every
def test_agrees_with_the_oracle(name, args, layer, limit, dtype):
    for n in LENGTHS:
        x, grad = normal(n, dtype, scale=3), normal(n, dtype, 1)
        scale = float(np.abs(grad).max(initial=0))
        assert_close(getattr(F, name)(x, *args), getattr(reference, name)(x, *args), algorithm="pointwise")
        (dx,) = getattr(F, f"{name}_backward")(grad, x, *args)
        (wanted,) = getattr(reference, f"{name}_backward")(grad, x, *args)
        assert_close(dx, wanted, algorithm="pointwise", scale=scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ULPS)
def test_every_value_is_within_a_few_units_of_its_last_place(name, dtype):
    """Relative to each value, against 40 digits: small results are as exact as large ones."""
    ends = 80 if dtype == "float32" else 600
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(-9, 9, 4001), rng.uniform(-30, 30, 1000), np.geomspace(1e-6, ends, 500)])
    x = np.concatenate([x, -np.geomspace(1e-6, 9, 500)]).astype(dtype)
    x = x[x != 0]
    if name == "gelu":
        x = x[x > (-11 if dtype == "float32" else -30)]
    wanted = exact(name, x)
    keep = np.abs(wanted) > np.finfo(dtype).tiny * 1e6
    y = getattr(F, name)(x[keep])
    error = np.abs(y / wanted[keep] - 1) / np.finfo(dtype).eps
    assert error.max() <= ULPS[name], (x[keep][error.argmax()], float(error.max()))


def exact(name: str, x: np.ndarray) -> np.ndarray:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        one = {
            "gelu": lambda v: v * mpmath.ncdf(v),
            "silu": lambda v: v / (1 + mpmath.exp(-v)),
            "mish": lambda v: v * mpmath.tanh(mpmath.log1p(mpmath.exp(v))),
            "softplus": lambda v: v if v > 20 else mpmath.log1p(mpmath.exp(v)),
            "elu": lambda v: v if v > 0 else mpmath.expm1(v),
        }[name]
        return np.array([one(mpmath.mpf(float(v))) for v in x]).astype(np.longdouble)


@pytest.mark.parametrize("dtype", DTYPES)
@every
def test_ends_of_the_range(name, args, layer, limit, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0], dtype)
    y = getattr(F, name)(x, *args)
    assert np.isnan(y[0])
    top = {"relu6": 6, "hardtanh": args[1] if len(args) > 1 else 1, "hardsigmoid": 1, "softsign": 1}.get(name, np.inf)
    assert y[1] == (np.inf if top == np.inf and name != "selu" else top)
    np.testing.assert_allclose(y[2], limit, rtol=1e-6, atol=1e-30)
    assert_close(y, getattr(reference, name)(x, *args), algorithm="pointwise")
    (dx,) = getattr(F, f"{name}_backward")(np.full(6, 2, dtype), x, *args)
    (wanted,) = getattr(reference, f"{name}_backward")(np.full(6, 2, dtype), x, *args)
    assert np.isfinite(dx[1:]).all()
    assert_close(dx[1:], wanted[1:], algorithm="pointwise")
    tiny = np.full(100, np.finfo(dtype).tiny / 4, dtype)
    np.testing.assert_allclose(getattr(F, name)(tiny, *args), getattr(F, name)(tiny * 0, *args), atol=1e-37)


@every
def test_gradients_by_directional_differences(name, args, layer, limit):
    x, direction, grad = (normal((4, 5, 7), "float64", seed, 2) for seed in range(3))
    forward, h = getattr(F, name), 1e-6
    smooth = np.min([np.abs(x - kink) for kink in (-3, -1, -0.5, 0, 1, 1.5, 2, 3, 6)], axis=0) > 1e-4
    direction, grad = direction * smooth, grad * smooth
    difference = (forward(x + h * direction, *args) - forward(x - h * direction, *args)) / (2 * h)
    (dx,) = getattr(F, f"{name}_backward")(grad, x, *args)
    assert np.vdot(dx, direction) == pytest.approx(np.vdot(grad, difference), rel=1e-6)


@every
def test_place_order_and_threads_change_no_bit(monkeypatch, name, args, layer, limit):
    forward, backward = getattr(F, name), getattr(F, f"{name}_backward")
    x, grad = normal(70, "float32", scale=3), normal(70, "float32", 1)
    y, (dx,) = forward(x, *args), backward(grad, x, *args)
    for first, last in itertools.combinations(range(0, 70, 9), 2):
        part = slice(first, last)
        np.testing.assert_array_equal(forward(x[part], *args), y[part])
        np.testing.assert_array_equal(backward(grad[part], x[part], *args)[0], dx[part])
    x, grad = normal((30, 7, 9, 11), "float64", scale=3), normal((30, 7, 9, 11), "float64", 1)
    y, (dx,) = forward(x, *args), backward(grad, x, *args)
    before = _arrays.copies
    last_y = forward(channels_last(x), *args)
    np.testing.assert_array_equal(last_y, y)
    np.testing.assert_array_equal(backward(channels_last(grad), channels_last(x), *args)[0], dx)
    assert last_y.strides == channels_last(x).strides
    assert _arrays.copies == before
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    with cyconv.threads(3):
        np.testing.assert_array_equal(forward(x, *args), y)
        np.testing.assert_array_equal(backward(grad, x, *args)[0], dx)


@pytest.mark.parametrize("dtype", DTYPES)
@every
def test_layers_and_functions_as_torch(name, args, layer, limit, dtype):
    torch = pytest.importorskip("torch")
    edges = np.array([-3, -1, -0.5, 0, 1, 2, 3, 6])
    x = np.concatenate([normal(200, dtype, scale=3), edges.astype(dtype)])
    grad = normal(208, dtype, 1)
    t = torch.from_numpy(x).requires_grad_()
    theirs = getattr(torch.nn, layer)(**dict(zip(_names(layer), args, strict=False)))
    wanted = theirs(t)
    wanted.backward(torch.from_numpy(grad))
    ours = getattr(nn, layer)(*args)
    assert_close(ours(x), wanted.detach().numpy(), algorithm="sum")
    gradient = t.grad.numpy()
    if name == "hardsigmoid":  # torch's 1 / 6 is a float, in double precision too
        gradient = gradient.astype(np.float32)
        grad = grad.astype(np.float32)
        ours(x.astype(np.float32))
    assert_close(ours.backward(grad), gradient, algorithm="sum", scale=float(np.abs(grad).max()))
    assert ours.backward(grad, input_grad=False) is None
    ours.eval()
    ours(x)
    with pytest.raises(RuntimeError, match="eval mode forward remembers nothing"):
        ours.backward(grad)


def _names(layer: str) -> tuple[str, ...]:
    return getattr(nn, layer)._arguments


def run_guarded(at_end: bool) -> None:
    """Run all of it on arrays that end, or begin, beside pages that nobody may touch."""
    import guarded

    def like(x: np.ndarray, dtype: Any = None) -> np.ndarray:
        return guarded.empty(x.shape, dtype or x.dtype, at_end)

    _units.empty_like = _prelu.empty_like = like
    for n, dtype in itertools.product(LENGTHS[1:-2], DTYPES):
        x = guarded.copy(normal(n, dtype), at_end)
        for name, args, *_ in CASES:
            getattr(F, name)(x, *args)
            getattr(F, f"{name}_backward")(x, x, *args)
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        x = guarded.copy(normal(shape, dtype), at_end)
        for count in {1, shape[1] if len(shape) > 1 else 1}:
            weight = guarded.copy(normal(count, dtype), at_end)
            F.prelu(x, weight)
            F.prelu_backward(x, x, weight)
    print("done")


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(at_end):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_units\n"
    printed = output_of("-c", code + f"test_units.run_guarded({at_end})", CYCONV_ISA=kernels.ISA)
    assert printed.splitlines()[-1] == "done"


# ---------------------------------------------------------------------------------------------------------------- prelu

SHAPES = [(5,), (4, 3), (2, 3, 7), (2, 3, 4, 5), (3, 1, 9), (2, 5, 100, 101), (0, 3, 4), (70, 33)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_prelu(monkeypatch, shape, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    plain, plain_grad = normal(shape, dtype), normal(shape, dtype, 1)
    orders = [lambda x: x] + [channels_last] * (len(shape) > 2)
    for count, order in itertools.product({1, shape[1] if len(shape) > 1 else 1}, orders):
        x, grad, weight = order(plain), order(plain_grad), normal(count, dtype, 2)
        before = _arrays.copies
        y, (dx, dw) = F.prelu(x, weight), F.prelu_backward(grad, x, weight)
        assert _arrays.copies == before
        assert_close(y, reference.prelu(x, weight), algorithm="pointwise")
        wanted = reference.prelu_backward(grad, x, weight)
        assert_close(dx, wanted[0], algorithm="pointwise")
        assert_close(dw, wanted[1], algorithm="sum", scale=max(1.0, float(np.abs(wanted[1]).max())))
        for n in (1, 2, 3):
            with cyconv.threads(n):
                np.testing.assert_array_equal(F.prelu_backward(grad, x, weight)[1], dw)
        assert_close(F.prelu(x[::-1], weight), y[::-1], algorithm="exact")


def test_prelu_by_hand():
    x, weight = np.array([[[-1.0, 2.0], [-3.0, -4.0]]]), np.array([0.5, 0.1])
    np.testing.assert_allclose(F.prelu(x, weight), [[[-0.5, 2], [-0.3, -0.4]]])
    dx, dw = F.prelu_backward(np.array([[[1.0, 10], [2, 3]]]), x, weight)
    np.testing.assert_allclose(dx, [[[0.5, 10], [0.2, 0.3]]])
    np.testing.assert_allclose(dw, [-1, -18])


def test_prelu_layer_as_torch():
    torch = pytest.importorskip("torch")
    for count in (1, 3):
        ours, theirs = nn.PReLU(count, 0.1, dtype="float64"), torch.nn.PReLU(count, 0.1, dtype=torch.float64)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        x, grad = normal((4, 3, 5), "float64"), normal((4, 3, 5), "float64", 1)
        t = torch.from_numpy(x).requires_grad_()
        wanted = theirs(t)
        wanted.backward(torch.from_numpy(grad))
        assert_close(ours(x), wanted.detach().numpy(), algorithm="pointwise")
        assert_close(ours.backward(grad), t.grad.numpy(), algorithm="pointwise")
        assert_close(ours.weight.grad, theirs.weight.grad.numpy(), algorithm="sum")


# --------------------------------------------------------------------------------------------------------------- errors

X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.elu(np.arange(3)), TypeError, "elu: input has dtype int64, expected float32 or float64"),
        (lambda: F.gelu(X, "fast"), ValueError, "gelu: approximate must be 'none' or 'tanh', got 'fast'"),
        (lambda: F.gelu(np.arange(3), "tanh"), TypeError, "gelu: input has dtype int64"),
        (lambda: F.hardtanh(X, 2, 1), ValueError, "hardtanh: min_val must not be above max_val, got 2 and 1"),
        (lambda: F.softplus(X, 0), ValueError, "softplus: beta must not be 0"),
        (lambda: F.leaky_relu(X, "1"), TypeError, "leaky_relu: negative_slope must be a number, got '1'"),
        (
            lambda: F.silu_backward(X[:1], X),
            ValueError,
            "silu_backward: grad_output must have the shape of input",
        ),
        (lambda: F.mish_backward(X, X.astype(float)), TypeError, "mish_backward: mixed dtypes"),
        (
            lambda: F.prelu(X, np.ones(2, np.float32)),
            ValueError,
            "each of the 3 channels of input, got (2,)",
        ),
        (lambda: F.prelu(X, np.ones(3)), TypeError, "prelu: mixed dtypes: input float32, weight float64"),
        (
            lambda: F.prelu_backward(X[:1], X, X[0]),
            ValueError,
            "prelu_backward: grad_output must have the shape",
        ),
        (lambda: nn.PReLU(0), ValueError, "PReLU: num_parameters must be at least 1, got 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_representation():
    assert repr(nn.ELU(0.5)) == "ELU(alpha=0.5)"
    assert repr(nn.GELU("tanh")) == "GELU(approximate='tanh')"
    assert repr(nn.SiLU()) == "SiLU()"
    assert repr(nn.PReLU(3)) == "PReLU(num_parameters=3)"
