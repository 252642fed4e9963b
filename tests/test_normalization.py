"""Normalisation: against the oracle, by hand, in both memory orders, by differences, with large means, as torch."""

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_cases import DTYPES
from processes import output_of
from tolerances import assert_close, relative_error

import cyconv
from cyconv import _settings, kernels, nn, reference
from cyconv import functional as F
from cyconv.functional import _arrays, _layer_norm, _normalization

ORDERS = ("C", "channels-last")
#: Shape and groups. Short and long stretches (a chunk is 4096 or 2048 elements, a piece 16384, a part 16 chunks), rows
#: of columns that are folded and not, rests behind the last row, one channel, sets that are fused and not.
SHAPES = [
    ((2, 6, 4, 5), 2),
    ((7, 5), 1),
    ((33, 20), 4),
    ((4, 3, 17), 3),
    ((2, 4, 3, 2, 5), 2),
    ((8, 3, 40, 31), 1),
    ((40, 64, 3, 3), 32),
    ((2, 17, 7, 7), 17),
    ((1, 1, 130, 131), 1),
    ((3, 2, 150, 160), 2),
    ((2, 260, 5, 4), 10),
    ((9, 300, 8, 2), 4),
]
#: Where a kernel goes another way: several parts of a channel, of columns, of sets that no cache holds.
LARGE = [((6, 4, 260, 130), 2), ((2, 70, 64, 64), 7)]


def normal(shape: Any, dtype: str, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(shape) + shift, dtype)


