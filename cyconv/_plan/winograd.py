"""Plans of Winograd's algorithm: blocks of tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeGuard

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._common import TASKS, Target
from ._volume import edges_of_volume, volume

#: Tiles of a block: 14 fill the register tile once; beyond 64 nothing is gained.
FEW_TILES, MANY_TILES = 14, 64
#: Weights of more bytes than this are read from far away, once for each block: few large blocks then, even where their
#: transformed pixels leave the nearest caches.
LARGE_WEIGHTS = 4 << 20
#: What transforming an element of a tile costs, in multiply-adds.
TRANSFORM = 11.0
#: What reading so many bytes of weights once costs, as much as so many tiles of products.
RELOAD = ((4 << 20, 3.0), (12 << 20, 4.0), (24 << 20, 8.0), (math.inf, 16.0))
#: Phases of a dilated kernel at most: a block holds the tiles of all of them.
MOST_PHASES = 512
#: Bytes of the transformed pixels of a block: they are read again for every block of output channels.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Tiling:
    """How a kernel is cut into pieces that Winograd's algorithm computes for m x m output pixels at a time."""

    m: int
    piece: tuple[int, int]  #: rows and columns of taps of a piece; 1 along an axis in which the kernel has one tap
    pieces: tuple[int, int, int]  #: slices, rows and columns of pieces
    stride: tuple[int, int]  #: 1 or 2
    dilation: tuple[int, int]
    spread: bool = False  #: at stride 2 the input gradient: its tiles have twice as many rows and columns

    @property
    def edges(self) -> tuple[int, int]:
        """Output rows and columns of a tile."""
        rows, columns = (
            1 if r == 1 else 2 * self.m if half and self.spread else self.m
            for r, half in zip(self.piece, self.halved, strict=True)
        )
        return rows, columns

    @property
    def halved(self) -> tuple[bool, bool]:
        """Whether the rows, and the columns, of a tile are computed as of stride 2."""
        return self.piece[0] > 1 and self.stride[0] > 1, self.piece[1] > 1 and self.stride[1] > 1

    @property
    def elements(self) -> int:
        """Products of a tile for each pair of channels: at stride 2 one for each output, and as many and one more."""
        return math.prod(self._along(2 * self.m + 1))

    @property
    def weights(self) -> int:
        """Transformed weights for each pair of channels: at stride 2 a tile's outputs share one of them."""
        return math.prod(self._along(self.m + 2))

    def _along(self, at_stride_2: int) -> list[int]:
        return [
            at_stride_2 if half else 1 if r == 1 else self.m + r - 1
            for r, half in zip(self.piece, self.halved, strict=True)
        ]

    def products(self, output: tuple[int, int]) -> int:
        """Return the products of a map for each pair of channels; without dilation the last tiles leave some out."""
        found = 1
        for size, edge, r, half, d in zip(output, self.edges, self.piece, self.halved, self.dilation, strict=True):
            tiles = math.ceil(size / (edge * d))
            # At stride 2 one for each output, in a gradient for each that meets one tap; and those of two taps, or even
            # places.
            single = size // 2 if self.spread else size
            every = single + (self.m + 1) * tiles if half else d * tiles * (edge + r - 1)
            found *= every - (d == 1 and size % edge > 0)
        return found

    def tiles(self, output: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns of tiles of each phase."""
        rows, columns = (
            math.ceil(size / (edge * d)) for size, edge, d in zip(output, self.edges, self.dilation, strict=True)
        )
        return rows, columns


def tiling(geometry: AnyConvGeometry, m: int, gradient: bool = False) -> Tiling:
    """Return how a convolution, or its input gradient, is cut for m x m tiles: into 3 x 3 taps, or for m = 2 into 5 x 5
    where they fit."""
    v = volume(geometry)
    rows, columns = v.kernel[1:]
    r = 5 if m == 2 and {rows, columns} <= {1, 5} and v.stride[1:] == (1, 1) else 3
    piece = (r if rows > 1 else 1, r if columns > 1 else 1)
    pieces = (v.kernel[0], math.ceil(rows / piece[0]), math.ceil(columns / piece[1]))
    dilation = v.dilation[1] if rows > 1 else 1, v.dilation[2] if columns > 1 else 1
    return Tiling(m, piece, pieces, (v.stride[1], v.stride[2]), dilation, gradient)


def strided_transposed(geometry: AnyConvGeometry) -> TypeGuard[ConvTransposeGeometry]:
    """Whether this is a transposed convolution that computes as an input gradient of stride 2 does, if at all.

    At stride 1 it is a convolution like any other.
    """
    return isinstance(geometry, ConvTransposeGeometry) and any(s != 1 for s in geometry.stride)


def winograd_obstacle(geometry: AnyConvGeometry, m: int) -> str:
    """Return why a convolution cannot go by Winograd's algorithm with m x m output tiles, or an empty string."""
    if strided_transposed(geometry):
        return winograd_input_gradient_obstacle(geometry.convolution, m)
    v = volume(geometry)
    if max(v.stride[1:]) > 2:
        return f"the stride is {geometry.asked}, not 1 or 2 in height and width"
    if max(v.stride[1:]) == 2 and max(v.dilation[1:]) > 1:
        return f"the stride is {geometry.asked} and the dilation {geometry.dilation}: it computes one of them"
    cut = tiling(geometry, m)
    if cut.piece == (1, 1):
        return "the kernel has one tap in height and width"
    if math.prod(cut.dilation) > MOST_PHASES:
        return f"the dilation is {geometry.dilation}, which makes {math.prod(cut.dilation)} phases, over {MOST_PHASES}"
    return ""


def winograd_gradient_obstacle(geometry: AnyConvGeometry, m: int) -> str:
    """Return why the weight gradient of a convolution cannot go by Winograd's algorithm, or an empty string."""
    against = winograd_obstacle(geometry, m)
    v = volume(geometry)
    for size, stride in zip(v.kernel[1:], v.stride[1:], strict=True):
        if not against and max(v.stride[1:]) == 2 and (size > 1) != (stride == 2):
            against = f"the stride is {geometry.asked}, and not 2 wherever the kernel has more than one tap"
    return against


def winograd_input_gradient_obstacle(geometry: AnyConvGeometry, m: int) -> str:
    """Return why the input gradient of a convolution cannot go by Winograd's algorithm, or an empty string."""
    against = winograd_gradient_obstacle(geometry, m)
    v = volume(geometry)
    if not against and v.stride[0] != 1 and (max(v.stride[1:]) == 1 or v.dilation[0] > 1):
        return (
            f"the stride is {geometry.asked} and the dilation {geometry.dilation}: not 2 in height and width, or both"
        )
    if not against and max(v.stride[1:]) == 2 and not {1, 3}.issuperset(v.kernel[1:]):
        return f"the stride is {geometry.asked} and the kernel {geometry.kernel}, not of 3 taps"
    return against


@dataclass(frozen=True)
class _Weighing:
    """What speaks for larger or smaller blocks of tiles."""

    reload: float  #: what reading the weights once for each block costs, in tiles
    tile_bytes: int  #: of a transformed tile
    phases: int
    outputs: int  #: channels


def _block(images: int, rows: int, columns: int, most: int, w: _Weighing) -> tuple[int, int, int]:
    """Return (images, rows, columns) of tiles of each phase in a block of at most ``most`` of them."""
    if columns > most:
        # Stretches of one row, as even as can be.
        return 1, 1, math.ceil(columns / math.ceil(columns / most))
    choices = [(1, high, columns) for high in range(1, min(rows, most // columns) + 1)]
    choices += [(many, rows, columns) for many in range(2, min(images, most // (rows * columns)) + 1)]

    def score(block: tuple[int, int, int]) -> float:
        tiles = math.prod(block) * w.phases
        blocks = math.ceil(images / block[0]) * math.ceil(rows / block[1])
        whole = images % block[0] == rows % block[1] == blocks % 2 == 0
        # A few uneven blocks are cut by output channels as well, and each part transforms the pixels anew.
        evenness = 1.0 if whole or blocks >= TASKS else 1 / (1 + TRANSFORM / w.outputs)
        of_register_tile = tiles / math.ceil(tiles / FEW_TILES)
        far = 1 + 0.08 * max(0.0, tiles * w.tile_bytes / BLOCK_BYTES - 1)
        return evenness * of_register_tile / (of_register_tile + 0.5) * tiles / (tiles + w.reload) / far

    return max(choices, key=score)


def winograd(
    geometry: ConvGeometry, target: Target, channels_last: bool, m: int, *, gradient: bool = False
) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the kernel) for output tiles of edge ``m``: forward, or the input gradient.

    The input gradient is the same convolution with the taps in reverse, channels swapped, and D (R - 1) - P rows of
    padding.
    """
    v, cut = volume(geometry), tiling(geometry, m, gradient)
    source, out = (geometry.in_channels, *v.input), (geometry.out_channels, *v.output)
    first = tuple(-low for low, _ in v.padding)
    edges = geometry.output_edges if gradient else geometry.edges
    if gradient:
        source, out = out, source
        # At stride 2 pixel h meets the taps i = h + P - 2 p of output pixels p: 0 and 2, or 1.
        low_depth, *low = (low for low, _ in v.padding)
        first = (
            # Depth z meets the slices k that leave (z + P - k) / S whole.
            low_depth if v.stride[0] > 1 else low_depth - v.dilation[0] * (v.kernel[0] - 1),
            *(
                (p + 1) // 2 - 1 if s == 2 else p - d * (r - 1)
                for p, s, d, r in zip(low, v.stride[1:], v.dilation[1:], v.kernel[1:], strict=True)
            ),
        )
    late = tuple(int(s == 2 and low % 2 == 0) for (low, _), s in zip(v.padding[1:], v.stride[1:], strict=True))
    images = geometry.batch * out[1]
    rows, columns = cut.tiles((out[2], out[3]))
    terms = source[0] // geometry.groups * math.prod(cut.pieces)
    tile_bytes = cut.elements * terms * target.itemsize
    weights = cut.weights * terms * target.itemsize * out[0] // geometry.groups
    most = MANY_TILES if weights > LARGE_WEIGHTS else max(8, min(MANY_TILES, BLOCK_BYTES // tile_bytes))
    reload = next(tiles for limit, tiles in RELOAD if weights <= limit)
    phases = math.prod(cut.dilation)
    weighing = _Weighing(reload, tile_bytes, phases, out[0] // geometry.groups)
    # Depths that take other slices are never in one block.
    together = 1 if gradient and v.stride[0] > 1 else images
    block = _block(together, rows, columns, max(1, most // phases), weighing)
    return images, {
        "dtype": target.dtype,
        "source": source,
        "out": out,
        "groups": geometry.groups,
        "kernel": v.kernel,
        "channels_last": channels_last,
        "first": first,
        "m": m,
        "piece": cut.piece,
        "pieces": cut.pieces[1:],
        "stride": (v.stride[0], *cut.stride),
        "dilation": (v.dilation[0], *cut.dilation),
        "block": block,
        "edges": edges_of_volume(edges),
        "swapped": gradient,
        "late": late if gradient and max(v.stride[1:]) == 2 else None,
    }
