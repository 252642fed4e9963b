"""Losses of two arrays: against the oracle, by hand, by differences, beside torch; weights; what is refused."""

import itertools
from typing import Any

import numpy as np
import pytest
from conv_cases import DTYPES
from tolerances import assert_close

import cyconv
from cyconv import _settings, nn, reference
from cyconv import functional as F
from cyconv.functional import _arrays

REDUCTIONS = ("mean", "sum", "none")
#: Around a vector, a piece (512) and a chunk (8192); no axis, no element.
SHAPES = [(), (1,), (7,), (8,), (15,), (17,), (513,), (4, 5, 6, 7), (3, 8193), (0, 3)]
#: Every formula, by the arguments that lead to it, and the kind of input and target that it takes.
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("mse_loss", {}, "real"),
    ("l1_loss", {}, "real"),
    ("smooth_l1_loss", {}, "real"),
    ("smooth_l1_loss", {"beta": 0.3}, "real"),
    ("smooth_l1_loss", {"beta": 0.0}, "real"),
    ("huber_loss", {}, "real"),
    ("huber_loss", {"delta": 2.5}, "real"),
    ("binary_cross_entropy", {}, "probability"),
    ("binary_cross_entropy_with_logits", {}, "logit"),
    ("kl_div", {}, "distribution"),
    ("kl_div", {"log_target": True}, "real"),
]
WEIGHTED = ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")


def name_of(value: Any) -> str | None:
    return " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None


cases = pytest.mark.parametrize(("name", "more", "kind"), CASES, ids=name_of)


def arrays(kind: str, shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((len(shape), *shape))
    x, t = np.asarray(2 * rng.standard_normal(shape)), np.asarray(rng.standard_normal(shape))
    share = np.asarray(rng.random(shape))
    if kind == "probability":
        x, t = 1 / (1 + np.exp(-x)), share
    elif kind == "logit":
        t = share
    elif kind == "distribution":
        t = np.where(share < 0.2, 0, share)
    return np.asarray(x, dtype), np.asarray(t, dtype)


def channels_last(x: np.ndarray) -> np.ndarray:
    return x if x.ndim < 3 else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def gradient_for(shape: tuple[int, ...], dtype: str, reduction: str) -> Any:
    if reduction != "none":
        return -0.7
    return np.asarray(np.random.default_rng(3).standard_normal(shape), dtype)


def reductions_of(name: str) -> tuple[str, ...]:
    return (*REDUCTIONS, "batchmean") if name == "kl_div" else REDUCTIONS


def check(name: str, x: np.ndarray, t: np.ndarray, how: dict[str, Any]) -> None:
    reduction = how.get("reduction", "mean")
    each = getattr(reference, name)(x, t, **{**how, "reduction": "none"})
    # Relative to the terms, of which a sum is made.
    scale = float(np.abs(each).max(initial=1e-30))
    wanted, got = getattr(reference, name)(x, t, **how), getattr(F, name)(x, t, **how)
    assert isinstance(got, np.ndarray) is (reduction == "none")
    if reduction == "sum":
        scale *= max(x.size, 1)
    elif reduction == "batchmean" and x.ndim:
        scale *= max(x.size, 1) / max(len(x), 1)
    assert_close(got, wanted, algorithm="sum", scale=max(scale, float(np.abs(np.nan_to_num(wanted)).max(initial=0))))
    g = gradient_for(x.shape, str(x.dtype), reduction)
    found = getattr(F, f"{name}_backward")(g, x, t, **how)
    for ours, oracle in zip(found, getattr(reference, f"{name}_backward")(g, x, t, **how), strict=True):
        assert_close(ours, oracle, algorithm="sum")
        assert ours.strides == x.strides or x.size <= 1 or not (x.flags.c_contiguous or t.flags.c_contiguous)
    alone = getattr(F, f"{name}_backward")(g, x, t, **how, target_grad=False)
    assert_close(alone[0], found[0], algorithm="exact")
    assert len(alone) == 1


@cases
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_as_the_oracle(name, more, kind, shape, dtype):
    x, t = arrays(kind, shape, dtype)
    for reduction in reductions_of(name):
        how = {**more, "reduction": reduction}
        check(name, x, t, how)
        for input, target in ((channels_last(x), t), (x, channels_last(t)), (x.copy(order="F"), t)):
            if x.ndim > 2 and reduction in ("none", "mean"):
                check(name, input, target, how)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6,), (5, 700), (3, 4, 5, 6), (2, 3, 40, 41)])