def in_order(x: np.ndarray, order: str) -> np.ndarray:
    return x if order == "C" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def cases(shape: tuple[int, ...], groups: int, dtype: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return {what: (function, arguments behind input)} of all that normalises an array of that shape."""
    c = shape[1]
    affine = {"weight": normal(c, dtype, 2), "bias": normal(c, dtype, 3)}
    running = {"running_mean": normal(c, dtype, 4), "running_var": np.abs(normal(c, dtype, 5)) + np.asarray(0.5, dtype)}
    nothing = {"running_mean": None, "running_var": None}
    found = {
        "batch": ("batch_norm", {**nothing, **affine, "training": True}),
        "batch, plain": ("batch_norm", {**nothing, "training": True, "eps": 0.1}),
        "batch, eval": ("batch_norm", {**running, **affine}),
        "batch, eval, no weight": ("batch_norm", {**running, "bias": affine["bias"]}),
        "group": ("group_norm", {"num_groups": groups, **affine}),
        "group, plain": ("group_norm", {"num_groups": groups, "weight": affine["weight"]}),
    }
    if len(shape) > 2:
        found["instance"] = ("instance_norm", affine)
        found["instance, eval"] = ("instance_norm", {**running, **affine, "use_input_stats": False})
        for last in {1, len(shape) - 2, len(shape) - 1}:
            inner = shape[-last:]
            weights = {"weight": normal(inner, dtype, 2), "bias": normal(inner, dtype, 3)}
            found[f"layer of {last}"] = ("layer_norm", {"normalized_shape": inner, **weights})
        found["response"] = ("local_response_norm", {"size": 5, "alpha": 0.5, "beta": 0.75, "k": 1.5})
        found["response, even"] = ("local_response_norm", {"size": 4, "alpha": 0.1, "beta": 1.3})
    return found


def check(name: str, x: np.ndarray, grad: np.ndarray, kwargs: dict[str, Any]) -> None:
    y = getattr(F, name)(x, **kwargs)
    assert_close(y, getattr(reference, name)(x, **kwargs), algorithm="normalization")
    # What layer_norm has to copy comes out in C order.
    assert y.strides == x.strides or 1 in x.shape or (name == "layer_norm" and y.flags.c_contiguous)
    wanted = getattr(reference, f"{name}_backward")(grad, x, **kwargs)
    got = getattr(F, f"{name}_backward")(grad, x, **kwargs)
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        # Sums of terms that cancel: relative to the largest of the terms, not to what is left of them.
        scale = max(float(np.abs(other).max()), float(np.abs(grad).max()))
        assert_close(one, other, algorithm="normalization", scale=scale)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "groups"), [*SHAPES, *LARGE])
def test_agrees_with_the_oracle(shape, groups, dtype, order):
    if (shape, groups) in LARGE and dtype == "float64" and order == "C":
        shape = (shape[0], shape[1], shape[2] // 2, *shape[3:])
    x, grad = normal(shape, dtype, scale=2, shift=3), normal(shape, dtype, 1)
    for name, kwargs in cases(shape, groups, dtype).values():
        check(name, in_order(x, order), in_order(grad, order), kwargs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_in_another_memory_order(dtype):
    x, grad = normal((2, 6, 4, 5), dtype), normal((2, 6, 4, 5), dtype, 1)
    for name, kwargs in cases(x.shape, 2, dtype).values():
        check(name, x, in_order(grad, "channels-last"), kwargs)
        check(name, in_order(x, "channels-last"), grad, kwargs)


def test_layer_norm_of_one_signal_has_its_order_whatever_the_step_between_batches():
    """NumPy gives a copy of one channels-last signal a step of 4 bytes along its batch axis, where nothing lies."""
    x = in_order(normal((1, 6, 5), "float32"), "channels-last")
    other = x + 0
    assert other.strides != x.strides
    y, again = F.layer_norm(x, (6, 5)), F.layer_norm(other, (6, 5))
    np.testing.assert_array_equal(y, again)
    assert y.strides[1:] == again.strides[1:] == x.strides[1:]
    for mine, theirs in zip(F.layer_norm_backward(x, x, (6, 5)), F.layer_norm_backward(x, other, (6, 5)), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("order", ORDERS)
def test_no_copies(order):
    """But where layer_norm goes over the length of a row of channels-last memory, which lies in strides."""
    x, grad = (in_order(normal((2, 6, 4, 5), "float32", seed), order) for seed in (0, 1))
    for what, (name, kwargs) in cases(x.shape, 2, "float32").items():
        before = _arrays.copies
        getattr(F, name)(x, **kwargs)
        getattr(F, f"{name}_backward")(grad, x, **kwargs)
        strided = order == "channels-last" and what in ("layer of 1", "layer of 2")
        assert (_arrays.copies > before) == strided, what


@pytest.mark.parametrize("view", ["reversed", "gaps", "Fortran", "read-only"])
def test_any_memory(view):
    x = normal((3, 6, 4, 8), "float64")
    ways = {
        "reversed": x[::-1, :, ::-1].copy()[::-1, :, ::-1],
        "gaps": np.repeat(x, 2, axis=3)[..., ::2],
        "Fortran": np.asfortranarray(x),
        "read-only": x.copy(),
    }
    ways["read-only"].setflags(write=False)
    for name, kwargs in cases(x.shape, 2, "float64").values():
        assert_close(getattr(F, name)(ways[view], **kwargs), getattr(F, name)(x, **kwargs), algorithm="normalization")
        for one, other in zip(
            getattr(F, f"{name}_backward")(ways[view], ways[view], **kwargs),
            getattr(F, f"{name}_backward")(x, x, **kwargs),
            strict=True,
        ):
            assert_close(one, other, algorithm="normalization", scale=10)


def test_by_hand():
    x = np.array([[[1.0, 3.0], [0.0, 4.0]], [[5.0, 7.0], [0.0, 8.0]]])
    mean, var = np.zeros(2), np.ones(2)
    y, statistics = F.batch_norm(x, mean, var, np.array([1.0, 2.0]), np.array([0.0, 1.0]), True, 0.5, 0.0,
                                 return_statistics=True)  # fmt: skip
    np.testing.assert_allclose(statistics, [[[4, 3]], [[5, 11]]])
    np.testing.assert_allclose(y[:, 0] * 5**0.5, [[-3, -1], [1, 3]])
    np.testing.assert_allclose((y[:, 1] - 1) / 2 * 11**0.5, [[-3, 1], [-3, 5]])
    np.testing.assert_allclose(mean, [2, 1.5])
    np.testing.assert_allclose(var, [0.5 + 10 / 3, 0.5 + 22 / 3])  # of four values: 20/3 and 44/3 without bias
    np.testing.assert_allclose(F.instance_norm(x, eps=0), np.tile([-1.0, 1], (2, 2, 1)))
    np.testing.assert_allclose(F.group_norm(x[:1], 1, eps=2.5) * 5**0.5, [[[-1, 1], [-2, 2]]])
    np.testing.assert_allclose(F.layer_norm(x, (2,), np.array([1.0, 10.0]), eps=0), np.tile([-1.0, 10], (2, 2, 1)))
    np.testing.assert_allclose(F.local_response_norm(x[:1], 2, 2.0, 1.0, 1.0), [[[0.5, 0.3], [0, 4 / 26]]])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(4, 5, 30, 30), (2, 3, 100, 101), (300, 40)])
def test_a_large_mean_costs_no_accuracy(shape, order):
    """A mean of 10 000 deviations: sums of squares minus a square would keep nothing in float32."""
    x = in_order(normal(shape, "float32", shift=1e4), order)
    exact = x.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    y, (mean, var) = F.batch_norm(x, None, None, training=True, return_statistics=True)
    np.testing.assert_allclose(mean[0], exact.mean(axis=axes), rtol=1e-9)
    np.testing.assert_allclose(var[0], exact.var(axis=axes), rtol=1e-6)
    assert_close(y, reference.batch_norm(x, None, None, training=True), algorithm="normalization")
    grad = in_order(normal(shape, "float32", 1), order)
    (dx,) = F.batch_norm_backward(grad, x, None, None, training=True)
    assert_close(dx, reference.batch_norm_backward(grad, x, None, None, training=True)[0], algorithm="normalization")
    rows = np.ascontiguousarray(x.reshape(shape[0], -1))
    assert_close(
        F.layer_norm(rows, rows.shape[1]), reference.layer_norm(rows, (rows.shape[1],)), algorithm="normalization"
    )


@pytest.mark.parametrize("order", ORDERS)
def test_the_statistics_of_one_chunk_are_as_good_as_those_of_many(order):
    x = in_order(normal((8, 4, 150, 150), "float32", shift=-50, scale=3), order)
    x[:2] *= 100  # a batch that drifts
    _, (mean, var) = F.batch_norm(x, None, None, training=True, return_statistics=True)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean[0], exact.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var[0], exact.var(axis=(0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_by_directional_differences(order):
    x, direction, grad = (in_order(normal((3, 4, 5, 3), "float64", seed), order) for seed in range(3))
    for what, (name, kwargs) in cases(x.shape, 2, "float64").items():
        forward, h = functools.partial(getattr(F, name), **kwargs), 1e-5
        difference = (forward(x + h * direction) - forward(x - h * direction)) / (2 * h)
        gradients = getattr(F, f"{name}_backward")(grad, x, **kwargs)
        assert np.vdot(gradients[0], direction) == pytest.approx(np.vdot(grad, difference), rel=1e-6), what
        for argument, gradient in zip([k for k in ("weight", "bias") if k in kwargs], gradients[1:], strict=True):
            step = normal(gradient.shape, "float64", 7)
            change = getattr(F, name)(x, **{**kwargs, argument: kwargs[argument] + step}) - forward(x)
            assert np.vdot(gradient, step) == pytest.approx(np.vdot(grad, change), rel=1e-9), what


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_forward_serve_backward(dtype):
    for order in ORDERS:
        x, grad = in_order(normal((3, 6, 5, 7), dtype), order), in_order(normal((3, 6, 5, 7), dtype, 1), order)
        for name, kwargs in cases(x.shape, 3, dtype).values():
            if name == "local_response_norm":
                continue
            y, found = getattr(F, name)(x, **kwargs, return_statistics=True)
            np.testing.assert_array_equal(y, getattr(F, name)(x, **kwargs))
            alone = getattr(F, f"{name}_backward")(grad, x, **kwargs)
            given = getattr(F, f"{name}_backward")(grad, x, **kwargs, statistics=found)
            without = getattr(F, f"{name}_backward")(grad, x, **kwargs, statistics=found, input_grad=False)
            assert without[0] is None
            for one, other in zip(given, alone, strict=True):
                np.testing.assert_array_equal(one, other, strict=True)
            for one, other in zip(without[1:], alone[1:], strict=True):
                assert_close(one, other, algorithm="normalization")


def test_running_statistics_as_the_oracle_moves_them():
    for name, flag in (("batch_norm", "training"), ("instance_norm", "use_input_stats")):
        x = normal((4, 3, 5, 6), "float32", shift=2)
        ours, theirs = ([np.zeros(3, np.float32), np.ones(3, np.float32)] for _ in range(2))
        for _ in range(3):
            getattr(F, name)(x, *ours, momentum=0.3, **{flag: True})
            getattr(reference, name)(x, *theirs, momentum=0.3, **{flag: True})
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, algorithm="normalization")
        before = [values.copy() for values in ours]
        getattr(F, name)(x, *ours, **{flag: False})
        getattr(F, f"{name}_backward")(x, x, *ours, **{flag: True})
        for one, other in zip(ours, before, strict=True):
            np.testing.assert_array_equal(one, other)


def test_scale_and_shift_are_what_eval_mode_does():
    x = normal((2, 5, 3, 4), "float64")
    mean, var, weight, bias = (np.abs(normal(5, "float64", seed)) for seed in range(4))
    for w, b in itertools.product((weight, None), (bias, None)):
        scale, shift = F.batch_norm_scale_shift(mean, var, w, b, 1e-3)
        y = x * scale[:, None, None] + shift[:, None, None]
        assert_close(y, F.batch_norm(x, mean, var, w, b, eps=1e-3), algorithm="normalization")


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 3, 4, 0)])
def test_nothing_to_normalise(shape):
    x, weight = np.empty(shape, np.float32), np.ones(3, np.float32)
    mean = np.full(3, 7, np.float32)
    assert F.batch_norm(x, mean, mean.copy(), weight, weight, True).shape == shape
    assert mean.tolist() == [7, 7, 7]
    for name, kwargs in (
        ("batch_norm", {"running_mean": None, "running_var": None, "training": True}),
        ("instance_norm", {}),
        ("group_norm", {"num_groups": 3}),
    ):
        dx, dw, db = getattr(F, f"{name}_backward")(x, x, **kwargs, weight=weight, bias=weight)
        assert dx.shape == shape
        assert dw.tolist() == db.tolist() == [0, 0, 0]
    inner = shape[2:]
    ones = np.ones(inner, np.float32)
    gradients = F.layer_norm_backward(x, F.layer_norm(x, inner), inner, ones, ones)
    assert [g.shape for g in gradients] == [shape, inner, inner]
    assert F.local_response_norm_backward(x, F.local_response_norm(x, 3), 3)[0].shape == shape


@pytest.mark.parametrize("order", ORDERS)
def test_nan_stays_in_its_set(order):
    x = normal((3, 4, 5, 6), "float32")
    x[1, 2, 3, 4] = np.nan
    bad = {name: np.isnan(getattr(F, name)(in_order(x, order), *rest)) for name, *rest in (
        ("batch_norm", None, None, None, None, True), ("instance_norm",), ("group_norm", 2), ("local_response_norm", 3),
    )}  # fmt: skip
    assert bad["batch_norm"][:, 2].all()
    assert bad["batch_norm"].sum() == 3 * 30
    assert bad["instance_norm"].sum() == 30
    assert bad["group_norm"][1, 2:].all()
    assert bad["group_norm"].sum() == 60
    assert bad["local_response_norm"][1, 1:4, 3, 4].all()
    assert bad["local_response_norm"].sum() == 3


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, dtype, order):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    for shape, groups in (((5, 12, 9, 11), 3), ((2, 3, 150, 160), 1), ((9, 260), 10), ((1, 4, 300, 260), 2)):
        x, grad = in_order(normal(shape, dtype), order), in_order(normal(shape, dtype, 1), order)

        def results(x=x, grad=grad, shape=shape, groups=groups):
            for name, kwargs in cases(shape, groups, dtype).values():
                yield getattr(F, name)(x, **kwargs)
                yield from getattr(F, f"{name}_backward")(grad, x, **kwargs)

        with cyconv.threads(1):
            alone = list(results())
        for n in (2, 3):
            with cyconv.threads(n):
                for one, other in zip(results(), alone, strict=True):
                    np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("channels", [1, 3, 5, 16, 48, 64, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_place_in_memory_changes_no_bit(dtype, channels):
    """Channels-last rows begin where the output has a cache line: wherever that is."""
    x, grad = normal((2, 9, 11, channels), dtype), normal((2, 9, 11, channels), dtype, 1)
    kernel, size = kernels.load("normalization"), x.itemsize
    results = []
    for offset in (0, 1, 3, 8, 15):
        memory = np.zeros(x.size + 64, dtype)
        start = -memory.ctypes.data % 64 // size + offset
        y = memory[start : start + x.size].reshape(x.shape)
        mean, var = np.zeros((1, channels)), np.zeros((1, channels))
        dw, db = np.zeros(channels, dtype), np.zeros(channels, dtype)
        shape = (1, 2, channels, 99, channels, True, 1)
        kernel.normalize(y, x, mean, var, None, None, 1e-5, False, *shape)
        forward = y.copy()
        kernel.normalize_backward(y, dw, db, grad, x, mean, var, None, None, 1e-5, False, *shape)
        assert not memory[:start].any()
        assert not memory[start + x.size :].any()
        results.append((forward, y.copy(), mean, var, dw, db))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def run_guarded(at_end: bool) -> None:
    """Run all of it on arrays that end, or begin, beside pages that nobody may touch."""
    import guarded

    def like(x: np.ndarray) -> np.ndarray:
        return guarded.copy(x, at_end)

    for module in (_normalization, _layer_norm):
        module.empty_like = like
    for (shape, groups), dtype, order in itertools.product([*SHAPES, ((2, 3, 2, 1), 3)], DTYPES, ORDERS):
        x = guarded.copy(in_order(normal(shape, dtype), order), at_end)
        for name, kwargs in cases(shape, groups, dtype).values():
            getattr(F, name)(x, **kwargs)
            getattr(F, f"{name}_backward")(x, x, **kwargs)
    print("done")


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(at_end):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_normalization\n"
    printed = output_of("-c", code + f"test_normalization.run_guarded({at_end})", CYCONV_ISA=kernels.ISA)
    assert printed.splitlines()[-1] == "done"


# --------------------------------------------------------------------------------------------------------------- layers

IMAGES = [(4, 6, 5, 7)]
LAYERS = {
    "BatchNorm1d": (lambda n, dtype: n.BatchNorm1d(6, 1e-4, 0.2, **dtype), [(9, 6), (4, 6, 7)]),
    "BatchNorm2d": (lambda n, dtype: n.BatchNorm2d(6, **dtype), IMAGES),
    "BatchNorm2d, cumulative": (lambda n, dtype: n.BatchNorm2d(6, momentum=None, **dtype), IMAGES),
    "BatchNorm2d, not affine": (lambda n, dtype: n.BatchNorm2d(6, affine=False, **dtype), IMAGES),
    "BatchNorm2d, no statistics": (
        lambda n, dtype: n.BatchNorm2d(6, track_running_stats=False, **dtype),
        [(4, 6, 5, 7)],
    ),
    "BatchNorm3d": (lambda n, dtype: n.BatchNorm3d(6, **dtype), [(2, 6, 3, 4, 5)]),
    "InstanceNorm1d": (lambda n, dtype: n.InstanceNorm1d(6, **dtype), [(4, 6, 7), (6, 7)]),
    "InstanceNorm2d": (lambda n, dtype: n.InstanceNorm2d(6, 1e-3, 0.3, True, True, **dtype), [(4, 6, 5, 7), (6, 5, 7)]),
    "InstanceNorm2d, no momentum": (
        lambda n, dtype: n.InstanceNorm2d(6, 1e-3, None, False, True, **dtype),
        [(4, 6, 5, 7)],
    ),
    "InstanceNorm3d": (lambda n, dtype: n.InstanceNorm3d(6, affine=True, **dtype), [(2, 6, 3, 4, 5)]),
    "GroupNorm": (lambda n, dtype: n.GroupNorm(3, 6, 1e-4, **dtype), [(9, 6), (4, 6, 7)]),
    "GroupNorm, not affine": (lambda n, dtype: n.GroupNorm(2, 6, affine=False, **dtype), IMAGES),
    "LayerNorm": (lambda n, dtype: n.LayerNorm(7, **dtype), [(4, 6, 5, 7), (7,)]),
    "LayerNorm, images": (lambda n, dtype: n.LayerNorm((6, 5, 7), 1e-3, **dtype), IMAGES),
    "LayerNorm, no bias": (lambda n, dtype: n.LayerNorm([5, 7], bias=False, **dtype), IMAGES),
    "LayerNorm, not affine": (lambda n, dtype: n.LayerNorm(7, elementwise_affine=False, **dtype), IMAGES),
    "LocalResponseNorm": (lambda n, dtype: n.LocalResponseNorm(5, 0.3, 0.6, 2.0), [(4, 6, 5, 7), (2, 6, 5)]),
}


def agree(actual: Any, expected: Any) -> None:
    """Sums of a few elements whose variance happens to be small are known to fewer digits."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert relative_error(actual, expected, max(1.0, float(np.abs(expected).max()))) <= 1e-12


@pytest.mark.parametrize("name", LAYERS)
def test_layers_as_torch(name):
    """Names, order and values of the state, outputs, gradients, three batches of training, then eval mode."""
    torch = pytest.importorskip("torch")
    make, shapes = LAYERS[name]
    ours, theirs = make(nn, {"dtype": "float64"}), make(torch.nn, {"dtype": torch.float64})
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    rng = np.random.default_rng(0)
    state = {key: value + (rng.random(value.shape) if "num" not in key else 0) for key, value in state.items()}
    ours.load_state_dict(state)
    theirs.load_state_dict({key: torch.as_tensor(value) for key, value in state.items()})
    for step, shape in enumerate(shapes * 3):
        x, grad = normal(shape, "float64", step, shift=1), normal(shape, "float64", step + 10)
        t = torch.from_numpy(x).requires_grad_()
        wanted = theirs(t)
        theirs.zero_grad()
        wanted.backward(torch.from_numpy(grad))
        agree(ours(x), wanted.detach().numpy())
        ours.zero_grad()
        agree(ours.backward(grad), t.grad.numpy())
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            agree(one.grad, other.grad.numpy())
        for key, value in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-12, err_msg=key)
    ours.eval()
    theirs.eval()
    agree(ours(x), theirs(t).detach().numpy())
    with pytest.raises(RuntimeError, match="eval mode forward remembers nothing"):
        ours.backward(grad)


