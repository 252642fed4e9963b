"""Transposed convolution against the oracle, torch, paper and pencil, and the convolution that it is the adjoint of."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, cut_work, in_order, target
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close
from transposed_cases import arrays, check, geometry_of, suits, table

import cyconv
from cyconv import _plan, _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _conv, _conv_adjoint

ALGORITHMS = sorted(_conv.ENGINES)


@pytest.fixture
def fresh_engines(monkeypatch):
    monkeypatch.setattr(_conv, "_engines", {})


@pytest.fixture
def walks(fresh_engines, monkeypatch):
    """A list that collects the plans of all walks of the register tile."""
    made, kernel = [], kernels.load("direct")
    real = kernel.Walk

    def recorder(**plan):
        made.append(SimpleNamespace(**plan))
        return real(**plan)

    monkeypatch.setattr(kernel, "Walk", recorder)
    return made


# ---------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "reference"])
def test_by_hand(algorithm):
    """Numbers that fit on a sheet of paper: x = (1, 2), kernel (1, 10, 100)."""
    x, w = np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]])
    for how, wanted in (
        ({}, [1, 12, 120, 200]),
        ({"bias": np.array([0.5])}, [1.5, 12.5, 120.5, 200.5]),
        ({"stride": 2}, [1, 10, 102, 20, 200]),
        ({"stride": 2, "output_padding": 1}, [1, 10, 102, 20, 200, 0]),
        ({"stride": 2, "output_size": 6}, [1, 10, 102, 20, 200, 0]),
        ({"stride": 2, "padding": 1}, [10, 102, 20]),
        ({"stride": 2, "padding": 1, "output_padding": 1}, [10, 102, 20, 200]),
        ({"stride": 2, "padding": ((0, 2),)}, [1, 10, 102]),
        ({"stride": 2, "padding": "same"}, [1, 10, 102, 20]),
        ({"stride": 2, "padding": "same_lower"}, [10, 102, 20, 200]),
        ({"dilation": 2}, [1, 2, 10, 20, 100, 200]),
        ({"dilation": 2, "output_padding": 1}, [1, 2, 10, 20, 100, 200, 0]),
        ({"stride": 4}, [1, 10, 100, 0, 2, 20, 200]),
    ):
        np.testing.assert_array_equal(F.conv_transpose1d(x, w, **how, algorithm=algorithm), [wanted], err_msg=str(how))
    # y = (x0 w0, x0 w1, x0 w2 + x1 w0, x1 w1, x1 w2): every gradient is read off that.
    dy = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    dx, dw, db = F.conv_transpose1d_backward(dy, x, w, np.zeros(1), 2, algorithm=algorithm)
    np.testing.assert_array_equal(dx, [[1 + 20 + 300, 3 + 40 + 500]])
    np.testing.assert_array_equal(dw, [[[1 * 1 + 2 * 3, 1 * 2 + 2 * 4, 1 * 3 + 2 * 5]]])
    np.testing.assert_array_equal(db, [15])


def test_groups_by_hand():
    """Two groups of one input and two outputs each: weight[c, k] is a 1 x 1 kernel."""
    x = np.array([1.0, 10.0]).reshape(2, 1, 1)
    w = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    y = F.conv_transpose2d(x, w, np.array([0, 0, 0, 0.5]), groups=2)
    np.testing.assert_array_equal(y[:, 0, 0], [1, 2, 30, 40.5])


# ------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("algorithm", "dtype", "name"),
    [
        (algorithm, dtype, name)
        for algorithm in ("auto", *ALGORITHMS)
        for dtype in DTYPES
        for name, case in table(dtype).items()
        if algorithm == "auto" or suits(*case, algorithm, "C") or suits(*case, algorithm, "channels-last")
    ],
)
def test_every_algorithm_agrees_with_the_oracle(algorithm, dtype, name, order):
    x, weight, how = table(dtype)[name]
    if algorithm != "auto" and not suits(x, weight, how, algorithm, order):
        with pytest.raises(ValueError, match=f"algorithm '{algorithm}' cannot compute this convolution: "):
            getattr(F, f"conv_transpose{len(weight) - 2}d")(
                *arrays(x, weight, how.get("groups", 1), order=order), **how, algorithm=algorithm
            )
        return
    check(x, weight, how, dtype=dtype, order=order, algorithm=algorithm, bias=len(name) % 3 > 0)


@st.composite
def geometries(draw, rank=None):
    """A transposed convolution with pixels in its output: (input, weight, arguments)."""
    rank = draw(st.integers(1, 3)) if rank is None else rank
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, stride, dilation = each(1, 5 if rank < 3 else 3), each(1, 4), each(1, 3)
    padding = draw(
        st.one_of(
            st.sampled_from(["same", "same_lower", "valid"]),
            st.integers(0, 2),
            st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * rank),
        )
    )
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    size = list(each(1, 9 if rank < 3 else 4))
    if not isinstance(padding, str):
        sides = padding if isinstance(padding, tuple) else ((padding, padding),) * rank
        for i, (low, high) in enumerate(sides):
            while (size[i] - 1) * stride[i] - low - high + dilation[i] * (kernel[i] - 1) + 1 < 1:
                size[i] += 1
    if draw(st.booleans()):
        size[-1] += 20
    channels = groups * draw(st.integers(1, 5)), draw(st.integers(1, 20))
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    how = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "groups": groups,
        "dilation": dilation,
    }
    return (*batch, channels[0], *size), (*channels, *kernel), how


@given(geometries(), st.booleans(), st.sampled_from(DTYPES), st.sampled_from(ORDERS), st.sampled_from(ALGORITHMS))
def test_any_geometry(case, bias, dtype, order, algorithm):
    if not suits(*case, algorithm, order):
        algorithm = "auto"
    check(*case, bias=bias, dtype=dtype, order=order, algorithm=algorithm)


@given(
    geometries(),
    st.sampled_from(DTYPES),
    st.integers(1, 60),
    st.integers(1, 4000),
    st.integers(1, 9),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
)
def test_any_cut_of_the_work(case, dtype, pixels, source_bytes, terms, tasks, over_pixels, paired):
    """Blocks, stretches and tasks of any size give the same answer: kernels rely on no number that plans use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_conv, "_engines", {})
        cut_work(patch, BLOCK_PIXELS=pixels, BLOCK_BYTES=source_bytes, STRETCH_TERMS=terms, TASKS=tasks)
        patch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: over_pixels)
        patch.setattr(_plan.direct, "_prefer_pairs", lambda *_: paired)
        patch.setattr(_settings, "SERIAL_WORK", 0)
        check(*case, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_reaches_every_form_of_the_walk(walks, dtype):
    for x, weight, how in table(dtype).values():
        for order in ORDERS:
            rank = len(weight) - 2
            given = arrays(x, weight, how.get("groups", 1), dtype=dtype, order=order)
            getattr(F, f"conv_transpose{rank}d")(*given, **how, algorithm="direct")
    assert not any(plan.weight_rows for plan in walks)
    divided = [plan.depth[4] > 1 for plan in walks]
    phases = [len(plan.phases) > 1 for plan in walks]
    over_pixels = [plan.pixel_vectors for plan in walks]
    reached = set(zip(divided, phases, over_pixels, strict=True))
    assert reached == set(itertools.product([False, True], repeat=3))
    assert any(not phase[2] for plan in walks for phase in plan.phases)  # output pixels without a tap
    assert any(plan.pixel_vectors and len(plan.phases) > 1 and plan.out[2] > plan.block[0] for plan in walks)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_phases_of_a_row_at_once(walks, monkeypatch, dtype):
    """Rows of a part of a vector, of vectors and of more; all numbers of channels that a tile has, and beyond."""
    monkeypatch.setattr(_plan.direct, "_prefer_pairs", lambda *_: True)
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    lanes = target(dtype).lanes
    two, inside = {"stride": 2}, {"stride": 2, "padding": 1}
    for x, weight, how in (
        ((2, 3, 3, max(1, lanes // 2 - 1)), (3, 1, 2, 2), two),
        ((1, 3, 3, lanes - 1), (3, 2, 4, 4), inside),
        ((1, 3, 3, lanes), (3, 3, 4, 4), inside),
        ((1, 3, 3, lanes + 1), (3, 4, 2, 2), two),
        ((3, 2, 5, 4 * lanes + 3), (2, 9, 4, 4), inside),
        ((1, 2, 3, lanes), (2, 2, 3, 2), {"stride": (3, 2)}),
        ((1, 2, 4, lanes), (2, 3, 4, 4), {"stride": 2, "dilation": 3}),
        ((1, 4, 3, lanes), (4, 6, 2, 2), {"stride": 2, "groups": 2}),
        ((1, 2, 901), (2, 5, 4), inside),
        ((1, 2, 3, 3, lanes + 2), (2, 3, 4, 4, 4), inside),
    ):
        with cyconv.threads(1):
            check(x, weight, how, dtype=dtype)
        name, given = f"conv_transpose{len(weight) - 2}d", arrays(x, weight, how.get("groups", 1), dtype=dtype)
        bits = []
        for n in (1, 2):
            with cyconv.threads(n):
                bits.append(getattr(F, name)(*given, **how, algorithm="direct"))
        np.testing.assert_array_equal(*bits, strict=True)
    assert {plan.paired for plan in walks if not plan.weight_rows} == {target(dtype).pair_channels > 0}


@pytest.mark.parametrize("dtype", DTYPES)
def test_patches_of_pixels(walks, monkeypatch, dtype):
    """Kernels as large as the stride: tiles over the ends of rows, of depths and of many rows, and part of one."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    lanes, pairs = target(dtype).lanes, target(dtype).pair_channels
    cases = [
        ((2, 3, 1, lanes), (3, 1, 2, 2), {"stride": 2}),
        ((2, 3, 4, lanes // 2 + 3), (3, 9, 2, 2), {"stride": 2}),
        ((1, 5, 2 * lanes, 1), (5, 3, 2, 2), {"stride": 2}),
        ((1, 4, 5, 4 * lanes + 3), (4, 6, 3, 2), {"stride": (3, 2), "groups": 2}),
        ((1, 3, 61, 3 * lanes), (3, 5, 2, 2), {"stride": 2}),  # several stretches
        ((3, 2, 16 * 49 * lanes + 5), (2, 13, 2), {"stride": 2}),
        ((2, 3, 3, 5, lanes + 2), (3, 6, 2, 2, 2), {"stride": 2}),
        ((1, 3, 3, 4, 7), (3, 2, 3, 1, 2), {"stride": (3, 1, 2)}),
    ]
    for x, weight, how in cases:
        with cyconv.threads(1):
            check(x, weight, how, dtype=dtype)
        name, given = f"conv_transpose{len(weight) - 2}d", arrays(x, weight, how.get("groups", 1), dtype=dtype)
        bits = []
        for n in (1, 2):
            with cyconv.threads(n):
                bits.append(getattr(F, name)(*given, **how, algorithm="direct"))
        np.testing.assert_array_equal(*bits, strict=True)
    patched = [plan.paired and plan.grid is not None for plan in walks if not plan.weight_rows]
    assert patched == [pairs > 0] * len(cases)
    # Not so: rows behind, padding, more taps than the stride has steps, few pixels, many terms.
    walks.clear()
    for x, weight, how in (
        ((2, 3, 4, lanes), (3, 4, 2, 2), {"stride": 2, "output_padding": 1}),
        ((2, 3, 4, lanes), (3, 4, 2, 2), {"stride": 2, "padding": (1, 0)}),
        ((2, 3, 4, lanes), (3, 4, 3, 2), {"stride": 2}),
        ((2, 3, 1, lanes - 1), (3, 4, 2, 2), {"stride": 2}),
        ((1, _plan.direct.PATCH_TERMS + 1, 4, lanes), (_plan.direct.PATCH_TERMS + 1, 4, 2, 2), {"stride": 2}),
    ):
        check(x, weight, how, dtype=dtype)
    assert not any(plan.paired and plan.grid is not None for plan in walks)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((5, 3, 1, 1), (3, 4, 4, 4)),
        ((1, 3, 1, 1), (3, 40, 3, 2)),
        ((0, 3, 1, 1), (3, 2, 2, 2)),
        ((3, 1, 1), (3, 2, 4, 4)),
        ((31, 2, 1), (2, 3, 5)),
        ((2, 2, 1, 1, 1), (2, 3, 2, 3, 1)),
    ],
    ids=str,
)
def test_single_pixels_are_a_product_of_matrices(fresh_engines, x, weight, dtype):
    for stride in (1, 3):
        check(x, weight, {"stride": stride}, dtype=dtype)
        work = _conv.engine(geometry_of(x, weight, stride), np.dtype(dtype), False, "direct")
        assert type(work) is (_conv_adjoint.OnePixel if x[0] else _conv_adjoint.Transposed)


@pytest.mark.parametrize("order", ORDERS)
def test_long_rows_add_up_to_a_bias_gradient_in_double_precision(order):
    """A running float32 sum would be off by more."""
    assert abs(np.add.accumulate(np.full(20 * _conv_adjoint.LONG_ROW, 0.1, np.float32))[-1] / 4096 - 1) > 1e-5
    length = 20 * _conv_adjoint.LONG_ROW
    dy = in_order(np.full((1, 3, length), 0.1, np.float32), order)
    x = in_order(np.zeros((1, 2, length), np.float32), order)
    _, _, db = F.conv_transpose1d_backward(dy, x, np.zeros((2, 3, 1), np.float32), np.zeros(3, np.float32))
    np.testing.assert_allclose(db, np.float64(np.float32(0.1)) * length, rtol=1e-6)


# ------------------------------------------------------------------------------------ gradients without the oracle


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col"])
@pytest.mark.parametrize("padding", [0, 1, ((0, 2), (1, 0)), "same", "same_lower", "valid"], ids=str)
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "groups"), [((3, 3), 1, 1, 1), ((3, 2), (2, 3), 1, 2), ((2, 4), 3, (1, 2), 1)]
)
def test_it_is_the_adjoint_of_the_convolution(kernel, stride, dilation, groups, padding, algorithm, order):
    """⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩ for every length of x that the convolution takes, asked for by output_size."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 4 // groups, *kernel))
    for size in itertools.product(range(9, 12), range(10, 13)):
        x = in_order(rng.standard_normal((2, 4, *size)), order)
        y = F.conv2d(x, weight, None, stride, padding, dilation, groups, algorithm=algorithm)
        dy = in_order(rng.standard_normal(y.shape), order)
        how = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation, "output_size": size}
        back = F.conv_transpose2d(dy, weight, **how, algorithm=algorithm)
        product = np.vdot(y, dy)
        assert abs(product) > 1e-3
        assert np.vdot(x, back) == pytest.approx(product, rel=1e-11)
        # It is that convolution's input gradient, whose own gradient is the convolution.
        dx, dw = F.conv2d_backward(dy, x, weight, None, stride, padding, dilation, groups, algorithm=algorithm)
        assert_close(back, dx, algorithm="winograd_f4")
        ddy, dw_of_it = F.conv_transpose2d_backward(x, dy, weight, None, **how, algorithm=algorithm)
        assert_close(ddy, y, algorithm="winograd_f4")
        assert_close(dw_of_it, dw)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "winograd_f2", "depthwise"])
def test_directional_differences(algorithm):
    how = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "output_padding": (1, 0), "groups": 2, "dilation": (1, 2)}
    x, weight = (2, 4, 5, 6), (4, 3, 3, 2)
    if algorithm in ("winograd_f2", "depthwise"):
        how = {"padding": ((1, 0), (0, 2)), "groups": 4 if algorithm == "depthwise" else 1}
        weight = (4, 1 if algorithm == "depthwise" else 3, 3, 3)
    at = list(arrays(x, weight, how["groups"]))
    rng = np.random.default_rng(3)
    dy = rng.standard_normal(F.conv_transpose2d(*at, **how).shape)
    for i, gradient in enumerate(F.conv_transpose2d_backward(dy, *at, **how, algorithm=algorithm)):
        direction = rng.standard_normal(at[i].shape)
        ends = []
        for h in (1e-4, -1e-4):
            moved = [*at]
            moved[i] = at[i] + h * direction
            ends.append(np.vdot(F.conv_transpose2d(*moved, **how, algorithm=algorithm), dy))
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(np.vdot(gradient, direction), rel=1e-8)


