"""Plans of Winograd's algorithm: blocks of tiles."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry
from ._common import TASKS, Target, even

#: Tiles of a block: 14 fill the register tile once; beyond 64 nothing is gained.
FEW_TILES, MANY_TILES = 14, 64
#: Weights of more bytes than this are read from far away, once for each block: few large blocks then, even where their
#: transformed pixels leave the nearest caches.
LARGE_WEIGHTS = 4 << 20
#: Dilation at most: a block holds the tiles of all phases, dilation² of them.
MOST_DILATION = 8
#: Bytes of the transformed pixels of a block: they are read again for every block of output channels.
BLOCK_BYTES = 1 << 20


def winograd_obstacle(geometry: AnyConvGeometry, m: int) -> str:
    """Return why a convolution cannot go by Winograd's algorithm with m x m output tiles, or an empty string."""
    if geometry.rank != 2:
        return f"it has {geometry.rank} spatial dimensions, not 2"
    if geometry.kernel not in ((3, 3), (5, 5)) or (m == 4 and geometry.kernel != (3, 3)):
        return f"the kernel is {' x '.join(map(str, geometry.kernel))}, not {'3 x 3' if m == 4 else '3 x 3 or 5 x 5'}"
    if geometry.stride != (1, 1):
        return f"the stride is {geometry.stride}, not 1"
    if max(geometry.dilation) > MOST_DILATION:
        return f"the dilation is {geometry.dilation}, more than {MOST_DILATION}"
    if geometry.groups != 1:
        return f"there are {geometry.groups} groups"
    return ""


def _block(images: int, rows: int, columns: int, most: int) -> tuple[int, int, int]:
    """Return (images, rows, columns) of tiles in a block of at most ``most``, so that blocks come out even."""
    if columns > most:
        # Stretches of one row, as even as can be.
        return 1, 1, math.ceil(columns / math.ceil(columns / most))
    if rows * columns > most // 2 or images == 1:
        best, best_score = 1, 0.0
        for high in range(1, min(rows, max(most // columns, 1)) + 1):
            blocks = images * math.ceil(rows / high)
            # Tiles computed, against those that equal blocks on two cores would take; and the tile filled.
            balance = (
                images * rows / (high * math.ceil(blocks / 2) * 2)
                if blocks < TASKS
                else rows / (high * math.ceil(rows / high))
            )
            tiles = high * columns
            filled = tiles / (math.ceil(tiles / FEW_TILES) * FEW_TILES) * (1 - 0.6 / tiles)
            score = balance * (0.5 + 0.5 * filled)
            if score > best_score:
                best, best_score = high, score
        return 1, best, columns
    # Small maps: several images make one block.
    together = max(1, most // (rows * columns))
    return max(even(images, together), 1), rows, columns


def winograd(
    geometry: ConvGeometry, target: Target, channels_last: bool, m: int, *, gradient: bool = False
) -> dict[str, Any]:
    """Return the arguments of the kernel for output tiles of edge ``m``: forward, or the input gradient.

    The input gradient is the same convolution with the taps in reverse, channels swapped, and D (R - 1) - P rows of
    padding.
    """
    c, k = geometry.in_channels, geometry.out_channels
    source, out = (c, *geometry.input), (k, *geometry.output)
    r, dilation = geometry.kernel[0], geometry.dilation
    first = tuple(-low for low, _ in geometry.padding)
    if gradient:
        source, out = out, source
        first = tuple(low - d * (r - 1) for (low, _), d in zip(geometry.padding, dilation, strict=True))
    rows, columns = math.ceil(out[1] / (m * dilation[0])), math.ceil(out[2] / (m * dilation[1]))
    elements = (m + r - 1) ** 2
    most = max(8, min(MANY_TILES, BLOCK_BYTES // (elements * source[0] * target.itemsize)))
    if elements * c * k * target.itemsize > LARGE_WEIGHTS:
        most = MANY_TILES
    most = max(1, most // math.prod(dilation))
    block = _block(geometry.batch, rows, columns, most)
    pixel_tasks = math.ceil(geometry.batch / block[0]) * math.ceil(rows / block[1]) * math.ceil(columns / block[2])
    channel_blocks = math.ceil(out[0] / (2 * target.lanes))
    # With few input channels the transforms weigh much, and are not to be repeated for other output channels.
    wanted = TASKS if source[0] >= 128 else 2
    tasks = min(channel_blocks, math.ceil(wanted / max(pixel_tasks, 1)))
    return {
        "dtype": target.dtype,
        "source": source,
        "out": out,
        "channels_last": channels_last,
        "first": first,
        "m": m,
        "r": r,
        "dilation": dilation,
        "block": block,
        "task_blocks": math.ceil(channel_blocks / tasks),
        "swapped": gradient,
    }
