"""The weight gradient by Winograd's algorithm: against the oracle wherever it can go, and who takes it when."""

from dataclasses import replace

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, Case, awkward, expected, scale_of_bias_gradient, target
from tolerances import assert_close

import cyconv
from cyconv import _plan, _settings
from cyconv import functional as F
from cyconv._geometry import conv_geometry
from cyconv.functional import _conv
from cyconv.kernels import _threads

#: Several blocks of tiles, chunks, vectors of input channels and blocks of output channels, and remainders of each.
CASES = [
    Case(5, 37, 70, (19, 21), padding=1),
    Case(2, 70, 37, (30, 29), padding=((0, 2), (1, 0))),
    Case(1, 20, 130, (23, 9), padding=2, dilation=(2, 3)),
    Case(2, 33, 20, (25, 31), (5, 5), padding=2),
    Case(3, 18, 35, (14, 40), (7, 4), padding=3),
    Case(2, 57, 105, (17, 30), padding=1, groups=3),
    Case(5, 37, 70, (37, 43), stride=(2, 2), padding=1),
    Case(3, 20, 40, (30, 47), (7, 4), (2, 2), 3),
    Case(2, 57, 105, (33, 60), stride=(2, 2), padding=((0, 1), (2, 0)), groups=3),
    Case(4, 20, 40, (1, 130), (1, 3), (1, 2), (0, 1)),
    Case(1, 290, 200, (9, 10), padding=1),
]


@pytest.fixture
def by_tiles(monkeypatch):
    """Return a function after which all weight gradients of Winograd's engines go by tiles of that edge."""

    def force(m):
        monkeypatch.setattr(_plan, "weight_gradient_tile", lambda *_: m)
        monkeypatch.setattr(_conv, "_engines", {})

    return force


def gradients(case, dtype, order, m):
    """Return the gradients of weight and bias by the kernel itself."""
    x, weight, bias, grad = case.arrays(dtype, order)
    _, *found = F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=f"winograd_f{m}", input_grad=False)
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
def test_every_awkward_case_agrees_with_the_oracle(by_tiles, m, dtype, order):
    by_tiles(m)
    algorithm, ran = f"winograd_f{m}", 0
    for name, case in [*awkward(dtype).items(), *((str(case), case) for case in CASES)]:
        if _plan.winograd_gradient_obstacle(case.geometry(), m):
            continue
        ran += 1
        try:
            found = gradients(case, dtype, order, m)
            for mine, theirs, scale in zip(found, expected(case, dtype)[1][1:], (None, case), strict=False):
                if scale is not None:
                    scale = max(scale_of_bias_gradient(case), float(np.abs(theirs).max(initial=0)))
                assert_close(mine, theirs, algorithm=algorithm, scale=scale)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
    assert ran > 40


@pytest.mark.skipif(not _threads.OPENMP, reason="built without OpenMP")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [2, 4])
def test_any_number_of_threads_gives_the_same_bits(by_tiles, monkeypatch, m, dtype):
    by_tiles(m)
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    for chunks_bytes in (0, 6 << 20):
        monkeypatch.setattr(_plan.tiled_gradient, "CHUNKS_BYTES", chunks_bytes)
        monkeypatch.setattr(_conv, "_engines", {})
        for case in CASES:
            with cyconv.threads(1):
                alone = gradients(case, dtype, "C", m)
            for threads in (2, 3, 5, 16):
                with cyconv.threads(threads):
                    for mine, theirs in zip(gradients(case, dtype, "C", m), alone, strict=True):
                        np.testing.assert_array_equal(mine, theirs, err_msg=f"{case}, {threads} threads", strict=True)


