"""What the user may set: each setting from its argument, its context manager and the environment, and its errors."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import output_of, run_python

import cyconv
from cyconv import _config, _settings, kernels
from cyconv import functional as F
from cyconv.kernels import _threads

needs_openmp = pytest.mark.skipif(not _threads.OPENMP, reason="built without OpenMP")


@pytest.fixture(autouse=True)
def restored():
    """Settings are the process's own: no test leaves any behind."""
    before = dict(vars(_settings._State)), dict(vars(_settings._state))
    yield
    assert dict(vars(_settings._State)) == before[0]
    for name in list(vars(_settings._state)):
        delattr(_settings._state, name)
    for name, value in before[1].items():
        setattr(_settings._state, name, value)


# ------------------------------------------------------------------------------------------------------------- threads


@needs_openmp
def test_set_num_threads():
    cyconv.set_num_threads(3)
    assert cyconv.get_num_threads() == 3
    cyconv.set_num_threads(np.int64(5))
    assert cyconv.get_num_threads() == 5
    assert type(cyconv.get_num_threads()) is int


@needs_openmp
def test_threads_inside_a_block():
    cyconv.set_num_threads(2)
    with cyconv.threads(7):
        assert cyconv.get_num_threads() == 7
        with cyconv.threads(1):
            assert cyconv.get_num_threads() == 1
        assert cyconv.get_num_threads() == 7
    assert cyconv.get_num_threads() == 2
    with pytest.raises(KeyError), cyconv.threads(4):
        raise KeyError
    assert cyconv.get_num_threads() == 2


@pytest.mark.parametrize("n", [0, -1, 1025])
def test_numbers_of_threads_that_cannot_be(n):
    before = cyconv.get_num_threads()
    with pytest.raises(ValueError, match=rf"^number of threads: expected 1 to 1024, got {n}$"):
        cyconv.set_num_threads(n)
    with pytest.raises(ValueError, match="expected 1 to 1024"), cyconv.threads(n):
        pass
    assert cyconv.get_num_threads() == before


@pytest.mark.parametrize("n", [1.0, True, "2", None])
def test_threads_that_are_no_number(n):
    with pytest.raises(TypeError, match=r"^number of threads: expected an int, got "):
        cyconv.set_num_threads(n)
    with pytest.raises(TypeError, match=r"^number of threads: expected an int, got "), cyconv.threads(n):
        pass


def test_more_threads_than_work_or_processors():
    x, weight = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    with cyconv.threads(1024):
        np.testing.assert_array_equal(F.conv2d(x, weight, algorithm="direct"), np.full((1, 1, 2, 2), 4.0))


@needs_openmp
def test_small_work_stays_on_one_thread():
    with cyconv.threads(4):
        assert _settings.threads_for(0) == 1
        assert _settings.threads_for(_settings.SERIAL_WORK - 1) == 1
        assert _settings.threads_for(_settings.SERIAL_WORK) == 4


THREADS = ("-c", "import cyconv; print(cyconv.get_num_threads())")


@needs_openmp
@pytest.mark.parametrize(
    ("value", "limit"),
    [("1", 1), ("1,4,2", 1), (" 1 ", 1), ("0", 1), ("-3", 1), ("100000", None), ("many", None), ("", None)],
)
def test_omp_num_threads_limits_the_default(value, limit):
    usual = int(output_of(*THREADS))
    assert int(output_of(*THREADS, OMP_NUM_THREADS=value)) == (limit or usual)


@needs_openmp
def test_affinity_limits_the_default():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity of processes")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    assert output_of("-c", code + THREADS[1]) == "1"


