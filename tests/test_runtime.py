"""What else happens in a process: forks, pools, other libraries, signals, interpreters beside the main one."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import output_of, run_python
from timing import limit

from cyconv import Conv2d, CrossEntropyLoss, Linear, models
from cyconv.kernels import _threads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
# From Python 3.12 on, fork() warns of threads; that it works all the same is what is tested.
HEAD = """
import warnings; warnings.simplefilter("ignore", DeprecationWarning)
import os, sys
import numpy as np, cyconv
from cyconv import _settings, functional as F
_settings.SERIAL_WORK = 0
cyconv.set_num_threads(2)
x, w = np.ones((4, 40, 20, 20), "f4"), np.ones((40, 40, 3, 3), "f4")
def work(_=0):
    y = F.conv2d(x, w, padding=1)
    return float(sum(a.sum(dtype="f8") for a in (y, *F.conv2d_backward(y, x, w, padding=1), F.max_pool2d(y, 2))))
"""


@needs_fork
def test_a_pool_of_forked_processes_after_parallel_work():
    code = HEAD + "import multiprocessing\nbefore = work()\n"
    code += "with multiprocessing.get_context('fork').Pool(3) as pool:\n    found = pool.map(work, range(6))\n"
    assert output_of("-c", code + "print(set(found) == {before}, work() == before)", timeout=60) == "True True"


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="needs joblib")
@pytest.mark.parametrize("backend", ["multiprocessing", "threading", "loky"])
def test_joblib_runs_it_in_each_of_its_ways(backend, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        HEAD
        + f"""
from joblib import Parallel, delayed
if __name__ == "__main__":
    before = work()
    found = Parallel(2, backend={backend!r})(delayed(work)(i) for i in range(4))
    print(set(found) == {{before}}, work() == before)
"""
    )
    done = run_python("-W", "ignore", str(script), timeout=120, PYTHONWARNINGS="ignore")
    assert done.stdout.strip() == "True True", done.stdout + done.stderr


def test_eight_python_threads_at_once_find_the_same_bits():
    code = HEAD + "from concurrent.futures import ThreadPoolExecutor\nbefore = work()\n"
    code += "with ThreadPoolExecutor(8) as pool:\n    found = list(pool.map(work, range(64)))\n"
    assert output_of("-c", code + "print(set(found) == {before})", timeout=60) == "True"


LIBRARIES = {
    "torch": "import torch; torch.nn.functional.conv2d(torch.ones(1, 3, 9, 9), torch.ones(4, 3, 3, 3))",
    "sklearn": "from sklearn.cluster import KMeans; KMeans(2, n_init=1).fit(np.eye(20))",
    "onnxruntime": "import onnxruntime",
}


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_imported_before_or_behind_another_library_with_threads_of_its_own(name, first):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    theirs = "import warnings; warnings.simplefilter('ignore'); import numpy as np; " + LIBRARIES[name] + "\n"
    code = (theirs + HEAD if first else HEAD + "work()\n" + theirs) + theirs + "print(work() == work())"
    assert run_python("-W", "ignore", "-c", code, timeout=120).stdout.strip().endswith("True")


def test_a_product_of_numpy_between_convolutions_changes_nothing():
    code = HEAD + "a = np.ones((200, 200), 'f4')\nbefore = work()\n"
    code += "print(all((work() == before, (a @ a)[0, 0] == 200) == (True, True) for _ in range(20)))"
    assert output_of("-c", code, OPENBLAS_NUM_THREADS="2", timeout=60) == "True"


#: Of the time that they cost apart: what two libraries in turns may cost, what they did where each one's threads spin,
#: what they may there, and what a convolution on half of its threads may.
IN_TURNS, IN_EACH_OTHERS_WAY, BESIDE_SPINNING, ON_HALF = 1.2, 60, 1.3, 2.1
PRODUCT_LONGER = [(64, (1, 32, 14, 14)), (200, (1, 64, 28, 28)), (500, (4, 64, 28, 28))]
CONVOLUTION_LONGER = [(200, (4, 64, 28, 28)), (100, (4, 64, 28, 28))]
ALTERNATING = f"""
import ast, statistics, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
from timing import best_of, seconds
import numpy as np, cyconv
from cyconv import functional as F
rng = np.random.default_rng(0)
found = []
for size, shape in ast.literal_eval(sys.argv[2]):
    a, x = rng.random((size, size), np.float32), rng.random(shape, np.float32)
    w, out = rng.random((shape[1], shape[1], 3, 3), np.float32), np.empty_like(a)
    dot, conv = lambda: np.dot(a, a, out=out), lambda: F.conv2d(x, w, padding=1)
    def median(function):
        return statistics.median([seconds(function) for _ in range(25)][10:])
    def ratio():
        apart = median(dot)
        time.sleep(0.3)  # OpenBLAS's threads spin for 0.1
        apart += median(conv)
        return median(lambda: (dot(), conv())) / apart
    found.append(best_of(ratio, float(sys.argv[1])))
