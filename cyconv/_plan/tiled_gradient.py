"""Plans of the weight gradient by Winograd's algorithm: blocks of tiles, and chunks of blocks."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from ._common import TASKS, Target, even
from .winograd import tiling, winograd

#: Tiles of a block, at least and at most: the reduction of the register tile, for which the sums are fetched once.
FEW_TILES, MANY_TILES = 64, 112
#: Bytes of the transformed pixels of a block, of input and gradient, that it is to take.
BLOCK_BYTES = 4 << 20
#: Bytes of the sums of all chunks, if there are several.
CHUNKS_BYTES = 6 << 20


def winograd_gradient(
    geometry: ConvGeometry, target: Target, channels_last: bool, m: int
) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the kernel) of the weight gradient by output tiles of edge ``m``."""
    images, arguments = winograd(geometry, target, channels_last, m)
    cut = tiling(geometry, m)
    groups = geometry.groups
    terms, outputs = geometry.in_channels // groups * math.prod(cut.pieces), geometry.out_channels // groups
    phases = math.prod(cut.dilation)
    rows, columns = cut.tiles((arguments["out"][2], arguments["out"][3]))
    tile_bytes = cut.elements * (terms + outputs) * target.itemsize
    most = max(1, min(MANY_TILES, max(FEW_TILES, BLOCK_BYTES // tile_bytes)) // phases)
    if columns > most:
        block = (1, 1, even(columns, most))
    elif rows * columns > most:
        block = (1, even(rows, most // columns), columns)
    else:
        block = (even(max(images, 1), most // (rows * columns)), rows, columns)
    blocks = math.ceil(images / block[0]) * math.ceil(rows / block[1]) * math.ceil(columns / block[2])
    sums = groups * cut.elements * terms * outputs * target.itemsize
    del arguments["swapped"], arguments["late"]
    return images, {
        **arguments,
        "block": block,
        "chunks": max(1, min(math.ceil(TASKS / 2 / groups), blocks, CHUNKS_BYTES // sums)),
    }
