"""The one place where ``auto`` picks an algorithm."""

from __future__ import annotations

import math

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._volume import volume
from .depthwise import depthwise_obstacle, repeats
from .direct import input_gradient_skipped, padding_skipped
from .tiled_gradient import FEW_TILES
from .weight_gradient import gradient_skipped
from .winograd import (
    LARGE_WEIGHTS,
    MANY_TILES,
    TRANSFORM,
    Tiling,
    strided_transposed,
    tiling,
    winograd_gradient_obstacle,
    winograd_input_gradient_obstacle,
    winograd_obstacle,
)

#: What costs as much as one multiply-add of the register tile, measured beside it (docs/performance.md): a transform
#: step of one element of a tile (TRANSFORM), reading one weight once, from a cache that holds them all and from memory
WEIGHT_CACHED, WEIGHT_FROM_MEMORY = 8.0, 30.0
#: (up to so many bytes of weights a last-level cache is taken to hold;)
CACHED_BYTES = 24 << 20
#: Direct summation takes one image after the other: weights of more bytes than these are read again for each of the
#: following ones.
NEAR_BYTES, WEIGHT_AGAIN = 1 << 20, 4.0
#: One tile of every phase of a dilated convolution, transformed, must stay near: where it takes more bytes than this,
#: Winograd is half as fast.
PHASES_BYTES = 3 << 20
#: Input channels up to which the error of F(4, 3) stays within 1e-5: it grows with their root (4e-6 at 512, up to
#: 8.7e-6 at 1600, up to 1.05e-5 at 2048).
F4_CHANNELS = 1600


def _round_up(n: int, to: int) -> int:
    return math.ceil(n / to) * to


#: Bringing one element of the packed weights into order, on every call where weights are new;
PACK = {"direct": 19.0, "winograd_f2": 31.0, "winograd_f4": 20.0}
#: and for an input gradient, from their transposed order, by the edge of the tiles (0: direct summation).
PACK_BACK = {0: 31.0, 2: 26.0, 4: 13.0}
#: For the gradient of the weights, by direct summation and by tiles: share of the peak that is reached; that of a tile
#: of one vector of output channels; input channels as many as which cost what is lost beside them.
GRADIENT_DIRECT, GRADIENT_TILED = (0.85, 0.78, 1.4), (0.87, 0.8, 3.3)
#: Fetching and storing one of its sums, from a cache that holds them all and from memory; each block of so many tiles
#: after the first costs half of it again.
SUM_CACHED, SUM_FROM_MEMORY, SUM_TILES = 13.0, 18.0, 100
#: (up to so many bytes of sums a cache is taken to hold, beside all else that a backward pass reads and writes.)
SUM_BYTES = 12 << 20
#: Share of the peak that BLAS and the copying of columns reach together.
BLAS_SHARE = 0.45

#: A block of Winograd's tiles whose transformed pixels take more bytes than this is read from far away, and slower: in
#: an input gradient, where every block of channels reads them, and in a weight gradient at stride 2.
FAR_BYTES = 12 << 20

#: What ``cyconv.explain`` compares.
COMPARED = ("direct", "winograd_f2", "winograd_f4", "depthwise", "im2col")
TILE_EDGE = {"direct": 1, "winograd_f2": 2, "winograd_f4": 4}


def obstacle(name: str, geometry: AnyConvGeometry, channels_last: bool) -> str:
    """Return why an algorithm cannot compute a convolution, or an empty string."""
    if name.startswith("winograd"):
        return winograd_obstacle(geometry, TILE_EDGE[name])
    if name == "im2col" and geometry.rank == 3:
        return "columns are made of one or two spatial dimensions, not 3"
    if name == "im2col" and isinstance(geometry, ConvTransposeGeometry) and repeats(geometry):
        return f"the padding is {geometry.padding_mode!r}, and the columns of a transposed convolution have none"
    return depthwise_obstacle(geometry, channels_last) if name == "depthwise" else ""


def cost(name: str, geometry: AnyConvGeometry, lanes: int, itemsize: int, fresh: bool = False) -> float:
    """Return the expected cost of a forward pass, in multiply-adds of the register tile; ``fresh``: with packing."""
    if name == "im2col":
        return geometry.macs / BLAS_SHARE
    if name == "depthwise":
        # Bound by memory: about 4 multiply-adds in the time of moving a byte.
        moved = math.prod(geometry.input_shape) + math.prod(geometry.output_shape)
        return max(geometry.macs, 4.0 * itemsize * moved)
    m, v = TILE_EDGE[name], volume(geometry)
    c, k = geometry.in_channels // geometry.groups, geometry.out_channels // geometry.groups
    images = geometry.batch * v.output[0]
    if m > 1 and strided_transposed(geometry):
        return _winograd_back_cost(geometry.convolution, m, lanes, itemsize, PACK_BACK[m] * fresh)
    if m > 1:
        cut = tiling(geometry, m)
        products = geometry.groups * images * cut.products((v.output[1], v.output[2]))
        pack = PACK[name] * fresh
        return _winograd_cost(cut, geometry.groups, products, c, _round_up(k, lanes), lanes, itemsize, pack)
    return _direct_cost(geometry, c, k, images, padding_skipped(geometry), lanes, itemsize, PACK[name] * fresh)


