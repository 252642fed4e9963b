"""Convolution kernels against the oracle: every dtype, memory order and algorithm, at sizes where kernels go wrong."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, Case, awkward, check, cut_work, expected, in_order, memory_order, suits, target
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close

import cyconv
from cyconv import _plan, _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _conv, _conv_im2col

ALGORITHMS = sorted(_conv.ENGINES)
WINOGRAD = ["winograd_f2", "winograd_f4"]
#: Every awkward case with every algorithm and memory order that it can be computed by.
TABLE = [
    (algorithm, dtype, name, order)
    for algorithm in ALGORITHMS
    for dtype in DTYPES
    for name, case in awkward(dtype).items()
    for order in ORDERS
    if suits(case, algorithm, order) and algorithm != "reference"
]


def case_for(algorithm):
    """Return a plain case that the algorithm computes."""
    return (
        Case(2, 3, 3, (6, 19), padding=1, groups=3) if algorithm == "depthwise" else Case(2, 3, 5, (6, 19), padding=1)
    )


@pytest.fixture
def fresh_engines(monkeypatch):
    """No engine is left from before, and none stays: a plan that a test bends is made for this test alone."""
    monkeypatch.setattr(_conv, "_engines", {})


@pytest.fixture
def walks(fresh_engines, monkeypatch):
    """A list that collects the plan of every kernel that is set up."""
    made = []

    def record(kernel, name):
        real = getattr(kernel, name)

        def recorder(**plan):
            made.append(SimpleNamespace(what=name, **plan))
            return real(**plan)

        monkeypatch.setattr(kernel, name, recorder)

    record(kernels.load("direct"), "Walk")
    record(kernels.load("weight_gradient"), "WeightGradient")
    return made


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


# -------------------------------------------------------------------------------------------- proof that a path has run


def run_all(dtype, order="C", algorithm="direct"):
    for case in awkward(dtype).values():
        x, weight, bias, grad = case.arrays(dtype, order)
        F.conv2d(x, weight, bias, *case.how, algorithm=algorithm)
        F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_reaches_every_branch_of_the_plan(walks, dtype):
    """Each cut that a plan can make is made by some case: a table that no longer did so would go on passing."""
    run_all(dtype)
    run_all(dtype, "channels-last")
    forms = [plan for plan in walks if plan.what == "Walk"]
    weights = [plan for plan in walks if plan.what == "WeightGradient"]
    lanes = target(dtype).lanes

    def blocks(plan, axis):
        return -(-plan.out[axis - 2] // plan.block[axis - 2])

    reached = {
        "pixel vectors": any(p.pixel_vectors for p in forms),
        "channel vectors": any(not p.pixel_vectors for p in forms),
        "pixel vectors in an input gradient": any(p.pixel_vectors and not p.weight_rows for p in forms),
        "pixel vectors, several blocks of channels": any(
            p.pixel_vectors and p.out[0] // p.groups > target(dtype).pixel_channels for p in forms
        ),
        "pixel vectors, a row in several blocks": any(p.pixel_vectors and blocks(p, 1) > 1 for p in forms),
        "pixel vectors, several blocks of rows": any(p.pixel_vectors and blocks(p, 0) > 1 for p in forms),
        "pixel vectors, every second column": any(p.pixel_vectors and p.step[1] == 2 for p in forms),
        "pixel vectors, source where it lies": any(p.pixel_vectors and not p.packed for p in forms),
        # A vector of two is never preferred for one pixel.
        "pixel vectors, a row shorter than a vector": lanes == 2
        or any(p.pixel_vectors and p.out[-1] < lanes for p in forms),
        "channel vectors, a row in several blocks": any(not p.pixel_vectors and blocks(p, 1) > 1 for p in forms),
        "channel vectors, several blocks of rows": any(not p.pixel_vectors and blocks(p, 0) > 1 for p in forms),
        "several stretches": any(
            not p.pixel_vectors and len(p.phases[0][-1]) * p.source[0] // p.groups > p.reduction for p in forms
        ),
        "several phases": any(len(p.phases) > 1 for p in forms),
        "a phase without taps": any(not phase[-1] for p in forms for phase in p.phases),
        "several blocks of channels in a task": any(p.task_blocks > 1 for p in forms),
        "several tasks for the channels": any(
            not p.pixel_vectors and p.task_blocks * 2 * lanes < p.out[0] // p.groups for p in forms
        ),
        "source where it lies": any(not p.packed for p in forms),
        "flattened": any(p.out[-2] == 1 and not p.packed and p.out[-1] > lanes for p in forms),
        "one chunk": any(p.chunks == 1 for p in weights),
        "several chunks": any(p.chunks > 1 for p in weights),
        "channels in several tasks": any(p.task_channels < p.source[0] // p.groups for p in weights),
        "weight gradient, source where it lies": any(not p.packed for p in weights),
        "weight gradient, a row in several blocks": any(blocks(p, 1) > 1 for p in weights),
        "weight gradient, several blocks of rows": any(blocks(p, 0) > 1 for p in weights),
        "weight gradient, several images at a time": any(p.block_images > 1 and p.packed for p in weights),
        "the same, where they lie": any(p.block_images > 1 and not p.packed for p in weights),
        "weight gradient, several blocks of outputs": any(p.task_blocks > 1 for p in weights),
        "the same, fewer in the last task": any(-(-p.out[0] // (2 * lanes)) % p.task_blocks for p in weights),
        "weight gradient without padding": any(p.reach for p in weights),
        "the same, several blocks of rows": any(p.reach and blocks(p, 0) > 1 for p in weights),
        "the same, a tap that meets padding alone": any(
            first == last for p in weights if p.reach for axis in p.reach for first, last in axis
        ),
        "input gradient without padding": any(p.tap_major and not p.weight_rows for p in forms),
        "pixel vectors without rows of padding": any(p.tap_major and p.pixel_vectors and p.weight_rows for p in forms),
        "the same in an input gradient": any(p.tap_major and p.pixel_vectors and not p.weight_rows for p in forms),
        "the same, rows in several blocks": any(p.tap_major and p.pixel_vectors and blocks(p, 0) > 1 for p in forms),
    }
    assert [what for what, was in reached.items() if not was] == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_algorithm_asked_for_is_the_one_that_runs(fresh_engines, monkeypatch, algorithm, name):
    ran, engine = [], _conv.ENGINES[name]

    def record(method):
        real = getattr(engine, method)

        def recorder(self, *arguments):
            if type(self) is engine:  # some engines inherit from others
                ran.append(method)
            return real(self, *arguments)

        monkeypatch.setattr(engine, method, recorder)

    for method in ("forward", "input_gradient", "weight_gradient"):
        record(method)
    check(case_for(algorithm), "float32", "C", algorithm)
    assert ran == (["forward", "input_gradient", "weight_gradient"] if algorithm == name else [])


@pytest.mark.parametrize("dtype", DTYPES)
def test_auto_and_explain_know_a_convolution_that_meets_padding_alone(dtype):
    """Direct summation leaves all of its products out: its cost is that of reading the weights."""
    case = awkward(dtype)["all taps beside the image"]
    assert _plan.direct.padding_skipped(case.geometry()) == 1
    x, weight, bias, _ = case.arrays(dtype)
    assert_close(F.conv2d(x, weight, bias, *case.how), expected(case, dtype)[0], algorithm="winograd_f4")
    layer = cyconv.Conv2d(50, 7, (3, 2), padding=case.padding, dilation=case.dilation, dtype=dtype)
    assert "direct" in str(cyconv.explain(layer, (2, 50, 6, 1)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_auto_follows_the_setting(algorithm):
    import cyconv

    case = case_for(algorithm)
    geometry = case.geometry()
    with cyconv.configure(algorithm=algorithm):
        work = _conv.engine(geometry, np.dtype("float32"), False)
        assert work.name == algorithm
        assert _conv.engine(geometry, np.dtype("float32"), False) is work
        x, weight, bias, _ = case.arrays("float32")
        got = F.conv2d(x, weight, bias, *case.how)
        np.testing.assert_array_equal(got, F.conv2d(x, weight, bias, *case.how, algorithm=algorithm))
    assert (
        _conv.engine(geometry, np.dtype("float32"), False).name
        == _plan.choose(geometry, "f", target("float32").lanes, "high", False, True)[0]
    )
    other = next(name for name in ("direct", "im2col") if name != algorithm)
    with cyconv.configure(algorithm=other):
        assert _conv.engine(geometry, np.dtype("float32"), False, algorithm).name == algorithm


def test_an_unknown_algorithm_is_named():
    x, weight, _, grad = Case().arrays("float32")
    with pytest.raises(ValueError, match=r"^conv2d: algorithm must be one of auto, .*direct.*, got 'fft'$"):
        F.conv2d(x, weight, algorithm="fft")
    with pytest.raises(ValueError, match=r"^conv2d_backward: algorithm must be one of auto, .*, got 'fft'$"):
        F.conv2d_backward(grad, x, weight, algorithm="fft")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_reaches_every_cut_of_a_depthwise_gradient(fresh_engines, monkeypatch, dtype):
    kernel, made = kernels.load("depthwise_gradient"), []
    real = kernel.DepthwiseGradient
    monkeypatch.setattr(
        kernel, "DepthwiseGradient", lambda **plan: made.append(SimpleNamespace(**plan)) or real(**plan)
    )
    for case in awkward(dtype).values():
        for order in ORDERS:
            if suits(case, "depthwise", order):
                x, weight, bias, grad = case.arrays(dtype, order)
                F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm="depthwise")
    planes, last = ([p for p in made if p.channels_last == which] for which in (False, True))
    reached = {
        "a plane in a task": any(p.task_channels == 1 < p.out[0] for p in planes),
        "several planes in a task": any(1 < p.task_channels < p.out[0] for p in planes),
        "two outputs for each channel": any(p.out[0] == 2 * p.source[0] for p in planes),
        "one chunk": any(p.chunks == 1 for p in last),
        "several chunks": any(p.chunks > 1 for p in last),
        "several blocks of channels": any(p.task_channels < p.out[0] for p in last),
        "channels that fill no vector": any(p.out[0] % target(dtype).lanes for p in last),
    }
    assert [what for what, was in reached.items() if not was] == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_reaches_every_cut_of_a_depthwise_convolution(fresh_engines, monkeypatch, dtype):
    kernel, made, lanes = kernels.load("depthwise"), [], target(dtype).lanes
    real = kernel.Depthwise
    monkeypatch.setattr(kernel, "Depthwise", lambda **plan: made.append(SimpleNamespace(**plan)) or real(**plan))
    for case in awkward(dtype).values():
        if suits(case, "depthwise", "C"):
            x, weight, bias, _ = case.arrays(dtype, "C")
            F.conv2d(x, weight, bias, *case.how, algorithm="depthwise")
    planes, blocks = ([p for p in made if bool(p.block_rows) == which] for which in (False, True))
    shapes = {(p.kernel[0], p.stride[0]) for p in blocks}
    reached = {
        "planes one by one": planes,
        "blocks of planes for every kernel and stride": len(shapes) == 6,
        "a band of rows": any(p.block_rows == p.out[1] for p in blocks),
        "several bands of rows": any(p.block_rows < p.out[1] for p in blocks),
        "the last band is shorter": any(p.out[1] % p.block_rows for p in blocks),
        "several chunks of a band": any(p.block_rows > 1 and p.block_rows * p.out[2] >= 512 for p in blocks),
        "channels that fill no block": any(p.out[0] % lanes for p in blocks),
        "several blocks": any(p.out[0] > lanes for p in blocks),
        "two outputs for each channel": any(p.out[0] == 2 * p.source[0] for p in blocks),
        "fewer pixels than a vector": any(p.source[1] * p.source[2] < lanes for p in blocks),
        "fewer results than a vector": any(p.out[1] * p.out[2] < lanes for p in blocks),
    }
    assert [what for what, was in reached.items() if not was] == []


@pytest.mark.parametrize("algorithm", ["auto", "depthwise"])
def test_blocks_of_planes_that_exceed_the_workspace_are_walked_plane_by_plane(algorithm):
    case = Case(1, 64, 64, (40, 1600 // target("float32").lanes), (5, 5), padding=2, groups=64)
    x, weight, bias, _ = case.arrays("float32")
    wanted = F.conv2d(x, weight, bias, *case.how, algorithm=algorithm)
    least = _conv.engine(case.geometry(), np.dtype("f"), False, algorithm).workspace()
    assert least > 1 << 16
    with cyconv.configure(max_workspace=1 << 16):
        work = _conv.engine(case.geometry(), np.dtype("f"), False, algorithm)
        assert (work.name, work.workspace()) == ("depthwise", 0)
        assert_close(F.conv2d(x, weight, bias, *case.how, algorithm=algorithm), wanted, algorithm="depthwise")


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pixel_that_a_tap_never_meets_leaves_its_gradient_alone(stride):
    """Vectors of windows end behind the last one, where its zeros must not meet an infinity."""
    case = Case(1, 2, 2, (9, 25), stride=(stride, stride), groups=2)
    x, weight, _, grad = case.arrays("float32")
    want = reference.conv2d_backward(grad, x, weight, None, *case.how)[1]
    x[..., -1] = np.inf
    _, got = F.conv2d_backward(grad, x, weight, None, *case.how, algorithm="depthwise")
    assert not np.isfinite(got[..., 2]).any()
    assert_close(got[..., :2], want[..., :2], algorithm="depthwise")


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_of_padding_left_out_are_not_spoilt_by_infinities(order):
    """The corner of the output meets padding with the first tap, and that of the input with the last one: where those
    are left out, there is no zero that an infinity could meet."""
    case = Case(1, 48, 48, (13, 14), padding=6, dilation=6)
    x, weight, bias, grad = case.arrays("float32", order)
    grad[0, :, 0, 0] = np.inf
    dx, dw, db = F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm="direct")
    assert np.isinf(db).all()
    met = [(i, j) for i in range(3) for j in range(3) if i and j]
    assert all((np.isfinite(dw[..., i, j]).all()) != ((i, j) in met) for i in range(3) for j in range(3))
    touched = np.zeros((13, 14), bool)
    touched[::6, ::6] = [[True, True, False], [True, True, False], [False] * 3]
    assert np.array_equal(np.isfinite(dx[0]).all(0), ~touched)


# ------------------------------------------------------------------------------------------------ plans of another kind


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("over_pixels", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 3, 1, (5, 40), padding=1),
        Case(2, 3, 7, (5, 9), (2, 2)),
        Case(1, 2, 40, (6, 17), (3, 1)),
        Case(2, 6, 9, (7, 21), groups=3, padding=((0, 2), (1, 0))),
        Case(2, 3, 5, (6, 5), (1, 1)),
        Case(1, 2, 3, (9, 35), (2, 3), (2, 1)),
    ],
    ids=str,
)
def test_both_forms_of_the_tile_serve_any_geometry(walks, monkeypatch, case, over_pixels, dtype):
    monkeypatch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: over_pixels)
    check(case, dtype, "C")
    # The form over pixels needs an NCHW source that is walked pixel by pixel, as gradients are phase by phase.
    made = {(plan.weight_rows, plan.pixel_vectors) for plan in walks if plan.what == "Walk"}
    forward, gradient = True, False  # which of them takes rows of the weight array
    assert made == {(forward, over_pixels and case.stride[1] == 1), (gradient, over_pixels)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_over_pixels_are_not_taken_where_they_would_read_behind_the_array(monkeypatch, dtype):
    monkeypatch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: True)
    kernel = target(dtype)
    for pixels in (1, kernel.lanes - 1, kernel.lanes, kernel.lanes + 1):
        for plan in (_plan.forward, _plan.input_gradient):
            _, lying = plan(Case(1, 7, 13, (1, pixels), (1, 1)).geometry(), kernel, False)
            assert (lying["pixel_vectors"], lying["packed"]) == (pixels >= kernel.lanes, False)
            _, copied = plan(Case(1, 7, 13, (1, pixels), (1, 3), padding=1).geometry(), kernel, False)
            assert (copied["pixel_vectors"], copied["packed"]) == (True, True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_last_stretch_of_a_long_row_that_is_read_in_place_has_a_whole_vector(monkeypatch, dtype):
    monkeypatch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: True)
    kernel, longest = target(dtype), _plan.direct.FLAT_VECTOR_PIXELS
    for pixels in (*range(longest - 20, longest + 40), 3 * 768 + 1, 768 * 751 + 1):
        for plan, stride in ((_plan.forward, 1), (_plan.input_gradient, 1), (_plan.input_gradient, 2)):
            _, found = plan(Case(1, 7, 13, (1, pixels * stride), (1, 1), (1, stride)).geometry(), kernel, False)
            assert (found["pixel_vectors"], found["packed"], found["out"][3]) == (True, False, pixels)
            left = pixels % found["block"][1]
            assert left == 0 or left >= kernel.lanes


@pytest.mark.parametrize("over_pixels", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 5, 40, (9, 12), (1, 1), (2, 2)),
        Case(2, 5, 7, (9, 7), (1, 1), (3, 3)),
        Case(1, 6, 34, (35, 67), (1, 1), (2, 2), groups=2),
        Case(3, 4, 5, (6, 40), (1, 1), (4, 1)),
        Case(1, 3, 4, (2, 2 * 784 + 70), (1, 1), (1, 2)),
        Case(1, 2, 3, (5, 5), (1, 1), (7, 8)),
    ],
    ids=str,
)
def test_the_input_gradient_of_one_tap_and_a_stride_is_flat_and_spread(walks, monkeypatch, case, over_pixels, dtype):
    monkeypatch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: over_pixels)
    check(case, dtype, "C")
    assert [plan.grid is not None for plan in walks if plan.what == "Walk"].count(True) == 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "copied"),
    [
        (Case(2, 7, 40, (9, 12), (2, 2), (2, 2)), False),
        (Case(2, 6, 40, (11, 8), (3, 2), (1, 2), groups=2, dilation=(2, 1)), False),
        (Case(2, 7, 40, (9, 12), (2, 2), (2, 2), padding=((0, 1), (0, 0))), True),
        # More padding than a vector has elements, on both sides.
        (Case(1, 3, 40, (4, 5), padding=21), True),
    ],
    ids=str,
)
def test_windows_that_meet_no_padding_are_read_where_they_lie(fresh_engines, monkeypatch, case, copied, dtype, order):
    monkeypatch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_: False)
    _, plan = _plan.forward(case.geometry(), target(dtype), order != "C")
    assert plan["packed"] == copied
    check(case, dtype, order)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rectified_forward_is_the_forward_pass_through_a_relu(fresh_engines, monkeypatch, dtype):
    for over_pixels, order in itertools.product((False, True), ORDERS):
        monkeypatch.setattr(_plan.direct, "_prefer_pixel_vectors", lambda *_, form=over_pixels: form)
        _conv._engines.clear()
        for name in ALGORITHMS:
            case = case_for(name)
            x, weight, bias, _ = case.arrays(dtype, order)
            # NaN passes; how far it reaches under Winograd is another matter.
            x[0, 0, 2, 3] = 1 if name in WINOGRAD else np.nan
            work = _conv.engine(case.geometry(), x.dtype, order != "C", name)
            got = work.forward(x, weight, bias, None, True)
            with np.errstate(invalid="ignore"):
                assert_close(got, np.maximum(reference.conv2d(x, weight, bias, *case.how), 0), algorithm=name)
            assert memory_order(got) == order
            assert np.isnan(got).any() == (name not in WINOGRAD)
            assert (got == 0).any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_packed_weights_serve_many_calls(algorithm):
    case = case_for(algorithm)
    x, weight, bias, _ = case.arrays("float32")
    work = _conv.engine(case.geometry(), x.dtype, False, algorithm)
    packed = work.pack(weight)
    for _ in range(2):
        np.testing.assert_array_equal(work.forward(x, weight, bias, packed), work.forward(x, weight, bias))


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
