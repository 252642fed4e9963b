"""Dropout and flatten: masks, scales, seeds, shapes; what is refused."""

import numpy as np
import pytest
from conv_cases import DTYPES
from tolerances import assert_close

import cyconv
from cyconv import _settings, nn, reference
from cyconv import functional as F

SHAPES = [(1,), (7,), (8,), (16,), (17,), (33,), (4, 5, 6), (3, 10_000), (0, 4), ()]


def normal(shape, dtype, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9, 1.0, 0, 1, np.float32(0.5)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_follow_the_mask(shape, dtype, p):
    x, grad = normal(shape, dtype), normal(shape, dtype, 1)
    y, mask = F.dropout(x, p, rng=3, return_mask=True)
    assert mask.dtype == bool
    assert mask.shape == shape
    scale = 0 if p == 1 else 1 / (1 - float(p))
    assert_close(y, np.asarray(np.where(mask, x.astype(float) * scale, 0), dtype), algorithm="pointwise")
    (dx,) = F.dropout_backward(grad, x, p, mask=mask)
    assert_close(dx, reference.dropout_backward(grad, x, float(p), mask=mask)[0], algorithm="pointwise")
    np.testing.assert_array_equal(F.dropout_backward(grad, x, p, mask=mask.astype(np.int32) * 5)[0], dx, strict=True)
    if p in (0, 1):
        assert mask.all() if p == 0 else not mask.any()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_as_many_are_dropped_as_asked(p):
    n = 200_000
    _, mask = F.dropout(np.ones(n, np.float32), p, rng=0, return_mask=True)
    assert abs((~mask).sum() - n * p) < 5 * np.sqrt(n * p * (1 - p))


def test_the_mean_stays():
    x = np.ones(200_000)
    assert F.dropout(x, 0.3, rng=1).mean() == pytest.approx(1, abs=0.01)


def test_what_is_dropped_is_zero_whatever_it_was():
    x = np.array([np.nan, np.inf, -np.inf, 1.0])
    for mask in (np.zeros(4, bool), np.array([False, False, False, True])):
        np.testing.assert_array_equal(F.dropout_backward(x, x, 0.5, mask=mask)[0], np.where(mask, 2.0, 0.0))


def test_without_training_nothing_changes():
    x = normal((3, 4), "float32")
    assert F.dropout(x, 0.5, False) is x
    y, mask = F.dropout(x, 0.5, False, return_mask=True)
    assert y is x
    assert mask.all()
    assert F.dropout_backward(x, x, 0.5, False, mask=mask)[0] is x


def test_seeds():
    """The same generator or seed gives the same mask for every dtype, memory order and number of threads."""
    x = normal((40, 9, 11, 8), "float64")
    _, wanted = F.dropout(x, 0.5, rng=np.random.default_rng(7), return_mask=True)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for other in (x, x.astype(np.float32), last, np.asfortranarray(x), x[:, :, ::-1]):
        y, mask = F.dropout(other, 0.5, rng=7, return_mask=True)
        np.testing.assert_array_equal(mask, wanted)
        np.testing.assert_array_equal(y, np.where(wanted, 2 * other, 0))
    assert F.dropout(last, 0.5, rng=7).strides == last.strides
    rng = np.random.default_rng(7)
    assert not np.array_equal(F.dropout(x, 0.5, rng=rng), F.dropout(x, 0.5, rng=rng))
    assert not np.array_equal(F.dropout(x, 0.5), F.dropout(x, 0.5))


def test_threads(monkeypatch):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    x = normal((5, 12_345), "float32")
    with cyconv.threads(1):
        alone = F.dropout(x, 0.4, rng=1)
    for n in (2, 3):
        with cyconv.threads(n):
            np.testing.assert_array_equal(F.dropout(x, 0.4, rng=1), alone, strict=True)


CHANNELWISE = [
    ("dropout1d", (5, 7, 9)),
    ("dropout1d", (7, 300)),
    ("dropout2d", (5, 7, 3, 4)),
    ("dropout2d", (3, 17, 130, 70)),
    ("dropout2d", (1, 1, 5, 1)),
    ("dropout2d", (0, 7, 3, 4)),
    ("dropout2d", (7, 3, 4)),
    ("dropout3d", (2, 9, 3, 4, 5)),
    ("dropout3d", (9, 3, 4, 5)),
    ("feature_alpha_dropout", (4, 9)),
    ("feature_alpha_dropout", (4, 9, 3, 5)),
    ("alpha_dropout", (40, 9)),
]


def alpha_dropout_of_mask(x, p, mask):
    """What is dropped becomes the limit of SELU; then a x + b brings mean 0 and variance 1 back (Klambauer 2017)."""
    limit = -1.7580993408473766
    a = (1 - p + p * (1 - p) * limit**2) ** -0.5
    return (a * np.where(mask, x.astype(float), limit) - a * p * limit).astype(x.dtype)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "shape"), CHANNELWISE)
