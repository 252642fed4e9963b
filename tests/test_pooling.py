"""Maximum and average pooling: against the oracle, by hand, by differences; what must not matter; what is refused."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, in_order, memory_order
from processes import output_of
from tolerances import assert_close

import cyconv
from cyconv import _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _arrays, _pool, _pool_fractional, _pool_unpool
from cyconv.kernels import _threads

#: Elements of the longest vector.
LANES = 16


class Case(NamedTuple):
    """Pooling of an (N, C, H, W) array; without dilation also as an average."""

    shape: tuple[int, int, int, int]
    kernel: Any
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False


#: 2 x 2 windows at stride 2 have a path of their own, with rows shorter, as long and longer than one and two vectors.
PAIRS = [
    Case((2, 3, h, w), 2)
    for h, w in (
        *((2, 2), (4, 4), (3, 5), (5, 3), (10, 10), (28, 28), (6, 2 * LANES - 2), (4, 2 * LANES), (5, 2 * LANES + 1)),
        *((2, 2 * LANES + 2), (7, 3 * LANES), (2, 4 * LANES - 1), (3, 4 * LANES + 3), (4, 131)),
    )
]
#: Every stride has its own way through a row; windows that overlap, touch and leave gaps; padding on one axis.
WINDOWS = [
    Case((2, 3, 11, 13), 3, 1),
    Case((2, 3, 11, 13), 3, 2, 1),
    Case((2, 3, 12, 37), (2, 3), (1, 2), (1, 0)),
    Case((1, 5, 9, LANES + 1), (3, 2), (2, 1), (0, 1)),
    Case((1, 2, 13, 40), (4, 5), (3, 3), (2, 1)),
    Case((3, 2, 17, 31), 2, (4, 5)),
    Case((1, 4, 7, 7), 7),
    Case((1, 1, 1, 1), 1),
    Case((2, 2, 1, 19), (1, 4), (1, 2)),
    Case((2, 2, 19, 1), (4, 1), (2, 1), (2, 0)),
    Case((1, 3, 40, 5), (9, 3), (1, 1), (4, 1)),
    Case((1, 2, 70, 70), 3, 2, 1),
    Case((0, 3, 8, 8), 2),
    Case((3, 0, 8, 8), 3, 1, 1),
]
DILATED = [
    Case((2, 3, 11, 13), 3, 1, 1, 2),
    Case((2, 3, 14, 35), (2, 3), (2, 2), (1, 2), (3, 2)),
    Case((1, 2, 15, 20), (3, 3), (3, 4), (2, 0), (2, 5)),
    # The first and the last window of a row meet no pixel at all.
    Case((1, 2, 1, 2), 2, 1, 2, 3),
]
#: The last windows hang over; in some of these an even size would not have needed it.
CEIL = [
    Case((2, 3, 7, 9), 2, 2, 0, 1, True),
    Case((2, 3, 8, 10), 2, 2, 0, 1, True),
    Case((2, 3, 12, 30), 3, 2, 1, 1, True),
    Case((1, 2, 10, 11), (2, 3), (3, 4), (1, 1), 1, True),
    Case((1, 2, 10, 18), 3, 5, 1, 1, True),
    Case((1, 2, 9, 22), 3, 2, 1, 2, True),
]
CASES = [*PAIRS, *WINDOWS, *DILATED, *CEIL]
#: Channels-last: vectors of channels, one short of, exactly and one more than some vectors; two blocks of channels.
CHANNELS = [Case((2, c, 5, 6), 3, 2, 1) for c in (1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 70, 130)]
#: Planes with few windows in a row are turned, a vector or four of them at a time, or fewer than a vector: windows that
#: touch, overlap, leave gaps, reach into the padding; many pixels for each window.
TURNED = [
    Case((2, 9, 9, 8), 2),
    Case((3, 11, 4, 4), 2),
    Case((1, 37, 7, 6), 3, 2, 1),
    Case((2, 70, 6, 5), 3, 1, 1),
    Case((1, 33, 11, 13), (3, 2), (4, 5), 1),
    Case((1, 9, 20, 20), 5, 4),
    Case((5, 17, 5, 9), 2, 2, 0, 2),
]
#: Several tasks for the threads, with one image and with many.
TASKS = [
    Case((5, 11, 40, 40), 2),
    Case((40, 70, 6, 6), 3, 2, 1),
    Case((1, 70, 60, 60), 3, 2, 1),
    Case((20, 7, 31, 33), 3, 1, 1),
    Case((3, 5, 90, 70), 5, 3),
]

VALUES = ("normal", "ties", "nan", "inf")


def array_of(shape: tuple[int, ...], dtype: str, values: str = "normal", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((seed, *shape))
    x = rng.standard_normal(shape)
    if values == "ties":
        x = np.round(x)
    if values == "nan":
        x[rng.random(shape) < 0.15] = np.nan
    if values == "inf":
        x[rng.random(shape) < 0.6] = -np.inf
        x[rng.random(shape) < 0.1] = np.inf
    return x.astype(dtype)


def average_of(case: Case, *, count_include_pad: bool = True, divisor_override: int | None = None) -> tuple[Any, ...]:
    return (case.kernel, case.stride, case.padding, case.ceil_mode, count_include_pad, divisor_override)


def check_maximum(case: Case, dtype: str, order: str, values: str = "normal") -> None:
    x = in_order(array_of(case.shape, dtype, values), order)
    wanted, places = reference.max_pool2d(x, *case[1:], True)
    got, indices = F.max_pool2d(x, *case[1:], True)
    assert_close(got, wanted, algorithm="exact")
    np.testing.assert_array_equal(indices, places, strict=True)
    assert_close(F.max_pool2d(x, *case[1:]), wanted, algorithm="exact")
    grad = in_order(array_of(wanted.shape, dtype, seed=1), order)
    (dx,) = reference.max_pool2d_backward(grad, x, *case[1:])
    scale = max(1.0, float(np.abs(dx).max(initial=0)))
    again, kept = F.keep_maxima("max_pool2d", x, *case[1:])
    assert_close(again, wanted, algorithm="exact")
    for ours in (
        *F.max_pool2d_backward(grad, x, *case[1:]),
        *F.max_pool2d_backward(grad, x, *case[1:], indices=indices),
        kept.backward(grad),
    ):
        assert_close(ours, dx, algorithm="sum", scale=scale)
        if x.size:
            assert memory_order(ours) == memory_order(x)
    if x.size:
        assert memory_order(got) == memory_order(in_order(got, order))
        assert memory_order(indices) == memory_order(got)


def check_average(case: Case, dtype: str, order: str, **how: Any) -> None:
    x = in_order(array_of(case.shape, dtype), order)
    arguments = average_of(case, **how)
    wanted = reference.avg_pool2d(x, *arguments)
    got = F.avg_pool2d(x, *arguments)
    assert_close(got, wanted, algorithm="sum", scale=1.0)
    grad = in_order(array_of(wanted.shape, dtype, seed=1), order)
    (dx,) = reference.avg_pool2d_backward(grad, x, *arguments)
    (ours,) = F.avg_pool2d_backward(grad, x, *arguments)
    assert_close(ours, dx, algorithm="sum", scale=1.0)
    if x.size:
        assert memory_order(ours) == memory_order(x)
        assert memory_order(got) == memory_order(in_order(got, order))


# --------------------------------------------------------------------------------------------------------- the oracle


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [*CASES, *CHANNELS, *TURNED, *TASKS], ids=str)
def test_maximum(case, dtype, order):
    check_maximum(case, dtype, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", ["ties", "nan", "inf"])
@pytest.mark.parametrize("case", [*PAIRS, *WINDOWS[:6], *DILATED, *CEIL[:3], *CHANNELS[-3:], *TURNED], ids=str)
def test_maximum_of_equals_nan_and_infinities(case, values, dtype, order):
    check_maximum(case, dtype, order, values)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [*PAIRS, *WINDOWS, *CEIL[:-1], *CHANNELS, *TURNED[:-1], *TASKS], ids=str)
def test_average(case, dtype, order):
    check_average(case, dtype, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", [*PAIRS[:3], *WINDOWS[:6], *CEIL[:-1]], ids=str)
@pytest.mark.parametrize(
    "how", [{"count_include_pad": False}, {"divisor_override": 3}, {"divisor_override": -2}], ids=str
)
def test_average_divisors(case, how, order):
    check_average(case, "float32", order, **how)


def test_average_reaches_only_its_windows():
    """An infinity or NaN stays within the windows that have the pixel in them."""
    x = np.ones((1, 1, 8, 40), np.float32)
    x[0, 0, 3, 17], x[0, 0, 6, 30] = np.inf, np.nan
    got = F.avg_pool2d(x, 3, 1, 1)
    wanted = reference.avg_pool2d(x, 3, 1, 1)
    assert_close(got, wanted, algorithm="sum")
    assert np.isfinite(got).sum() == got.size - 18


def test_what_is_kept_is_a_byte_a_window():
    """Taps are counted in row-major order, from where the window begins, be it in the padding; places of large ones."""
    x = np.array([[[[1.0, 5, 5], [5, 2, 7], [3, 8, 6]]]])
    _, kept = F.keep_maxima("max_pool2d", x, 2, 1)
    assert kept._indices is None
    assert kept._codes.dtype == np.uint8
    assert kept._codes.tolist() == [1, 3, 3, 2]
    assert kept.backward(np.array([[[[1.0, 2], [3, 4]]]])).tolist() == [[[[0, 1, 0], [0, 0, 2], [0, 7, 0]]]]
    _, kept = F.keep_maxima("max_pool2d", x, 3, 2, 1)
    assert kept._codes.tolist() == [5, 7, 5, 3]
    for order in ORDERS:
        _, kept = F.keep_maxima("adaptive_max_pool2d", in_order(x, order), (1, 2))
        assert kept._codes.tolist() == [5, 4]
        _, kept = F.keep_maxima("max_pool2d", in_order(np.arange(324.0).reshape(1, 1, 18, 18), order), 16)
        assert kept._codes is None
        assert kept._indices.tolist() == [[[[285]]]]


def test_what_is_kept_checks_the_gradient():
    _, kept = F.keep_maxima("max_pool2d", np.ones((1, 2, 4, 4), np.float32), 2)
    with pytest.raises(TypeError, match=r"max_pool2d_backward: mixed dtypes: grad_output float64, input float32"):
        kept.backward(np.ones((1, 2, 2, 2)))
    with pytest.raises(ValueError, match=r"max_pool2d_backward: grad_output"):
        kept.backward(np.ones((1, 2, 2, 3), np.float32))


def test_maximum_by_hand():
    x = np.array([[[[1.0, 5, 5], [5, 2, 7], [3, 8, 6]]]])
    y, indices = F.max_pool2d(x, 2, 1, return_indices=True)
    assert y.tolist() == [[[[5, 7], [8, 8]]]]
    assert indices.tolist() == [[[[1, 5], [7, 7]]]]
    (dx,) = F.max_pool2d_backward(np.array([[[[1.0, 2], [3, 4]]]]), x, 2, 1)
    assert dx.tolist() == [[[[0, 1, 0], [0, 0, 2], [0, 7, 0]]]]


def test_average_by_hand():
    x = np.arange(1.0, 10).reshape(1, 3, 3)
    assert F.avg_pool2d(x, 2, 2, 0, True).tolist() == [[[3, 4.5], [7.5, 9]]]
    assert F.avg_pool2d(x, 2, 2, 1, False, False).tolist() == [[[1, 2.5], [5.5, 7]]]
    assert F.avg_pool2d(x, 3, divisor_override=5).tolist() == [[[9]]]
    (dx,) = F.avg_pool2d_backward(np.array([[[8.0]]]), np.ones((1, 3, 3)), 2)
    assert dx.tolist() == [[[2, 2, 0], [2, 2, 0], [0, 0, 0]]]


def test_denormals_are_numbers_to_the_maximum():
    """A maximum only compares: nothing is flushed to zero."""
    tiny = np.array([-1e-310, -2e-310, 1e-310, 0.0]).reshape(1, 1, 2, 2)
    assert F.max_pool2d(tiny, 2).item() == 1e-310
    assert F.max_pool2d(tiny[:, :, :1, :], (1, 2)).item() == -1e-310


@pytest.mark.parametrize("seed", range(40))
def test_random_geometry(seed):
    rng = np.random.default_rng(seed)
    while True:
        kernel, dilation = rng.integers(1, 6, 2), rng.integers(1, 4, 2)
        reach = dilation * (kernel - 1) + 1
        size = rng.integers(1, 45, 2)
        padding = np.array([rng.integers(0, r // 2 + 1) for r in reach])
        if (size + 2 * padding >= reach).all():
            break
    numbers = [tuple(int(i) for i in v) for v in (kernel, rng.integers(1, 6, 2), padding, dilation)]
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(size[0]), int(size[1]))
    case = Case(shape, *numbers, bool(seed % 2))
    print(case)
    for order in ORDERS:
        check_maximum(case, DTYPES[seed // 2 % 2], order, VALUES[seed % 4])
    flat = case._replace(dilation=1, padding=tuple(int(min(p, k // 2)) for p, k in zip(padding, kernel, strict=True)))
    for order in ORDERS:
        check_average(flat, DTYPES[seed // 2 % 2], order, count_include_pad=bool(seed % 3))


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", [PAIRS[4], *WINDOWS[:6], DILATED[1], *CEIL[2:4]], ids=str)
def test_gradients_by_directional_differences(case, order):
    x = in_order(array_of(case.shape, "float64"), order)
    direction = array_of(case.shape, "float64", seed=2)
    # So small a step leaves every maximum where it is.
    h = 1e-6
    runs = {"maximum": (F.max_pool2d, F.max_pool2d_backward, case[1:])}
    if case.dilation == 1:
        runs["average"] = (F.avg_pool2d, F.avg_pool2d_backward, average_of(case, count_include_pad=False))
    for name, (forward, backward, how) in runs.items():
        grad = array_of(forward(x, *how).shape, "float64", seed=3)
        difference = (forward(x + h * direction, *how) - forward(x - h * direction, *how)) / (2 * h)
        (dx,) = backward(grad, x, *how)
        assert np.vdot(dx, direction) == pytest.approx(np.vdot(grad, difference), rel=1e-8, abs=1e-8), name


# ------------------------------------------------------------------------------------------------- what must not matter


@pytest.fixture
def always_parallel(monkeypatch):
    """Small work is shared between threads too."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)


