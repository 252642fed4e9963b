"""What the machine is and can do: CPU, versions, FMA peak, copying, hand-over between two cores, load by others."""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import platform
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("cyconv", "numpy", "scipy", "torch", "onnxruntime", "openvino", "ncnn")


@functools.cache
def _probe() -> ctypes.CDLL | None:
    """probe.c as a library, or None where nothing compiles it."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "probe.so")
        for cc in dict.fromkeys((compiler, "cc", "gcc", "clang")):
            command = [
                cc,
                "-O2",
                "-march=native",
                "-shared",
                "-fPIC",
                "-pthread",
                "-o",
                str(target),
                str(Path(__file__).with_name("probe.c")),
            ]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                library = ctypes.CDLL(str(target))
            except (OSError, subprocess.SubprocessError):
                continue
            library.fma_peak.restype = library.copy_rate.restype = library.handover.restype = ctypes.c_double
            library.fma_peak.argtypes = (ctypes.c_int, ctypes.c_double, ctypes.c_int)
            library.copy_rate.argtypes = (ctypes.c_int, ctypes.c_double, ctypes.c_double)
            library.handover.argtypes = (ctypes.c_double,)
            return library
    return None


def _gemm_peak(dtype: np.dtype[Any], seconds: float) -> float:
    """FLOP/s of a large matrix product: a lower bound of the peak, at NumPy's own number of threads."""
    a = np.random.default_rng(0).standard_normal((1536, 1536)).astype(dtype)
    best, stop = 0.0, time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        a @ a
        now = time.perf_counter()
        best = max(best, 2 * 1536**3 / (now - start))
        if now > stop:
            return best


def _undisturbed(burst: Callable[[], float], wanted: int = 5) -> tuple[float, bool]:
    """The best of five bursts in which no other process took the CPU away, or of twenty bursts altogether (False)."""
    best, left_alone = 0.0, 0
    for _ in range(4 * wanted):
        before = preemptions()
        best = max(best, burst())
        left_alone += preemptions() - before <= 2
        if left_alone == wanted:
            break
    return best, left_alone > 0


def fma_peak(threads: int, dtype: str = "float32", seconds: float = 0.25) -> tuple[float, str]:
    """The machine's FLOP/s at this number of threads, and how it was measured."""
    probe = _probe()
    if probe is not None:
        best, alone = _undisturbed(lambda: float(probe.fma_peak(threads, seconds / 5, int(dtype == "float64"))))
        if best > 0:
            return best, "multiply-add loop" if alone else "multiply-add loop, disturbed by other processes"
    try:
        kernel_peak = importlib.import_module("cyconv.kernels").fma_peak
    except (ImportError, AttributeError):
        return _gemm_peak(np.dtype(dtype), seconds), "NumPy's matrix product, at its own number of threads"
    return float(kernel_peak(threads, seconds)) / (2 if dtype == "float64" else 1), "cyconv's multiply-add loop"


def copy_bandwidth(threads: int, size: int, seconds: float = 0.1) -> float | None:
    """Bytes read and written a second by threads that copy, in arrays of ``size`` bytes altogether; None where nothing
    compiles the probe, or the arrays do not fit into memory."""
    probe = _probe()
    if probe is None:
        return None
    return _undisturbed(lambda: float(probe.copy_rate(threads, seconds / 5, size)), 3)[0] or None


@functools.cache
def last_level_cache() -> int:
    """Bytes of the largest cache that a core has a share in; 32 MiB where /sys does not tell."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = path.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
        except (OSError, ValueError, IndexError):
            continue
    return max(sizes) or 32 << 20


def handover_ns() -> float | None:
    """Nanoseconds for a cache line to pass from one core to another, least of three; None where it cannot be known."""
    probe = _probe()
    if probe is None or len(usable_cpus()) < 2:
        return None
    return min(float(probe.handover(0.004)) for _ in range(3))


def preemptions() -> int:
    """How often so far the CPU was taken from a thread of this process that wanted to go on."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def usable_cpus() -> set[int]:
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def busy_elsewhere(seconds: float = 0.3) -> float | None:
    """How many CPUs other processes keep busy while this one sleeps; None where /proc/stat is not."""

    def ticks() -> tuple[int, int]:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    try:
        total, idle = ticks()
        time.sleep(seconds)
        total2, idle2 = ticks()
    except (OSError, ValueError, IndexError):
        return None
    return (1 - (idle2 - idle) / max(total2 - total, 1)) * (os.cpu_count() or 1)


def _cpu() -> dict[str, str]:
    """Model, caches and vector extensions, as far as /proc and /sys tell."""
    found = {"model": platform.processor() or platform.machine()}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return found
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    found["model"] = info.get("model name", found["model"])
    found["family, model, stepping"] = ", ".join(info.get(k, "?") for k in ("cpu family", "model", "stepping"))
    known = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "amx_tile", "asimd", "sve")
    flags = info.get("flags", info.get("Features", "")).split()
    found["vector extensions"] = " ".join(f for f in known if f in flags)
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        except OSError:
            continue
        found[f"L{level} {kind.lower()}"] = size
    return found


def describe() -> dict[str, Any]:
    """Everything that a reader of the figures has to know about where they come from."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    about: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cpus": sorted(usable_cpus()),
        "versions": versions,
        "byte order": sys.byteorder,
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "GOMP_", "MKL_", "CYCONV_"))},
    }
    if hasattr(os, "getloadavg"):
        about["load average"] = list(os.getloadavg())
    return about
