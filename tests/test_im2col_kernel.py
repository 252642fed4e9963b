"""im2col: columns and BLAS against the oracle, in each memory order, cut small and large, for any number of threads."""

import importlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close

from cyconv import kernels, reference

DTYPES = (np.float32, np.float64)
ORDERS = ("contiguous", "channels_last")
SMALLEST, DEFAULT = 1 << 16, 64 << 20  # workspaces, in bytes

# images, C, K, (H, W), (R, S), stride, ((top, bottom), (left, right)), dilation, groups
CASES = {
    "one pixel": (1, 1, 1, (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "lenet": (3, 1, 6, (28, 28), (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    "3x3": (2, 17, 19, (13, 11), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "1x1 is no copy": (2, 37, 23, (7, 11), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 strided": (2, 16, 8, (9, 8), (1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 padded": (2, 3, 5, (4, 5), (1, 1), (1, 1), ((1, 0), (0, 2)), (1, 1), 1),
    "1x1 padded below only, no larger": (1, 3, 5, (4, 5), (1, 1), (2, 1), ((0, 3), (0, 0)), (1, 1), 1),
    "1x1 in groups": (2, 6, 9, (5, 7), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 3),
    "stem": (1, 3, 64, (45, 47), (7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "dilated": (2, 5, 7, (17, 16), (3, 2), (1, 1), ((2, 2), (1, 3)), (2, 3), 1),
    "dilated and strided": (2, 4, 6, (23, 19), (3, 3), (3, 2), ((4, 1), (0, 5)), (2, 4), 2),
    "groups": (2, 12, 18, (9, 10), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "depthwise": (2, 11, 11, (8, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 11),
    "depthwise times 2": (1, 5, 10, (8, 9), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 5),
    "padded on one side": (2, 3, 4, (6, 7), (3, 4), (1, 1), ((2, 0), (0, 3)), (1, 1), 1),
    "padding as wide as the kernel reaches": (1, 2, 3, (3, 3), (3, 5), (1, 1), ((2, 2), (4, 4)), (1, 1), 1),
    "taps wholly in the padding": (1, 2, 3, (2, 2), (7, 7), (1, 1), ((3, 3), (3, 3)), (1, 1), 1),
    "kernel = input": (3, 4, 5, (6, 5), (6, 5), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "stride > kernel": (2, 3, 4, (17, 13), (2, 3), (5, 4), ((0, 1), (2, 0)), (1, 1), 1),
    "one row": (2, 8, 8, (1, 37), (1, 5), (1, 1), ((0, 0), (2, 2)), (1, 1), 1),
    "one column": (2, 8, 8, (37, 1), (5, 1), (2, 1), ((2, 2), (0, 0)), (1, 1), 1),
    "many channels": (2, 130, 67, (5, 5), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "many output channels, few pixels": (1, 24, 600, (7, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "several blocks": (1, 40, 8, (50, 61), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
}


def kernel_of(isa):
    return importlib.import_module(f"cyconv.kernels.im2col_{isa}")


def in_order(x, order):
    """(N, C, H, W) in the memory order asked for."""
    if order == "contiguous":
        return np.ascontiguousarray(x)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def unwritten(shape, dtype, order):
    """An array full of NaN: what the kernel leaves out is seen."""
    return in_order(np.full(shape, np.nan, dtype), order)


class Case:
    """Arrays of one convolution and the kernel made for them."""

    def __init__(self, numbers, dtype, order, workspace=DEFAULT, isa=kernels.ISA, seed=0):
        images, c, k, size, taps, stride, padding, dilation, groups = numbers
        rng = np.random.default_rng(seed)
        self.order, self.dtype, self.images = order, dtype, images
        self.x = in_order(rng.standard_normal((images, c, *size)).astype(dtype), order)
        self.w = rng.standard_normal((k, c // groups, *taps)).astype(dtype)
        self.b = rng.standard_normal(k).astype(dtype)
        self.options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.y = reference.conv2d(self.x, self.w, self.b, **self.options)
        self.dy = in_order(rng.standard_normal(self.y.shape).astype(dtype), order)
        self.columns = kernel_of(isa).Columns(
            dtype=np.dtype(dtype).char,
            source=self.x.shape[1:],
            out=self.y.shape[1:],
            kernel=taps,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            channels_last=order == "channels_last",
            edges=None,
            workspace=workspace,
        )
        self.ahead, self.back, self.weights = self.columns.walks()

    def forward(self, threads=1, bias=True):
        out = unwritten(self.y.shape, self.dtype, self.order)
        self.ahead.run(out, self.x, self.w, self.b if bias else None, self.images, threads)
        return out

    def input_gradient(self, threads=1):
        out = unwritten(self.x.shape, self.dtype, self.order)
        self.back.run(out, self.dy, self.w, None, self.images, threads)
        return out

    def weight_gradient(self, threads=1):
        out, bias = np.full(self.w.shape, np.nan, self.dtype), np.full(self.w.shape[:1], np.nan, self.dtype)
        self.weights.run(out, bias, self.dy, self.x, self.images, threads)
        return out, bias

    def all(self, threads=1):
        return self.forward(threads), self.input_gradient(threads), *self.weight_gradient(threads)

    def check(self, threads=1):
        wanted = reference.conv2d_backward(self.dy, self.x, self.w, self.b, **self.options)
        for actual, expected in zip(self.all(threads), (self.y, *wanted), strict=True):
            assert_close(actual, expected, algorithm="im2col")


@pytest.mark.parametrize("isa", kernels.available())
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workspace", [DEFAULT, SMALLEST, 1], ids=["roomy", "smallest", "one column"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_oracle(name, workspace, dtype, order, isa):
    Case(CASES[name], dtype, order, workspace, isa).check()


@pytest.mark.parametrize("order", ORDERS)
def test_without_bias_nothing_is_added_to_what_was_there(order):
    case = Case(CASES["many channels"], np.float32, order)
    expected = reference.conv2d(case.x, case.w, **case.options)
    assert_close(case.forward(bias=False), expected, algorithm="im2col")


axis = st.tuples(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.integers(1, 3)
)


@given(
    rows=axis,
    columns=axis,
    images=st.integers(1, 3),
    groups=st.integers(1, 3),
    c=st.integers(1, 5),
    k=st.integers(1, 5),
    order=st.sampled_from(ORDERS),
    workspace=st.sampled_from([1, 500, 3000, DEFAULT]),
    threads=st.integers(1, 3),
)
def test_any_geometry(rows, columns, images, groups, c, k, order, workspace, threads):
    sizes, taps, strides, before, after, dilations = zip(rows, columns, strict=True)
    grown = tuple(
        max(size, d * (r - 1) + 1 - b - a)
        for size, r, b, a, d in zip(sizes, taps, before, after, dilations, strict=True)
    )
    numbers = (
        images,
        c * groups,
        k * groups,
        grown,
        taps,
        strides,
        tuple(zip(before, after, strict=True)),
        dilations,
        groups,
    )
    Case(numbers, np.float64, order, workspace).check(threads)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workspace", [DEFAULT, SMALLEST])
@pytest.mark.parametrize("name", CASES)
def test_threads_change_no_bit(name, workspace, dtype, order):
    case = Case(CASES[name], dtype, order, workspace)
    alone = case.all(1)
    for threads in (2, 3):
        for one, several in zip(alone, case.all(threads), strict=True):
            np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["3x3", "1x1 is no copy", "many output channels, few pixels"])
def test_an_image_does_not_depend_on_the_batch_it_is_in(name, order):
    together = Case((3, *CASES[name][1:]), np.float32, order)
    y, dx, *_ = together.all(2)
    for i in range(3):
        alone = Case((1, *CASES[name][1:]), np.float32, order)
        alone.x, alone.dy = in_order(together.x[i : i + 1], order), in_order(together.dy[i : i + 1], order)
        alone.w, alone.b = together.w, together.b
        np.testing.assert_array_equal(alone.forward(), y[i : i + 1])
        np.testing.assert_array_equal(alone.input_gradient(), dx[i : i + 1])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["3x3", "1x1 is no copy", "lenet"])
def test_empty_batch(name, order):
    case = Case((0, *CASES[name][1:]), np.float32, order)
    for threads in (1, 2):
        y, dx, dw, db = case.all(threads)
        assert y.size == dx.size == 0
        assert_close(dw, np.zeros_like(dw), algorithm="exact")
        assert_close(db, np.zeros_like(db), algorithm="exact")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("workspace", [SMALLEST, 1 << 18, DEFAULT])
@pytest.mark.parametrize("channels", [3, 64, 512])
def test_private_memory_stays_within_the_workspace(channels, workspace, order, dtype):
    columns = kernel_of(kernels.ISA).Columns(
        dtype=np.dtype(dtype).char,
        source=(channels, 224, 224),
        out=(64, 224, 224),
        kernel=(7, 7),
        stride=(1, 1),
        padding=((3, 3), (3, 3)),
        dilation=(1, 1),
        groups=1,
        channels_last=order == "channels_last",
        edges=None,
        workspace=workspace,
    )
    assert 0 < columns.thread_bytes <= workspace
    assert 1 <= columns.block_pixels <= 224 * 224


def test_1x1_takes_no_private_memory():
    assert Case(CASES["1x1 is no copy"], np.float32, "contiguous").columns.thread_bytes == 0
    assert Case(CASES["1x1 strided"], np.float32, "contiguous").columns.thread_bytes > 0


def test_a_small_workspace_makes_more_blocks():
    # The case is there to have several blocks: were it one block, tests of blocks would test nothing.
    numbers = CASES["several blocks"]
    blocks = [
        Case(numbers, np.float32, "contiguous", workspace).columns.block_pixels for workspace in (1, SMALLEST, DEFAULT)
    ]
    assert blocks == sorted(blocks)
    assert blocks[0] < blocks[1] < blocks[2] < 50 * 61


@pytest.mark.parametrize("order", ORDERS)
def test_nan_and_inf_reach_exactly_the_windows_that_touch_them(order):
    case = Case(CASES["padded on one side"], np.float64, order)
    case.x[0, 1, 2, 3], case.x[1, 2, 0, 0] = np.nan, np.inf
    expected = reference.conv2d(case.x, case.w, case.b, **case.options)
    assert np.isnan(expected).any()
    assert not np.isnan(expected).all()
    np.testing.assert_array_equal(np.isfinite(case.forward()), np.isfinite(expected))


@pytest.mark.parametrize("order", ORDERS)
def test_gradients_are_the_adjoint_of_the_forward_pass(order):
    case = Case(CASES["dilated and strided"], np.float64, order)
    product = np.vdot(case.forward(bias=False), case.dy)
    assert product == pytest.approx(np.vdot(case.x, case.input_gradient()), rel=1e-12)
    assert product == pytest.approx(np.vdot(case.w, case.weight_gradient()[0]), rel=1e-12)


# ---------------------------------------------------------------------------------------------------- BLAS's threads


@pytest.fixture
def blas():
    """The module that holds BLAS's threads, BLAS having three of them."""
    module = importlib.import_module("cyconv.kernels._blas")
    if module.CONTROL != "process":
        pytest.skip("this BLAS has no number of threads for the whole process")
    before = module.num_threads()
    module.set_num_threads(3)
    assert module.num_threads() == 3
    yield module
    module.set_num_threads(before)


def test_blas_has_one_thread_while_ours_run_and_its_own_again_afterwards(blas):
    case = Case((4, 64, 64, (56, 56), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1), np.float32, "contiguous")
    seen, running = set(), threading.Event()

    def work():
        running.set()
        for _ in range(5):
            case.all(2)

    worker = threading.Thread(target=work)
    worker.start()
    running.wait()
    while worker.is_alive():
        seen.add(blas.num_threads())
    worker.join()
    assert 1 in seen
    assert blas.num_threads() == 3


def test_calls_from_many_python_threads(blas):
    names = ["3x3", "lenet", "many channels", "1x1 is no copy", "stem", "groups"]
    cases = [Case(CASES[name], np.float32, order) for name in names for order in ORDERS]
    alone = [case.all() for case in cases]

    def again(i):
        for threads in (1, 2, 3) * 3:
            for one, several in zip(alone[i], cases[i].all(threads), strict=True):
                np.testing.assert_array_equal(one, several)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(again, list(range(len(cases))) * 2))
    assert blas.num_threads() == 3


def test_blas_is_loaded_with_the_kernel_and_not_before():
    code = (
        "import sys, cyconv.kernels as k; assert 'scipy.linalg.cython_blas' not in sys.modules; "
        "k.load('im2col'); assert 'scipy.linalg.cython_blas' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