@needs_openmp
@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "garbage"}, 8),
        ({"cpu.max": "100000 0"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
    ids=str,
)
def test_the_quota_of_the_control_group_limits_the_default(monkeypatch, files, limit):
    class Files:
        def __init__(self, path):
            self.name = path.removeprefix("/sys/fs/cgroup/")

        def read_text(self):
            if self.name not in files:
                raise FileNotFoundError(self.name)
            return files[self.name]

    monkeypatch.setattr(_settings, "Path", Files)
    monkeypatch.setattr(_settings.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert _settings._default_threads() == limit


def test_a_serial_build_uses_one_thread_whatever_is_asked(monkeypatch):
    monkeypatch.setattr(_threads, "OPENMP", 0)
    assert _settings._default_threads() == 1
    cyconv.set_num_threads(4)
    assert cyconv.get_num_threads() == 1
    assert _settings.threads_for(1e12) == 1
    assert _config.config()["OpenMP"] == "no: built serial, one thread"


# ----------------------------------------------------------------------------------------------------------- configure


def test_configure_holds_inside_and_nests():
    usual = _settings.algorithm(), _settings.max_workspace(), _settings.precision()
    with cyconv.configure(algorithm="im2col", max_workspace=1 << 20, precision="strict"):
        assert (_settings.algorithm(), _settings.max_workspace(), _settings.precision()) == (
            "im2col",
            1 << 20,
            "strict",
        )
        with cyconv.configure(algorithm="direct"):
            assert (_settings.algorithm(), _settings.max_workspace(), _settings.precision()) == (
                "direct",
                1 << 20,
                "strict",
            )
        assert _settings.algorithm() == "im2col"
    assert (_settings.algorithm(), _settings.max_workspace(), _settings.precision()) == usual
    with pytest.raises(KeyError), cyconv.configure(precision="strict"):
        raise KeyError
    assert _settings.precision() == "high"


def test_every_change_makes_plans_anew():
    before = _settings.epoch()
    with cyconv.configure(algorithm="im2col"):
        inside = _settings.epoch()
    assert len({before, inside, _settings.epoch()}) == 3


def test_strict_precision_keeps_to_direct_summation():
    from conv_cases import Case

    from cyconv.functional import _conv

    geometry, dtype = Case(8, 64, 64, (56, 56), padding=1).geometry(), np.dtype(np.float32)
    assert _conv.engine(geometry, dtype, False).name.startswith("winograd")
    with cyconv.configure(precision="strict"):
        assert _conv.engine(geometry, dtype, False).name == "direct"
    assert _conv.engine(geometry, dtype, False).name.startswith("winograd")


def test_the_workspace_limit_reaches_im2col():
    from conv_cases import Case

    from cyconv.functional import _conv

    geometry, dtype = Case(1, 64, 64, (56, 56), padding=1).geometry(), np.dtype(np.float32)
    sizes = []
    for limit in (1 << 16, 1 << 20, 64 << 20):
        with cyconv.configure(max_workspace=limit):
            sizes.append(_conv.engine(geometry, dtype, False, "im2col").workspace())
            assert 0 < sizes[-1] <= limit
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "fft"}, r"configure: algorithm must be one of auto, direct, .*, got 'fft'"),
        ({"algorithm": ["direct"]}, r"configure: algorithm must be one of auto, direct, .*, got \['direct'\]"),
        ({"precision": "low"}, "precision: expected one of high, strict, got 'low'"),
        ({"max_workspace": 65535}, "max_workspace: expected an int of at least 65536 bytes, got 65535"),
        ({"max_workspace": 1e9}, "max_workspace: expected an int of at least 65536 bytes, got 1000000000.0"),
        ({"max_workspace": 1 << 63}, f"max_workspace: expected an int of at most {sys.maxsize} bytes, got {1 << 63}"),
        ({"max_workspace": True}, "max_workspace: expected an int of at least 65536 bytes, got True"),
    ],
)
def test_settings_that_cannot_be_change_nothing(settings, message):
    good = {"algorithm": "im2col", "max_workspace": 1 << 20, "precision": "strict"}
    before = _settings.algorithm(), _settings.max_workspace(), _settings.precision()
    with pytest.raises(ValueError, match=f"^{message}$"), cyconv.configure(**(good | settings)):
        pass
    assert (_settings.algorithm(), _settings.max_workspace(), _settings.precision()) == before


def test_the_workspace_limit_may_be_an_integer_of_numpy():
    with cyconv.configure(max_workspace=np.int64(1 << 20)):
        assert _settings.max_workspace() == 1 << 20
    with cyconv.configure(max_workspace=sys.maxsize):
        F.conv2d(np.ones((1, 3, 9, 9)), np.ones((4, 3, 3, 3)), algorithm="im2col")


# ----------------------------------------------------------------------------------------------------- instruction sets

ISA = ("-c", "from cyconv import kernels; print(kernels.ISA, kernels.load('direct').__name__)")


@pytest.mark.parametrize("isa", kernels.available())
def test_cyconv_isa_chooses_the_kernels(isa):
    assert output_of(*ISA, CYCONV_ISA=isa) == f"{isa} cyconv.kernels.direct_{isa}"


def test_the_best_kernels_are_taken_unless_asked_otherwise():
    best = kernels.available()[-1]
    assert output_of(*ISA) == output_of(*ISA, CYCONV_ISA="") == f"{best} cyconv.kernels.direct_{best}"


def test_a_wrong_cyconv_isa_is_told_what_there_is():
    done = run_python("-c", "import cyconv", CYCONV_ISA="avx9")
    assert done.returncode == 1
    wanted = f"ImportError: CYCONV_ISA='avx9': this build on this processor has {', '.join(kernels.available())}"
    assert done.stderr.strip().splitlines()[-1] == wanted