def results(case: Case, dtype: str, order: str) -> list[np.ndarray]:
    x = in_order(array_of(case.shape, dtype), order)
    y, indices = F.max_pool2d(x, *case[1:], True)
    grad = in_order(array_of(y.shape, dtype, seed=1), order)
    average = average_of(case)
    again, kept = F.keep_maxima("max_pool2d", x, *case[1:])
    return [
        again,
        kept.backward(grad),
        y,
        indices,
        F.max_pool2d(x, *case[1:]),
        *F.max_pool2d_backward(grad, x, *case[1:]),
        *F.max_pool2d_backward(grad, x, *case[1:], indices=indices),
        F.avg_pool2d(x, *average),
        *F.avg_pool2d_backward(grad, x, *average),
    ]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", TASKS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(always_parallel, case, dtype, order):
    with cyconv.threads(1):
        alone = results(case, dtype, order)
    for n in (2, 3):
        with cyconv.threads(n):
            for i, (one, other) in enumerate(zip(results(case, dtype, order), alone, strict=True)):
                np.testing.assert_array_equal(one, other, err_msg=str(i), strict=True)


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_the_number_of_threads_reaches_the_kernels(always_parallel, monkeypatch, wanted):
    """As many as are set, however many processors this process may use."""
    reached = []

    class Recorded(_pool._kernel.Pool):
        def maximum(self, *arguments):
            reached.append(arguments[-1])
            super().maximum(*arguments)

    monkeypatch.setattr(_pool, "_kernel", SimpleNamespace(Pool=Recorded))
    _pool._cached.cache_clear()
    with cyconv.threads(wanted):
        F.max_pool2d(np.ones((3, 2, 5, 7), np.float32), 2)
    _pool._cached.cache_clear()
    assert reached == [wanted if _threads.OPENMP else 1]


