"""How much memory calls take at their peak, and that none stays taken."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
from calls import CALLS, Call
from processes import output_of

from cyconv import functional as F
from cyconv.kernels import _workspace

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

PEAK = """
import numpy as np, cyconv
from cyconv import functional as F
from cyconv._geometry import conv_geometry
from cyconv.functional import conv_engine
cyconv.set_num_threads(2)
def field(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
how = dict(padding=1, groups={groups}, algorithm={algorithm!r})
small = F.conv2d(np.ones((1, 64, 20, 20), "f4"), np.ones((64, 64 // {groups}, 3, 3), "f4"), **how)  # code is loaded now
x, w = np.ones((4, 64, 160, 160), "f4"), np.ones((64, 64 // {groups}, 3, 3), "f4")
if {last}:
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
geometry = conv_geometry("conv2d", 2, x.shape, w.shape, None, 1, 1, 1, {groups}, "zeros")
stated = conv_engine(geometry, x.dtype, {last}, {algorithm!r}).workspace()
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here
before = field("VmRSS")
y = F.conv2d(x, w, **how)
print(field("VmHWM") - before, y.nbytes, stated)
"""


@needs_proc
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("algorithm", ["direct", "winograd_f2", "winograd_f4", "depthwise", "im2col"])
def test_the_peak_of_a_convolution_is_its_output_and_the_workspace_that_it_states(algorithm, last):
    code = PEAK.format(algorithm=algorithm, last=last, groups=64 if algorithm == "depthwise" else 1)
    taken, output, stated = map(int, output_of("-c", code).split())
    weights = 64 * 64 * 64 * 4 * 2  # transformed for 8 x 8 tiles at most, twice
    assert taken <= output + 2 * stated + weights + (2 << 20)
    assert taken >= output // 2  # the measurement sees the output


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def _again(call: Call) -> object:
    result = call()
    backward = getattr(F, f"{call.name}_backward", None)
    if backward is None or "fractional" in call.name or "dropout" in call.name:
        return result
    arguments = call.fresh()
    first = result[0] if isinstance(result, tuple) else result
    return backward(np.ones_like(first), **arguments)


@needs_proc
def test_no_operation_keeps_memory():
    """Forward and backward of every operation, again and again: neither pages nor Python objects become more.

    100 times here; ``python tests/test_memory.py 10000`` takes minutes and as many turns as it says.
    """
    assert growth(100) < 1 << 20


def growth(turns: int) -> int:
    """Return by how many bytes the process grows in so many calls of each operation; none may leave Python objects."""
    for call in CALLS:
        for _ in range(20):
            _again(call)
    _workspace.release_kept()
    gc.collect()
    objects, resident = len(gc.get_objects()), _resident()
    for call in CALLS:
        for _ in range(turns):
            _again(call)
    _workspace.release_kept()
    gc.collect()
    left = len(gc.get_objects()) - objects
    assert left < 200, f"{left} objects are left"
    return _resident() - resident


@needs_proc
def test_a_refused_call_keeps_no_memory():
    x, w = np.ones((2, 4, 6, 6), np.float32), np.ones((4, 4, 3, 3), np.float32)
    bent = [{"stride": 0}, {"padding": -1}, {"groups": 3}, {"dilation": 9}, {"algorithm": "no"}]

    def refused() -> None:
        for how in bent:
            with pytest.raises(ValueError, match="conv2d: "):
                F.conv2d(x, w, **how)

    for _ in range(50):
        refused()
    before = _resident()
    for _ in range(500):
        refused()
    assert _resident() - before < 1 << 20


if __name__ == "__main__":
    print(f"grown by {growth(int(sys.argv[1])):,} bytes in {int(sys.argv[1]):,} calls of {len(CALLS)} operations")