def test_channels_and_alpha(name, shape, dtype, p):
    x, grad = normal(shape, dtype), normal(shape, dtype, 1)
    space = {"1d": 1, "2d": 2, "3d": 3}.get(name[-2:], len(shape) - 2 if name.startswith("feature") else 0)
    axis = 1 if len(shape) - space == 2 else 0
    last = x if len(shape) < 4 else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, axis, -1)), -1, axis)
    for given in (x, last, np.asfortranarray(x)):
        y, mask = getattr(F, name)(given, p, True, rng=5, return_mask=True)
        assert mask.shape == (*shape[: len(shape) - space], *[1] * space)
        if "alpha" in name:
            wanted = alpha_dropout_of_mask(x, p, mask) if p < 1 else np.zeros_like(x)
            scale = 0 if p == 1 else 1 / np.sqrt((1 - p) * (1 + p * 1.7580993408473766**2))
        else:
            scale = 0 if p == 1 else 1 / (1 - p)
            wanted = np.asarray(np.where(mask, x.astype(float) * scale, 0), dtype)
        assert_close(y, wanted, algorithm="pointwise")
        if given is not x or x.flags.c_contiguous:
            (dx,) = getattr(F, f"{name}_backward")(grad, given, p, True, mask=mask)
            assert_close(dx, np.asarray(np.where(mask, grad * scale, 0), dtype), algorithm="pointwise")
    assert getattr(F, name)(last, p, True, rng=5).strides == last.strides or last.size <= 5
    assert getattr(F, name)(x, p, False) is x
    assert getattr(F, f"{name}_backward")(grad, x, p, False, mask=None)[0] is grad


def test_what_a_dropped_channel_held_does_not_matter():
    x = np.full((1, 2, 4, 4), np.nan)
    mask = np.array([False, True]).reshape(1, 2, 1, 1)
    for given in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
        (dx,) = F.dropout2d_backward(given, given, 0.5, mask=mask)
        assert (dx[:, 0] == 0).all()
        assert np.isnan(dx[:, 1]).all()


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).standard_normal(400_000)
    y = F.alpha_dropout(x, 0.2, True, rng=1)
    assert y.mean() == pytest.approx(0, abs=0.01)
    assert y.var() == pytest.approx(1, abs=0.02)


def test_the_forms_for_selu_do_nothing_unless_told_as_in_torch():
    x = np.ones((2, 3, 4))
    for name in ("alpha_dropout", "feature_alpha_dropout"):
        assert getattr(F, name)(x) is x
        assert getattr(F, f"{name}_backward")(x, x, mask=None)[0] is x
    for name in ("dropout", "dropout1d"):
        assert (getattr(F, name)(x, rng=0) == 0).any()


