"""Losses: against the oracle, by hand, by differences; labels that do not count or do not exist; what is refused."""

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
from cyconv.functional import _loss

REDUCTIONS = ("mean", "sum", "none")
#: Samples side by side and classes side by side, around a vector, around a block of samples; one class; no sample.
SHAPES = [
    *[(3, n) for n in (1, 2, 7, 8, 9, 10, 15, 16, 17, 33, 1000)],
    *[(2, 5, n) for n in (1, 7, 8, 9, 15, 16, 17, 127, 128, 129, 300)],
    *[(n, 10) for n in (0, 1, 64, 127, 128, 129, 300)],
    (10,),
    (2, 21, 9, 11),
]


def scores(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.asarray(3 * np.random.default_rng((seed, *shape)).standard_normal(shape), dtype)


def labels(shape: tuple[int, ...], ignored: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(shape)
    axis = 0 if len(shape) == 1 else 1
    found = rng.integers(0, shape[axis], np.delete(shape, axis))
    return found if ignored is None else np.where(rng.random(found.shape) < 0.3, ignored, found)


def weights(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """One of them 0: what has no weight has no part in anything."""
    w = np.random.default_rng(1).random(shape[0 if len(shape) == 1 else 1]).astype(dtype) + 0.5
    w[0] = 0 if len(w) > 1 else 1
    return w


def distribution(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return reference.softmax(scores(shape, dtype, 5), 0 if len(shape) == 1 else 1)


def gradient_for(loss: Any, dtype: str, reduction: str) -> Any:
    return scores(loss.shape, dtype, 9) if reduction == "none" else 1.7


def channels_last(x: np.ndarray) -> np.ndarray:
    return x if x.ndim < 3 else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def check(name: str, arguments: tuple[Any, ...]) -> None:
    """Compare value and gradient with the oracle's; errors relative to the terms that they are differences of."""
    x, reduction = arguments[0], arguments[4]
    wanted = getattr(reference, name)(*arguments)
    got = getattr(F, name)(*arguments)
    assert isinstance(got, np.ndarray) is (reduction == "none")
    finite = np.abs(np.asarray(wanted, np.float64)[np.isfinite(wanted)])
    assert_close(got, wanted, algorithm="sum", scale=float(finite.max(initial=1.0)))
    grad = gradient_for(np.asarray(wanted), str(x.dtype), reduction)
    dx, *dtarget = getattr(reference, f"{name}_backward")(grad, *arguments)
    ours, *others = getattr(F, f"{name}_backward")(grad, *arguments)
    for other, oracle in zip(others, dtarget, strict=True):
        assert_close(other, oracle, algorithm="sum")
    samples = max(1, x.size // x.shape[0 if x.ndim == 1 else 1])
    scale = float(np.abs(grad).max(initial=0)) / (2 * samples if reduction == "mean" else 1)
    assert_close(ours, dx, algorithm="sum", scale=max(scale, float(np.abs(dx).max(initial=0))))
    assert ours.strides == x.strides or x.size == 0


# ----------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_of_class_indices(shape, dtype, reduction):
    x, t, w = scores(shape, dtype), labels(shape, -100), weights(shape, dtype)
    for weight, smoothing in itertools.product((None, w), (0.0, 0.1)):
        for logits in (x, channels_last(x)):
            check("cross_entropy", (logits, t, weight, -100, reduction, smoothing))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_of_probabilities(shape, dtype, reduction):
    x, t, w = scores(shape, dtype), distribution(shape, dtype), weights(shape, dtype)
    for weight, smoothing in itertools.product((None, w), (0.0, 1.0)):
        for logits, target in ((x, t), (channels_last(x), t), (x, channels_last(t))):
            check("cross_entropy", (logits, target, weight, -100, reduction, smoothing))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_negative_log_likelihood(shape, dtype, reduction):
    x, t = reference.log_softmax(scores(shape, dtype), 0 if len(shape) == 1 else 1), labels(shape, 2)
    for weight in (None, weights(shape, dtype)):
        for values in (x, channels_last(x)):
            check("nll_loss", (values, t, weight, 2, reduction))


def test_by_hand():
    x = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    t = np.array([0, 1])
    assert F.cross_entropy(x, t) == pytest.approx((np.log(2) + np.log(10)) / 2)
    assert F.nll_loss(x, t, reduction="sum") == pytest.approx(np.log(20))
    assert F.cross_entropy(x, t, np.array([1.0, 3, 1])) == pytest.approx((np.log(2) + 3 * np.log(10)) / 4)
    assert F.cross_entropy_backward(1.0, x, t)[0] == pytest.approx(
        np.array([[-0.25, 0.125, 0.125], [0.05, -0.45, 0.4]])
    )
    # the gradient of a distribution: -log softmax of each class
    _, dt = F.cross_entropy_backward(1.0, x, np.full((2, 3), 1 / 3), reduction="sum")
    assert dt == pytest.approx(-x)
    assert len(F.cross_entropy_backward(1.0, x, np.full((2, 3), 1 / 3), target_grad=False)) == 1


def test_large_scores_do_not_overflow():
    x = np.array([[1e4, 0, -1e4], [0, 0, 1e4]], np.float32)
    assert F.cross_entropy(x, np.array([0, 2])) == 0
    assert F.cross_entropy(x, np.array([2, 0]), reduction="none").tolist() == [2e4, 1e4]
    assert np.isfinite(F.cross_entropy_backward(1.0, x, np.array([2, 0]))[0]).all()


@pytest.mark.parametrize("inner", [(), (20,)])
def test_nan_stays_in_its_sample(inner):
    x = scores((4, 5, *inner), "float64")
    x[2, 1] = np.nan
    t = labels(x.shape)
    losses = F.cross_entropy(x, t, reduction="none")
    assert np.isnan(losses[2]).all()
    assert np.isfinite(np.delete(losses, 2, 0)).all()
    (dx,) = F.cross_entropy_backward(np.ones_like(losses), x, t, reduction="none")
    assert np.isnan(dx[2]).all()
    assert np.isfinite(np.delete(dx, 2, 0)).all()


def test_what_has_no_weight_may_be_infinite():
    x = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    t = np.array([0, 0])
    assert F.cross_entropy(x, t, np.array([0.0, 1.0]), reduction="none").tolist() == [0, 0]
    assert F.cross_entropy(x, t, reduction="none").tolist() == [0, np.inf]


def test_nothing_that_counts():
    """The mean over nothing is NaN and its gradient 0, as in torch; the sum is 0."""
    x, t = scores((3, 4), "float32"), np.full(3, -100)
    assert np.isnan(F.cross_entropy(x, t))
    assert F.cross_entropy(x, t, reduction="sum") == 0
    assert F.cross_entropy(x, t, reduction="none").tolist() == [0, 0, 0]
    assert not F.cross_entropy_backward(1.0, x, t)[0].any()
    assert np.isnan(F.nll_loss(x[:0], t[:0]))
    assert F.cross_entropy_backward(1.0, x[:0], t[:0])[0].shape == (0, 4)


def test_sums_are_taken_in_double_precision():
    n = 2_000_000
    x = np.zeros((n, 2), np.float32)
    x[:, 0] = 1
    one = float(reference.cross_entropy(x[:1].astype(float), np.zeros(1, int)))
    assert F.cross_entropy(x, np.zeros(n, int), reduction="sum") == pytest.approx(n * one, rel=1e-7)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64", ">i8", "list"])
def test_labels_of_any_integer_type(kind):
    x, t = scores((5, 4), "float32"), [0, 3, 1, 2, 3]
    wanted = F.cross_entropy(x, np.array(t))
    assert F.cross_entropy(x, t if kind == "list" else np.array(t).astype(kind)) == wanted


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 6), (9,)])
def test_gradients_by_directional_differences(shape, reduction):
    x, direction, h = scores(shape, "float64"), scores(shape, "float64", 3), 1e-6
    calls = [
        (
            "cross_entropy",
            (labels(shape, -100 if len(shape) > 1 else None), weights(shape, "float64"), -100, reduction, 0.1),
        ),
        ("cross_entropy", (distribution(shape, "float64"), None, -100, reduction, 0.3)),
        ("nll_loss", (labels(shape), weights(shape, "float64"), -100, reduction)),
    ]
    for name, how in calls:
        forward = getattr(F, name)
        up, down = forward(x + h * direction, *how), forward(x - h * direction, *how)
        grad = gradient_for(np.asarray(up), "float64", reduction)
        dx = getattr(F, f"{name}_backward")(grad, x, *how)[0]
        difference = np.vdot(grad, (up - down) / (2 * h))
        assert np.vdot(dx, direction) == pytest.approx(difference, rel=1e-7, abs=1e-9), name


# ------------------------------------------------------------------------------------------------- what must not matter


def all_results(shape: tuple[int, ...], dtype: str) -> list[Any]:
    x, found = scores(shape, dtype), []
    for target, smoothing in ((labels(shape, -100), 0.0), (labels(shape), 0.1), (distribution(shape, dtype), 0.0)):
        for reduction in REDUCTIONS:
            how = (x, target, weights(shape, dtype), -100, reduction, smoothing)
            value = F.cross_entropy(*how)
            found += [value, *F.cross_entropy_backward(gradient_for(np.asarray(value), dtype, reduction), *how)]
    return [*found, F.nll_loss(x, labels(shape)), *F.nll_loss_backward(1.0, x, labels(shape))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 21, 31, 32, 33, 63, 64, 65])
def test_gradients_of_softmax_over_few_classes(classes, dtype):
    """Classes side by side and samples side by side, around a vector and a block of either."""
    for samples in (1, 3, 4, 15, 16, 17, 63, 64, 65, 129):
        x, dy = scores((samples, classes), dtype), scores((samples, classes), dtype, 1)
        for name in ("softmax", "log_softmax"):
            want = getattr(reference, f"{name}_backward")(dy, x, 1)[0]
            for turned in (np.ascontiguousarray, np.asfortranarray):
                (dx,) = getattr(F, f"{name}_backward")(turned(dy), turned(x), 1)
                # The parts of a gradient may cancel, and its sums are of numbers of either sign.
                assert_close(dx, want, algorithm="sum", scale=float(np.abs(dy).sum(1).max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1000, 10), (3, 5, 700)])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, shape, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    with cyconv.threads(1):
        alone = all_results(shape, dtype)
    for n in (2, 3):
        with cyconv.threads(n):
            for i, (one, other) in enumerate(zip(all_results(shape, dtype), alone, strict=True)):
                np.testing.assert_array_equal(one, other, err_msg=str(i), strict=True)


