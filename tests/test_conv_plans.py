"""Plans of convolution: which ones the awkward cases reach, that they run, and those of another kind."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, Case, awkward, case_for, check, expected, memory_order, suits, target
from tolerances import assert_close

import cyconv
from cyconv import _plan, kernels, reference
from cyconv import functional as F
from cyconv.functional import _conv

ALGORITHMS = sorted(_conv.ENGINES)
WINOGRAD = ["winograd_f2", "winograd_f4"]


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
