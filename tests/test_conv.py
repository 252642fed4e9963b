"""Convolution kernels against the oracle: every dtype, memory order and algorithm, at sizes where kernels go wrong."""

from types import SimpleNamespace

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, Case, awkward, case_for, check, cut_work, expected, in_order, suits, target
from hypothesis import given
from hypothesis import strategies as st

from cyconv import _plan, _settings
from cyconv import functional as F
from cyconv.functional import _conv, _conv_im2col

ALGORITHMS = sorted(_conv.ENGINES)
#: Every awkward case with every algorithm and memory order that it can be computed by.
TABLE = [
    (algorithm, dtype, name, order)
    for algorithm in ALGORITHMS
    for dtype in DTYPES
    for name, case in awkward(dtype).items()
    for order in ORDERS
    if suits(case, algorithm, order) and algorithm != "reference"
]


# ---------------------------------------------------------------------------------------------------- the awkward table


@pytest.mark.parametrize(("algorithm", "dtype", "name", "order"), TABLE)
def test_a_kernel_agrees_with_the_oracle(algorithm, dtype, name, order):
    check(awkward(dtype)[name], dtype, order, algorithm)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(None, 4, 6, (5, 7), (2, 3), (2, 1), ((1, 0), (0, 2)), (1, 2), 2),
        Case(0),
        Case(bias=False),
    ],
    ids=str,
)
def test_the_reference_can_be_asked_for(case, dtype, order):
    check(case, dtype, order, "reference")


def test_by_hand():
    """No oracle here: numbers that fit on a sheet of paper, in every algorithm."""
    ramp = np.arange(16.0).reshape(1, 1, 4, 4)
    for algorithm in ("auto", "direct", "im2col", "reference"):
        got = F.conv2d(ramp, np.ones((1, 1, 2, 2)), np.array([0.5]), 2, algorithm=algorithm)
        np.testing.assert_array_equal(got, [[[[10.5, 18.5], [42.5, 50.5]]]])
        dx, dw, db = F.conv2d_backward(got, ramp, np.full((1, 1, 2, 2), 2.0), np.zeros(1), 2, algorithm=algorithm)
        np.testing.assert_array_equal(dx[0, 0], np.kron(got[0, 0], np.full((2, 2), 2.0)))
        np.testing.assert_array_equal(
            dw[0, 0],
            [
                [10.5 * 0 + 18.5 * 2 + 42.5 * 8 + 50.5 * 10, 10.5 * 1 + 18.5 * 3 + 42.5 * 9 + 50.5 * 11],
                [10.5 * 4 + 18.5 * 6 + 42.5 * 12 + 50.5 * 14, 10.5 * 5 + 18.5 * 7 + 42.5 * 13 + 50.5 * 15],
            ],
        )
        np.testing.assert_array_equal(db, [122.0])


# ------------------------------------------------------------------------------------------------- geometries at random


@st.composite
def cases(draw):
    """A convolution that fits, small enough for hundreds of them."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, most), st.integers(1, most))) for most in (5, 4, 3))
    padding = draw(
        st.one_of(
            st.sampled_from(["same", "same_lower", "valid"]),
            st.integers(0, 3),
            st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
        )
    )
    sides = padding if isinstance(padding, tuple) else ((padding if isinstance(padding, int) else 0,) * 2,) * 2
    least = [max(d * (r - 1) + 1 - low - high, 1) for r, d, (low, high) in zip(kernel, dilation, sides, strict=True)]
    size = tuple(low + draw(st.integers(0, extra)) for low, extra in zip(least, (12, 40), strict=True))
    return Case(
        draw(st.sampled_from([1, 2, 3, 0, None])),
        groups * draw(st.integers(1, 5)),
        groups * draw(st.integers(1, 40)),
        size,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        draw(st.booleans()),
    )


@given(cases(), st.sampled_from(DTYPES), st.sampled_from(ORDERS), st.sampled_from(["direct", "im2col"]))
def test_any_geometry(case, dtype, order, algorithm):
    check(case, dtype, order, algorithm)


@given(
    cases(),
    st.sampled_from(DTYPES),
    st.sampled_from(ORDERS),
    st.integers(1, 60),
    st.integers(1, 4000),
    st.integers(1, 9),
    st.integers(1, 40),
    st.booleans(),
)
def test_any_cut_of_the_work(case, dtype, order, pixels, source_bytes, terms, tasks, over_pixels):
    """Blocks, stretches and tasks of any size give the same answer: kernels rely on no number that plans use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_conv, "_engines", {})
        cut_work(patch, BLOCK_PIXELS=pixels, BLOCK_BYTES=source_bytes, STRETCH_TERMS=terms, TASKS=tasks)
        patch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: over_pixels)
        patch.setattr(_settings, "SERIAL_WORK", 0)
        check(case, dtype, order, "direct")


