"""Build of the compiled kernels: every kernel source once for each instruction set of the processor family.

Environment
-----------
CYCONV_NO_OPENMP=1     build serial kernels
CYCONV_BUILD_ISA=v3    build only these instruction sets (comma separated); for development
CFLAGS, LDFLAGS, CC    as everywhere
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
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
COMMON = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-unused-function"]
# Python's own flags, which CFLAGS of the environment replace. The first one makes other code of unrolled kernels, up to
# a third faster or slower: with it here, all builds are the same.
COMMON += ["-fwrapv", "-DNDEBUG"]
# Without it, tables for unwinding serve nobody either: no C++ exception passes through a kernel.
COMMON += ["-g"] if DEBUG else ["-g0", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]

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
FAMILY = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}

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
    sets = ISA_FLAGS[FAMILY.get(platform.machine().lower(), "other")]
    wanted = os.environ.get("CYCONV_BUILD_ISA")
    if wanted:
        sets = {name: sets[name] for name in sets if name in wanted.split(",")}
    return sets


def extensions():
    include = [str(KERNELS), np.get_include()]
    macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
    directives = {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "initializedcheck": False,
        "cdivision": True,
        # Builtin functions, not Cython's own kind, whose code each module would hold anew: 8 kB of the wheel each.
        "binding": False,
        # No kernel is ever pickled: layers are, by their arguments.
        "auto_pickle": False,
        "freethreading_compatible": False,
    }
    built = []

    def compiled(source, module, isa):
        extension = Extension(module, [str(source)], include_dirs=include, define_macros=macros)
        # One build folder for each instruction set: the same source becomes a module of another name.
        (extension,) = cythonize([extension], build_dir=f"build/cython/{isa}", compiler_directives=directives)
        extension.isa = isa
        extension.depends += [str(path) for pattern in ("*.h", "*.pxd") for path in KERNELS.glob(pattern)]
        built.append(extension)

    # Modules whose name begins with an underscore are compiled once, the others for each instruction set.
    for source in sorted(KERNELS.glob("*.pyx")):
        if source.stem.startswith("_"):
            compiled(source, f"cyconv.kernels.{source.stem}", "common")
        else:
            for isa in instruction_sets():
                compiled(source, f"cyconv.kernels.{source.stem}_{isa}", isa)
    # The face for Cython calls those of the instruction set that was chosen.
    compiled(Path("cyconv/cython.pyx"), "cyconv.cython", "common")
    refresh_headers()
    return built


def refresh_headers():
    """Cython copies headers beside the C code, but not again when only a header has changed."""
    for copy in Path("build/cython").glob(f"*/{KERNELS}/*.h"):
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
        strip = [] if DEBUG else ["-Wl,-S"] if sys.platform == "darwin" else ["-Wl,-s"]
        for extension in self.extensions:
            extension.extra_compile_args = [*COMMON, *flags.get(extension.isa, []), *compile_openmp]
            extension.extra_link_args = [*strip, *link_openmp]
        super().build_extensions()

    def compiles(self, flags):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("int probe(int x) { return x + 1; }\n")
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
                    subprocess.run([program], check=True, timeout=60)
                except (CompileError, LinkError, OSError, subprocess.SubprocessError):
                    continue
                return compile_flags, link_flags
        print("cyconv: no OpenMP found: the kernels are built serial")
        return [], []


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
