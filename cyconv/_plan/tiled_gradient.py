"""Plans of the weight gradient by Winograd's algorithm: blocks of tiles, and chunks of blocks."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from ._common import TASKS, Target, even
from .winograd import tiling, winograd

#: Tiles of a block, at least and at most: the reduction of the register tile, for which the sums are fetched once.
FEW_TILES, MANY_TILES = 64, 112
#: Tiles of a block that the nearest caches hold, with what is asked for meanwhile, where the sums are small: 5 to 15 %.
NEAR_TILES = 32
#: Bytes of the transformed pixels of a block, of input and gradient, that it is to take.
BLOCK_BYTES = 4 << 20
#: Bytes of the sums of all chunks, if there are several.
CHUNKS_BYTES = 6 << 20


def dividing(total: int, most: int) -> int:
    """Return the size of equal blocks that cover ``total`` without a smaller one at the end, at most ``most`` and at
    least half of it; where there is none, that of the fewest blocks."""
    return next((size for size in range(most, most // 2, -1) if total % size == 0), even(total, most))


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
        # Whole maps: the sums are read and written for each block, so it is to hold twice their bytes at least.
        near = math.ceil(2 * terms * outputs / (terms + outputs) / phases)
        most = min(most, max(near, NEAR_TILES // phases, rows * columns))
        block = (dividing(max(images, 1), most // (rows * columns)), rows, columns)
    blocks = math.ceil(images / block[0]) * math.ceil(rows / block[1]) * math.ceil(columns / block[2])
    sums = groups * cut.elements * terms * outputs * target.itemsize
    chunks = min(math.ceil(TASKS / 2 / groups), blocks, CHUNKS_BYTES // sums)
    del arguments["swapped"], arguments["late"]
    return images, {
        **arguments,
        "block": block,
        "chunks": dividing(blocks, max(1, chunks)),
    }
