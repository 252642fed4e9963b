"""What must not change the answer of a convolution: threads, memory order, batches, neighbours, forks, other calls."""

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conv_cases import DTYPES, ORDERS, Case, check, in_order, memory_order, suits
from processes import output_of
from tolerances import assert_close

import cyconv
from cyconv import _settings, kernels, reference
from cyconv import functional as F
from cyconv.functional import _arrays, _conv
from cyconv.kernels import _threads, _workspace

ALGORITHMS = ("direct", "im2col")
ALL = (*ALGORITHMS, "winograd_f2", "winograd_f4", "depthwise")
#: Algorithms that sum every output in an order that no other output has a part in.
EXACT = ("direct", "depthwise")

#: Several tasks each, of every kind: blocks of rows and of channels, groups, images, chunks of a weight gradient.
CASES = [
    Case(3, 5, 37, (13, 17), padding=1),
    Case(7, 3, 2, (19, 23), (5, 5), padding=2),
    Case(2, 6, 8, (31, 29), (3, 3), (2, 3), 1, (2, 1), 2),
    Case(5, 9, 70, (11, 7), (1, 1)),
    Case(1, 4, 3, (90, 50), (3, 2)),
    Case(2, 24, 24, (12, 10), padding=1, groups=24),
    Case(1, 170, 5, (6, 5), padding=1),
    Case(4, 163, 6, (4, 5), (1, 1)),
    Case(9, 20, 33, (6, 5), padding=2),
    Case(3, 40, 40, (9, 21), (5, 5), (2, 2), 2, groups=40),
    Case(3, 20, 70, (37, 51), stride=(2, 2), padding=1),
    Case(1, 150, 100, (13, 30), stride=(2, 1), padding=1),
]
#: Every case with every algorithm and memory order that it can be computed by.
ALL_WAYS = [
    (case, algorithm, order) for case in CASES for algorithm in ALL for order in ORDERS if suits(case, algorithm, order)
]

needs_openmp = pytest.mark.skipif(not _threads.OPENMP, reason="built without OpenMP")
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc, and forks")


@pytest.fixture
def always_parallel(monkeypatch):
    """Small work is shared between threads too."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)


def channels_of(algorithm):
    """Return how many of 40 input channels an output channel is to read."""
    return 1 if algorithm == "depthwise" else 40


def results(case, dtype, order, algorithm):
    """Return output and gradients."""
    x, weight, bias, grad = case.arrays(dtype, order)
    return (
        F.conv2d(x, weight, bias, *case.how, algorithm=algorithm),
        *F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm),
    )


def assert_same_bits(got, wanted):
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"entry {i} of output and gradients", strict=True)


# ------------------------------------------------------------------------------------------------------------ threads


@needs_openmp
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "algorithm", "order"), ALL_WAYS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(always_parallel, case, algorithm, dtype, order):
    with cyconv.threads(1):
        alone = results(case, dtype, order, algorithm)
    for n in (2, 3, 5):
        with cyconv.threads(n):
            assert_same_bits(results(case, dtype, order, algorithm), alone)


@needs_openmp
def test_the_number_of_threads_reaches_the_kernels(always_parallel, monkeypatch):
    reached = []

    def record(kernel, name):
        class Recorded(getattr(kernel, name)):
            def run(self, *arguments):
                reached.append(arguments[-1])
                return super().run(*arguments)

        monkeypatch.setattr(kernel, name, Recorded)

    monkeypatch.setattr(_conv, "_engines", {})
    record(kernels.load("direct"), "Walk")
    record(kernels.load("weight_gradient"), "WeightGradient")
    for n in (1, 2, 3, 5):
        with cyconv.threads(n):
            results(CASES[0], "float32", "C", "direct")
        assert reached == [n, n, n]
        reached.clear()


THREADS_STARTED = """
import os, time
import numpy as np, cyconv
from cyconv import _settings, functional as F
_settings.SERIAL_WORK = 0
x, w, how = np.ones((8, 40, 32, 32), "f4"), np.ones((40, {channels}, 3, 3), "f4"), dict(groups=40 // {channels})
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
with cyconv.threads(1):
    F.conv2d(x, w, algorithm={algorithm!r}, **how)
alone = count()
with cyconv.threads(5):
    F.conv2d(x, w, algorithm={algorithm!r}, **how)
# Where a smaller team worked in between, the runtime sent threads home, which may be on their way.
for _ in range(200):
    if count() - before == 4:
        break
    time.sleep(0.01)
print(alone - before, count() - before)
"""


@needs_openmp
@needs_fork
@pytest.mark.parametrize("algorithm", ALL)
def test_threads_are_started_when_there_are_several_to_use(algorithm):
    code = THREADS_STARTED.format(algorithm=algorithm, channels=channels_of(algorithm))
    assert output_of("-c", code) == "0 4"


@pytest.mark.parametrize("algorithm", ALL)
def test_calls_from_several_python_threads_at_once(always_parallel, algorithm):
    """The interpreter's lock is free while a kernel runs: calls do overlap, and share the pool of workspaces."""
    ways = [(case, order) for case, name, order in ALL_WAYS if name == algorithm]
    jobs = [(case, dtype, order) for case, order in ways for dtype in DTYPES] * 2
    with cyconv.threads(2):
        alone = [results(*job, algorithm) for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda job: results(*job, algorithm), jobs))
    for got, wanted in zip(together, alone, strict=True):
        assert_same_bits(got, wanted)