def test_input_grad_false_leaves_only_that_out():
    given = arrays((2, 3, 4, 5), (3, 2, 3, 3))
    dy = np.ones((2, 2, 9, 11))
    full = F.conv_transpose2d_backward(dy, *given, 2)
    part = F.conv_transpose2d_backward(dy, *given, 2, input_grad=False)
    assert part[0] is None
    for mine, theirs in zip(part[1:], full[1:], strict=True):
        np.testing.assert_array_equal(mine, theirs)


# -------------------------------------------------------------------------------------- what must not change the answer

SHARED = [
    ((3, 37, 9, 8), (37, 5, 4, 4), {"stride": 2, "padding": 1}),
    ((5, 3, 11, 12), (3, 2, 3, 3), {"stride": (2, 3), "output_padding": (1, 2)}),
    ((2, 6, 15, 14), (6, 4, 3, 3), {"padding": 1}),
    ((2, 24, 12, 10), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    ((2, 6, 15, 14), (6, 40, 2, 3), {"groups": 2, "dilation": 2, "stride": 2}),
    ((2, 3, 200), (3, 40, 8), {"stride": 4}),
    ((2, 5, 6, 5, 7), (5, 20, 4, 3, 2), {"stride": (2, 1, 3)}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", SHARED, ids=str)
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, case, algorithm, order, dtype):
    if not suits(*case, algorithm, order):
        algorithm = "auto"
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    x, weight, how = case
    name = f"conv_transpose{len(weight) - 2}d"
    given = arrays(x, weight, how.get("groups", 1), dtype=dtype, order=order)

    def results():
        y = getattr(F, name)(*given, **how, algorithm=algorithm)
        return y, *getattr(F, f"{name}_backward")(y, *given, **how, algorithm=algorithm)

    with cyconv.threads(1):
        alone = results()
    for n in (2, 3):
        with cyconv.threads(n):
            for one, other in zip(results(), alone, strict=True):
                np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize(
    "make", [np.asfortranarray, lambda a: np.flip(np.flip(a, -1).copy(), -1), lambda a: np.repeat(a, 2, 1)[:, ::2]]
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_other_memory_orders_are_copied(make, which):
    given = list(arrays((2, 6, 4, 5), (6, 3, 3, 3)))
    want = reference.conv_transpose2d(*given, 2)
    if which == 2:
        given[2] = np.repeat(given[2], 2)[::2]
    else:
        given[which] = make(given[which])
    assert not given[which].flags.c_contiguous
    assert_close(F.conv_transpose2d(*given, 2), want)


def test_nan_reaches_exactly_the_outputs_under_its_kernel():
    x = np.ones((1, 2, 4, 40))
    x[0, 1, 2, 7] = np.nan
    for outputs in (2, 20):
        y = F.conv_transpose2d(x, np.ones((2, outputs, 3, 3)), None, 2, 1, algorithm="direct")
        touched = np.zeros(y.shape, bool)
        touched[:, :, 3:6, 13:16] = True
        np.testing.assert_array_equal(np.isnan(y), touched)


# ------------------------------------------------------------------------------------------------- choice of algorithm


@pytest.mark.parametrize("shape", [(1, 8, 9, 9), (4, 64, 30, 30), (1, 16, 56, 40)], ids=str)
@pytest.mark.parametrize("outputs", [3, 32, 100])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("precision", ["high", "strict"])
def test_three_by_three_goes_where_the_convolution_goes(shape, outputs, fresh, precision):
    """A transposed convolution of stride 1 is a convolution with flipped, swapped weights, and chosen like one."""
    geometry = geometry_of(shape, (shape[1], outputs, 3, 3), padding=1)
    twin = _conv.conv_geometry("conv2d", 2, shape, (outputs, shape[1], 3, 3), None, 1, ((1, 1), (1, 1)), 1, 1, "zeros")
    lanes = target("float32").lanes
    for algorithm in (_plan.choose(geometry, "f", lanes, precision, False, fresh),):
        assert algorithm == _plan.choose(twin, "f", lanes, precision, False, fresh)
    if shape == (4, 64, 30, 30) and outputs == 100 and precision == "high":
        assert algorithm[0].startswith("winograd")


def test_auto_takes_another_algorithm_for_the_gradients_where_that_is_better(fresh_engines):
    """A depthwise one of padding beyond its kernel goes by direct summation, its gradients by the depthwise kernels."""
    how = {"padding": ((3, 0), (0, 0)), "groups": 5}
    work = _conv.engine(geometry_of((2, 5, 8, 9), (5, 1, 3, 3), **how), np.dtype("f"), False)
    assert (work.name, work._back().name) == ("direct", "depthwise")
    for last in (False, True):
        how = {"stride": 2, "padding": 1, "groups": 5, "output_padding": 1}
        work = _conv.engine(geometry_of((2, 5, 8, 9), (5, 1, 3, 3), **how), np.dtype("f"), last)
        assert (work.name, work._back().name) == ("depthwise", "depthwise")
        how["stride"] = (3, 2)
        work = _conv.engine(geometry_of((2, 5, 8, 9), (5, 1, 3, 3), **how), np.dtype("f"), last)
        assert (work.name, work._back().name) == (("depthwise", "depthwise") if last else ("direct", "direct"))
    work = _conv.engine(geometry_of((2, 5, 8, 9), (5, 1, 3, 3), groups=5), np.dtype("f"), False)
    assert (work.name, work._back().name) == ("depthwise", "depthwise")
    work = _conv.engine(geometry_of((2, 5, 8, 9), (5, 2, 3, 3), groups=5), np.dtype("f"), False, "depthwise")
    assert (work.name, work._back().name) == ("depthwise", "direct")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithm_asked_for_runs(fresh_engines, algorithm):
    groups = 3 if algorithm == "depthwise" else 1
    geometry = geometry_of((2, 3, 6, 19), (3, 1, 3, 3), groups=groups, padding=1)
    assert _conv.engine(geometry, np.dtype("f"), False, algorithm).name == algorithm
    # The reference has no engine of the convolution behind it.
    if algorithm != "reference":
        assert _conv.engine(geometry, np.dtype("f"), False, algorithm)._back().name == algorithm
    with cyconv.configure(algorithm=algorithm):
        work = _conv.engine(geometry, np.dtype("f"), False)
        assert work.name == algorithm
        assert algorithm == "reference" or work._back().name == algorithm


def test_a_small_workspace_goes_by_im2col(fresh_engines):
    geometry = geometry_of((1, 600, 20, 20), (600, 64, 3, 3), stride=2)
    with cyconv.configure(max_workspace=1 << 16):
        work = _conv.engine(geometry, np.dtype("f"), False)
        assert work.name == "im2col"
        with pytest.raises(ValueError, match=r"conv_transpose2d: algorithm 'direct' needs a workspace of [\d,]+ bytes"):
            _conv.engine(geometry, np.dtype("f"), False, "direct")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rectified_with_packed_weights(algorithm, order, dtype):
    groups = 3 if algorithm == "depthwise" else 1
    x, weight, bias = arrays((2, 3, 6, 19), (3, 1, 3, 3), groups, dtype=dtype, order=order)
    geometry = geometry_of(x.shape, weight.shape, groups=groups, padding=1)
    work = _conv.engine(geometry, x.dtype, order != "C", algorithm)
    want = reference.conv_transpose2d(x, weight, bias, 1, 1, 0, groups)
    packed = work.pack(weight)
    for _ in range(2):
        got = work.forward(x, weight, bias, packed, True)
        assert_close(got, np.maximum(want, 0), algorithm=algorithm)
        assert (got == 0).any()
        np.testing.assert_array_equal(work.forward(x, weight, bias, packed), work.forward(x, weight, bias))


# ---------------------------------------------------------------------------------------------------------------- torch

TORCH = [
    ((2, 3, 5, 6), (3, 4, 3, 2), {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}),
    ((2, 6, 5, 4), (6, 3, 3, 3), {"groups": 3, "stride": 2, "dilation": (2, 1), "padding": 1}),
    ((2, 3, 5, 4), (3, 4, 2, 2), {"dilation": 3, "output_padding": 2}),
    ((1, 16, 9, 9), (16, 40, 3, 3), {"padding": 1}),
    ((2, 5, 9, 8), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    ((3, 5, 4), (3, 4, 3, 3), {"stride": 2}),
    ((2, 3, 17), (3, 5, 4), {"stride": 3, "padding": 1, "output_padding": 2}),
    ((2, 3, 4, 3, 5), (3, 4, 3, 2, 4), {"stride": (2, 1, 2), "padding": (1, 0, 1), "output_padding": (1, 0, 0)}),
]


@pytest.mark.parametrize(("x", "weight", "how"), TORCH)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch(x, weight, how, bias, dtype):
    torch = pytest.importorskip("torch")
    name = f"conv_transpose{len(weight) - 2}d"
    given = arrays(x, weight, how.get("groups", 1), bias, dtype)
    tensors = [None if a is None else torch.from_numpy(a).requires_grad_() for a in given]
    wanted = getattr(torch.nn.functional, name)(*tensors, **how)
    got = getattr(F, name)(*given, **how)
    assert_close(got, wanted.detach().numpy(), algorithm="winograd_f4")
    dy = np.random.default_rng(2).standard_normal(got.shape).astype(dtype)
    wanted.backward(torch.from_numpy(dy))
    # The arguments stand in the same places, too.
    places = [how.get(n, d) for n, d in zip(("stride", "padding", "output_padding"), (1, 0, 0), strict=True)]
    places += [how.get("groups", 1), how.get("dilation", 1)]
    back = getattr(F, f"{name}_backward")(dy, *given, *places)
    for mine, its in zip(back, (t for t in tensors if t is not None), strict=True):
        assert_close(mine, its.grad.numpy(), algorithm="winograd_f4", scale=max(1, float(its.grad.abs().max())) * 3)