def test_layers_without_an_input_gradient():
    for name, (make, shapes) in LAYERS.items():
        layer, x = make(nn, {"dtype": "float32"}), normal(shapes[0], "float32")
        y = layer(x)
        assert y.dtype == np.float32
        layer.backward(y)
        with_input = [parameter.grad for parameter in layer.parameters()]
        layer.zero_grad()
        layer(x)
        assert layer.backward(y, input_grad=False) is None, name
        for parameter, gradient in zip(layer.parameters(), with_input, strict=True):
            assert_close(parameter.grad, gradient, algorithm="normalization")


def test_a_network_with_batch_norm_learns():
    x, target = normal((64, 3, 6, 6), "float32", shift=5, scale=9), np.arange(64) % 2
    x[target == 1, 0] += 9
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                          nn.Linear(64, 2, rng=1))  # fmt: skip
    loss, optimizer = nn.CrossEntropyLoss(), cyconv.SGD(model.parameters(), 0.1)
    values = []
    for _ in range(20):
        model.zero_grad()
        values.append(loss(model(x), target))
        model.backward(loss.backward(), input_grad=False)
        optimizer.step()
    assert values[-1] < 0.3 * values[0]
    assert int(model[1].num_batches_tracked) == 20


def test_representation():
    assert repr(nn.BatchNorm2d(4)) == "BatchNorm2d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    assert repr(nn.GroupNorm(2, 4)) == "GroupNorm(2, 4, eps=1e-05, affine=True)"
    assert repr(nn.LayerNorm((2, 3))) == "LayerNorm((2, 3), eps=1e-05, elementwise_affine=True)"
    assert repr(nn.LocalResponseNorm(5)) == "LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)"