FORK = """
import os, sys
import numpy as np, cyconv
from cyconv import _settings, functional as F
_settings.SERIAL_WORK = 0
cyconv.set_num_threads(2)
x, w, how = np.ones((4, 40, 20, 20), "f4"), np.ones((40, {channels}, 3, 3), "f4"), dict(groups=40 // {channels})
def work():
    y = F.conv2d(x, w, algorithm={algorithm!r}, **how)
    flat = y.reshape(4, -1)
    return [y, *F.conv2d_backward(y, x, w, algorithm={algorithm!r}, **how), F.linear(flat, flat)]
before = work()  # the threads of the pool exist now
child = os.fork()
if child == 0:
    same = all(np.array_equal(a, b) for a, b in zip(work(), before))
    grandchild = os.fork()
    if grandchild == 0:
        work()
        os._exit(0)
    os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 3)
status = os.waitpid(child, 0)[1]
again = work()  # and the parent's pool still works
print(os.waitstatus_to_exitcode(status), all(np.array_equal(a, b) for a, b in zip(again, before)),
      cyconv.get_num_threads())
"""


@needs_fork
@pytest.mark.parametrize("algorithm", ALL)
def test_a_child_forked_after_parallel_work_computes_instead_of_hanging(algorithm):
    # From Python 3.12 on, fork() warns of threads; that it works all the same is what is tested.
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
    code += FORK.format(algorithm=algorithm, channels=channels_of(algorithm))
    with_openmp = 2 if _threads.OPENMP else 1
    assert output_of("-c", code, timeout=60) == f"0 True {with_openmp}"


def test_denormals_are_flushed_inside_and_nowhere_else(always_parallel):
    """Kernels switch a mode of the processor; the caller, and Python's own threads, must not notice."""
    tiny = np.float32(1e-40)
    for n, algorithm in itertools.product((1, 3), ALL):
        with cyconv.threads(n):
            channels = channels_of(algorithm)
            x, weight = np.full((4, 40, 9, 9), tiny), np.ones((40, channels, 3, 3), np.float32)
            F.conv2d(x, weight, groups=40 // channels, algorithm=algorithm)
        assert np.array([tiny])[0] * np.float32(1) == tiny
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: np.array([tiny]) * np.float32(1)).result()[0] == tiny


# ------------------------------------------------------------------------------------------- memory orders of all kinds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "algorithm"),
    [way[:2] for way in ALL_WAYS if way[2] == "C" and suits(*way[:2], "channels-last")],
    ids=str,
)
def test_memory_orders_agree(case, algorithm, dtype):
    one, other = (results(case, dtype, order, algorithm) for order in ORDERS)
    for got, wanted in zip(other, one, strict=True):
        assert_close(got, wanted, algorithm=algorithm, scale=max(1, float(np.abs(wanted).max())))


