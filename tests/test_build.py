"""What setup.py refuses, before it compiles anything."""

import shutil
import subprocess
from pathlib import Path

import pytest
from processes import run_python

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="no sources beside the tests")

SETUP = "import numpy, runpy, sys; {}; sys.argv = ['setup.py', '--version']; runpy.run_path('setup.py')"


def setup(change="pass", **environment):
    """Run setup.py up to where it would compile, after a change to what Python says of the machine."""
    return run_python("-W", "ignore", "-c", SETUP.format(change), cwd=ROOT, path=None, **environment)


def test_big_endian_processors_are_refused():
    done = setup("sys.byteorder = 'big'", _PYTHON_HOST_PLATFORM="linux-s390x")
    assert done.returncode == 1
    assert "little-endian processors only" in done.stderr
    assert "big-endian: nothing was built" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_instruction_sets_are_refused():
    done = setup(CYCONV_BUILD_ISA="v3,v9")
    assert done.returncode == 1
    assert "CYCONV_BUILD_ISA: v9 is none of" in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(("order", "status"), [("LITTLE", 0), ("BIG", 1)])
def test_the_header_refuses_big_endian_compilers(order, status):
    """Where Python is little-endian, and a cross-compiler is not."""
    flags = ["-fsyntax-only", "-U__BYTE_ORDER__", f"-D__BYTE_ORDER__=__ORDER_{order}_ENDIAN__", "-xc"]
    header = ROOT / "cyconv/kernels/simd.h"
    done = subprocess.run(
        ["cc", *flags, "-"], input=f'#include "{header}"', capture_output=True, text=True, check=False
    )
    assert bool(done.returncode) == bool(status), done.stderr
    assert ("little-endian machines only" in done.stderr) == bool(status)
