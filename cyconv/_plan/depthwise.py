"""Plans of depthwise convolution."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._common import TASKS, Target, even
from ._volume import edges_of_volume

#: Kernels and strides that have a walk over planes.
PLANE_KERNELS, PLANE_STRIDES = (3, 5, 7), (1, 2)
#: Cost of one vector of results over planes, with vectors that are full, by (kernel, stride), in multiply-adds of a
#: vector: with 32 registers and with 16. Measured in the first-level cache, a core of an AMD EPYC (Zen 5).
PLANE_COST: dict[bool, dict[tuple[int, int], float]] = {
    True: {(3, 1): 23, (3, 2): 36, (5, 1): 45, (5, 2): 85, (7, 1): 85, (7, 2): 149},
    False: {(3, 1): 15.5, (3, 2): 46, (5, 1): 42, (5, 2): 90, (7, 1): 78, (7, 2): 163},
}
#: The same for blocks of a vector of channels: each product, and each vector of pixels transposed.
BLOCK_PRODUCT = 1.05
BLOCK_TRANSPOSED = {True: 9.0, False: 4.0}
#: For a weight gradient: of a vector of pixels over planes, as many times the cost of the forward pass; of a pixel by
#: the register tile with one input channel, for each product, and for each output transposed. Fitted to 3x3 and 5x5.
PLANE_GRADIENT, TILE_GRADIENT, GRADIENT_TRANSPOSED = 1.2, 1.3, 12.0
#: Output rows that one walk over planes computes together.
PLANE_ROWS = 7
#: Bytes of the pixels under a band of a block, in private memory: a second-level cache holds them.
BAND_BYTES = 256 << 10
#: A task of a weight gradient over planes: so many pixels, where planes are small, but no more planes than this.
TASK_PIXELS, TASK_PLANES = 4096, 32
#: Channels-last: vectors of channels of a task at least; pixels of a chunk for each tap at least.
TASK_VECTORS, CHUNK_TAPS = 4, 16


def mirrored_obstacle(geometry: AnyConvGeometry) -> str:
    """Return why a transposed convolution is no convolution with its taps in reverse, or an empty string."""
    if any(s != 1 for s in geometry.stride):
        return f"the stride of the transposed convolution is {geometry.asked}, not 1"
    reach = [d * (k - 1) for k, d in zip(geometry.kernel, geometry.dilation, strict=True)]
    if any(low > most for (low, _), most in zip(geometry.padding, reach, strict=True)):
        return "the padding of the transposed convolution reaches beyond the kernel"
    return ""


def spread_obstacle(geometry: AnyConvGeometry, channels_last: bool) -> str:
    """Return why the depthwise kernels have no walk for the input gradient of a convolution that they can compute, or
    for a transposed convolution, or an empty string."""
    if channels_last or all(s == 2 for s in geometry.stride):
        return ""
    if any(s != 1 for s in geometry.stride):
        return f"the stride of the transposed convolution is {geometry.asked}, not 1 or 2"
    return mirrored_obstacle(geometry)


def repeats(geometry: AnyConvGeometry) -> bool:
    """Whether a convolution reads pixels again where it leaves the input."""
    if isinstance(geometry, ConvTransposeGeometry):
        return geometry.convolution.output_edges is not None
    return geometry.edges is not None


def depthwise_obstacle(geometry: AnyConvGeometry, channels_last: bool) -> str:
    """Return why the depthwise kernels cannot compute a convolution, or an empty string."""
    if isinstance(geometry, ConvTransposeGeometry) and repeats(geometry):
        return f"the padding is {geometry.padding_mode!r}, and its transposed walks read zeros there"
    if isinstance(geometry, ConvTransposeGeometry) and (against := spread_obstacle(geometry, channels_last)):
        return against
    if geometry.rank != 2:
        return f"it has {geometry.rank} spatial dimensions, not 2"
    if geometry.groups != geometry.in_channels:
        return f"{geometry.groups} groups share {geometry.in_channels} input channels"
    if channels_last:
        if geometry.out_channels != geometry.in_channels:
            return "several outputs for each channel, channels-last"
        return ""
    rows, columns = geometry.kernel
    if rows != columns or rows not in PLANE_KERNELS:
        return f"the kernel is {rows} x {columns}, not 3 x 3, 5 x 5 or 7 x 7"
    if geometry.stride[0] != geometry.stride[1] or geometry.stride[0] not in PLANE_STRIDES:
        return f"the stride is {geometry.asked}, not 1 or 2"
    if geometry.dilation != (1, 1):
        return f"the dilation is {geometry.dilation}, not 1"
    return ""


def planes_gradient(geometry: AnyConvGeometry, target: Target, channels_last: bool) -> bool:
    """Whether a weight gradient goes by the depthwise walks where nobody asked for them.

    A convolution of one input channel is a depthwise one of many outputs. The register tile would leave most of each
    vector empty where these are few; over planes every output takes as long as the others.
    """
    outputs, lanes = geometry.out_channels, target.lanes
    if geometry.in_channels != 1 or outputs < 2 or channels_last or depthwise_obstacle(geometry, channels_last):
        return False
    # Lanes of a row are masked by hand where vectors are short; strided and larger kernels were slower.
    if lanes * target.itemsize < 32 or geometry.stride != (1, 1) or geometry.kernel[0] > 5 or repeats(geometry):
        return False
    columns = max(geometry.output[1], 1)
    vectors = math.ceil(columns / lanes) * lanes / columns * PLANE_COST[target.pixels > 8][geometry.kernel[0], 1]
    by_tile = math.ceil(outputs / lanes) * lanes * (TILE_GRADIENT * geometry.taps + GRADIENT_TRANSPOSED)
    return PLANE_GRADIENT * vectors * outputs < by_tile


def _arguments(geometry: ConvGeometry, target: Target, channels_last: bool) -> dict[str, Any]:
    return {
        "dtype": target.dtype,
        "source": (geometry.in_channels, *geometry.input),
        "out": (geometry.out_channels, *geometry.output),
        "kernel": geometry.kernel,
        "stride": geometry.stride,
        "dilation": geometry.dilation,
        "first": tuple(-low for low, _ in geometry.padding),
        "channels_last": channels_last,
        "edges": edges_of_volume(geometry.edges),
    }


def _block_rows(geometry: ConvGeometry, target: Target, arguments: dict[str, Any]) -> int:
    """Return how many output rows of one vector of channels make a task, or 0 where planes are walked one by one.

    Vectors over the pixels of a row cost nothing around the products, but are as full as rows are long, and load the
    weights again and again when these exceed the registers. Vectors over channels have neither trouble, but planes
    must be transposed first, and their results back.
    """
    (channels, rows, columns), (_, height, width) = arguments["out"], arguments["source"]
    kernel, stride = geometry.kernel[0], geometry.stride[0]
    column_bytes = width * target.lanes * target.itemsize
    most = (BAND_BYTES // max(column_bytes, 1) - kernel) // stride + 1
    # Padding that repeats pixels is made in a copy of the plane.
    if min(rows, columns, channels) == 0 or most < 1 or arguments["edges"] is not None:
        return 0
    many = target.pixels > 8  # registers
    full = (
        rows
        / (math.ceil(rows / PLANE_ROWS) * PLANE_ROWS)
        * columns
        / (math.ceil(columns / target.lanes) * target.lanes)
    )
    blocks = math.ceil(channels / target.lanes)
    cost = BLOCK_PRODUCT * kernel**2 + BLOCK_TRANSPOSED[many] * (1 + height * width / (rows * columns))
    # Lanes of a row are masked by hand where vectors are short.
    by_hand = target.lanes * target.itemsize < 32
    if not by_hand and PLANE_COST[many][kernel, stride] / full <= cost * blocks * target.lanes / channels:
        return 0
    # Bands of few rows fetch those that they share with the next ones twice.
    wanted = math.ceil(TASKS / max(geometry.batch * blocks, 1))
    return even(rows, min(most, max(rows // wanted, 4 * kernel)))


def depthwise(geometry: ConvGeometry, target: Target, channels_last: bool, *, gradient: bool = False) -> dict[str, Any]:
    """Return the arguments of the kernel: forward, or the input gradient.

    The input gradient of stride 1 is the same convolution with the taps in reverse, and D(K−1) − P rows of padding;
    that of other strides has a walk of its own.
    """
    arguments = _arguments(geometry, target, channels_last)
    if not gradient:
        return arguments if channels_last else {**arguments, "block_rows": _block_rows(geometry, target, arguments)}
    arguments["source"], arguments["out"] = arguments["out"], arguments["source"]
    arguments["edges"] = None  # what arrives at padding is added by others
    if mirrored_obstacle(geometry):
        return {**arguments, "spread": True}
    reach = (d * (k - 1) for k, d in zip(geometry.kernel, geometry.dilation, strict=True))
    arguments["first"] = tuple(low - most for (low, _), most in zip(geometry.padding, reach, strict=True))
    return arguments if channels_last else {**arguments, "block_rows": _block_rows(geometry, target, arguments)}


def depthwise_weight_gradient(geometry: ConvGeometry, target: Target, channels_last: bool) -> dict[str, Any]:
    """Return the arguments of the kernel of the weight gradient."""
    arguments = _arguments(geometry, target, channels_last)
    channels, pixels = geometry.out_channels, math.prod(geometry.output)
    if not channels_last:
        # The planes of a task follow each other in memory; their sums stay in a first-level cache.
        most = min(max(1, TASK_PIXELS // max(pixels, 1)), TASK_PLANES, math.ceil(channels / TASKS))
        return {**arguments, "task_channels": even(channels, most), "chunks": 1}
    # The sums of a chunk are to be few beside the pixels that they are of.
    rows = geometry.batch * geometry.output[0]
    chunks = max(1, min(TASKS, rows, geometry.batch * pixels // (CHUNK_TAPS * geometry.taps)))
    blocks = min(math.ceil(TASKS / chunks), math.ceil(channels / (TASK_VECTORS * target.lanes)))
    vectors = math.ceil(channels / target.lanes / blocks)
    return {**arguments, "task_channels": vectors * target.lanes, "chunks": chunks}