def test_available_are_what_was_built_and_the_processor_runs(monkeypatch):
    from cyconv.kernels import _cpu

    assert set(kernels.available()) <= set(kernels.built())
    assert kernels.ISA in kernels.available()
    assert _cpu.supports(kernels.ISA)
    # In order of speed, lowest first, in the environment of this run too.
    assert list(kernels.built()) == sorted(kernels.built(), key=kernels.ORDER.index)
    monkeypatch.setattr(kernels, "built", lambda: ("v1", "v4"))
    monkeypatch.setattr(kernels, "available", lambda: ("v1",))
    monkeypatch.delenv("CYCONV_ISA", raising=False)
    assert kernels.choose() == "v1"
    monkeypatch.setenv("CYCONV_ISA", "v4")
    with pytest.raises(ImportError, match="this build on this processor has v1"):
        kernels.choose()


def test_every_instruction_set_has_every_kernel():
    folder = Path(next(iter(kernels.__path__)))
    stems = {isa: {p.name.split(f"_{isa}.")[0] for p in folder.glob(f"*_{isa}.*")} for isa in kernels.built()}
    assert {"direct", "im2col", "matmul", "weight_gradient", "winograd", "probe"} <= stems[kernels.ISA]
    assert all(found == stems[kernels.ISA] for found in stems.values())


# --------------------------------------------------------------------------------------------------------- show_config


def test_show_config_prints_what_a_bug_report_needs(capsys):
    cyconv.show_config()
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    entries = {name.strip(): value.strip() for name, value in lines.items()}
    assert entries == _config.config()
    assert entries["cyconv"] == cyconv.__version__
    assert entries["numpy"] == np.__version__
    assert entries["instruction set"].startswith(kernels.ISA)
    assert entries["threads"] == str(cyconv.get_num_threads())
    assert entries["OpenMP"].startswith("yes" if _threads.OPENMP else "no")
    assert entries["workspace limit"] == "64 MiB a thread"


def test_show_config_follows_the_environment():
    code = "import json, cyconv._config as c; print(json.dumps(c.config()))"
    found = json.loads(output_of("-c", code, CYCONV_ISA=kernels.available()[0], OMP_NUM_THREADS="1"))
    assert found["instruction set"].startswith(kernels.available()[0])
    assert found["threads"] == "1"


# ---------------------------------------------------------------------------------------------------- a team that slept


def _affinities() -> set[str]:
    """The processors that each thread of this process may use."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        status = (task / "status").read_text()
        found.add(next(line for line in status.splitlines() if line.startswith("Cpus_allowed:")))
    return found


@needs_openmp
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_gathering_a_team_leaves_affinities_as_they_were():
    before = _affinities()
    moved = 0
    for _ in range(5):
        time.sleep(0.02)
        moved += _threads.gather(2)
    assert 0 <= moved <= 5
    assert _affinities() == before


@needs_openmp
def test_gathering_more_threads_than_processors():
    time.sleep(0.005)
    start = time.perf_counter()
    assert _threads.gather(17) <= 16
    assert time.perf_counter() - start < 5


def test_explain_names_an_algorithm_that_needs_more_than_the_workspace():
    layer = cyconv.Conv2d(2048, 256, 3, padding=18, dilation=18)
    found = {c.name: c for c in cyconv.explain(layer, (1, 2048, 33, 33)).candidates}
    assert found["winograd_f2"].obstacle.startswith("needs a workspace of ")
    assert f"max_workspace is {_settings.max_workspace():,}" in found["winograd_f2"].obstacle
    assert not found["direct"].obstacle


@pytest.mark.parametrize("number", [np.uint8, np.int16])
def test_explaining_sizes_of_small_ints_of_numpy_leaves_a_geometry_that_computes(number):
    """Geometries are found again by their sizes: one of bytes, which overflow, came out for the layer's own call."""
    layer = cyconv.Conv2d(3, 7, 3, padding=1)
    shape = tuple(map(number, (1, 3, 119, 101)))
    assert cyconv.explain(layer, shape).macs == 7 * 3 * 9 * 119 * 101
    assert layer(np.zeros((1, 3, 119, 101), np.float32)).shape == (1, 7, 119, 101)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("make", [cyconv.Conv1d, cyconv.Conv2d, cyconv.Conv3d, cyconv.ConvTranspose2d])
def test_explain_tells_about_an_empty_batch(make, kernel, channels_last):
    layer = make(64, 64, kernel)
    rank = layer.weight.data.ndim - 2
    found = cyconv.explain(layer, (0, 64, *(5,) * rank), channels_last=channels_last)
    assert found.macs == 0
    assert found.chosen in str(found)
    cyconv.explain(layer, (0, 64, *(5,) * rank), channels_last=channels_last, measure=True)