def run_guarded(at_end: bool) -> None:
    """Run all of it on arrays that end, or begin, beside pages that nobody may touch."""
    import guarded

    def empty(shape: Any, dtype: Any) -> np.ndarray:
        return guarded.empty(shape, dtype, at_end)

    def empty_like(x: np.ndarray) -> np.ndarray:
        return guarded.empty(x.shape, x.dtype, at_end)

    def protected(function: Any) -> Any:
        def made(*arguments: Any) -> np.ndarray:
            values = function(*arguments)
            result = guarded.empty(values.shape, values.dtype, at_end)
            result[...] = values
            return result

        return made

    _loss.np = SimpleNamespace(**{**vars(np), "empty": empty})  # type: ignore[attr-defined]
    _loss.empty_like = empty_like
    for name in ("scores", "labels", "weights", "distribution"):
        globals()[name] = protected(globals()[name])
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        print(shape, dtype, flush=True)
        with np.errstate(invalid="ignore"):
            all_results(shape, dtype)
    print("done")


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(at_end):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_loss\n"
    printed = output_of("-c", code + f"test_loss.run_guarded({at_end})", CYCONV_ISA=kernels.ISA)
    assert printed.splitlines()[-1] == "done"


# --------------------------------------------------------------------------------------------------------------- errors

