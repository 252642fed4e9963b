"""Checks of the kernels under tools that watch memory and threads, and on other compilers and processors.

    python tests/checks/run.py [address memcheck checked threads clang generic arm64] [--short] [PYTEST-OPTION]

Each check copies the sources into a folder of its own, builds them there in a fresh environment with the flags of the
check, proves by a deliberate fault that the tool finds one, and runs tests of the kernels. It ends with a line for each
check, and with status 1 if anything was found. pytest does not collect this file.

address    AddressSanitizer and UndefinedBehaviorSanitizer (gcc or clang, with their libraries)
memcheck   valgrind on a few tests; it knows no AVX-512, runs fifty times slower, and finds what was never written
checked    Cython's checks of bounds and of None, and memory that holds NaN before it is written
threads    ThreadSanitizer: needs clang and libomp with archer, since gcc's runtime tells nobody what it orders
           (Debian: clang-16 libomp-16-dev libclang-rt-16-dev)
clang      a build by clang and libomp
generic    the vectors of a processor that no header names: no intrinsics, 16 bytes, denormals not flushed
arm64      cross-compiled, and run by qemu-user on Debian's Python (Debian: gcc-aarch64-linux-gnu qemu-user-static)
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from emulated import Arm64

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
REQUIREMENTS = ["numpy", "scipy", "Cython>=3.1", "setuptools>=77", "pytest", "hypothesis"]

#: Tests that test Python code, start processes, or build something, and of whole networks, which take too long; all
#: others run kernels in this process.
OTHER_TESTS = {
    *("architecture", "bounds", "build", "cython_face", "data", "examples", "floating_point", "geometry", "import"),
    "isa",
    *("memory", "models", "operations_table", "plot", "runtime", "serialization", "settings", "summary"),
    *("tolerances", "training"),
    *("benchmarks", "benchmarks_crossovers", "benchmarks_training", "transposed_geometry"),
    *("reference", "reference_torch"),
}
KERNEL_TESTS = sorted({path.stem[5:] for path in (SOURCE / "tests").glob("test_*.py")} - OTHER_TESTS)
#: Tests that meet every kernel, for tools that are slow.
FEW_TESTS = [
    *("activation", "conv_draws", "conv_ranks", "conv_winograd_gradient", "conv_winograd_strided", "dropout"),
    *("elementwise_loss", "foreign_arrays", "im2col_kernel", "linear", "loss", "normalization", "padding"),
    *("pooling_draws", "shuffle", "unfold", "units"),
]
#: For CI, where the check is also that of a build without OpenMP.
SHORT_TESTS = [
    *("activation", "conv", "conv_plans", "elementwise_loss", "failed_allocations", "linear", "pooling"),
    "settings",
]


class Failed(Exception):
    """A check that cannot be done, or that found something."""


@dataclass
class Check:
    """How to build, how to run, and which fault must be found."""

    tests: list[str]
    build: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)  # what Python is started under
    pytest: list[str] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)  # function of faults.c: what the report says
    clean: list[str] = field(default_factory=list)  # functions without a fault
    compile: list[str] = field(default_factory=list)  # flags for faults.c
    says: dict[str, str] = field(default_factory=dict)  # Python code: what it must print
    reports: dict[str, str] = field(default_factory=dict)  # Python code with a fault: what the report says
    emulator: Arm64 | None = None


def program(*names: str) -> str:
    """Return the first of these programs that is there."""
    for name in names:
        if shutil.which(name):
            return name
    raise Failed(f"{' or '.join(names)} is not installed (see --help)")


def library_of(compiler: str, *names: str) -> str:
    """Return the path of the first of these libraries that the compiler has."""
    for name in names:
        path = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
        if Path(path.strip()).is_absolute() and Path(path.strip()).exists():
            return str(Path(path.strip()).resolve())
    raise Failed(f"{compiler} has no {' or '.join(names)} (see --help)")


# Serial BLAS: its threads are not ours to check.
USUAL = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def address() -> Check:
    """Leaks are not looked for: CPython frees little at its end. tests/test_failed_allocations.py counts ours."""
    compiler = program(os.environ.get("CC", "gcc"))
    libraries = [library_of(compiler, "libasan.so"), library_of(compiler, "libubsan.so")]
    return Check(
        KERNEL_TESTS,
        {"CYCONV_SANITIZE": "address,undefined", "CYCONV_BUILD_ISA": "v3"},
        {
            "LD_PRELOAD": " ".join(libraries),
            # A wish for more memory than there is returns NULL, as it does elsewhere: tests make such wishes.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=8192",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        },
        faults={"overflow": "heap-buffer-overflow", "undefined": "signed integer overflow"},
        compile=[compiler, "-fsanitize=address,undefined"],
    )


def memcheck() -> Check:
    """Valgrind serialises threads; one is enough, and races have a check of their own."""
    return Check(
        FEW_TESTS,
        {"CYCONV_CHECKED": "1", "CYCONV_BUILD_ISA": "v3"},
        # PYTHONMALLOC: CPython's own allocator would hide what happens inside of its arenas, and seem to be wrong.
        # "_debug" writes to all that CPython gets: up to 3.11 an int multiplies a digit that nobody wrote by 0.
        {"PYTHONMALLOC": "malloc_debug", "OMP_NUM_THREADS": "1", "CYCONV_ISA": "v3"},
        [
            program("valgrind"),
            "-q",
            "--error-exitcode=99",
            "--num-callers=20",
            f"--suppressions={HERE / 'loader.supp'}",
        ],
        ["--hypothesis-profile=quick"],
        faults={"overflow": "Invalid read", "uninitialised": "uninitialised"},
        reports={"from cyconv.kernels import _workspace as w; print(w.empty((2,), 'f'))": "uninitialised"},
        compile=["gcc"],
    )


def checked() -> Check:
    """All tests, as poisoned memory costs little."""
    new = "from cyconv.kernels import _workspace; print(_workspace.empty((2,), 'f'), _workspace.empty((2,), 'l'))"
    return Check(KERNEL_TESTS, {"CYCONV_CHECKED": "1", "CYCONV_BUILD_ISA": "v3"}, says={new: "[nan nan] [-1 -1]"})


def threads() -> Check:
    """Every operation on three threads, whatever its size."""
    compiler = program("clang-16", "clang")
    resources = subprocess.run([compiler, "-print-resource-dir"], capture_output=True, text=True, check=True).stdout
    archer = Path(resources.strip()).parents[1] / "libarcher.so"
    if not archer.exists():
        raise Failed(f"{compiler} has no {archer} (see --help)")
    return Check(
        KERNEL_TESTS,
        {"CYCONV_SANITIZE": "thread", "CYCONV_BUILD_ISA": "v3", "CC": compiler, "CFLAGS": "-shared-libsan"},
        {
            "LD_PRELOAD": library_of(compiler, "libclang_rt.tsan-x86_64.so"),
            # CPython, NumPy, BLAS and libomp are not instrumented, so that their accesses are not seen; the option
            # leaves out what the C library does for them. Nothing else needs to be suppressed: the order that libomp
            # makes, archer tells. (`race:libomp.so` would hide every race of a parallel region, which libomp calls.)
            "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66:allocator_may_return_null=1",
            "OMP_TOOL_LIBRARIES": str(archer),
        },
        # Not those of processes that fork, for which ThreadSanitizer is not made, that start others (which have no
        # archer), that count threads, of which it has one of its own, and that small work stays with one thread, which
        # it does not here.
        pytest=[
            "-p",
            "checks.many_threads",
            "--hypothesis-profile=quick",
            "-k",
            "not forked and not started and not stays and not beside_the_arrays",
        ],
        faults={"race": "data race"},
        clean=["no_race"],
        compile=[compiler, "-fsanitize=thread", "-shared-libsan", "-fopenmp"],
    )


def clang() -> Check:
    """Another compiler, and another runtime for threads."""
    return Check(KERNEL_TESTS, {"CC": program("clang-16", "clang"), "CYCONV_BUILD_ISA": "v3,v4"})


def generic() -> Check:
    """Denormals are not flushed there: nobody knows how."""
    return Check(KERNEL_TESTS, {"CYCONV_BUILD_ISA": "generic"}, {"CYCONV_ISA": "generic"})


def arm64() -> Check:
    """An emulator takes its time, and starts no processes: tests that do are left out."""
    emulator = Arm64(program("aarch64-linux-gnu-gcc"), program("qemu-aarch64-static", "qemu-aarch64"))
    no_processes = ["-k", "not beside_the_arrays and not forked and not started"]
    return Check(KERNEL_TESTS, pytest=["--hypothesis-profile=quick", *no_processes], emulator=emulator)


CHECKS = {f.__name__: f for f in (address, memcheck, checked, threads, clang, generic, arm64)}


def copy_sources(to: Path) -> None:
    """Copy the package, its tests and what builds it, without anything that was built."""
    skip = shutil.ignore_patterns("*.so", "*.pyc", "__pycache__", "build", "*.egg-info")
    for name in ("cyconv", "tests", "benchmarks"):
        shutil.copytree(SOURCE / name, to / name, ignore=skip, dirs_exist_ok=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(SOURCE / name, to / name)


def environment(check: Check, extra: dict[str, str], folder: Path) -> dict[str, str]:
    """Return this process's environment without settings of its own, with those of the check."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CYCONV_", "OMP_", "PYTHON", "LD_PRELOAD"))}
    return kept | USUAL | {"PYTHONPATH": f"{folder}:{folder / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"} | extra


