"""What all plans share."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Tasks at least, where the work can be cut so: enough for a few cores to come out even.
TASKS = 16


@dataclass(frozen=True)
class Target:
    """What a plan must know of the kernels that will run it."""

    dtype: str  #: "f" or "d"
    lanes: int  #: elements of a vector
    pixels: int  #: scalars of a register tile of two vectors
    pixel_channels: int  #: channels of a register tile with vectors over pixels
    pair_channels: int = 0  #: of one with two phases of pixels that alternate in the output; 0: there is none

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 4 if self.dtype == "f" else 8


def even(total: int, most: int) -> int:
    """Return the size of the fewest equal blocks of at most ``most`` that cover ``total``."""
    blocks = math.ceil(total / max(most, 1))
    return math.ceil(total / max(blocks, 1))
