"""Kernels touch no byte outside of the arrays that they are given: each array lies beside a page nobody may touch."""

import sys
from pathlib import Path

import pytest
from processes import output_of, run_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="protects pages by Linux's mprotect")

START = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import guarded, numpy as np; "


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
@pytest.mark.parametrize(
    "what",
    [
        "direct",
        "im2col",
        "winograd_f2",
        "winograd_f4",
        "depthwise",
        "linear",
        "pooling",
        "pointwise",
        "resizing",
        "transposed",
        "strided",
        "modes",
        "padding",
    ],
)
def test_no_byte_outside_of_an_array_is_touched(what, at_end):
    """In a process of its own, which dies of it; what it printed last is the case."""
    lines = output_of("-c", f"{START} guarded.run({what!r}, at_end={at_end})").splitlines()
    assert lines[-1] == "done"
    assert len(lines) > 50


def test_a_byte_written_to_a_constant_would_be_noticed():
    code = "x = guarded.constant(np.ones(5), True); print(x.sum(), flush=True); x[2] = 1"
    done = run_python("-c", START + code)
    assert (done.returncode, done.stdout) == (-11, "5.0\n")


@pytest.mark.parametrize("at_end", [True, False], ids=["end", "begin"])
@pytest.mark.parametrize("access", ["x[5]", "x.__setitem__(5, 1)"], ids=["read", "written"])
def test_a_byte_outside_would_be_noticed(access, at_end):
    """Six numbers are seen where five are, from the begin to the end or the other way."""
    code = f"x = guarded.empty((5,), 'f8', {at_end}); x[0] = x[4] = 1; print('so far', flush=True); "
    longer = f"x = np.lib.stride_tricks.as_strided(x{'' if at_end else '[::-1]'}, (6,)); "
    done = run_python("-c", START + code + longer + access)
    assert (done.returncode, done.stdout) == (-11, "so far\n")