def test_alpha_dropout_takes_the_values_of_torch():
    torch = pytest.importorskip("torch")
    for p in (0.3, 0.5):
        theirs = np.unique(torch.nn.functional.alpha_dropout(torch.ones(1000, dtype=torch.float64), p, True).numpy())
        np.testing.assert_allclose(np.unique(F.alpha_dropout(np.ones(1000), p, True)), theirs, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
)
def test_layers(name):
    shape = (3, 8, *[4] * ({"1d": 1, "2d": 2, "3d": 3}.get(name[-2:], 1)))
    x, grad = normal(shape, "float32"), normal(shape, "float32", 1)
    layer, twin = getattr(nn, name)(0.4, rng=9), getattr(nn, name)(0.4, rng=9)
    y = layer(x)
    np.testing.assert_array_equal(twin(x), y)
    assert not np.array_equal(y, layer(x))
    # linear in what stays: the gradient is the difference that grad makes
    y = layer(x)
    dx = layer.backward(grad)
    wide, mask = x.astype(float), dx != 0
    slope = dx[mask] / grad[mask]
    assert slope == pytest.approx(slope[0], rel=1e-5)
    assert np.unique(y[~mask]).size == 1
    assert y[mask] - slope[0] * wide[mask] == pytest.approx((y[mask] - slope[0] * wide[mask])[0], abs=1e-5)
    assert layer.eval()(x) is x


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.dropout(X, 1.5), ValueError, "dropout: p must be a probability in [0, 1], got 1.5"),
        (lambda: F.dropout(X, float("nan")), ValueError, "dropout: p must be a probability in [0, 1], got nan"),
        (lambda: F.dropout(X, "half"), TypeError, "dropout: p must be a number, got 'half'"),
        (lambda: F.dropout(X, True), TypeError, "dropout: p must be a number, got True"),
        (lambda: F.dropout(X.astype(int)), TypeError, "dropout: input has dtype int64"),
        (
            lambda: F.dropout_backward(X, X, mask=np.ones((3, 2), bool)),
            ValueError,
            "dropout_backward: mask must have the shape of input, (2, 3), got (3, 2)",
        ),
        (
            lambda: F.dropout_backward(X[:1], X, mask=np.ones((2, 3), bool)),
            ValueError,
            "dropout_backward: grad_output must have the shape of input, (2, 3), got (1, 3)",
        ),
        (
            lambda: F.dropout_backward(X.astype(float), X, mask=np.ones((2, 3), bool)),
            TypeError,
            "dropout_backward: mixed dtypes: grad_output float64, input float32",
        ),
        (
            lambda: F.dropout2d(X),
            ValueError,
            "dropout2d: input must have shape (N, C, H, W) or (C, H, W), got (2, 3)",
        ),
        (lambda: F.dropout1d(X[0]), ValueError, "dropout1d: input must have shape (N, C, L) or (C, L), got (3,)"),
        (lambda: F.feature_alpha_dropout(X[0]), ValueError, "must have shape (N, C) or (N, C, *spatial), got (3,)"),
        (
            lambda: F.dropout1d_backward(X, X, mask=X > 0),
            ValueError,
            "dropout1d_backward: mask must be what forward returned, of shape, (2, 1), got (2, 3)",
        ),
        (lambda: F.alpha_dropout(X, 2), ValueError, "alpha_dropout: p must be a probability in [0, 1], got 2"),
        (lambda: F.flatten(X, 2), ValueError, "flatten: start_dim must be in [-2, 2) for shape (2, 3), got 2"),
        (lambda: F.flatten(X, 1, 0), ValueError, "flatten: start_dim 1 comes after end_dim 0 for shape (2, 3)"),
        (lambda: F.flatten(X, 0.0), TypeError, "flatten: start_dim must be an int, got 0.0"),
        (lambda: F.flatten(X, False), TypeError, "flatten: start_dim must be an int, got False"),
        (lambda: F.flatten(np.arange(3)), TypeError, "flatten: input has dtype int64"),
        (
            lambda: F.flatten_backward(X, X),
            ValueError,
            "flatten_backward: grad_output must have shape (6,), got (2, 3)",
        ),
    ],
)
def test_errors(call, error, message):
    for _ in range(2):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- flatten


@pytest.mark.parametrize("dims", [(0, -1), (1, -1), (1, 2), (-2, -1), (2, 2), (-4, 1)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (0, 3, 4, 5), (2, 0, 1, 5)])
def test_flatten(shape, dims):
    x = normal(shape, "float32")
    wanted = reference.flatten(x, *dims)
    np.testing.assert_array_equal(F.flatten(x, *dims), wanted, strict=True)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    np.testing.assert_array_equal(F.flatten(last, *dims), wanted, strict=True)
    np.testing.assert_array_equal(F.flatten_backward(wanted, x, *dims)[0], x, strict=True)


def test_flatten_of_a_number_has_one_element():
    x = np.array(3.0)
    assert F.flatten(x).tolist() == [3]
    assert F.flatten_backward(F.flatten(x), x)[0].shape == ()


def test_flatten_does_not_copy_what_lies_in_order():
    x = normal((2, 3, 4), "float64")
    assert np.shares_memory(F.flatten(x, 1), x)