def test_small_work_stays_with_one_thread(monkeypatch):
    asked = []
    monkeypatch.setattr(_settings, "threads_for", lambda work: asked.append(work) or 1)
    F.max_pool2d(np.ones((1, 6, 28, 28), np.float32), 2)
    F.max_pool2d(np.ones((64, 6, 28, 28), np.float32), 2)
    assert asked[0] < _settings.SERIAL_WORK < asked[1]


@pytest.mark.parametrize("case", [PAIRS[5], WINDOWS[1]], ids=str)
def test_unbatched_is_a_batch_of_one(case):
    x = array_of((1, *case.shape[1:]), "float32")
    y, indices = F.max_pool2d(x, *case[1:], True)
    for one, other in zip(F.max_pool2d(x[0], *case[1:], True), (y, indices), strict=True):
        np.testing.assert_array_equal(one, other[0], strict=True)
    for kept in (None, indices[0]):
        got = F.max_pool2d_backward(y[0], x[0], *case[1:], indices=kept)[0]
        np.testing.assert_array_equal(got, F.max_pool2d_backward(y, x, *case[1:])[0][0], strict=True)
    how = average_of(case)
    np.testing.assert_array_equal(F.avg_pool2d(x[0], *how), F.avg_pool2d(x, *how)[0], strict=True)
    got = F.avg_pool2d_backward(y[0], x[0], *how)[0]
    np.testing.assert_array_equal(got, F.avg_pool2d_backward(y, x, *how)[0][0], strict=True)