def test_the_cases_are_cut_in_every_way():
    """Several chunks, and blocks of several images, of rows, and of parts of rows, the last of them incomplete."""
    wide = Case(1, 3, 5, (6, 500), padding=1)
    plans = [
        _plan.winograd_gradient(case.geometry(), target("float32"), False, m)[1]
        for case in [*awkward("float32").values(), *CASES, wide]
        for m in (2, 4)
        if not _plan.winograd_gradient_obstacle(case.geometry(), m)
    ]
    tiles = [(-(-p["out"][2] // p["m"]), -(-p["out"][3] // p["m"]), p["block"]) for p in plans]
    assert {p["chunks"] > 1 for p in plans} == {True, False}
    assert any(images > 1 for _, _, (images, _, _) in tiles)
    assert any(1 < rows < high and high % rows for high, _, (_, rows, _) in tiles)
    assert any(columns < across and across % columns for _, across, (_, _, columns) in tiles)


@pytest.mark.parametrize("m", [2, 4])
def test_by_hand(by_tiles, m):
    """The windows of a ramp added up, and the same weighted by the row of the window."""
    by_tiles(m)
    ramp, weight = np.arange(25.0).reshape(1, 1, 5, 5), np.zeros((1, 1, 3, 3))
    ones, rows = np.ones((1, 1, 3, 3)), np.repeat([0.0, 1.0, 2.0], 3).reshape(1, 1, 3, 3)
    for grad, corner, step in ((ones, 54, (45, 9)), (rows, 84, (45, 9))):
        _, dw, db = F.conv2d_backward(grad, ramp, weight, np.zeros(1), algorithm=f"winograd_f{m}")
        want = corner + step[0] * np.arange(3.0)[:, None] + step[1] * np.arange(3.0)
        np.testing.assert_allclose(dw[0, 0], want, rtol=1e-13)
        assert db == grad.sum()


def test_sums_of_one_chunk_take_no_more_than_a_part_of_a_cache():
    """36 x 512 x 512 sums are 36 MB: a task has 4 MB of them at a time, and none are shared."""
    for stride, few in ((1, 40), (2, 64)):
        convolution = geometry(1, 512, 512, 28, stride=stride)
        _, arguments = _plan.winograd_gradient(convolution, target("float32"), False, 4)
        kernel = _conv.kernels.load("winograd_gradient").WinogradGradient(**arguments)
        assert arguments["chunks"] == 1
        assert kernel.shared_bytes < 8 << 10
        assert kernel.thread_bytes < few << 20


def test_sums_of_many_products_stay_within_the_bound():
    """64 channels of 4 x 56 x 56 pixels, against sums in float64."""
    rng = np.random.default_rng(0)
    x, grad = (rng.standard_normal((4, 64, 56, 56), np.float32) for _ in range(2))
    weight, padded = np.zeros((64, 64, 3, 3), np.float32), np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    flat = grad.transpose(1, 0, 2, 3).reshape(64, -1).astype(np.float64)
    want = np.stack(
        [
            flat @ padded[:, :, i : i + 56, j : j + 56].transpose(0, 2, 3, 1).reshape(-1, 64)
            for i in range(3)
            for j in range(3)
        ],
        -1,
    ).reshape(64, 64, 3, 3)
    for algorithm in ("winograd_f2", "winograd_f4"):
        assert _conv.engine(geometry(4, 64, 64, 56), x.dtype, False, algorithm).gradient_walk() is not None
        _, dw = F.conv2d_backward(grad, x, weight, padding=1, algorithm=algorithm, input_grad=False)
        assert_close(dw, want.astype(np.float32), algorithm=algorithm)


# ------------------------------------------------------------------------------------------------------------- who when


def geometry(n, c, k, size, **how):
    """Return the geometry of a padded 3 x 3 convolution."""
    groups = how.get("groups", 1)
    given = (how.get("stride", 1), 1, 1, groups, "zeros")
    return conv_geometry("conv2d", 2, (n, c, size, size), (k, c // groups, 3, 3), None, *given)


def tile_of(algorithm, convolution):
    """Return the edge of the tiles of the weight gradient, 0 without."""
    work = _conv.engine(convolution, np.dtype("float32"), False, algorithm)
    walk = work.gradient_walk() if hasattr(work, "gradient_walk") else None
    return 0 if walk is None else _plan.weight_gradient_tile(convolution, target("float32").lanes, 4, work.gradient_m)


def test_auto_takes_it_for_many_tiles_and_direct_for_few():
    assert tile_of("auto", geometry(4, 64, 64, 28)) == 4
    assert tile_of("auto", geometry(1, 64, 64, 2)) == 0
    assert tile_of("auto", geometry(4, 1, 8, 28)) == 0
    assert tile_of("auto", geometry(0, 64, 64, 28)) == 0
    assert tile_of("auto", geometry(4, 64, 64, 28, groups=2)) == 4
    assert tile_of("auto", geometry(4, 64, 64, 28, groups=64)) == 0
    assert tile_of("auto", geometry(4, 64, 64, 56, stride=2)) == 4


def test_what_was_asked_for_by_name_is_kept():
    convolution = geometry(4, 64, 64, 28)
    assert [tile_of(name, convolution) for name in ("direct", "winograd_f2", "winograd_f4")] == [0, 2, 4]
    with cyconv.configure(algorithm="direct"):
        assert tile_of("auto", convolution) == 0


def test_explain_names_the_algorithms_of_the_gradients():
    def names(layer, size, **how):
        with cyconv.configure(**how):
            found = cyconv.explain(layer, (16, layer.in_channels, size, size))
        assert f"of the input by {found.gradients[0]}, of the weight by {found.gradients[1]}" in str(found)
        return found.gradients

    wide = cyconv.Conv2d(64, 64, 3, padding=1)
    assert names(wide, 56) == ("winograd_f4", "winograd_f4")
    assert names(cyconv.Conv2d(64, 64, 3, 2, 1), 56) == ("winograd_f4", "winograd_f4")
    assert names(wide, 56, precision="strict") == names(wide, 56, algorithm="direct") == ("direct", "direct")
    assert names(wide, 56, algorithm="im2col") == ("im2col", "im2col")
    assert names(cyconv.Conv2d(64, 64, 1), 56) == ("direct", "direct")
    assert names(cyconv.Conv2d(64, 64, 3, padding=1, groups=64), 56) == ("depthwise", "depthwise")
    assert names(cyconv.ConvTranspose2d(64, 64, 3, padding=1), 56) == ("winograd_f4", "winograd_f4")


def test_each_gradient_takes_what_is_fastest_for_it():
    """From 2048 channels F(4, 3) errs too much, the way back from 64 has fewer terms; by name it goes as forward."""
    convolution = geometry(16, 2048, 64, 28)
    assert _conv.engine(convolution, np.dtype("f"), False).name == "winograd_f2"
    assert _conv.engine(convolution, np.dtype("f"), False).gradient_names()[0] == "winograd_f4"
    assert _conv.engine(convolution, np.dtype("f"), False, "winograd_f2").gradient_names()[0] == "winograd_f2"
    assert _conv.engine(convolution, np.dtype("f"), False, "direct").gradient_names()[0] == "direct"


def test_strict_precision_sums_directly():
    convolution = geometry(4, 64, 64, 28)
    with cyconv.configure(precision="strict"):
        assert tile_of("auto", convolution) == 0
    # Forward may be direct for other reasons, and the gradient by tiles all the same.
    assert type(_conv.FREE_ENGINES["direct"](convolution, np.dtype("float32"), False).gradient_walk()) is tuple


def test_a_workspace_too_small_for_the_sums_leaves_it_to_direct_summation():
    case = Case(2, 64, 64, (28, 28), padding=1)
    x, weight, bias, grad = case.arrays("float32")
    _, kernel = _conv.engine(case.geometry(), x.dtype, False, "winograd_f4").gradient_walk()
    needed = kernel.shared_bytes + kernel.thread_bytes
    with cyconv.configure(max_workspace=needed):
        assert _conv.engine(case.geometry(), x.dtype, False, "winograd_f4").gradient_walk() is not None
    with cyconv.configure(max_workspace=needed - 1):
        assert _conv.engine(case.geometry(), x.dtype, False, "winograd_f4").gradient_walk() is None
        small = F.conv2d_backward(grad, x, weight, bias, padding=1, algorithm="winograd_f4")[1:]
    direct = F.conv2d_backward(grad, x, weight, bias, padding=1, algorithm="direct")[1:]
    for mine, theirs in zip(small, direct, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_bias_gradient_is_that_of_direct_summation():
    case = Case(3, 32, 40, (27, 22), padding=1)
    x, weight, bias, grad = case.arrays("float32")
    found, wanted = (
        F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=name)[2] for name in ("winograd_f4", "direct")
    )
    assert_close(found, wanted, scale=scale_of_bias_gradient(case))


#: One input channel and few outputs, so that vectors over these would be empty for the most part.
ONE_CHANNEL = [
    Case(5, 1, 2, (13, 28), padding=1),
    Case(3, 1, 3, (28, 17), (5, 5), padding=((2, 1), (0, 3))),
    Case(2, 1, 2, (9, 70), (5, 5)),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_outputs_of_one_channel_go_over_planes(monkeypatch, dtype):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    walk = target(dtype)
    for case in ONE_CHANNEL:
        work = _conv.FREE_ENGINES["direct"](case.geometry(), np.dtype(dtype), False)
        by_planes = _plan.planes_gradient(case.geometry(), walk, False)
        assert by_planes or walk.lanes < 8
        assert (work.gradient_names()[1] == "depthwise") is by_planes
        x, _, _, grad = case.arrays(dtype)
        _, dw, db = expected(case, dtype)[1]
        with cyconv.threads(1):
            alone = work.weight_gradient(grad, x, True)
        assert_close(alone[0], dw)
        assert_close(alone[1], db, scale=max(scale_of_bias_gradient(case), float(np.abs(db).max())))
        with cyconv.threads(3):
            for mine, theirs in zip(work.weight_gradient(grad, x, True), alone, strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_who_does_not_go_over_planes():
    """A full vector of outputs; a stride, a large kernel, several inputs, padding that repeats; short vectors."""
    walk = _plan.Target("f", 16, 14, 8, 6)

    def planes(case, walk=walk, last=False):
        return _plan.planes_gradient(case.geometry(), walk, last)

    lenet = Case(64, 1, 6, (28, 28), (5, 5), padding=2)
    assert planes(lenet)
    assert not planes(lenet, last=True)
    assert not planes(lenet, _plan.Target("f", 4, 6, 4, 0))
    for change in ({"k": 16}, {"k": 1}, {"c": 2}, {"stride": (2, 2)}, {"kernel": (7, 7)}, {"mode": "reflect"}):
        assert not planes(replace(lenet, **change)), change
    with cyconv.configure(precision="strict"):
        assert type(_conv.engine(lenet.geometry(), np.dtype("f"), False)) is _conv.ENGINES["direct"]


@pytest.mark.parametrize(("c", "size", "images", "chunks"), [(16, 32, 1, 8), (32, 16, 2, 8), (64, 8, 16, 4)])
def test_blocks_and_chunks_of_a_batch_are_equal(c, size, images, chunks):
    # Maps of 8 x 8, 4 x 4 and 2 x 2 tiles: at least one map, 32 tiles, or as many as there are channels.
    geometry = conv_geometry("conv2d", 2, (64, c, size, size), (c, c, 3, 3), None, 1, 1, 1, 1, "zeros")
    _, arguments = _plan.winograd_gradient(geometry, target("float32"), False, 4)
    assert arguments["block"] == (images, size // 4, size // 4)
    assert arguments["chunks"] == chunks


def test_images_that_no_equal_blocks_divide_are_cut_into_few():
    # 61 is a prime: blocks of two, and a last one of one.
    geometry = conv_geometry("conv2d", 2, (61, 32, 16, 16), (32, 32, 3, 3), None, 1, 1, 1, 1, "zeros")
    _, arguments = _plan.winograd_gradient(geometry, target("float32"), False, 4)
    assert arguments["block"] == (2, 4, 4)
    assert arguments["chunks"] == 8  # 31 blocks, by four