def test_weights(name, shape, dtype):
    kind = next(kind for other, _, kind in CASES if other == name)
    x, t = arrays(kind, shape, dtype)
    rng = np.random.default_rng(5)

    def weight(of: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.random(of) + 0.5, dtype)

    of = [shape]
    if name.startswith("binary"):
        # one for all, along the last axis, the first, one in the middle, two that are no neighbours
        of += [(), (1,), shape[-1:], (shape[0], *[1] * (len(shape) - 1))]
        if len(shape) == 4:
            of += [(shape[1], 1, 1), (shape[0], 1, shape[2], 1), shape[1:], (1, *shape[1:3], 1)]
    for w_shape, memory, reduction in itertools.product(of, (np.asarray, channels_last), REDUCTIONS):
        how = {"weight": weight(w_shape), "reduction": reduction}
        check(name, memory(x), t, how)
        if name.endswith("logits"):
            check(name, memory(x), t, {**how, "pos_weight": weight(w_shape)})
            check(name, memory(x), t, {"pos_weight": weight(w_shape[-1:]), "reduction": reduction})
    if len(shape) == 4:
        check(name, x, t, {"weight": channels_last(weight(shape))})


def test_by_hand():
    x, t = np.array([1.0, 5, 2]), np.array([2.0, 2, 2])
    assert F.mse_loss(x, t) == 10 / 3
    assert F.l1_loss(x, t, "sum") == 4
    # weights 1, 2, 3: (1 + 18) / 6 and (1 + 6) / 6; Huber's mean is over elements: (0.5 + 2 * 2.5) / 3
    w = np.array([1.0, 2, 3])
    assert F.mse_loss(x, t, weight=w) == 19 / 6
    assert F.l1_loss(x, t, weight=w) == 7 / 6
    assert F.huber_loss(x, t, weight=w) == 5.5 / 3
    assert F.smooth_l1_loss(x, t, "none", 2.0).tolist() == [0.25, 2, 0]
    assert F.huber_loss(x, t, "none", 2.0).tolist() == [0.5, 4, 0]
    assert F.l1_loss_backward(1.0, x, t, "sum")[0].tolist() == [-1, 1, 0]
    assert F.huber_loss_backward(1.0, x, t, "sum", 2.0)[1].tolist() == [1, -2, 0]
    assert F.smooth_l1_loss_backward(1.0, x, t, "sum", 2.0)[0].tolist() == [-0.5, 1, 0]
    p = np.array([0.5, 0.25])
    assert F.binary_cross_entropy(p, np.array([1.0, 0.0]), reduction="sum") == pytest.approx(np.log(2) + np.log(4 / 3))
    logits = np.log(p / (1 - p))
    positive = F.binary_cross_entropy_with_logits(logits, np.ones(2), pos_weight=np.array([3.0]), reduction="none")
    assert positive == pytest.approx(3 * np.log([2, 4]))
    assert F.kl_div(np.log(p), np.array([1.0, 0.0]), "sum") == pytest.approx(np.log(2))
    assert F.kl_div(np.log(p)[None], np.log(p)[None], "batchmean", True) == 0