@pytest.mark.parametrize("change", ["reversed", "every second", "Fortran", "read-only", "misaligned", "big-endian"])
def test_other_memory(change):
    x = array_of((2, 3, 8, 12), "float32")
    if change == "misaligned":
        raw = np.empty(x.nbytes + 1, np.uint8)
        other = raw[1:].view(np.float32).reshape(x.shape)
        other[...] = x
    elif change == "read-only":
        other = x.copy()
        other.flags.writeable = False
    elif change == "big-endian":
        other = x.astype(">f4")
    elif change == "Fortran":
        other = np.asfortranarray(x)
    else:
        step = -1 if change == "reversed" else 2
        other = np.repeat(x, 2, axis=3)[..., ::2] if step == 2 else x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1]
    grad = array_of((2, 3, 4, 6), "float32", seed=1)
    np.testing.assert_array_equal(F.max_pool2d(other, 2), F.max_pool2d(x, 2), strict=True)
    np.testing.assert_array_equal(F.avg_pool2d(other, 2), F.avg_pool2d(x, 2), strict=True)
    np.testing.assert_array_equal(F.max_pool2d_backward(grad, other, 2)[0], F.max_pool2d_backward(grad, x, 2)[0])
    np.testing.assert_array_equal(F.avg_pool2d_backward(grad, other, 2)[0], F.avg_pool2d_backward(grad, x, 2)[0])