def misaligned(x):
    buffer = np.empty(x.nbytes + 1, np.uint8)[1:]
    result = np.ndarray(x.shape, x.dtype, buffer=buffer)
    result[...] = x
    assert not result.flags.aligned
    return result


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def sliced(x):
    wide = np.full([2 * size + 1 for size in x.shape], np.nan, x.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def permuted(x):
    order = np.roll(np.arange(x.ndim), 2)
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def foreign(x, *known):
    """An object of a class of its own: NumPy looks for protocols on the class."""
    return type("Foreign", (), {name: property(lambda self, _n=name: getattr(x, _n)) for name in known})()


FORMS = {
    "as it is": lambda x: x,
    "Fortran order": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "all axes reversed": lambda x: np.flip(np.ascontiguousarray(np.flip(x))),
    "sliced": sliced,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "axes permuted": permuted,
    "read-only": read_only,
    "misaligned": misaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "DLPack": lambda x: foreign(x, "__dlpack__", "__dlpack_device__"),
    "array interface": lambda x: foreign(x, "__array_interface__"),
    "array protocol": lambda x: foreign(x, "__array__"),
    "nested lists": lambda x: x.tolist(),
}


@pytest.mark.parametrize("which", range(4), ids=["input", "weight", "bias", "grad_output"])
@pytest.mark.parametrize("form", FORMS)
def test_any_array_will_do(form, which):
    case = Case(2, 3, 5, (6, 7), (3, 2), (1, 2), ((1, 0), (0, 2)))
    plain = case.arrays("float64")
    arrays = [*plain]
    arrays[which] = FORMS[form](plain[which])
    for algorithm in ALGORITHMS:
        got = F.conv2d(*arrays[:3], *case.how, algorithm=algorithm)
        assert type(got) is np.ndarray
        assert got.dtype == np.float64
        assert got.dtype.isnative
        back = F.conv2d_backward(arrays[3], *arrays[:3], *case.how, algorithm=algorithm)
        x, *rest = plain
        order = memory_order(_arrays.ordered(np.asarray(arrays[0]))[0]) if which == 0 and form != "DLPack" else "C"
        x = in_order(x, order)
        assert_same_bits(
            (got, *back),
            (
                F.conv2d(x, *rest[:2], *case.how, algorithm=algorithm),
                *F.conv2d_backward(rest[2], x, *rest[:2], *case.how, algorithm=algorithm),
            ),
        )


@pytest.mark.parametrize("order", ORDERS)
def test_a_broadcast_array_of_strides_zero(order):
    case = Case(3, 4, 5, (6, 7), padding=1)
    _, weight, bias, grad = case.arrays("float32", order)
    how = {"padding": 1, "algorithm": "direct"}
    for shape in ((1, 4, 6, 7), (3, 1, 6, 7), (3, 4, 1, 7), (3, 4, 6, 1), (1, 1, 1, 1)):
        x = np.broadcast_to(in_order(np.random.default_rng(1).standard_normal(shape, np.float32), order), (3, 4, 6, 7))
        assert 0 in x.strides
        g = np.broadcast_to(grad[:1, :1], grad.shape)
        assert_close(F.conv2d(x, weight, bias, **how), reference.conv2d(x, weight, bias, padding=1))
        for got, wanted in zip(
            F.conv2d_backward(g, x, weight, bias, **how),
            reference.conv2d_backward(g, x, weight, bias, padding=1),
            strict=True,
        ):
            assert_close(got, wanted, scale=max(float(np.abs(wanted).max()), 10.0))


@pytest.mark.parametrize(
    ("form", "copies"),
    [
        ("as it is", 0),
        ("read-only", 0),
        ("Fortran order", 1),
        ("reversed", 1),
        ("sliced", 1),
        ("transposed", 1),
    ],
)
def test_copies_are_counted_and_never_more_than_one(form, copies):
    x, weight, _, grad = Case(2, 3, 5, (6, 7)).arrays("float32")
    x, grad = FORMS[form](x), FORMS[form](grad)
    before = _arrays.copies
    F.conv2d(x, weight)
    assert _arrays.copies - before == copies
    F.conv2d_backward(grad, x, weight)
    assert _arrays.copies - before == 3 * copies  # input and grad_output


@pytest.mark.parametrize("order", ORDERS)
def test_memory_order_of_the_input_costs_no_copy_and_is_kept(order):
    x, weight, _, grad = Case(2, 3, 5, (6, 7)).arrays("float32", order)
    before = _arrays.copies
    y = F.conv2d(x, weight)
    dx, _ = F.conv2d_backward(grad, x, weight)
    assert _arrays.copies == before
    assert memory_order(y) == memory_order(dx) == order
    other = in_order(grad, next(name for name in ORDERS if name != order))
    np.testing.assert_array_equal(F.conv2d_backward(other, x, weight)[0], dx)
    assert _arrays.copies == before + 1


@pytest.mark.parametrize("algorithm", ["reference", *ALGORITHMS])
def test_arguments_are_left_as_they_were(algorithm):
    for order in ORDERS:
        arrays = Case(2, 3, 5, (6, 7), (2, 2), (2, 1), 1).arrays("float32", order)
        before = [x.copy() for x in arrays]
        x, weight, bias, grad = arrays
        F.conv2d(x, weight, bias, (2, 1), 1, algorithm=algorithm)
        F.conv2d_backward(grad, x, weight, bias, (2, 1), 1, algorithm=algorithm)
        assert_same_bits(arrays, before)


def test_results_are_the_callers_own():
    """No result lies in memory that a later call writes to."""
    case = Case()
    x, weight, bias, grad = case.arrays("float32")
    first = (F.conv2d(x, weight, bias), *F.conv2d_backward(grad, x, weight, bias))
    kept = [y.copy() for y in first]
    later = (F.conv2d(-x, weight, bias), *F.conv2d_backward(-grad, x, weight, bias))
    assert_same_bits(first, kept)
    assert not any(np.shares_memory(y, other) for y in first for other in (x, weight, bias, grad, *later))
    assert all(y.flags.writeable for y in first)


# ------------------------------------------------------------------------------------------------------------ batches


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("case", "algorithm", "order"), [way for way in ALL_WAYS if way[0].n > 1], ids=str)
def test_a_batch_is_its_images(case, algorithm, dtype, order):
    x, weight, bias, grad = case.arrays(dtype, order)
    y, dx, dw, _ = results(case, dtype, order, algorithm)
    sums = np.zeros(dw.shape)
    for i in range(case.n):
        one = slice(i, i + 1)
        alone = F.conv2d(x[one], weight, bias, *case.how, algorithm=algorithm)
        dx_alone, dw_alone, _ = F.conv2d_backward(grad[one], x[one], weight, bias, *case.how, algorithm=algorithm)
        np.testing.assert_array_equal(F.conv2d(x[i], weight, bias, *case.how, algorithm=algorithm), alone[0])
        # An image's plan knows of the batch only how the tasks are dealt out: direct sums are the same.
        assert_close(alone, y[one], algorithm="exact" if algorithm in EXACT else algorithm)
        assert_close(dx_alone, dx[one], algorithm="exact" if algorithm in EXACT else algorithm)
        sums += dw_alone
    assert_close(sums.astype(dtype), dw, algorithm=algorithm)