X = np.ones((3, 4), np.float32)
T = np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.cross_entropy(X, np.array([0, 4, -1])),
            ValueError,
            "cross_entropy: target at 1 is 4: expected a class from 0 to 3 or ignore_index, -100",
        ),
        (
            lambda: F.nll_loss_backward(1.0, np.ones((2, 3, 2)), np.array([[0, 1], [2, -5]]), None, 7),
            ValueError,
            "nll_loss_backward: target at (1, 1) is -5: expected a class from 0 to 2 or ignore_index, 7",
        ),
        (lambda: F.cross_entropy(X[0], 9), ValueError, "cross_entropy: target is 9: expected a class from 0 to 3"),
        (lambda: F.cross_entropy(X, T == 1), TypeError, "cross_entropy: target must be integers (class indices) or"),
        (lambda: F.nll_loss(X, X), TypeError, "nll_loss: target must be integers (class indices), got float32"),
        (
            lambda: F.cross_entropy(X, T.astype(np.float32)),
            ValueError,
            "target of probabilities must have the shape of input, (3, 4), got (3,); class indices must be integers",
        ),
        (
            lambda: F.cross_entropy(X, T[:2]),
            ValueError,
            "cross_entropy: target of class indices must have shape (3,) for input of shape (3, 4), got (2,)",
        ),
        (
            lambda: F.cross_entropy(X, X.astype(float)),
            TypeError,
            "cross_entropy: mixed dtypes: input float32, target float64",
        ),
        (
            lambda: F.cross_entropy(X, T, np.ones(4)),
            TypeError,
            "cross_entropy: mixed dtypes: input float32, weight float64",
        ),
        (
            lambda: F.cross_entropy(X, T, np.ones(3, np.float32)),
            ValueError,
            "cross_entropy: weight must have shape (4,), got (3,)",
        ),
        (
            lambda: F.cross_entropy(X, T, reduction="average"),
            ValueError,
            "cross_entropy: reduction must be 'mean', 'sum' or 'none', got 'average'",
        ),
        (
            lambda: F.cross_entropy(X, T, label_smoothing=1.5),
            ValueError,
            "cross_entropy: label_smoothing must be in [0, 1], got 1.5",
        ),
        (lambda: F.cross_entropy(X, T, ignore_index=0.5), TypeError, "ignore_index must be an int, got 0.5"),
        (lambda: F.cross_entropy(X[:, :0], T), ValueError, "cross_entropy: input of shape (3, 0) has no classes"),
        (
            lambda: F.cross_entropy(X[0, 0], T),
            ValueError,
            "input must have shape (N, C), (C,) or (N, C, d1, ...), got ()",
        ),
        (lambda: F.cross_entropy(T, T), TypeError, "cross_entropy: input has dtype int64"),
        (
            lambda: F.cross_entropy_backward(np.ones(3), X, T),
            ValueError,
            "cross_entropy_backward: grad_output must be a number with reduction='mean', got shape (3,)",
        ),
        (
            lambda: F.cross_entropy_backward(np.ones(2, np.float32), X, T, reduction="none"),
            ValueError,
            "cross_entropy_backward: grad_output must have the shape of the losses, (3,), got (2,)",
        ),
        (
            lambda: F.cross_entropy_backward(np.ones(3), X, T, reduction="none"),
            TypeError,
            "cross_entropy_backward: mixed dtypes: grad_output float64, input float32",
        ),
    ],
)
def test_errors(call, error, message):
    for _ in range(2):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(7, 5), (3, 4, 6), (9,)])
def test_as_torch(shape, reduction):
    torch = pytest.importorskip("torch")
    x, w = scores(shape, "float64"), weights(shape, "float64")
    for target, smoothing in ((labels(shape, -100), 0.0), (labels(shape), 0.2), (distribution(shape, "float64"), 0.2)):
        t = torch.from_numpy(x).requires_grad_()
        twin = torch.from_numpy(np.array(target)).requires_grad_(target.dtype.kind == "f")
        value = torch.nn.functional.cross_entropy(
            t,
            twin,
            torch.from_numpy(w),
            reduction=reduction,
            label_smoothing=smoothing,
        )
        how = (x, target, w, -100, reduction, smoothing)
        ours = F.cross_entropy(*how)
        np.testing.assert_allclose(ours, value.detach().numpy(), rtol=1e-13)
        grad = np.asarray(gradient_for(np.asarray(ours), "float64", reduction))
        value.backward(torch.from_numpy(grad))
        dx, *dtarget = F.cross_entropy_backward(grad, *how)
        np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-12, atol=1e-15)
        if dtarget:
            np.testing.assert_allclose(dtarget[0], twin.grad.numpy(), rtol=1e-12, atol=1e-15)