def test_reset_running_stats():
    layer = nn.BatchNorm1d(3)
    layer(normal((4, 3), "float32"))
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.running_var.tolist() == [1, 1, 1]
    assert layer.num_batches_tracked == 0


# ---------------------------------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("order", ORDERS)
def test_functions_as_torch(order):
    torch = pytest.importorskip("torch")
    for shape, groups in SHAPES[:8]:
        for name, kwargs in cases(shape, groups, "float64").values():
            x, grad = in_order(normal(shape, "float64", shift=1), order), normal(shape, "float64", 1)
            tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
            learned = [tensors[k].requires_grad_() for k in ("weight", "bias") if k in tensors]
            t = torch.from_numpy(x).requires_grad_()
            y = getattr(torch.nn.functional, name)(t, **tensors)
            y.backward(torch.from_numpy(grad))
            agree(getattr(F, name)(x, **kwargs), y.detach().numpy())
            gradients = getattr(F, f"{name}_backward")(grad, x, **kwargs)
            for one, other in zip(gradients, [t, *learned], strict=True):
                agree(one, other.grad.numpy())


# --------------------------------------------------------------------------------------------------------------- errors

X = np.ones((2, 4, 3, 3), np.float32)
W = np.ones(4, np.float32)
FROZEN = np.ones(4, np.float32)
FROZEN.setflags(write=False)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: F.batch_norm(X[0, 0, 0], None, None),
            ValueError,
            "input must have shape (N, C, *spatial)",
        ),
        (
            lambda: F.batch_norm(X, None, None),
            ValueError,
            "running_mean and running_var must be given",
        ),
        (lambda: F.batch_norm(X, W[:3], W), ValueError, "batch_norm: running_mean must have shape (4,), got (3,)"),
        (
            lambda: F.batch_norm(X, W, W, W.astype(float)),
            TypeError,
            "mixed dtypes: input float32, weight float64",
        ),
        (
            lambda: F.batch_norm(X, FROZEN, W, training=True),
            TypeError,
            "running_mean is updated in place",
        ),
        (lambda: F.batch_norm(X, W, [1.0] * 4, training=True), TypeError, "running_var is updated in place"),
        (lambda: F.batch_norm(X, W, W, eps=-1), ValueError, "batch_norm: eps must be at least 0, got -1"),
        (lambda: F.batch_norm(X, W, W, eps=None), TypeError, "batch_norm: eps must be a number, got None"),
        (
            lambda: F.batch_norm(X[:1, :, :1, :1], None, None, training=True),
            ValueError,
            "batch_norm: expected more than 1 value per channel when training, got input of shape (1, 4, 1, 1)",
        ),
        (
            lambda: F.batch_norm_backward(X[:1], X, None, None, training=True),
            ValueError,
            "batch_norm_backward: grad_output must have the shape of input, (2, 4, 3, 3), got (1, 4, 3, 3)",
        ),
        (
            lambda: F.batch_norm_backward(X, X, None, None, training=True, statistics=(np.ones(4), np.ones(4))),
            ValueError,
            "statistics must be what forward returned, two arrays of shape (1, 4), got (4,) and (4,)",
        ),
        (lambda: F.instance_norm(X[..., :1, :1]), ValueError, "instance_norm: expected more than 1 spatial element"),
        (lambda: F.group_norm(X, 3), ValueError, "group_norm: num_groups must divide the 4 channels of input, got 3"),
        (lambda: F.group_norm(X, 2.0), TypeError, "group_norm: num_groups must be an int, got 2.0"),
        (lambda: F.group_norm(X[:1, :1, :1, :1], 1), ValueError, "group_norm: expected more than 1 value per channel"),
        (lambda: F.layer_norm(X, (3, 4)), ValueError, "normalized_shape must be the sizes of the last axes of input"),
        (lambda: F.layer_norm(X, ()), ValueError, "normalized_shape must be the sizes of the last axes of input"),
        (
            lambda: F.layer_norm(X, 3, W),
            ValueError,
            "weight must have the normalized shape, (3,), got (4,)",
        ),
        (lambda: F.local_response_norm(X[0, 0], 3), ValueError, "of at least 3 axes, got (3, 3)"),
        (lambda: F.local_response_norm(X, 0), ValueError, "local_response_norm: size must be at least 1, got 0"),
        (
            lambda: F.local_response_norm(X, 3, beta="1"),
            TypeError,
            "beta must be a number, got '1'",
        ),
        (lambda: nn.BatchNorm2d(4)(X[0]), ValueError, "BatchNorm2d: input must have 4 axes, got shape (4, 3, 3)"),
        (lambda: nn.BatchNorm1d(4)(X), ValueError, "BatchNorm1d: input must have 2 or 3 axes"),
        (lambda: nn.BatchNorm2d(5)(X), ValueError, "batch_norm: running_mean must have shape (4,), got (5,)"),
        (lambda: nn.InstanceNorm2d(5, affine=True)(X), ValueError, "input has 4 channels, num_features is 5"),
        (lambda: nn.GroupNorm(3, 4), ValueError, "GroupNorm: num_groups must divide num_channels, 4, got 3"),
        (lambda: nn.BatchNorm2d(4, dtype=int), TypeError, "BatchNorm2d"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_a_failed_call_leaves_the_running_statistics():
    layer = nn.BatchNorm2d(4)
    with pytest.raises(TypeError):
        layer(X.astype(np.float64))
    assert layer.num_batches_tracked == 0
    assert layer.running_mean.tolist() == [0] * 4


def test_channels_that_nothing_depends_on():
    with pytest.warns(UserWarning, match="input has 4 channels, num_features is 5"):
        nn.InstanceNorm2d(5)(X)


#: Batches of small maps, which are read in slabs of neighbouring channels; stretches, columns, parts.
JOINED = [
    (33, 5, 3, 3),
    (16, 40, 4, 4),
    (70, 3, 1, 1),
    (40, 9, 8, 8),
    (65, 7),
    (17, 130, 2),
    (3, 6, 9, 7),
    (2, 4, 90, 80),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", JOINED)
def test_a_batch_of_small_maps_agrees_with_the_oracle(shape, dtype, order):
    x, grad = in_order(normal(shape, dtype, shift=3), order), in_order(normal(shape, dtype, 1), order)
    for what, (name, kwargs) in cases(shape, 1, dtype).items():
        if what.startswith("batch"):
            check(name, x, grad, kwargs)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", JOINED)
def test_rectified_backward_is_that_of_norm_and_relu(shape, dtype, order):
    """To the last bit: which elements the ReLU let through is found again from the input."""
    x, grad = in_order(normal(shape, dtype, shift=3), order), in_order(normal(shape, dtype, 1), order)
    weight, bias = normal(shape[1], dtype, 2), normal(shape[1], dtype, 3)
    mean, var = normal(shape[1], dtype, 4, shift=3), np.abs(normal(shape[1], dtype, 5)) + np.asarray(0.5, dtype)
    for arguments in ((None, None, weight, bias, True), (None, None, None, None, True), (mean, var, weight, bias)):
        y = F.batch_norm(x, *arguments, rectified=True)
        assert 0.1 < (y > 0).mean() < 0.9
        (through,) = F.relu_backward(grad, None, output=y)
        wanted = F.batch_norm_backward(through, x, *arguments)
        for got in (
            F.batch_norm_backward(grad, x, *arguments, rectified=True),
            F.batch_norm_backward(through.copy("K"), x, *arguments),
        ):
            for one, other in zip(got, wanted, strict=True):
                np.testing.assert_array_equal(one, other)
        assert F.batch_norm_backward(grad, x, *arguments, rectified=True, input_grad=False)[0] is None


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", JOINED)
def test_a_gradient_may_be_written_over(shape, order):
    x, grad = in_order(normal(shape, "float32"), order), in_order(normal(shape, "float32", 1), order)
    weight = normal(shape[1], "float32", 2)
    wanted = F.batch_norm_backward(grad, x, None, None, weight, weight, True, rectified=True)
    own = grad.copy("K")
    got = F.batch_norm_backward(own, x, None, None, weight, weight, True, rectified=True, out=own)
    assert np.shares_memory(got[0], own)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    locked = grad.copy("K")
    locked.flags.writeable = False
    np.testing.assert_array_equal(
        F.batch_norm_backward(locked, x, None, None, weight, weight, True, rectified=True, out=locked)[0], wanted[0]
    )
    with pytest.raises(ValueError, match="batch_norm_backward: out must be grad_output itself, got another array"):
        F.batch_norm_backward(grad, x, None, None, weight, weight, True, out=own)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", JOINED)
def test_another_array_is_added_before_the_relu(shape, dtype, order):
    x, weight = in_order(normal(shape, dtype), order), normal(shape[1], dtype, 2)
    other = normal(shape, dtype, 3)
    alone = F.batch_norm(x, None, None, weight, weight, True)
    given = (x, None, None, weight, weight, True)
    for added in (other, in_order(other, order), other[..., ::-1][..., ::-1]):
        np.testing.assert_array_equal(F.batch_norm(*given, other=added), alone + other)
        np.testing.assert_array_equal(F.batch_norm(*given, other=added, rectified=True), np.maximum(alone + other, 0))
    with pytest.raises(ValueError, match="batch_norm: other must have the shape of input"):
        F.batch_norm(*given, other=other[:-1])
    with pytest.raises(TypeError, match="batch_norm: mixed dtypes: other"):
        F.batch_norm(*given, other=other.astype("float64" if dtype == "float32" else "float32"))


def test_running_statistics_that_no_kernel_can_write_into():
    """Of another byte order, with gaps: they are moved all the same."""
    x = normal((4, 3, 5, 5), "float32")
    plain = [np.zeros(3, np.float32), np.ones(3, np.float32)]
    F.batch_norm(x, *plain, None, None, True)
    swapped = [np.zeros(3, ">f4"), np.ones(3, ">f4")]
    F.batch_norm(x, *swapped, None, None, True)
    gaps = [np.zeros(6, np.float32)[::2], np.ones(6, np.float32)[::2]]
    F.batch_norm(x, *gaps, None, None, True)
    for one, two, three in zip(plain, swapped, gaps, strict=True):
        assert two.dtype == np.dtype(">f4")
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
