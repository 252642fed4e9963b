"""The Cython face: an extension compiled against the installed package, called on raw pointers without the lock."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from processes import INSTALLED, output_of
from timing import assert_ratio, ratio_in_turns
from tolerances import assert_close

import cyconv
from cyconv import _settings, reference
from cyconv import functional as F
from cyconv.functional import _raw
from cyconv.kernels import _threads

HERE = Path(__file__).resolve().parent
GUIDE = HERE.parent / "docs" / "cython.md"
DTYPES = ("float32", "float64")
ORDERS = ("C", "channels-last")
ALGORITHMS = ("auto", "direct", "winograd_f2", "winograd_f4", "depthwise", "im2col")

SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
flags = sys.argv.pop(1).split()
modules = [Extension(name, [name + ".pyx"], extra_compile_args=flags + ["-O1"], extra_link_args=flags)
           for name in sys.argv.pop(1).split()]
setup(name="tried", ext_modules=cythonize(modules))
"""


def compiler() -> str:
    """Return the C compiler that setuptools would call."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    return words[0] if words else "cc"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the compiled extensions: that of the tests, and the one of the guide."""
    pytest.importorskip("Cython", reason="compiling an extension needs Cython")
    pytest.importorskip("setuptools", reason="compiling an extension needs setuptools")
    if shutil.which(compiler()) is None:
        pytest.skip(f"compiling an extension needs a C compiler: there is no {compiler()!r}")
    if not (INSTALLED / "cyconv" / "cython.pxd").is_file():
        pytest.fail("the installed package lacks cython.pxd")
    folder = tmp_path_factory.mktemp("cython_face")
    shutil.copy(HERE / "cython_face" / "face.pyx", folder)
    names = ["face"]
    if GUIDE.is_file():
        (source,) = [code for language, code in guide() if language == "cython"]
        (folder / "edges.pyx").write_text(source, encoding="utf-8")
        names.append("edges")
    (folder / "setup.py").write_text(SETUP, encoding="utf-8")
    flags = "-fopenmp" if _threads.OPENMP and sys.platform != "darwin" else ""
    done = subprocess.run(
        [sys.executable, "setup.py", flags, " ".join(names), "build_ext", "--inplace"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(INSTALLED)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: face.pyx" not in done.stdout + done.stderr
    return folder


def load(folder: Path, name: str):
    path = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def face(built):
    return load(built, "face")


def guide() -> list[tuple[str, str]]:
    """Return (language, code) of the blocks of the guide."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def at(array: np.ndarray | None) -> int:
    return 0 if array is None else array.ctypes.data


def ordered(x: np.ndarray, order: str) -> np.ndarray:
    return x if order == "C" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def unwritten(shape, dtype, order="C"):
    return ordered(np.full(shape, np.nan, dtype), order)


# ---------------------------------------------------------------------------------------------------------- convolution

#: name: (input shape, output channels, kernel, stride, padding, dilation, groups)
CONVOLUTIONS = {
    "1-d": ((2, 5, 17), 6, (4,), (2,), ((3, 0),), (2,), 1),
    "3x3": ((2, 8, 12, 11), 16, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "one side": ((1, 3, 9, 8), 5, (3, 2), (2, 3), ((0, 2), (1, 0)), (1, 2), 1),
    "1x1": ((3, 16, 7, 7), 8, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "groups": ((2, 6, 9, 9), 4, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "depthwise": ((2, 8, 13, 12), 8, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 8),
    "depthwise stride 2": ((1, 6, 12, 14), 6, (5, 5), (2, 2), ((2, 2), (2, 2)), (1, 1), 6),
    "depthwise multiplier": ((1, 4, 10, 9), 8, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    "wide": ((1, 40, 14, 14), 48, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "3-d": ((1, 3, 6, 7, 8), 4, (3, 2, 3), (1, 2, 1), ((1, 1), (0, 1), (1, 1)), (1, 1, 1), 1),
    "no image": ((0, 3, 6, 6), 4, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
}


class Convolution:
    """One convolution: the geometry in numbers, and its arrays."""

    def __init__(self, name, dtype="float32", order="C", algorithm="auto"):
        shape, k, kernel, stride, padding, dilation, groups = CONVOLUTIONS[name]
        self.rank, self.how, self.dtype, self.order = len(kernel), (stride, padding, dilation, groups), dtype, order
        self.numbers = {
            "rank": self.rank,
            "batch": shape[0],
            "in_channels": shape[1],
            "out_channels": k,
            "groups": groups,
            "input": shape[2:],
            "kernel": kernel,
            "stride": stride,
            "dilation": dilation,
            "padding": padding,
            "dtype": DTYPES.index(dtype),
            "channels_last": ORDERS.index(order),
            "algorithm": ALGORITHMS.index(algorithm),
        }
        self.algorithm = algorithm
        self.forward, self.backward = getattr(F, f"conv{self.rank}d"), getattr(F, f"conv{self.rank}d_backward")
        rng = np.random.default_rng(len(name))
        self.x = ordered(rng.standard_normal(shape).astype(dtype), order)
        self.w = rng.standard_normal((k, shape[1] // groups, *kernel)).astype(dtype)
        self.b = rng.standard_normal(k).astype(dtype)
        # In the order that is asked for, although an array of one channel, or of none, has no order.
        self.y = self.forward(self.x, self.w, self.b, *self.how, algorithm=algorithm)
        self.dy = ordered(rng.standard_normal(self.y.shape).astype(dtype), order)

    def wanted(self):
        """What cyconv.functional gives: output and gradients."""
        return self.y, *self.backward(self.dy, self.x, self.w, self.b, *self.how, algorithm=self.algorithm)

    def by(self, caller, threads):
        """The same by `caller`, which has the methods of a plan."""
        y, dx = unwritten(self.y.shape, self.dtype, self.order), unwritten(self.x.shape, self.dtype, self.order)
        dw, db = unwritten(self.w.shape, self.dtype), unwritten(self.b.shape, self.dtype)
        assert caller.forward(at(y), at(self.x), at(self.w), at(self.b), threads) == 0
        assert caller.input_gradient(at(dx), at(self.dy), at(self.w), threads) == 0
        assert caller.weight_gradient(at(dw), at(db), at(self.dy), at(self.x), threads) == 0
        return y, dx, dw, db


class Once:
    """The functions that take a geometry, with the signatures of a plan's methods."""

    def __init__(self, face, numbers):
        self.face, self.numbers = face, numbers

    def __getattr__(self, name):
        return lambda *arguments: getattr(self.face, name)(self.numbers, *arguments)


def assert_same(got, wanted):
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"entry {i} of output and gradients", strict=True)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_bits_of_functional(face, name, dtype, order):
    case = Convolution(name, dtype, order)
    for caller in (Once(face, case.numbers), face.Planned(case.numbers)):
        assert_same(case.by(caller, 1), case.wanted())
    assert face.output(case.numbers) == (0, case.y.shape[2:])
    assert face.plan_of(case.numbers).output_shape == case.y.shape


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_every_algorithm(face, algorithm, dtype, order):
    ran = 0
    for name in ("3x3", "wide", "1x1", "depthwise", "depthwise stride 2", "one side", "groups"):
        try:
            case = Convolution(name, dtype, order, algorithm)
        except ValueError:
            continue
        plan = face.plan_of(case.numbers)
        assert plan.algorithm == algorithm
        assert_same(case.by(face.Planned(case.numbers), 1), case.wanted())
        ran += 1
    assert ran >= 2


def test_an_algorithm_that_cannot(face):
    numbers = Convolution("1-d").numbers | {"algorithm": ALGORITHMS.index("winograd_f4")}
    with pytest.raises(ValueError, match="conv1d: algorithm 'winograd_f4' cannot compute this convolution"):
        face.plan_of(numbers)
    assert face.output(numbers) == (face.BAD_GEOMETRY, None)


@pytest.mark.parametrize("name", ["3x3", "3-d", "1-d"])
def test_against_the_oracle(face, name):
    case = Convolution(name, "float64")
    y, dx, dw, db = case.by(Once(face, case.numbers), 2)
    assert_close(y, getattr(reference, f"conv{case.rank}d")(case.x, case.w, case.b, *case.how), algorithm="direct")
    wanted = getattr(reference, f"conv{case.rank}d_backward")(case.dy, case.x, case.w, case.b, *case.how)
    for got, expected in zip((dx, dw, db), wanted, strict=True):
        assert_close(got, expected, algorithm="direct", scale=float(np.abs(expected).max() + 8))


def test_by_hand(face):
    # 1 2 3 and one zero behind, kernel 10 1: 12, 23, 30; the gradients of their sum.
    numbers = {"rank": 1, "input": (3,), "kernel": (2,), "padding": ((0, 1),), "dtype": 1}
    x, w, ones = np.array([1.0, 2.0, 3.0]), np.array([10.0, 1.0]), np.ones(3)
    y, dx, dw, db = np.empty(3), np.empty(3), np.empty(2), np.empty(1)
    assert face.output(numbers) == (0, (3,))
    assert face.forward(numbers, at(y), at(x), at(w), 0, 1) == 0
    assert face.input_gradient(numbers, at(dx), at(ones), at(w), 1) == 0
    assert face.weight_gradient(numbers, at(dw), at(db), at(ones), at(x), 1) == 0
    assert (y.tolist(), dx.tolist(), dw.tolist(), db.tolist()) == ([12, 23, 30], [10, 11, 11], [6, 5], [3])
    assert face.weight_gradient(numbers, at(dw), 0, at(ones), at(x), 1) == 0


def test_one_channel_or_pixel_in_channels_last_order(face):
    """Arrays that have no order: the geometry's word counts, and results lie as it says."""
    for name, change in (("3x3", {"in_channels": 1}), ("one side", {"out_channels": 1}), ("1x1", {"input": (1, 1)})):
        numbers = Convolution(name).numbers | {"channels_last": 1} | change
        shape = (numbers["batch"], numbers["in_channels"], *numbers["input"])
        rng = np.random.default_rng(1)
        x = rng.standard_normal(shape).astype("float32")
        w = rng.standard_normal((numbers["out_channels"], shape[1], *numbers["kernel"])).astype("float32")
        wanted = reference.conv2d(x, w, None, *(numbers[key] for key in ("stride", "padding", "dilation")))
        y = np.full((shape[0], *wanted.shape[2:], wanted.shape[1]), np.nan, "float32")
        assert face.forward(numbers, at(y), at(np.ascontiguousarray(np.moveaxis(x, 1, -1))), at(w), 0, 1) == 0
        assert_close(np.moveaxis(y, -1, 1), wanted, algorithm="winograd_f4")


def test_packed_weights_are_those_of_a_layer_in_eval_mode(face):
    for name in ("3x3", "wide", "depthwise", "one side"):
        case = Convolution(name)
        stride, padding, dilation, groups = case.how
        layer = cyconv.Conv2d(case.x.shape[1], len(case.w), case.w.shape[2:], stride, padding, dilation, groups)
        layer.load_state_dict({"weight": case.w, "bias": case.b})
        plan = face.Planned(case.numbers | {"keep_weights": 1})
        packed = np.full(plan.packed_bytes() // 4, np.nan, np.float32)
        assert plan.pack(at(packed), at(case.w), 2) == 0
        y = unwritten(case.y.shape, "float32")
        for threads in (1, 2):
            assert plan.forward_packed(at(y), at(case.x), at(packed), at(case.b), threads) == 0
            np.testing.assert_array_equal(y, layer.eval()(case.x))


def test_settings_are_those_of_functional(face):
    case = Convolution("wide")
    auto = face.plan_of(case.numbers).algorithm
    assert auto.startswith("winograd")
    with cyconv.configure(precision="strict"):
        assert face.plan_of(case.numbers).algorithm == "direct"
        strict = Convolution("wide")
        assert_same(case.by(Once(face, case.numbers), 1), strict.wanted())
        assert (strict.y != case.y).any()
    assert_same(case.by(Once(face, case.numbers), 1), case.wanted())
    with cyconv.configure(algorithm="reference"):
        with pytest.raises(ValueError, match="'reference' runs in Python"):
            face.plan_of(case.numbers)
        assert face.output(case.numbers)[0] == face.BAD_GEOMETRY
    with cyconv.configure(max_workspace=1 << 16):
        assert face.plan_of(case.numbers).algorithm == "im2col"


# -------------------------------------------------------------------------------------------------------------- threads

needs_openmp = pytest.mark.skipif(not _threads.OPENMP, reason="built without OpenMP")


@pytest.fixture
def always_parallel(monkeypatch):
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    with cyconv.threads(cyconv.get_num_threads()):  # tells the face
        yield
    monkeypatch.undo()
    cyconv.set_num_threads(cyconv.get_num_threads())


@needs_openmp
@pytest.mark.parametrize("name", ["3x3", "wide", "depthwise", "one side", "3-d", "groups"])
def test_any_number_of_threads_gives_the_same_bits(face, always_parallel, name):
    case = Convolution(name)
    alone = case.by(face.Planned(case.numbers), 1)
    for threads in (2, 3, 5):
        assert_same(case.by(face.Planned(case.numbers), threads), alone)
    with cyconv.threads(3):
        assert_same(case.by(face.Planned(case.numbers), 0), alone)


def test_from_prange(face):
    """Many images at a time, each by one thread of the caller's."""
    case = Convolution("3x3")
    rng = np.random.default_rng(5)
    x = rng.standard_normal((24, *case.x.shape)).astype("float32")
    y = np.full((24, *case.y.shape), np.nan, "float32")
    assert face.Planned(case.numbers).many(at(y), y[0].nbytes, at(x), x[0].nbytes, at(case.w), 24, 4) == 0
    for one, image in zip(y, x, strict=True):
        np.testing.assert_array_equal(one, F.conv2d(image, case.w, None, *case.how))


@pytest.mark.parametrize("name", ["3x3", "wide", "depthwise", "one side"])
@pytest.mark.parametrize("levels", [1, 2])
def test_parallel_calls_from_inside_a_parallel_region_of_the_callers(face, always_parallel, name, levels):
    """Each thread of the caller's asks for two more, which the runtime gives it or does not; the bits are the same."""
    case = Convolution(name)
    rng = np.random.default_rng(5)
    x = rng.standard_normal((12, *case.x.shape)).astype("float32")
    alone = np.full((12, *case.y.shape), np.nan, "float32")
    plan = face.Planned(case.numbers)
    before = face.active_levels(levels)
    try:
        assert plan.many(at(alone), alone[0].nbytes, at(x), x[0].nbytes, at(case.w), 12, 1, 1) == 0
        for workers, each in ((2, 1), (2, 2), (3, 2), (4, 3)):
            y = np.full(alone.shape, np.nan, "float32")
            assert plan.many(at(y), y[0].nbytes, at(x), x[0].nbytes, at(case.w), 12, workers, each) == 0
            np.testing.assert_array_equal(y, alone)
    finally:
        face.active_levels(before)


@needs_openmp
def test_inside_a_parallel_region_of_the_callers_a_call_costs_what_it_costs_there_on_one_thread(face):
    """The region's threads are all there are: asking for two each costs at most 1.2 times as much as asking for one."""
    case = Convolution("wide")
    workers, n = 2, 64  # a region of one thread would be none
    x = np.random.default_rng(5).standard_normal((n, *case.x.shape)).astype("float32")
    y, plan = np.empty((n, *case.y.shape), "float32"), face.Planned(case.numbers)

    def call(each):
        assert plan.many(at(y), y[0].nbytes, at(x), x[0].nbytes, at(case.w), n, workers, each) == 0

    call(1), call(2)
    measure = partial(ratio_in_turns, lambda: partial(call, 2), lambda: partial(call, 1), 11)
    assert_ratio(measure, bound=1.2, what="asking for two threads each")


def test_geometries_that_are_new_to_several_threads(face):
    """More than the table holds, asked for at the same time."""
    numbers = {"rank": 1, "input": (40,), "kernel": (3,)}
    assert face.sizes_in_parallel(numbers, 700, 4) == [38 + i for i in range(700)]
    assert face.sizes_in_parallel(numbers, 700, 4) == [38 + i for i in range(700)]


@pytest.mark.parametrize("name", ["3x3", "depthwise", "wide"])
def test_python_threads_share_a_plan(face, name):
    case = Convolution(name)
    wanted, plan, found = case.wanted(), face.Planned(case.numbers), []

    def work():
        for _ in range(20):
            found.append(case.by(plan, 1))
            found.append(case.by(Once(face, case.numbers), 1))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 160
    for got in found:
        assert_same(got, wanted)


FORKED = """
import os, sys
sys.path.insert(0, {folder!r})
import numpy as np, cyconv, face
from cyconv import _settings, functional as F
_settings.SERIAL_WORK = 0
cyconv.set_num_threads(3)
x, w = np.ones((4, 16, 20, 20), "f4"), np.ones((16, 16, 3, 3), "f4")
numbers = dict(rank=2, batch=4, in_channels=16, out_channels=16, input=(20, 20), kernel=(3, 3), algorithm=1)
y = np.empty((4, 16, 18, 18), "f4")
run = lambda threads: face.forward(numbers, y.ctypes.data, x.ctypes.data, w.ctypes.data, 0, threads)
assert run(3) == run(0) == 0
child = os.fork()
if not child:
    y[:] = 0
    os._exit(0 if run(3) == run(0) == 0 and (y == 144).all() else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes(built, face):
    assert output_of("-W", "ignore::DeprecationWarning", "-c", FORKED.format(folder=str(built))) == "0"


# --------------------------------------------------------------------------------------------------------------- errors

GOOD = {"rank": 2, "in_channels": 4, "out_channels": 6, "groups": 2, "input": (8, 8), "kernel": (3, 3)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 0}, "convolution: rank must be 1, 2 or 3, got 0"),
        ({"rank": 4, "input": (), "kernel": ()}, "rank must be 1, 2 or 3, got 4"),
        ({"dtype": 2}, "conv2d: dtype must be one of 0 to 1, got 2"),
        ({"channels_last": -1}, "conv2d: channels_last must be 0 or 1, got -1"),
        ({"keep_weights": 7}, "conv2d: keep_weights must be 0 or 1, got 7"),
        ({"algorithm": 6}, "conv2d: algorithm must be one of 0 to 5, got 6"),
        ({"batch": -1}, "conv2d: batch must be at least 0, got -1"),
        ({"groups": 0}, "conv2d: groups must be at least 1, got 0"),
        ({"groups": 4}, "conv2d: out_channels must be divisible by groups, got 6 and 4 groups"),
        ({"in_channels": 0}, "conv2d: in_channels must be at least 1, got 0"),
        ({"input": (8, 0)}, "conv2d: the input has no pixels: its width is 0"),
        ({"input": (8, -3)}, "conv2d: a size must be at least 0, got -3"),
        ({"kernel": (9, 3)}, "conv2d: kernel 9 does not fit into the padded input of height 8"),
        ({"kernel": (0, 3)}, "conv2d: kernel must be at least 1, got 0"),
        ({"stride": (1, 0)}, "conv2d: stride must be at least 1, got 0"),
        ({"dilation": (0, 1)}, "conv2d: dilation must be at least 1, got 0"),
        ({"padding": ((0, 0), (0, -1))}, "conv2d: a size must be at least 0, got -1"),
        ({"input": (8, 2**40)}, "must be at most 2147483647"),
    ],
)
def test_a_geometry_that_cannot_be(face, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        face.plan_of(GOOD | change)
    assert face.output(GOOD | change) == (face.BAD_GEOMETRY, None)
    assert face.forward(GOOD | change, 64, 64, 64, 64, 1) == face.BAD_GEOMETRY


@pytest.mark.parametrize(
    "change",
    [
        {"input": (2**30, 2**30)},
        {"batch": 2**31 - 1, "input": (2**20, 8)},
        {"in_channels": 2**31 - 2, "out_channels": 2**31 - 2},
        {"input": (2**31 - 1, 2**31 - 1), "kernel": (2**31 - 1, 2**31 - 1)},
        {"padding": ((2**31 - 1, 0), (2**31 - 1, 0)), "stride": (2**31 - 1, 2**31 - 1)},
        {"kernel": (5000, 5000), "input": (6000, 6000)},
    ],
)
def test_a_geometry_that_fits_no_memory(face, change):
    with pytest.raises(MemoryError, match="conv2d: "):
        face.plan_of(GOOD | change)
    assert face.output(GOOD | change) == (face.NO_MEMORY, None)


def test_no_geometry(face):
    assert face.without_geometry() == (face.BAD_GEOMETRY,) * 3 + (face.BAD_POINTER,) * 2
    with pytest.raises(ValueError, match="conv_plan: the geometry is NULL"):
        face.plan_without_geometry()
    with pytest.raises(ValueError, match="pool_plan: the geometry is NULL"):
        face.pool_plan_without_geometry()


def test_plans_are_made_by_the_two_functions_alone(face):
    """One without its kernels would end the process when it is called."""
    for plan in (face.plan_of(GOOD), face.pool_plan_of(POOL)):
        kind = type(plan)
        for ways in (kind, kind.__base__, type("Mine", (kind.__base__,), {})):
            for make in (ways, lambda ways=ways: ways.__new__(ways), lambda ways=ways: ways.__new__(ways, None)):
                with pytest.raises(TypeError, match=r"plans are made by (conv|pool)_plan"):
                    make()
        for again in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="plans cannot be copied or pickled"):
                again(plan)
        assert not hasattr(plan, "__setstate_cython__")


@pytest.mark.parametrize(("kind", "batch"), [(KeyboardInterrupt, 77), (TimeoutError, 78)])  # new geometries
def test_what_a_signal_raises_while_a_geometry_is_planned_is_not_lost(face, monkeypatch, kind, batch):
    def interrupted(**numbers):
        raise kind("in the middle")

    monkeypatch.setattr(_raw, "conv_walks", interrupted)
    seen = []

    def call(check):
        try:
            seen.append(face.output(GOOD | {"batch": batch})[0])
            if check:
                face.check(face.INTERRUPTED)
            for _ in range(1000):
                pass
        except kind as error:
            seen.append(error)

    for check in (False, True):
        seen.clear()
        call(check)
        assert str(seen[-1]) == "in the middle"
    seen.clear()
    worker = threading.Thread(target=call, args=(False,))
    worker.start()
    worker.join()
    assert isinstance(seen[-1], kind)
    monkeypatch.undo()
    assert face.output(GOOD | {"batch": batch}) == (face.OK, (6, 6))


def test_what_stands_behind_the_rank_counts_for_nothing(face, monkeypatch):
    signal = {"rank": 1, "input": (31,), "kernel": (3,)}
    stale = {"input": (31, -5, 2**62), "kernel": (3, 0, -1), "stride": (1, 0, -9), "padding": ((0, 0), (-1, 7), (9, 9))}
    assert face.output(signal) == (face.OK, (29,))
    assert face.pooled_output(signal | {"stride": (1,)}) == (face.OK, (29,))
    # A geometry that was seen before is not planned again, whatever a former call left behind its rank.
    monkeypatch.setattr(_raw, "conv_walks", None)
    monkeypatch.setattr(_raw, "pool_walk", None)
    assert face.output(signal | stale) == (face.OK, (29,))
    assert face.pooled_output(signal | stale) == (face.OK, (29,))


def test_pointers_that_cannot_be(face):
    case = Convolution("3x3")
    arrays = [at(a) for a in (case.y, case.x, case.w, case.b)]
    kept = case.y.copy()
    for caller in (Once(face, case.numbers), face.Planned(case.numbers)):
        for method, optional in (("forward", 3), ("input_gradient", None), ("weight_gradient", 1)):
            given = arrays[: 3 if optional is None else 4]
            for i in range(len(given)):
                for bad in (0, given[i] + 2):
                    status = getattr(caller, method)(*given[:i], bad, *given[i + 1 :], 1)
                    if i == optional and not bad:
                        continue
                    assert status == face.BAD_POINTER, (method, i, bad)
    plan = face.Planned(case.numbers)
    assert plan.pack(0, at(case.w), 1) == plan.pack(at(case.w) + 1, at(case.w), 1) == face.BAD_POINTER
    assert plan.forward_packed(at(case.y), at(case.x), 0, 0, 1) == face.BAD_POINTER
    assert case.y.shape == kept.shape


def test_words_of_a_status(face):
    for status, kind in (
        (1, ValueError),
        (2, MemoryError),
        (3, ValueError),
        (4, ValueError),
        (5, RuntimeError),
        (99, ValueError),
    ):
        with pytest.raises(kind, match=re.escape(face.message(status))):
            face.check(status)
    assert len({face.message(status) for status in range(7)}) == 7
    assert face.check(face.OK) is None


SCARCE = """
import sys, resource
sys.path.insert(0, {folder!r})
import cyconv, face
numbers = dict(rank=2, in_channels=4096, out_channels=4096, input=(4, 4), kernel=(3, 3), algorithm=1)
plan = face.Planned(numbers)
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + (100 << 20),) * 2)
print(plan.packed_bytes() > 500 << 20, plan.forward(64, 64, 64, 0, 1), face.forward(numbers, 64, 64, 64, 0, 1))
print(plan.input_gradient(64, 64, 64, 1))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_no_memory_for_the_workspace(built, face):
    got = output_of("-c", SCARCE.format(folder=str(built))).split()
    assert got == ["True", *[str(face.NO_MEMORY)] * 3]