@pytest.mark.parametrize("order", ORDERS)
def test_both_memory_orders_go_without_a_copy(order):
    x = in_order(array_of((2, 3, 8, 12), "float32"), order)
    before = _arrays.copies
    y = F.max_pool2d(x, 2)
    F.max_pool2d_backward(y, x, 2)
    F.avg_pool2d_backward(F.avg_pool2d(x, 2), x, 2)
    assert _arrays.copies == before
    F.max_pool2d_backward(in_order(y, ORDERS[1 - ORDERS.index(order)]), x, 2)
    assert _arrays.copies == before + 1


# ------------------------------------------------------------------------------------------------------ protected pages


def run_guarded(at_end: bool) -> None:
    """Run the awkward cases on arrays that end, or begin, beside pages that nobody may touch."""
    import guarded

    def empty(shape: tuple[int, ...], dtype: Any, last: bool = False) -> np.ndarray:
        if not last:
            return guarded.empty(shape, dtype, at_end)
        return np.moveaxis(guarded.empty((shape[0], *shape[2:], shape[1]), dtype, at_end), -1, 1)

    for module in (_pool, _pool_fractional, _pool_unpool):
        module.empty = empty  # type: ignore[attr-defined]
    for case, dtype, order in itertools.product([*CASES, *CHANNELS, *TURNED], DTYPES, ORDERS):
        print(case, dtype, order, flush=True)
        x = guarded.copy(in_order(array_of(case.shape, dtype), order), at_end)
        y, indices = F.max_pool2d(x, *case[1:], True)
        F.max_pool2d(x, *case[1:])
        F.max_pool2d_backward(y, x, *case[1:])
        F.max_pool2d_backward(y, x, *case[1:], indices=indices)
        F.keep_maxima("max_pool2d", x, *case[1:])[1].backward(y)
        if case.dilation == 1:
            F.avg_pool2d_backward(F.avg_pool2d(x, *average_of(case)), x, *average_of(case))
    print("done")