@cases
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_by_directional_differences(name, more, kind, reduction):
    shape, h = (4, 6, 3), 1e-6
    x, t = arrays(kind, shape, "float64")
    t = np.where(t == 0, 0.5, t)  # 0 log 0 has no derivative
    rng = np.random.default_rng(8)
    directions = rng.standard_normal(shape), rng.standard_normal(shape)
    how = {**more, "reduction": reduction}
    if name in WEIGHTED:
        how["weight"] = rng.random(shape)
    if name.endswith("logits"):
        how["pos_weight"] = rng.random((6, 1)) + 0.5
    g = gradient_for(shape, "float64", reduction)
    found = getattr(F, f"{name}_backward")(g, x, t, **how)
    for place, (direction, gradient) in enumerate(zip(directions, found, strict=True)):
        up, down = ([x, t], [x, t])
        up[place], down[place] = up[place] + h * direction, down[place] - h * direction
        difference = (getattr(F, name)(*up, **how) - getattr(F, name)(*down, **how)) / (2 * h)
        assert np.vdot(gradient, direction) == pytest.approx(np.vdot(g, difference), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes(dtype):
    x = np.array([0, 1, 0, 1, 1e-9, 0.5], dtype)
    t = np.array([0, 1, 1, 0, 0, 0.5], dtype)
    losses = F.binary_cross_entropy(x, t, reduction="none")
    assert losses[:4].tolist() == [0, 0, 100, 100]
    assert losses[4] == pytest.approx(1e-9, rel=1e-6)  # log1p: 1 - 1e-9 is 1 in float32
    dx, dt = F.binary_cross_entropy_backward(1.0, x, t, reduction="sum")
    assert dx[:4] == pytest.approx([0, 0, -1e12, 1e12], rel=1e-6)
    assert dt[:2].tolist() == [100, -100]
    z = np.array([-1e4, 1e4, -200, 200, 0], dtype)
    y = np.array([0, 1, 1, 0, 0.5], dtype)
    losses = F.binary_cross_entropy_with_logits(z, y, reduction="none")
    assert losses[:4].tolist() == [0, 0, 200, 200]
    dz, dy = F.binary_cross_entropy_with_logits_backward(1.0, z, y, reduction="sum")
    assert dz.tolist() == [0, 0, -1, 1, 0]
    assert dy.tolist() == [1e4, -1e4, 200, -200, 0]
    # a target without mass costs nothing, and has no finite derivative
    assert F.kl_div(z, np.zeros(5, dtype), "none").tolist() == [0] * 5
    assert F.kl_div_backward(1.0, z, np.zeros(5, dtype), "sum")[1].tolist() == [-np.inf] * 5


def test_nan_stays_where_it_is():
    for name, more, kind in CASES:
        if kind == "probability":
            continue  # NaN is none: an error
        for place in (0, 1):
            pair = arrays(kind, (40,), "float32")
            pair[place][7] = np.nan
            losses = getattr(F, name)(*pair, **more, reduction="none")
            assert np.flatnonzero(np.isnan(losses)).tolist() == [7], (name, place)
            for gradient in getattr(F, f"{name}_backward")(np.ones(40, np.float32), *pair, **more, reduction="none"):
                assert set(np.flatnonzero(np.isnan(gradient))) <= {7}


def test_sums_are_taken_in_double_precision():
    n = 2_000_000
    ones = np.full(n, 1.1, np.float32)
    assert F.mse_loss(ones, np.zeros_like(ones)) == pytest.approx(1.21, rel=2e-7)
    assert F.l1_loss(ones, np.zeros_like(ones), "sum") == pytest.approx(1.1 * n, rel=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)

    def everything() -> list[Any]:
        found: list[Any] = []
        for name, more, kind in CASES:
            x, t = arrays(kind, (3, 5, 6000), dtype)
            how = {**more, "weight": t[:, :1] if name.startswith("binary") else t} if name in WEIGHTED else more
            found += [getattr(F, name)(x, t, **how), *getattr(F, f"{name}_backward")(1.0, x, t, **how)]
        return found

    with cyconv.threads(1):
        alone = everything()
    for n in (2, 3):
        with cyconv.threads(n):
            for one, other in zip(everything(), alone, strict=True):
                np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(monkeypatch, at_end):
    import guarded

    monkeypatch.setattr(_arrays._workspace, "empty", lambda shape, kind: guarded.empty(shape, np.dtype(kind), at_end))
    for (name, more, kind), n in itertools.product(CASES, (1, 15, 17, 513, 8195)):
        pair = []
        for values in arrays(kind, (n,), "float32"):
            array = guarded.empty(values.shape, values.dtype, at_end)
            array[...] = values
            pair.append(array)
        how = {**more, "weight": pair[1]} if name in WEIGHTED else more
        getattr(F, name)(*pair, **how)
        getattr(F, name)(*pair, **how, reduction="none")
        getattr(F, f"{name}_backward")(1.0, *pair, **how)


@cases
def test_layers(name, more, kind):
    layers = {
        "mse_loss": nn.MSELoss,
        "l1_loss": nn.L1Loss,
        "smooth_l1_loss": nn.SmoothL1Loss,
        "huber_loss": nn.HuberLoss,
        "binary_cross_entropy": nn.BCELoss,
        "binary_cross_entropy_with_logits": nn.BCEWithLogitsLoss,
        "kl_div": nn.KLDivLoss,
    }
    x, t = arrays(kind, (5, 3), "float64")
    if name.startswith("binary"):
        more = {**more, "weight": np.array([1.0, 2, 3])}
    if name.endswith("logits"):
        more = {**more, "pos_weight": np.array([4.0, 5, 6])}
    for reduction in reductions_of(name):
        layer = layers[name](reduction=reduction, **more)
        value = layer(x, t)
        np.testing.assert_array_equal(value, getattr(F, name)(x, t, reduction=reduction, **more))
        g = np.ones_like(x) if reduction == "none" else 1.0
        wanted = getattr(F, f"{name}_backward")(g, x, t, reduction=reduction, **more)[0]
        np.testing.assert_array_equal(layer.backward(g if reduction == "none" else None), wanted)
        assert set(layer.state_dict()) == {"weight", "pos_weight"} & set(more)
        layer.eval()
        layer(x, t)
        with pytest.raises(RuntimeError):
            layer.backward()


# --------------------------------------------------------------------------------------------------------------- errors

X = np.full((3, 4), 0.5, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.mse_loss(X, X[:2]), ValueError, "mse_loss: target must have the shape of input, (3, 4), got (2, 4)"),
        (lambda: F.l1_loss(X, X.astype(float)), TypeError, "l1_loss: mixed dtypes: input float32, target float64"),
        (lambda: F.mse_loss(X, X, "all"), ValueError, "reduction must be 'mean', 'sum' or 'none', got 'all'"),
        (
            lambda: F.kl_div(X, X, "all"),
            ValueError,
            "kl_div: reduction must be 'mean', 'batchmean', 'sum' or 'none', got 'all'",
        ),
        (lambda: F.huber_loss(X, X, delta=0), ValueError, "huber_loss: delta must be above 0, got 0"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "smooth_l1_loss: beta must be at least 0, got -1"),
        (lambda: F.smooth_l1_loss(X, X, beta="1"), TypeError, "smooth_l1_loss: beta must be a number, got '1'"),
        (
            lambda: F.mse_loss(X, X, weight=X[0]),
            ValueError,
            "mse_loss: weight must have the shape of input, (3, 4), got (4,)",
        ),
        (
            lambda: F.binary_cross_entropy(X, X, X[:2]),
            ValueError,
            "binary_cross_entropy: weight must broadcast to the shape of input, (3, 4), got (2, 4)",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(X, X, pos_weight=X[None]),
            ValueError,
            "pos_weight must broadcast to the shape of input, (3, 4), got (1, 3, 4)",
        ),
        (lambda: F.binary_cross_entropy(X, X, np.ones(4)), TypeError, "mixed dtypes: input float32, weight float64"),
        (
            lambda: F.binary_cross_entropy(X + 1, X),
            ValueError,
            "binary_cross_entropy: input at (0, 0) is 1.5: must be in [0, 1]; for logits there is binary_",
        ),
        (
            lambda: F.binary_cross_entropy_backward(1.0, X, X - 1),
            ValueError,
            "binary_cross_entropy_backward: target at (0, 0) is -0.5: must be in [0, 1]",
        ),
        (lambda: F.binary_cross_entropy(X * np.nan, X), ValueError, "input at (0, 0) is nan: must be in [0, 1]"),
        (
            lambda: F.l1_loss_backward(X, X, X),
            ValueError,
            "l1_loss_backward: grad_output must be a number with reduction='mean', got shape (3, 4)",
        ),
        (
            lambda: F.l1_loss_backward(X[0], X, X, "none"),
            ValueError,
            "grad_output must have the shape of the losses, (3, 4), got (4,)",
        ),
        (lambda: nn.HuberLoss(delta=-1), ValueError, "HuberLoss: delta must be above 0, got -1"),
        (lambda: nn.SmoothL1Loss(beta=-1), ValueError, "SmoothL1Loss: beta must be at least 0, got -1"),
        (lambda: nn.L1Loss("batchmean"), ValueError, "L1Loss: reduction must be 'mean', 'sum' or 'none'"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- torch


@cases
@pytest.mark.filterwarnings("ignore")
def test_as_torch(name, more, kind):
    torch = pytest.importorskip("torch")
    x, t = arrays(kind, (7, 5), "float64")
    t = np.where(t == 0, 0.5, t)
    rng = np.random.default_rng(2)
    for reduction in reductions_of(name):
        how = {**more, "reduction": reduction}
        if name in WEIGHTED:
            how["weight"] = rng.random((7, 5))
        if name.endswith("logits"):
            how["weight"], how["pos_weight"] = rng.random((7, 1)), rng.random(5)
        a, b = torch.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(t.copy()).requires_grad_()
        theirs = {key: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for key, v in how.items()}
        value = getattr(torch.nn.functional, name)(a, b, **theirs)
        np.testing.assert_allclose(getattr(F, name)(x, t, **how), value.detach().numpy(), rtol=1e-13)
        g = gradient_for(x.shape, "float64", reduction)
        value.backward(torch.from_numpy(np.asarray(g)))
        for ours, twin in zip(getattr(F, f"{name}_backward")(g, x, t, **how), (a, b), strict=True):
            np.testing.assert_allclose(ours, twin.grad.numpy(), rtol=1e-12, atol=1e-15)