HOSTILE = """
import sys, random
sys.path.insert(0, {folder!r})
import cyconv, face
draw = random.Random({seed})
edge = [-1, 0, 1, 1, 1, 2, 2, 3, 3, 5, 8, 17, 1000, 20000, 2**31 - 1, 2**31, 2**40, 2**62, -2**63]
some = lambda n=None: draw.choice(edge) if n is None else tuple(draw.choice(edge) for _ in range(n))
seen = set()
for _ in range(1500):
    rank = draw.choice([1, 2, 2, 3])
    # Few numbers out of the ordinary at a time: else the first check would see them all.
    numbers = dict(rank=rank, batch=1, input=(9,) * rank, kernel=(3,) * rank)
    more = dict(batch=some, input=lambda: some(rank), kernel=lambda: some(rank), stride=lambda: some(rank),
                dilation=lambda: some(rank), padding=lambda: tuple(some(2) for _ in range(rank)),
                dtype=lambda: draw.choice([0, 1, 2]), channels_last=lambda: draw.choice([0, 1, -1]))
    conv = dict(in_channels=some, out_channels=some, groups=some, algorithm=lambda: draw.randrange(7))
    pool = dict(channels=some, ceil_mode=lambda: draw.choice([0, 1, 2]), kind=lambda: draw.choice([0, 1, 2]),
                divisor_override=some, count_include_pad=lambda: draw.choice([0, 1, 3]))
    for kind, ask in ((conv, face.output), (pool, face.pooled_output)):
        every = more | kind
        told = dict(numbers)
        for name in draw.sample(sorted(every), draw.randint(1, 4)):
            told[name] = every[name]()
        status, sizes = ask(told)
        assert (sizes is None) == (status != 0), (told, status)
        assert sizes is None or all(size >= 1 for size in sizes), (told, sizes)
        seen.add(status)
print(sorted(seen))
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_no_geometry_ends_the_process(built, face, seed):
    assert output_of("-c", HOSTILE.format(folder=str(built), seed=seed), timeout=100) == "[0, 1, 2]"


# -------------------------------------------------------------------------------------------------------------- pooling

POOL = {"rank": 2, "batch": 2, "channels": 3, "input": (9, 8), "kernel": (3, 2), "dtype": 1}
POOLS = {
    "plain": {},
    "overlapping": {"stride": (2, 1), "padding": ((1, 1), (1, 1))},
    "one side": {"stride": (1, 2), "padding": ((0, 1), (1, 0))},
    "dilated": {"dilation": (2, 3), "stride": (1, 2), "padding": ((1, 2), (2, 0))},
    "ceil": {"stride": (2, 3), "ceil_mode": 1},
    "pairs": {"kernel": (2, 2), "input": (8, 8)},
    "a large kernel": {"kernel": (70, 66), "input": (72, 70), "stride": (1, 2)},
    "signal": {"rank": 1, "input": (11,), "kernel": (3,), "stride": (2,)},
    "signal, one side": {"rank": 1, "input": (11,), "kernel": (3,), "stride": (1,), "padding": ((0, 2),)},
    "volume": {"rank": 3, "input": (5, 6, 7), "kernel": (2, 3, 2)},
    "volume, overlapping": {
        "rank": 3,
        "input": (5, 6, 7),
        "kernel": (2, 3, 3),
        "stride": (1, 2, 1),
        "dilation": (2, 1, 2),
        "padding": ((1, 0), (1, 1), (0, 2)),
    },
}


def pool_arguments(numbers):
    stride = numbers.get("stride", numbers["kernel"])
    padding = numbers.get("padding", ((0, 0),) * numbers["rank"])
    return numbers["kernel"], stride, padding, numbers.get("dilation", 1), bool(numbers.get("ceil_mode"))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POOLS)
def test_pooling(face, name, dtype, order):
    numbers = POOL | POOLS[name] | {"dtype": DTYPES.index(dtype), "channels_last": ORDERS.index(order)}
    kernel, stride, padding, dilation, ceil = pool_arguments(numbers)
    pool, back, mean_of, mean_back = (
        getattr(F, f"{kind}_pool{numbers['rank']}d{backward}")
        for kind in ("max", "avg")
        for backward in ("", "_backward")
    )
    rng = np.random.default_rng(3)
    shape = (numbers["batch"], numbers["channels"], *numbers["input"])
    x = ordered(rng.standard_normal(shape).astype(dtype), order)
    wanted, places = pool(x, kernel, stride, padding, dilation, ceil, return_indices=True)
    dy = ordered(rng.standard_normal(wanted.shape).astype(dtype), order)
    (dx_wanted,) = back(dy, x, kernel, stride, padding, dilation, ceil)
    for caller in (OncePooled(face, numbers), face.PoolPlanned(numbers)):
        y, dx, found = unwritten(wanted.shape, dtype, order), unwritten(shape, dtype, order), unwritten_places(places)
        assert caller.forward(at(y), at(found), at(x), 2) == 0
        assert_same((y, found), (wanted, places))
        for sources, how in (((x, None), {}), ((None, found), {"indices": places}), ((x, found), {"indices": places})):
            dx[...] = np.nan
            assert caller.backward(at(dx), at(dy), *map(at, sources), 1) == 0
            assert_same((dx,), back(dy, x, kernel, stride, padding, dilation, ceil, **how))
            np.testing.assert_allclose(dx, dx_wanted, rtol=1e-5, atol=1e-5)
        y[...] = np.nan
        assert caller.forward(at(y), 0, at(x), 0) == 0
        np.testing.assert_array_equal(y, wanted)
    assert face.pooled_output(numbers) == (0, wanted.shape[2:])
    for include, divisor in ((1, 0), (0, 0), (1, 5), (1, -2)):
        how = (kernel, stride, padding, ceil, bool(include), divisor or None, dilation)
        mean = numbers | {"kind": 1, "count_include_pad": include, "divisor_override": divisor}
        for caller in (OncePooled(face, mean), face.PoolPlanned(mean)):
            y, dx = unwritten(wanted.shape, dtype, order), unwritten(shape, dtype, order)
            assert caller.forward(at(y), 0, at(x), 1) == 0
            assert caller.backward(at(dx), at(dy), 0, 0, 1) == 0
            assert_same((y, dx), (mean_of(x, *how), *mean_back(dy, x, *how)))


def unwritten_places(places):
    return np.full_like(places, -7)


class OncePooled:
    def __init__(self, face, numbers):
        self.face, self.numbers = face, numbers

    def forward(self, *arguments):
        return self.face.pooled(self.numbers, *arguments)

    def backward(self, *arguments):
        return self.face.pooled_backward(self.numbers, *arguments)


def test_pooling_by_hand(face):
    numbers = {"rank": 2, "input": (2, 4), "kernel": (2, 2), "dtype": 1}
    x, y, places = np.array([[1.0, 5, 2, 0], [3, 4, 8, 8]]), np.empty(2), np.empty(2, np.int64)
    assert face.pooled(numbers, at(y), at(places), at(x), 1) == 0
    assert (y.tolist(), places.tolist()) == ([5, 8], [1, 6])
    assert face.pooled(numbers | {"kind": 1}, at(y), 0, at(x), 1) == 0
    assert y.tolist() == [3.25, 4.5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rank": 0}, "pooling: rank must be 1, 2 or 3, got 0"),
        ({"kind": 2}, "pooling: kind must be one of 0 to 1, got 2"),
        ({"dtype": 5}, "max_pool2d: dtype must be one of 0 to 1, got 5"),
        ({"ceil_mode": 2}, "max_pool2d: ceil_mode must be 0 or 1, got 2"),
        ({"count_include_pad": 9, "kind": 1}, "avg_pool2d: count_include_pad must be 0 or 1, got 9"),
        ({"channels": -1}, "max_pool2d: channels must be at least 0, got -1"),
        ({"kernel": (3, 0)}, "max_pool2d: kernel must be at least 1, got 0"),
        ({"padding": ((2, 2), (0, 0))}, "max_pool2d: padding 2 exceeds half of kernel 3"),
        ({"kernel": (30, 2)}, "max_pool2d: kernel 30 does not fit into the padded input of height 9"),
        ({"input": (0, 8)}, "max_pool2d: the input has no pixels: its height is 0"),
        ({"padding": ((0, 3), (0, 0))}, "max_pool2d: padding 0 and 3 of the height must be less than kernel 3"),
        ({"kind": 1, "divisor_override": 2**40}, "avg_pool2d: divisor_override must be at most 2147483647 in size"),
    ],
)
def test_pooling_that_cannot_be(face, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        face.pool_plan_of(POOL | change)
    assert face.pooled(POOL | change, 64, 0, 64, 1) == face.BAD_GEOMETRY


@pytest.mark.parametrize(
    "change",
    [
        {"input": (2**31 - 1, 2**31 - 1)},
        {"batch": 2**31 - 1, "channels": 2**31 - 1},
        {"input": (1, 2**30), "kernel": (1, 1)},
        {"kernel": (5000, 5000), "input": (6000, 6000)},
    ],
)
def test_pooling_that_fits_no_memory(face, change):
    with pytest.raises(MemoryError, match="max_pool2d: "):
        face.pool_plan_of(POOL | change)
    assert face.pooled_output(POOL | change) == (face.NO_MEMORY, None)


def test_pointers_and_indices_of_pooling_that_cannot_be(face):
    numbers, average = POOL, POOL | {"kind": 1}
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 8))
    y, places = F.max_pool2d(x, (3, 2), return_indices=True)
    for bad in (0, at(x) + 4):
        assert face.pooled(numbers, bad, 0, at(x), 1) == face.pooled(numbers, at(y), 0, bad, 1) == face.BAD_POINTER
        assert face.pooled_backward(numbers, bad, at(y), at(x), 0, 1) == face.BAD_POINTER
        assert face.pooled_backward(numbers, at(x), bad, at(x), 0, 1) == face.BAD_POINTER
        assert face.pooled_backward(numbers, at(x), at(y), bad, 0, 1) == face.BAD_POINTER
    assert face.pooled(average, at(y), at(places), at(x), 1) == face.BAD_POINTER
    assert face.pooled(numbers, at(y), at(places) + 4, at(x), 1) == face.BAD_POINTER
    places[0, 0, 0, 0] = 72
    assert face.pooled_backward(numbers, at(np.empty_like(x)), at(y), 0, at(places), 1) == face.BAD_INDEX


# ------------------------------------------------------------------------------------------------------------ the guide


@pytest.mark.skipif(not GUIDE.is_file(), reason="no docs beside the tests")
def test_the_guide_runs(built):
    """Its extension is compiled as it stands there, and its Python gives what it says."""
    (code,) = [code for language, code in guide() if language == "python" and "import edges" in code]
    printed = output_of("-c", f"import sys; sys.path.insert(0, {str(built)!r})\n{code}")
    assert printed.splitlines() == re.findall(r"# prints (.*)", code)


@pytest.mark.skipif(not GUIDE.is_file(), reason="no docs beside the tests")
def test_the_guide_lists_what_there_is():
    declared = (INSTALLED / "cyconv" / "cython.pxd").read_text(encoding="utf-8")
    names = re.findall(r"^cdef [^\n(]*?(\w+)\(", declared, re.MULTILINE)
    names += re.findall(r"^    cdef [^\n(]*?(\w+)\(", declared, re.MULTILINE)
    names += re.findall(r"^cdef (?:class|struct) (\w+)", declared, re.MULTILINE) + re.findall(r"CYCONV_\w+", declared)
    assert len(names) > 40
    text = GUIDE.read_text(encoding="utf-8")
    assert [name for name in names if name not in text] == []