# ------------------------------------------------------------------------------------------------------- NaN, infinity


SPREAD = [
    Case(2, 3, 5, (6, 9), (3, 2), padding=((1, 0), (0, 2)), bias=False),
    Case(1, 2, 20, (9, 8), (2, 2), (3, 4), bias=False),  # pixels between the windows
    Case(1, 4, 6, (7, 21), (2, 3), (1, 2), 1, (3, 2), 2, bias=False),
    Case(1, 3, 2, (4, 35), (3, 3), padding=1, bias=False),
    Case(2, 3, 4, (3, 3), (1, 1), bias=False),
    Case(1, 3, 3, (8, 35), (3, 3), (2, 2), 1, groups=3, bias=False),
    Case(1, 40, 40, (5, 7), (3, 3), (1, 1), 1, groups=40, bias=False),
]


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("case", "algorithm", "order"),
    [
        (case, algorithm, order)
        for case in SPREAD
        for algorithm in (*ALGORITHMS, "depthwise")
        for order in ORDERS
        if suits(case, algorithm, order)
    ],
    ids=str,
)
def test_nan_and_infinity_reach_the_windows_that_touch_them_and_no_others(case, special, algorithm, order):
    x, weight, _, grad = case.arrays("float32", order)
    weight, ones = np.abs(weight) + np.float32(0.1), np.ones(weight.shape)
    clean_y = F.conv2d(x, weight, None, *case.how, algorithm=algorithm)
    clean_dx, clean_dw = F.conv2d_backward(grad, x, weight, None, *case.how, algorithm=algorithm)
    rng = np.random.default_rng(3)
    for _ in range(6):
        where = np.zeros(x.shape)
        where[tuple(rng.integers(0, size) for size in x.shape)] = 1
        bad = in_order(np.where(where > 0, np.float32(special), x), order)
        with np.errstate(invalid="ignore"):
            y = F.conv2d(bad, weight, None, *case.how, algorithm=algorithm)
            dw = F.conv2d_backward(grad, bad, weight, None, *case.how, algorithm=algorithm)[1]
        touched = reference.conv2d(where, ones, None, *case.how) > 0
        np.testing.assert_array_equal(y, np.where(touched, np.float32(special), clean_y))
        touched = reference.conv2d_backward(np.ones(grad.shape), where, ones, None, *case.how)[1] > 0
        np.testing.assert_array_equal(~np.isfinite(dw), touched)
        np.testing.assert_array_equal(dw[~touched], clean_dw[~touched])

        where = np.zeros(grad.shape)
        where[tuple(rng.integers(0, size) for size in grad.shape)] = 1
        bad = in_order(np.where(where > 0, np.float32(special), grad), order)
        dx = F.conv2d_backward(bad, x, weight, None, *case.how, algorithm=algorithm)[0]
        touched = reference.conv2d_backward(where, np.zeros(x.shape), ones, None, *case.how)[0] > 0
        np.testing.assert_array_equal(dx, np.where(touched, np.float32(special), clean_dx))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("m", [2, 4])
