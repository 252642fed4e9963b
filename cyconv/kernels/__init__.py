"""The compiled kernels: nogil loops on raw pointers, without checks.

Every kernel source is compiled once for each instruction set (``direct_v3``, ``direct_v4``, ...). ``load`` gives the
modules of the instruction set that was chosen at import: the highest that the processor has, or the one that the
environment variable ``CYCONV_ISA`` names.
"""

import functools
import importlib
import os
from importlib import machinery
from pathlib import Path
from types import ModuleType

#: Instruction sets, lowest first, of all processor families.
ORDER = ("generic", "neon", "v1", "v3", "v4")


def built() -> tuple[str, ...]:
    """Return the instruction sets that this installation has kernels for, lowest first."""
    found = {
        path.name.split(".")[0].removeprefix("direct_")
        for folder in __path__
        for path in Path(folder).glob("direct_*")
        if any(path.name.endswith(suffix) for suffix in machinery.EXTENSION_SUFFIXES)
    }
    return tuple(isa for isa in ORDER if isa in found)


def available() -> tuple[str, ...]:
    """Return the instruction sets that were built and that this processor runs, lowest first."""
    from ._cpu import supports

    return tuple(isa for isa in built() if supports(isa))


def choose() -> str:
    """Return the instruction set to use: ``CYCONV_ISA`` if it is set, else the highest available."""
    have = available()
    wanted = os.environ.get("CYCONV_ISA", "")
    if not wanted:
        return have[-1]
    if wanted not in have:
        raise ImportError(f"CYCONV_ISA={wanted!r}: this build on this processor has {', '.join(have)}")
    return wanted


@functools.cache
def load(kernel: str) -> ModuleType:
    """Return the module of ``kernel`` ("direct", "pooling", ...) for the chosen instruction set."""
    name = f"{__name__}.{kernel}_{ISA}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(
            f"cyconv: kernel {kernel!r} is not compiled for {ISA}: run `pip install .` (or `pip install -e .`) again"
        ) from None


ISA = choose()