print(*found)
"""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": None}
ALL_SPIN = {"OPENBLAS_NUM_THREADS": None, "OMP_WAIT_POLICY": None}
OURS_SLEEP = {"OPENBLAS_NUM_THREADS": None}
THEIRS_SLEEP = {**ALL_SPIN, "OPENBLAS_THREAD_TIMEOUT": "4"}


@pytest.mark.parametrize(
    ("environment", "shapes", "most"),
    [
        pytest.param(ONE_THREAD, PRODUCT_LONGER, IN_TURNS, id="product longer, BLAS on one thread"),
        pytest.param(ONE_THREAD, CONVOLUTION_LONGER, IN_TURNS, id="convolution longer, BLAS on one thread"),
        pytest.param(THEIRS_SLEEP, PRODUCT_LONGER, IN_TURNS, id="product longer, idle threads of BLAS sleep"),
        pytest.param(THEIRS_SLEEP, CONVOLUTION_LONGER, IN_TURNS, id="convolution longer, idle threads of BLAS sleep"),
        pytest.param(OURS_SLEEP, PRODUCT_LONGER, IN_TURNS, id="product longer, ours sleep"),
        pytest.param(ALL_SPIN, PRODUCT_LONGER, BESIDE_SPINNING, id="product longer, both spin"),
        pytest.param(ALL_SPIN, CONVOLUTION_LONGER, ON_HALF, id="convolution longer, both spin"),
    ],
)
def test_convolutions_and_products_of_numpy_that_take_turns_cost_what_they_cost_alone(environment, shapes, most):
    """At most 1.2 times as much as the two apart: neither's idle threads keep the other from the processors.

    Where those of both spin, the convolution leaves OpenBLAS the processors that it takes, one of two here.
    """
    words = output_of("-c", ALTERNATING, str(most), repr(shapes), timeout=300, **environment).split()
    ratios = [float(word) for word in words]
    assert len(ratios) == len(shapes)
    assert max(ratios) <= limit(most, IN_EACH_OTHERS_WAY), ratios


SPINNING = """
import os, sys, threading, time, zlib
processors = sorted(os.sched_getaffinity(0))[:2]
os.sched_setaffinity(0, processors)
import numpy as np, cyconv
from cyconv import _settings, functional as F
everyone = int(sys.argv[1])
cyconv.set_num_threads(everyone)
x, w, found = np.ones((4, 40, 20, 20), "f4"), np.ones((40, 40, 3, 3), "f4"), []
def until(threads, seconds=20):
    end = time.monotonic() + seconds
    while _settings.threads_for(1e7) != threads and time.monotonic() < end:
        found.append(F.conv2d(x, w).tobytes())
        time.sleep(0.002)
    return _settings.threads_for(1e7)
with_all, stop, data = until(everyone), threading.Event(), bytes(10**7)
def spin():
    while not stop.is_set():
        zlib.crc32(data)  # without the interpreter's lock
spinners = [threading.Thread(target=spin) for _ in range(3)]  # neighbours on a shared machine take their part
for spinner in spinners:
    spinner.start()
beside, large = until(1), _settings.threads_for(1e12)
stop.set()
for spinner in spinners:
    spinner.join()
