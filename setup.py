"""Build of the compiled kernels: every kernel source once for each instruction set of the processor family.

Environment
-----------
CYCONV_NO_OPENMP=1     build serial kernels
CYCONV_BUILD_ISA=v3    build only these instruction sets (comma separated); for development. On x86-64 there is one more
                       here: "generic", what any other processor would get.
CYCONV_DEBUG=1         keep the tables for debuggers
CFLAGS, LDFLAGS, CC    as everywhere

For tests of the kernels themselves, in a folder of its own, as tests/checks/run.py makes it:

CYCONV_SANITIZE=address,undefined   what the compiler's -fsanitize takes (`thread`, too), at -O1, with line numbers.
                       Python must then be started with the sanitizer's library in LD_PRELOAD.
CYCONV_CHECKED=1       Cython's checks of bounds and of None; memory that a kernel is given holds NaN (or -1)

Compilers of another processor family take it from `sysconfig.get_platform()`, which _PYTHON_HOST_PLATFORM sets.
"""

import multiprocessing
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

KERNELS = Path("cyconv/kernels")

# -g0: Python's own flags ask for debugging information, which would be stripped, and with which the unrolled kernels
# take up to ten times as long to compile. CYCONV_DEBUG=1 keeps it.
DEBUG = os.environ.get("CYCONV_DEBUG", "0") not in ("", "0")
CHECKED = os.environ.get("CYCONV_CHECKED", "0") not in ("", "0")
SANITIZE = os.environ.get("CYCONV_SANITIZE", "")
COMMON = ["-O3", "-g", "-fno-math-errno", "-fno-trapping-math", "-Wno-unused-function"]
# Python's own flags, which CFLAGS of the environment replace. The first one makes other code of unrolled kernels, up to
# a third faster or slower: with it here, all builds are the same.
COMMON += ["-fwrapv", "-DNDEBUG"]
# Without it, tables for unwinding serve nobody either: no C++ exception passes through a kernel.
if not DEBUG:
    COMMON += ["-g1"] if CHECKED else ["-g0", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
# Last, after the flags of the instruction set: -O1 compiles the unrolled loops in reasonable time, and -fno-wrapv lets
# an overflow be one.
SANITIZER = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fno-wrapv", "-DCYCONV_SMALL", f"-fsanitize={SANITIZE}"]
SANITIZER = SANITIZER if SANITIZE else []

# Lowest first. The names are what CYCONV_ISA takes and cyconv.show_config() prints.
ISA_FLAGS = {
    "x86_64": {
        # For processors of before 2013: small rather than fast; 16 registers of 16 bytes hold no unrolled tile anyway.
        "v1": ["-march=x86-64", "-O2", "-DCYCONV_SMALL"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    },
    "aarch64": {"neon": []},
    "other": {"generic": []},
}
# As if the headers knew nothing of the processor.
GENERIC_X86_64 = ["-march=x86-64", "-U__SSE2__"]
FAMILY = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
# What sysconfig.get_platform() ends with, where that is the processor; on macOS it may be "universal2".
TARGET = sysconfig.get_platform().rpartition("-")[2].lower()
TARGET = TARGET if TARGET in FAMILY else platform.machine().lower()
CROSS = TARGET in FAMILY and FAMILY[TARGET] != FAMILY.get(platform.machine().lower())

# Cython does not write C code anew when only its directives have changed.
GENERATED = "build/cython-checked" if CHECKED else "build/cython"

CLANG_PROBE = """
#ifndef __clang__
#error
#endif
int probe;
"""
OPENMP_PROBE = """
#include <omp.h>
#include <stdio.h>
int main(void) {
    int threads = 0;
    #pragma omp parallel num_threads(2) reduction(+:threads)
    threads += 1;
    return omp_get_max_threads() > 0 && threads >= 1 ? 0 : 1;
}
"""


def instruction_sets():
    """Return {name: compiler flags} of the processor family that is built for."""
    family = FAMILY.get(TARGET, "other")
    sets = ISA_FLAGS[family]
    wanted = os.environ.get("CYCONV_BUILD_ISA")
    if wanted:
        sets = {"generic": GENERIC_X86_64, **sets} if family == "x86_64" else sets
        unknown = sorted(set(wanted.split(",")) - set(sets))
        if unknown:
            sys.exit(f"cyconv: CYCONV_BUILD_ISA: {', '.join(unknown)} is none of {', '.join(sets)}")
        sets = {name: sets[name] for name in sets if name in wanted.split(",")}
    return sets


def refuse_big_endian(byteorder):
    """The kernels take the halves of numbers apart, and the files of weights are little-endian: end the build."""
    if byteorder != "little":
        sys.exit(
            f"cyconv: little-endian processors only (x86-64, arm64, ...); this one, {TARGET}, is {byteorder}-endian: "
            "nothing was built"
        )


def extensions():
    include = [str(KERNELS), np.get_include()]
    macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
    if CHECKED:
        macros += [("CYCONV_CHECKED", "1")]
    directives = {
        "language_level": 3,
        "boundscheck": CHECKED,
        "wraparound": False,
        "initializedcheck": CHECKED,
        "nonecheck": CHECKED,
        "cdivision": True,
        # Builtin functions, not Cython's own kind, whose code each module would hold anew: 8 kB of the wheel each.
        "binding": False,
        # No kernel is ever pickled: layers are, by their arguments.
        "auto_pickle": False,
        "freethreading_compatible": False,
    }
    # Modules whose name begins with an underscore are compiled once, the others for each instruction set. The face for
    # Cython, too, once: it calls those of the instruction set that was chosen.
    sources = sorted(KERNELS.glob("*.pyx"))
    modules = {"common": [(f"kernels.{source.stem}", source) for source in sources if source.stem[0] == "_"]}
    modules["common"].append(("cython", Path("cyconv/cython.pyx")))
    for isa in instruction_sets():
        modules[isa] = [(f"kernels.{source.stem}_{isa}", source) for source in sources if source.stem[0] != "_"]
    headers = [str(path) for pattern in ("*.h", "*.pxd") for path in KERNELS.glob(pattern)]
    # Side by side where processes are made by fork: elsewhere each would run this file anew.
    jobs = os.cpu_count() if multiprocessing.get_start_method() == "fork" else 0
    built = []
    for isa, named in modules.items():
        made = [
            Extension(f"cyconv.{name}", [str(source)], include_dirs=include, define_macros=macros)
            for name, source in named
        ]
        # One build folder for each instruction set: the same source becomes a module of another name.
        made = cythonize(made, nthreads=jobs, build_dir=f"{GENERATED}/{isa}", compiler_directives=directives)
        for extension in made:
            extension.isa = isa
            extension.depends += headers
        built += made
    refresh_headers()
    return built


def refresh_headers():
    """Cython copies headers beside the C code, but not again when only a header has changed."""
    for copy in Path(GENERATED).glob(f"*/{KERNELS}/*.h"):
        original = KERNELS / copy.name
        if original.is_file() and original.read_bytes() != copy.read_bytes():
            shutil.copyfile(original, copy)


class BuildKernels(build_ext):
    """Adds the flags of each instruction set and, where a probe runs, OpenMP."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            raise CompileError("cyconv needs gcc or clang: its kernels are written in GNU vector extensions")
        compile_openmp, link_openmp = self.find_openmp()
        flags = instruction_sets()
        refused = set()
        for isa, isa_flags in flags.items():
            if not self.compiles(isa_flags):
                print(f"cyconv: the compiler does not know {' '.join(isa_flags)}: built without the {isa} kernels")
                refused.add(isa)
        self.extensions = [extension for extension in self.extensions if extension.isa not in refused]
        strip = [] if DEBUG or SANITIZE or CHECKED else ["-Wl,-S"] if sys.platform == "darwin" else ["-Wl,-s"]
        # Products and sums become one instruction where the source has them in one expression. clang's "fast" looks at
        # what the optimizer left of it, so that one function gives different bits for whole and for part vectors.
        fused = f"-ffp-contract={'on' if self.compiles([], CLANG_PROBE) else 'fast'}"
        for extension in self.extensions:
            extension.extra_compile_args = [*COMMON, fused, *flags.get(extension.isa, []), *compile_openmp, *SANITIZER]
            extension.extra_link_args = [*strip, *link_openmp, *SANITIZER[-1:]]
        super().build_extensions()

    def compiles(self, flags, text="int probe(int x) { return x + 1; }\n"):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(text)
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=[*flags, "-Werror"])
            except CompileError:
                return False
        return True

    def find_openmp(self):
        """Return the (compiler, linker) flags with which an OpenMP program compiles, links and runs, or two []."""
        if os.environ.get("CYCONV_NO_OPENMP", "0") not in ("", "0"):
            print("cyconv: built serial, as CYCONV_NO_OPENMP asks")
            return [], []
        candidates = [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])]
        for compile_flags, link_flags in candidates:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder, "probe.c")
                source.write_text(OPENMP_PROBE)
                program = str(Path(folder, "probe"))
                try:
                    objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=compile_flags)
                    extra = shlex.split(os.environ.get("LDFLAGS", "")) + link_flags
                    self.compiler.link_executable(objects, program, extra_postargs=extra)
                    if not CROSS:
                        subprocess.run([program], check=True, timeout=60)
                except (CompileError, LinkError, OSError, subprocess.SubprocessError):
                    continue
                return compile_flags, link_flags
        print("cyconv: no OpenMP found: the kernels are built serial")
        return [], []


refuse_big_endian(sys.byteorder)
setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
