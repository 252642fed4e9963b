"""What this installation is made of, printed for bug reports."""

from __future__ import annotations

import platform
import sys

import numpy as np

from . import _settings, kernels
from ._version import __version__
from .kernels import _cpu, _threads


def config() -> dict[str, str]:
    """Return what :func:`show_config` prints, as a dictionary."""
    built = kernels.built()
    lacking = [isa for isa in built if not _cpu.supports(isa)]
    openmp = f"yes (version {_threads.OPENMP})" if _threads.OPENMP else "no: built serial, one thread"
    return {
        "cyconv": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "compiler": _threads.COMPILER,
        "instruction set": f"{kernels.ISA} ({8 * kernels.load('probe').VECTOR_BYTES}-bit vectors)",
        "built for": ", ".join(built) + (f" (not on this processor: {', '.join(lacking)})" if lacking else ""),
        "OpenMP": openmp,
        "threads": str(_settings.get_num_threads()),
        "precision": _settings.precision(),
        "workspace limit": f"{_settings.max_workspace() >> 20} MiB a thread",
        "kernels": str(next(iter(kernels.__path__))),
    }


def show_config() -> None:
    """
    Print versions, compiler, instruction set, OpenMP and settings of this installation.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.show_config()  # doctest: +SKIP
    """
    entries = config()
    width = max(map(len, entries))
    for name, value in entries.items():
        print(f"{name:<{width}}  {value}")