def _direct_cost(
    geometry: AnyConvGeometry, c: int, k: int, images: int, skipped: float, lanes: int, itemsize: int, pack: float
) -> float:
    """Return the expected cost of direct summation from ``c`` to ``k`` channels of each group."""
    padded = _round_up(k, lanes) if k > lanes // 2 else k
    weights = geometry.taps * c * padded * geometry.groups
    # A tile of one vector of output channels reaches 5/6 of the peak.
    speed = 5 / 6 if k <= lanes else 1.0
    again = WEIGHT_AGAIN * (images - 1) if weights * itemsize > NEAR_BYTES else 0.0
    products = weights * geometry.windows * (1 - skipped)
    return products / speed + weights * (_read(weights * itemsize) + again + pack)


def _read(nbytes: int) -> float:
    return WEIGHT_CACHED if nbytes <= CACHED_BYTES else WEIGHT_FROM_MEMORY


def _winograd_cost(
    cut: Tiling, groups: int, elements: int, c: int, padded: int, lanes: int, itemsize: int, pack: float
) -> float:
    """Return the expected cost of ``elements`` of tiles, each a product of ``c`` and ``padded`` channels; ``pack``: of
    bringing each weight into order."""
    phases, terms = math.prod(cut.dilation), math.prod(cut.pieces)
    weights = cut.weights * terms * c * padded * groups
    products, transforms = elements * terms * c * padded, TRANSFORM * elements * (terms * _round_up(c, lanes) + padded)
    # A block of transformed pixels that leaves the nearest caches halves the speed.
    speed = 0.5 if cut.elements * terms * c * itemsize * phases > PHASES_BYTES else 1.0
    # A tile of one vector of output channels reaches 5/6 of the peak.
    speed *= 5 / 6 if padded <= lanes else 1.0
    return products / speed + transforms + weights * (_read(weights * itemsize) + pack)


def _accurate(geometry: AnyConvGeometry, m: int, channels: int) -> bool:
    """Whether the error of sums over so many channels stays within 1e-5: with six points it grows with the root of the
    number of terms; with five, at stride 2, from a third of that."""
    cut = tiling(geometry, m)
    edges = [1 if r == 1 else m + 1 if half else m + r - 1 for r, half in zip(cut.piece, cut.halved, strict=True)]
    return max(edges) < 6 or channels // geometry.groups * math.prod(cut.pieces) <= F4_CHANNELS


def choose(
    geometry: AnyConvGeometry, dtype: str, lanes: int, precision: str, channels_last: bool = False, fresh: bool = False
) -> tuple[str, str]:
    """Return the algorithm that ``auto`` takes, and why; ``fresh``: the weights are new on every call."""
    if geometry.groups == geometry.in_channels and geometry.groups > 1:
        against = depthwise_obstacle(geometry, channels_last)
        if not against:
            return "depthwise", "every channel has a kernel of its own: few products for each number moved"
        return "direct", f"the depthwise walks cannot: {against}"
    against = winograd_obstacle(geometry, TILE_EDGE["winograd_f4"])
    if against:
        return "direct", f"Winograd cannot: {against}"
    if precision == "strict":
        return "direct", 'precision "strict" asks for direct summation'
    itemsize = 4 if dtype == "f" else 8
    names = [name for name in TILE_EDGE if not obstacle(name, geometry, channels_last)]
    # Six points, many terms: all but F(2, 3) leave the bound on errors.
    names = [
        name for name in names if TILE_EDGE[name] == 1 or _accurate(geometry, TILE_EDGE[name], geometry.in_channels)
    ]
    costs = {name: cost(name, geometry, lanes, itemsize, fresh) for name in names}
    best = min(costs, key=lambda name: costs[name])
    listed = ", ".join(f"{name} {value / costs[best]:.2f}" for name, value in costs.items())
    return best, f"least expected cost of multiply-adds, transforms and weights read: {listed}"