@pytest.mark.parametrize("at_end", [True, False])
def test_nothing_is_read_or_written_beside_the_arrays(at_end):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_pooling\n"
    printed = output_of("-c", code + f"test_pooling.run_guarded({at_end})", CYCONV_ISA=kernels.ISA)
    assert printed.splitlines()[-1] == "done"


# --------------------------------------------------------------------------------------------------------------- errors

X = np.ones((2, 3, 8, 9), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.max_pool2d(X, 3, 1, 2), ValueError, "max_pool2d: padding 2 exceeds half of kernel 3"),
        (
            lambda: F.max_pool2d(X, 3, 1, (1, 3), 2),
            ValueError,
            "max_pool2d: padding 3 exceeds half of kernel 3 (dilated to 5)",
        ),
        (
            lambda: F.max_pool2d(X, 12, padding=1),
            ValueError,
            "max_pool2d: kernel 12 does not fit into the padded input of height 10 (8 + 2·1)",
        ),
        (
            lambda: F.max_pool2d(X, (2, 5), dilation=3),
            ValueError,
            "max_pool2d: kernel 5 (dilated to 13) does not fit into the padded input of width 9 (9 + 2·0)",
        ),
        (lambda: F.avg_pool2d(X, 0), ValueError, "avg_pool2d: kernel_size must be at least 1, got 0"),
        (lambda: F.avg_pool2d(X, 2, -1), ValueError, "avg_pool2d: stride must be at least 1, got -1"),
        (lambda: F.max_pool2d(X, (2, 2, 2)), ValueError, "max_pool2d: kernel_size must be an int or 2 ints"),
        (lambda: F.max_pool2d(X, 2.0), TypeError, "max_pool2d: kernel_size must be an int or 2 ints, got 2.0"),
        (lambda: F.max_pool2d(X, True), TypeError, "max_pool2d: kernel_size must be an int or 2 ints, got True"),
        (lambda: F.max_pool2d(X, [2, "2"]), TypeError, "max_pool2d: kernel_size must be an int, got '2'"),
        (lambda: F.max_pool2d(X, 2, ceil_mode=1), TypeError, "max_pool2d: ceil_mode must be True or False, got 1"),
        (lambda: F.avg_pool2d(X, 2, count_include_pad=0), TypeError, "count_include_pad must be True or False, got 0"),
        (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "avg_pool2d: divisor_override must not be 0"),
        (
            lambda: F.avg_pool2d(X, 2, divisor_override=2.0),
            TypeError,
            "divisor_override must be an int or None",
        ),
        (
            lambda: F.max_pool2d(X[0, 0], 2),
            ValueError,
            "input must have shape (N, C, height, width) or (C,",
        ),
        (lambda: F.max_pool2d(X[:, :, :0], 2), ValueError, "max_pool2d: the input has no pixels: its height is 0"),
        (lambda: F.max_pool2d(X.astype(int), 2), TypeError, "max_pool2d: input has dtype int64"),
        (
            lambda: F.max_pool2d_backward(X, X, 2),
            ValueError,
            "max_pool2d_backward: grad_output must have the shape of the output, (2, 3, 4, 4), got (2, 3, 8, 9)",
        ),
        (
            lambda: F.avg_pool2d_backward(np.ones((2, 3, 4, 4)), X, 2),
            TypeError,
            "avg_pool2d_backward: mixed dtypes: grad_output float64, input float32",
        ),
        (
            lambda: F.max_pool2d_backward(X[..., :4, :4], X, 2, indices=np.full((2, 3, 4, 4), 72)),
            ValueError,
            "max_pool2d_backward: indices must lie in the plane of 8 x 9",
        ),
        (
            lambda: F.max_pool2d_backward(X[..., :4, :4], X, 2, indices=np.full((2, 3, 4, 4), -2)),
            ValueError,
            "max_pool2d_backward: indices must lie in the plane of 8 x 9",
        ),
        (
            lambda: F.max_pool2d_backward(X[..., :4, :4], X, 2, indices=np.zeros((2, 3, 4, 3), int)),
            ValueError,
            "max_pool2d_backward: indices must have the shape of the output",
        ),
        (
            lambda: F.max_pool2d_backward(X[..., :4, :4], X, 2, indices=np.zeros((2, 3, 4, 4))),
            TypeError,
            "max_pool2d_backward: indices must be integers, got float64",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    # What was refused once is refused again, though plans are kept.
    with pytest.raises(error):
        call()


def test_lists_and_numpy_integers_are_ints():
    wanted = F.max_pool2d(X, (2, 3), (2, 1))
    np.testing.assert_array_equal(F.max_pool2d(X, [2, 3], [2, 1]), wanted)
    np.testing.assert_array_equal(F.max_pool2d(X, (np.int64(2), np.int32(3)), (2, 1)), wanted)


# ---------------------------------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("values", VALUES)
# Torch allows no padding beyond half of the kernel before it is dilated.
@pytest.mark.parametrize("case", [PAIRS[5], *WINDOWS[:5], DILATED[0], *CEIL], ids=str)
def test_as_torch(case, values):
    torch = pytest.importorskip("torch")
    x = array_of(case.shape, "float64", values)
    t = torch.from_numpy(x).requires_grad_()
    y, indices = torch.nn.functional.max_pool2d(t, *case[1:], return_indices=True)
    ours, places = F.max_pool2d(x, *case[1:], return_indices=True)
    np.testing.assert_array_equal(ours, y.detach().numpy())
    np.testing.assert_array_equal(places, indices.numpy())
    grad = array_of(ours.shape, "float64", seed=1)
    y.backward(torch.from_numpy(grad))
    assert_close(F.max_pool2d_backward(grad, x, *case[1:])[0], t.grad.numpy(), algorithm="sum")
    if case.dilation == 1 and values == "normal":
        t.grad = None
        y = torch.nn.functional.avg_pool2d(t, *average_of(case, count_include_pad=False))
        assert_close(F.avg_pool2d(x, *average_of(case, count_include_pad=False)), y.detach().numpy(), algorithm="sum")
        y.backward(torch.from_numpy(grad))
        got = F.avg_pool2d_backward(grad, x, *average_of(case, count_include_pad=False))[0]
        assert_close(got, t.grad.numpy(), algorithm="sum")