def run(command: list[str], env: dict[str, str], folder: Path, log: Path) -> int:
    """Run, with everything that is said in ``log``; return the status."""
    with log.open("w") as out:
        done = subprocess.run(command, env=env, cwd=folder, stdout=out, stderr=subprocess.STDOUT, check=False)
    return done.returncode


def fresh_environment(work: Path) -> str:
    """Return the Python of a new virtual environment with what the build and the tests need."""
    subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
    python = str(work / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *REQUIREMENTS], check=True)
    return python


def build(check: Check, python: str, folder: Path) -> None:
    """Compile in place."""
    log = folder / "build.log"
    env = environment(check, check.build | (check.emulator.build_environment() if check.emulator else {}), folder)
    env["CFLAGS"] = f"-Wno-cpp {env.get('CFLAGS', '')}"
    if run([python, "setup.py", "build_ext", "--inplace"], env, folder, log):
        raise Failed(f"the build failed:\n{log.read_text()[-4000:]}")


def prove(check: Check, python: list[str], folder: Path) -> None:
    """Run each deliberate fault, which must be found, and what has none, which must pass."""
    env, log = environment(check, check.environment, folder), folder / "fault.log"
    for code, answer in check.says.items():
        if run([*python, "-c", code], env, folder, log) or log.read_text().strip() != answer:
            raise Failed(f"expected {answer}:\n{log.read_text()}")
    for code, report in check.reports.items():
        if not run([*python, "-c", code], env, folder, log) or report not in log.read_text():
            raise Failed(f"the fault of {code} was not found:\n{log.read_text()}")
    if not check.faults:
        return
    library = folder / "faults.so"
    command = [*check.compile, "-g", "-O0", "-shared", "-fPIC", str(HERE / "faults.c"), "-o", str(library)]
    subprocess.run(command, check=True)
    for function in [*check.faults, *check.clean]:
        code = f"import ctypes; print('returned', ctypes.CDLL({str(library)!r}).{function}())"
        status, report = run([*python, "-c", code], env, folder, log), check.faults.get(function)
        said = log.read_text()
        if report is None and status:
            raise Failed(f"{function}() has no fault, but:\n{said}")
        if report is not None and (status == 0 or report not in said):
            raise Failed(f"the fault in {function}() was not found (status {status}):\n{said}")