def test_under_winograd_a_nan_reaches_its_tiles_at_most(m, order):
    """Tiles of m x m outputs are made of (m + 2) x (m + 2) pixels together, and no others."""
    case = Case(2, 3, 5, (11, 13), padding=1, bias=False)
    x, weight, _, _ = case.arrays("float32", order)
    clean = F.conv2d(x, weight, padding=1, algorithm=f"winograd_f{m}")
    for place in ((0, 1, 0, 0), (1, 2, 5, 7), (1, 0, 10, 12)):
        bad = x.copy("K")
        bad[place] = np.nan
        y = F.conv2d(bad, weight, padding=1, algorithm=f"winograd_f{m}")
        touched = reference.conv2d(np.isnan(bad).astype(float), np.ones(weight.shape), padding=1) > 0
        assert np.isnan(y[touched]).all()
        _, _, rows, columns = np.nonzero(touched)
        tiles = np.zeros(y.shape, bool)
        low, high = (np.array([rows.min(), columns.min()]) // m * m, np.array([rows.max(), columns.max()]) // m * m + m)
        tiles[place[0], :, low[0] : high[0], low[1] : high[1]] = True
        np.testing.assert_array_equal(y[~tiles], clean[~tiles])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("k", [1, 5, 20, 40])
def test_a_nan_among_the_weights_stays_in_its_output_channel(algorithm, k, order):
    """Neighbours in a vector, or in the tile, are not infected."""
    x, weight, bias, _ = Case(2, 3, k, (6, 19)).arrays("float32", order)
    clean = F.conv2d(x, weight, bias, algorithm=algorithm)
    for channel in {0, k // 2, k - 1}:
        bad = weight.copy()
        bad[channel, 1, 2, 0] = np.nan
        y = F.conv2d(x, bad, bias, algorithm=algorithm)
        assert np.isnan(y[:, channel]).all()
        np.testing.assert_array_equal(np.delete(y, channel, 1), np.delete(clean, channel, 1))


# ---------------------------------------------------------------------------------------------------- memory of kernels


def test_the_pool_of_workspaces_is_used_again_and_can_be_emptied():
    case = CASES[0]
    check(case, "float32", "C")
    assert _workspace.release_kept() > 0
    assert _workspace.release_kept() == 0
    check(case, "float32", "C")
    once = _workspace.release_kept()
    for _ in range(20):
        check(case, "float32", "C")
    assert once <= _workspace.release_kept() <= 2 * once


def test_large_blocks_of_the_pool_are_given_back_too():
    _workspace.release_kept()
    block = _workspace.array(1 << 20, "d")
    del block
    assert _workspace.release_kept() >= 8 << 20