print(with_all, beside, large, until(everyone), len(set(found)) == 1)
"""


@pytest.mark.skipif(not _threads.OPENMP or not sys.platform.startswith("linux"), reason="needs OpenMP and Linux")
@pytest.mark.parametrize(("threads", "large"), [(2, 1), (3, 3)])
def test_processors_that_other_threads_keep_are_left_to_them_until_that_ends(threads, large):
    """Large work takes all threads where there are more than two, and their own time is not taken for another's."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    found = output_of("-c", SPINNING, str(threads), timeout=120, OMP_WAIT_POLICY=None)
    assert found == f"{threads} 1 {large} {threads} True"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nobody looks")
def test_how_many_threads_share_what_others_leave():
    """All where they leave enough, or where work outlasts a time slice of theirs: 8e8 operations."""
    for left, threads, work, wanted in (
        (0, 4, 1e6, 4),
        (4, 4, 1e6, 4),
        (3, 4, 1e6, 3),
        (1, 8, 1e6, 1),
        (1, 8, 1e9, 1),
        (1, 8, 1.1e9, 8),  # 1.1e9 alone, or 8e8 until the slice is over and 2.75e8 at half speed
        (1, 2, 1e12, 1),  # two never win: half of the work at half speed
    ):
        assert _threads.beside(left, threads, work) == (wanted if _threads.OPENMP else threads)


@pytest.mark.skipif(sys.platform == "win32", reason="signals come in another way")
def test_an_interrupt_inside_a_long_call_leaves_all_usable():
    """The handler runs when the kernel is done; nothing of the call is kept, and the next one finds the same bits."""
    code = (
        HEAD
        + """
import signal, threading, time
from cyconv import Conv2d, ReLU, Sequential
model = Sequential(Conv2d(40, 40, 3, padding=1, rng=0), ReLU(), Conv2d(40, 40, 3, padding=1, rng=1))
many = np.ones((64, 40, 20, 20), "f4")
first = model(many); model.backward(first); grads = [p.grad.copy() for p in model.parameters()]
caught = 0
for delay in (0.0, 0.002, 0.005, 0.01, 0.02):
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while True:
            model.zero_grad(); model.backward(model(many))
    except KeyboardInterrupt:
        caught += 1
    timer.join()
model.zero_grad()
again = model(many); model.backward(again)
print(caught, np.array_equal(first, again), all(map(np.array_equal, grads, [p.grad for p in model.parameters()])))
"""
    )
    assert output_of("-c", code, timeout=120) == "5 True True"


@pytest.mark.parametrize("failing", range(5))
def test_a_failed_backward_leaves_no_half_added_gradient(failing, monkeypatch):
    """Whichever layer fails, no parameter of any layer has changed."""
    model = models.LeNet5(rng=0)
    x, labels = np.random.default_rng(0).random((2, 1, 28, 28), np.float32), np.array([1, 2])
    loss = CrossEntropyLoss()
    loss(model(x), labels)
    model.backward(loss.backward())
    before = [parameter.grad.copy() for parameter in model.parameters()]
    layers = [layer for layer in model.modules() if isinstance(layer, Conv2d | Linear)]
    assert len(layers) == 5
    monkeypatch.setattr(layers[failing], "_backward", lambda *_: (_ for _ in ()).throw(MemoryError("none left")))
    loss(model(x), labels)
    with pytest.raises(MemoryError, match="none left"):
        model.backward(loss.backward())
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_affinity_of_the_process_limits_the_threads():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("the system has no affinity")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert output_of("-c", code + "import cyconv; print(cyconv.get_num_threads())") == "1"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters share one lock")
def test_a_subinterpreter_is_refused_in_words():
    names = ("_interpreters", "_xxsubinterpreters")
    module = next((name for name in names if importlib.util.find_spec(name)), None)
    if module is None:
        pytest.skip("no module for interpreters")
    code = f"import {module} as i; n = i.create(); print(i.run_string(n, 'import cyconv'))"
    done = run_python("-c", code)
    assert "does not support loading in subinterpreters" in done.stdout + done.stderr


def test_without_the_global_lock_python_is_told_to_take_it():
    """The kernels' caches are Python dictionaries, so the modules do not declare that they run without the lock."""
    assert getattr(sys, "_is_gil_enabled", lambda: True)(), "importing cyconv should have enabled the lock"