def tests_of(check: Check, wanted: list[str]) -> list[str]:
    """Return the files of tests to run."""
    files = [f"tests/test_{name}.py" for name in wanted or check.tests]
    return [name for name in files if (SOURCE / name).exists()]


def carry_out(name: str, options: argparse.Namespace, work: Path) -> str:
    """Do one check; return pytest's closing line."""
    check = CHECKS[name]()
    if options.short:
        check.tests, check.pytest = SHORT_TESTS, ["--hypothesis-profile=quick"]
        check.build["CYCONV_NO_OPENMP"] = "1"
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    python = options.python or fresh_environment(folder)
    if check.emulator:
        check.emulator.system = folder / "system"
    copy_sources(folder)
    if not options.built:
        build(check, python, folder)
    command = check.emulator.python() if check.emulator else [*check.prefix, python]
    prove(check, command, folder)
    log = folder / "tests.log"
    extra = check.environment | (check.emulator.environment(folder) if check.emulator else {})
    env = environment(check, extra, folder)
    if run([*command, "-c", "import cyconv; cyconv.show_config()"], env, folder, log):
        raise Failed(f"what was built cannot be imported:\n{log.read_text()}")
    print(log.read_text())
    if "CYCONV_NO_OPENMP" in check.build and "no: built serial" not in log.read_text():
        raise Failed("what was built is not serial")
    command += [
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--maxfail=30",
        "-vv",
        "--tb=short",
        *check.pytest,
        *options.pytest,
    ]
    status = run([*command, *tests_of(check, options.tests)], env, folder, log)
    said = log.read_text()
    if status:
        raise Failed(f"status {status}:\n{said[-12000:]}")
    return next(line.strip("= ") for line in reversed(said.splitlines()) if " passed" in line)


def main() -> int:
    """Do the checks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"default: all of {', '.join(CHECKS)}")
    parser.add_argument("--short", action="store_true", help="serial kernels, few tests: for CI")
    parser.add_argument("--python", help="a Python with everything that is needed, instead of a fresh environment")
    parser.add_argument("--work", type=Path, help="a folder that is kept (default: one that is not)")
    parser.add_argument(
        "--built", action="store_true", help="what is in --work is compiled already; its tests are copied anew"
    )
    parser.add_argument("--tests", nargs="*", default=[], help="instead of the check's: linear, conv, ...")
    options, options.pytest = parser.parse_known_args()
    unknown = [name for name in options.checks if name not in CHECKS]
    if unknown:
        parser.error(f"no check {', '.join(unknown)}: choose from {', '.join(CHECKS)}")
    lines, failed = [], False
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.checks or CHECKS:
            start = time.monotonic()
            try:
                said = carry_out(name, options, (options.work or Path(temporary)).resolve())
            except Failed as error:
                said, failed = f"FAILED: {error}", True
            lines.append(f"{name}: {said} ({time.monotonic() - start:.0f} s with the build)")
            print(lines[-1], flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
