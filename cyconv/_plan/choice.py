"""The one place where ``auto`` picks an algorithm."""

from __future__ import annotations

import math

from .._geometry import ConvGeometry
from .depthwise import depthwise_obstacle
from .winograd import winograd_obstacle

#: What costs as much as one multiply-add of the register tile, measured beside it (docs/performance.md):
#: a transform step of one element of a tile (transforms of input and output are a quarter of the time at 64 channels)
TRANSFORM = 11.0
#: reading one weight once, from a cache that holds them all and from memory
WEIGHT_CACHED, WEIGHT_FROM_MEMORY = 8.0, 30.0
#: and up to how many bytes of weights a last-level cache is taken to hold.
CACHED_BYTES = 24 << 20
#: Input channels up to which the error of F(4, 3) stays within 1e-5: it grows with their root (4e-6 at 512).
F4_CHANNELS = 1024


def _round_up(n: int, to: int) -> int:
    return math.ceil(n / to) * to


def _cost(geometry: ConvGeometry, m: int, lanes: int, itemsize: int) -> float:
    """Return the cost of Winograd with output tiles of edge m, or of direct summation (m = 1), in multiply-adds."""
    elements = 9 if m == 1 else (m + 2) ** 2
    c, k = geometry.in_channels, _round_up(geometry.out_channels, lanes)
    tiles = geometry.batch * math.prod(math.ceil(size / m) for size in geometry.output)
    weights = elements * c * k
    read = WEIGHT_CACHED if weights * itemsize <= CACHED_BYTES else WEIGHT_FROM_MEMORY
    transforms = 0.0 if m == 1 else TRANSFORM * elements * tiles * (_round_up(c, lanes) + k)
    # A tile of one vector of output channels reaches 5/6 of the peak.
    speed = 5 / 6 if geometry.out_channels <= lanes else 1.0
    return weights * tiles / speed + weights * read + transforms


def choose(
    geometry: ConvGeometry, dtype: str, lanes: int, precision: str, channels_last: bool = False
) -> tuple[str, str]:
    """Return the algorithm that ``auto`` takes, and why."""
    if (
        geometry.groups == geometry.in_channels
        and geometry.groups > 1
        and not depthwise_obstacle(geometry, channels_last)
    ):
        return "depthwise", "every channel has a kernel of its own, and memory decides: nothing is copied"
    obstacle = winograd_obstacle(geometry)
    if obstacle:
        return "direct", f"Winograd is out: {obstacle}"
    if precision == "strict":
        return "direct", 'precision "strict" asks for direct summation'
    itemsize = 4 if dtype == "f" else 8
    names = {1: "direct", 2: "winograd_f2", 4: "winograd_f4"}
    costs = {
        names[m]: _cost(geometry, m, lanes, itemsize) for m in names if m < 4 or geometry.in_channels <= F4_CHANNELS
    }
    best = min(costs, key=lambda name: costs[name])
    listed = ", ".join(f"{name} {cost / costs[best]:.2f}" for name, cost in costs.items())
    return best, f"least expected cost, in multiply-adds, transforms and weights read: {listed}"