@pytest.mark.parametrize(
    ("constant", "number", "plan", "case", "cut"),
    [
        ("BLOCK_PIXELS", 20, "forward", Case(1, 20, 96, (40, 20)), "block"),
        ("BLOCK_BYTES", 900, "forward", Case(1, 20, 96, (40, 20), padding=1), "block"),
        ("STRETCH_TERMS", 5, "forward", Case(1, 3, 40, (40, 20)), "reduction"),
        ("TASKS", 1, "forward", Case(1, 3, 400, (8, 8)), "task_blocks"),
        ("BLOCK_PIXELS", 20, "weight_gradient", Case(1, 3, 40, (40, 20)), "block"),
        ("BLOCK_PIXELS", 16, "weight_gradient", Case(40, 3, 40, (5, 5)), "block_images"),
        ("BLOCK_BYTES", 4096, "weight_gradient", Case(4, 300, 40, (9, 9)), "task_channels"),
        ("TASKS", 1, "weight_gradient", Case(16, 3, 8, (40, 40)), "chunks"),
    ],
)
def test_cutting_the_work_reaches_the_plans_of_every_pass(constant, number, plan, case, cut):
    """What the draws above bend is what plans read: it would be of no use, and nobody would see it, otherwise."""

    def planned():
        return getattr(_plan, plan)(case.geometry(), target("float32"), False)[1][cut]

    before = planned()
    with pytest.MonkeyPatch.context() as patch:
        cut_work(patch, **{constant: number})
        assert planned() != before
    assert planned() == before


@given(cases(), st.sampled_from(DTYPES), st.sampled_from(ORDERS), st.integers(1, 20_000))
def test_any_workspace_for_im2col(case, dtype, order, workspace):
    """Columns made for a few pixels at a time, or for all of them at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_conv, "_engines", {})
        patch.setattr(_settings, "SERIAL_WORK", 0)
        # Less than users may set: only the kernel is told of it.
        told = SimpleNamespace(max_workspace=lambda: workspace, threads_for=_settings.threads_for)
        patch.setattr(_conv_im2col, "_settings", told)
        check(case, dtype, order, "im2col")


# ----------------------------------------------------------------------------- gradients without the oracle's gradients


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 3, 5, (9, 8), (3, 2), (2, 3), ((0, 2), (1, 0)), (2, 1), bias=False),
        Case(1, 6, 40, (11, 17), padding=1, groups=2, bias=False),
        Case(2, 4, 3, (5, 37), (1, 1), bias=False),
    ],
    ids=str,
)
def test_adjoint_identity(case, algorithm, order):
    """⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩, and = ⟨w, gradient of w⟩, since conv is linear in x and in w."""
    x, weight, _, y = case.arrays("float64", order)
    dx, dw = F.conv2d_backward(y, x, weight, None, *case.how, algorithm=algorithm)
    product = np.vdot(F.conv2d(x, weight, None, *case.how, algorithm=algorithm), y)
    size = np.sqrt(np.sum(x * x) * np.sum(dx * dx))
    assert abs(product - np.vdot(x, dx)) < 1e-14 * size
    assert abs(product - np.vdot(weight, dw)) < 1e-14 * size
    assert abs(product) > 1e-6 * size  # not 0 = 0


@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
def test_directional_differences(algorithm):
    case = Case(2, 4, 6, (7, 9), (3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2), 2)
    x, weight, bias, grad = case.arrays("float64")
    gradients = F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm)
    rng = np.random.default_rng(0)
    at = [x, weight, bias]
    for i, gradient in enumerate(gradients):
        direction = rng.standard_normal(at[i].shape)
        ends = []
        for h in (1e-4, -1e-4):
            moved = [*at]
            moved[i] = at[i] + h * direction
            ends.append(np.vdot(F.conv2d(*moved, *case.how, algorithm=algorithm), grad))
        assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(np.vdot(gradient, direction), rel=1e-9)


def test_input_grad_false_leaves_only_that_out():
    for algorithm in ALGORITHMS:
        case = case_for(algorithm)
        x, weight, bias, grad = case.arrays("float32")
        full = F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm)
        part = F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm, input_grad=False)
        assert part[0] is None
        for mine, theirs in zip(part[1:], full[1:], strict=True):
            np.testing.assert_array_equal(mine, theirs)


# ---------------------------------------------------------------------------------------------------------- the helpers


def test_a_failure_says_how_to_repeat_it(monkeypatch):
    monkeypatch.setattr(_conv.Direct, "forward", lambda self, x, *_: np.zeros(self.geometry.output_shape, x.dtype))
    case = Case(1, 6, 4, (5, 8), (2, 3), (2, 1), ((1, 0), (0, 2)), groups=2, bias=False)
    with pytest.raises(AssertionError, match="again: ") as caught:
        check(case, "float64", "channels-last")
    line = str(caught.value).splitlines()[-1]
    with pytest.raises(AssertionError):
        eval(line.removeprefix("again: "))
    monkeypatch.undo()
    eval(line.removeprefix("again: "))


@pytest.mark.parametrize("wrong", ["input", "weight", "bias"])
def test_a_wrong_gradient_is_noticed(monkeypatch, wrong):
    real = F.conv2d_backward

    def broken(*arguments, **options):
        gradients = dict(zip(("input", "weight", "bias"), real(*arguments, **options), strict=True))
        gradients[wrong] = gradients[wrong] * np.float32(1 + 3e-5)
        return tuple(gradients.values())

    monkeypatch.setattr(F, "conv2d_backward", broken)
    with pytest.raises(AssertionError, match=f"gradient of the {wrong}: error"):
        check(Case(), "float32", "C")


def test_a_result_in_the_wrong_memory_order_is_noticed(monkeypatch):
    real = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *a, **o: in_order(real(*a, **o), "C"))
    check(Case(), "float32", "C")
    with pytest.raises(AssertionError, match="output has another memory order"):
        check(Case(), "float32", "channels-last")


def test_expected_is_kept():
    assert expected(Case(), "float32")[0] is expected(Case(), "float32")[0]