def _winograd_back_cost(geometry: ConvGeometry, m: int, lanes: int, itemsize: int, pack: float) -> float:
    """Return the expected cost of an input gradient by tiles of edge ``m``; ``pack``: of ordering each weight."""
    groups, v, cut = geometry.groups, volume(geometry), tiling(geometry, m, gradient=True)
    # From output to input channels.
    c, k = geometry.out_channels // groups, geometry.in_channels // groups
    # With a stride in depth each depth meets some of the slices.
    products = groups * geometry.batch * v.input[0] * cut.products((v.input[1], v.input[2])) // v.stride[0]
    # Tiles of one row have fewer elements for each weight, which is what takes the time, than square ones.
    pack *= (m + 2) ** 2 / 9 * math.prod(cut.piece) / cut.weights
    found = _winograd_cost(cut, groups, products, c, _round_up(k, lanes), lanes, itemsize, pack)
    terms = math.prod(cut.pieces) * c
    large = any(cut.halved) or cut.weights * terms * k * itemsize > LARGE_WEIGHTS
    tiles = geometry.batch * v.input[0] * math.prod(cut.dilation) * math.prod(cut.tiles((v.input[1], v.input[2])))
    return found * (2 if large and min(MANY_TILES, tiles) * cut.elements * terms * itemsize > FAR_BYTES else 1)


def input_gradient_tile(geometry: ConvGeometry, lanes: int, itemsize: int) -> int:
    """Return the edge of the tiles by which Winograd's algorithm is expected to find the gradient of the input faster
    than direct summation; 0 where it is not."""
    groups, images = geometry.groups, geometry.batch * volume(geometry).input[0]
    c, k = geometry.out_channels // groups, geometry.in_channels // groups
    costs = {0: _direct_cost(geometry, c, k, images, input_gradient_skipped(geometry), lanes, itemsize, PACK_BACK[0])}
    for m in (2, 4):
        if not winograd_input_gradient_obstacle(geometry, m) and _accurate(geometry, m, geometry.out_channels):
            costs[m] = _winograd_back_cost(geometry, m, lanes, itemsize, PACK_BACK[m])
    return min(costs, key=lambda m: costs[m])


def weight_gradient_tile(geometry: AnyConvGeometry, lanes: int, itemsize: int, most: int) -> int:
    """Return the edge of the output tiles, ``most`` at most, by which Winograd's algorithm is expected to find the
    gradient of the weights faster than direct summation; 0 where it is not."""
    groups = geometry.groups
    c, k = geometry.in_channels // groups, _round_up(geometry.out_channels // groups, lanes)
    products = groups * geometry.taps * geometry.windows * c * k * (1 - gradient_skipped(geometry))
    costs = {0: products / _gradient_share(GRADIENT_DIRECT, c, k <= lanes)}
    for m in (2, 4):
        if m <= most and not winograd_gradient_obstacle(geometry, m):
            costs[m] = _tiled_gradient_cost(geometry, m, lanes, itemsize)
    return min(costs, key=lambda m: costs[m])


def _gradient_share(measured: tuple[float, float, float], channels: int, one_vector: bool) -> float:
    share, of_one_vector, beside = measured
    return share * (of_one_vector if one_vector else 1.0) * channels / (channels + beside)


def _tiled_gradient_cost(geometry: AnyConvGeometry, m: int, lanes: int, itemsize: int) -> float:
    """Return the expected cost of a weight gradient by output tiles of edge ``m``, in multiply-adds."""
    cut, v = tiling(geometry, m), volume(geometry)
    groups, pieces = geometry.groups, math.prod(cut.pieces)
    c, k = geometry.in_channels // groups, _round_up(geometry.out_channels // groups, lanes)
    tiles = geometry.batch * v.output[0] * math.prod(cut.dilation) * math.prod(cut.tiles((v.output[1], v.output[2])))
    # At stride 1 the gradient has all elements of its last tiles.
    elements = tiles * cut.elements
    if any(cut.halved):
        elements = geometry.batch * v.output[0] * cut.products((v.output[1], v.output[2]))
    sums = cut.weights * pieces * c * k
    transforms = TRANSFORM * elements * (pieces * _round_up(c, lanes) + k)
    fetched = SUM_CACHED if groups * sums * itemsize <= SUM_BYTES else SUM_FROM_MEMORY
    blocks = max(1, math.ceil(tiles / SUM_TILES))
    share = _gradient_share(GRADIENT_TILED, c, k <= lanes)
    # The 81 elements of a tile at stride 2, of so many channels that a block of tiles leaves all caches.
    far = any(cut.halved) and cut.elements * (pieces * c + k) * itemsize * FEW_TILES > FAR_BYTES
    share *= 0.7 if far else 1.0
    return groups * (elements * pieces * c * k / share + sums * fetched * (1 + blocks) / 2 + transforms)
