"""Plans of the weight gradient by direct summation: pixels of one sum, and tasks of channels and chunks."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._common import TASKS, Target, even
from ._volume import Volume, compact, edges_of_volume, grid_of, read_in_place, shapes, volume
from .direct import BLOCK_BYTES, BLOCK_PIXELS, SKIP_CHANNELS, out_block, skipped

#: As many pixels and channels as make up for a compact copy of the gradient, for each column of the kernel.
INSIDE_PIXELS, INSIDE_CHANNELS = 160, 14
#: Input channels of a task whose source is read where it lies: the gradient of the output is brought into order once
#: for so many. Blocks of output channels of a task: it reads the source once for so many.
IN_PLACE_CHANNELS, TASK_BLOCKS = 256, 4
#: Output pixels of a chunk, at least, where tasks can be cut in another way.
CHUNK_PIXELS = 700
#: The same three where the source pixels are gathered from a grid, which each task does anew and takes longer.
GRID_CHANNELS, GRID_BLOCKS, GRID_PIXELS = 128, 16, 160
#: Output pixels of a unit where the windows are strided: the source rows under them are longer.
STRIDED_PIXELS = 128


def _inside(v: Volume, axis: int) -> list[tuple[int, int]]:
    """Return for each tap along an axis the (first, last) outputs whose windows meet the image with it."""
    stride, dilation, low = v.stride[axis], v.dilation[axis], v.padding[axis][0]
    found = []
    for i in range(v.kernel[axis]):
        at = low - i * dilation  # p * stride >= at, and below at + input
        first = max(0, math.ceil(at / stride))
        found.append((first, max(first, min(v.output[axis], math.ceil((at + v.input[axis]) / stride)))))
    return found


def gradient_skipped(geometry: AnyConvGeometry) -> float:
    """Return the share of the products that a weight gradient by direct summation leaves out: its taps take only the
    output pixels that they meet inside the image, which is read where it lies."""
    if isinstance(geometry, ConvTransposeGeometry) or geometry.edges is not None:
        return 0.0
    v, channels = volume(geometry), geometry.in_channels // geometry.groups
    large = v.output[1] * v.output[2] >= INSIDE_PIXELS and v.output[2] <= BLOCK_PIXELS
    if channels < INSIDE_CHANNELS or not large or math.prod(geometry.input_shape[1:]) >= 2**31:
        return 0.0
    return skipped(v, max(channels, SKIP_CHANNELS))


def _unit(
    v: Volume, out: tuple[int, ...], images: int, row_bytes: float, several: bool, image_size: int
) -> tuple[int, tuple[int, int]]:
    """Return (images, (rows, columns)) of the units of a weight gradient, the pixels of one sum; ``several``: small
    images may share one."""
    block = out_block(out[2], out[3], (1, 1), row_bytes, 1)
    if block[1] < out[3]:
        return 1, (1, block[1])
    if max(v.stride[1:]) > 1:
        block = min(block[0], even(out[2], max(1, STRIDED_PIXELS // out[3]))), block[1]
    if block != out[2:] or not several:
        return 1, block
    most = min(BLOCK_PIXELS // max(math.prod(block), 1), int(BLOCK_BYTES // max(row_bytes * block[0], 1)))
    return even(max(images, 1), max(1, min(most, (2**31 - 1) // image_size))), block


def _gradient_tasks(
    groups: int,
    channel_blocks: int,
    group_in: int,
    task_channels: int,
    least: int,
    units: int,
    pixels: int,
    from_grid: bool,
) -> tuple[int, int, int]:
    """Return (input channels, blocks of output channels, chunks): how a weight gradient is cut into tasks.

    Each chunk has sums of its own, which are added up at the end: that is little beside as many products of each."""
    task_blocks = even(channel_blocks, GRID_BLOCKS if from_grid else TASK_BLOCKS)
    wanted = max(1, TASKS // 2)

    def tasks() -> int:
        return groups * math.ceil(channel_blocks / task_blocks) * math.ceil(group_in / task_channels)

    least_pixels = GRID_PIXELS if from_grid else CHUNK_PIXELS
    chunks = max(1, min(math.ceil(TASKS / tasks()), wanted, units, pixels // least_pixels))
    while tasks() * chunks < wanted and task_blocks > 1:
        task_blocks = math.ceil(task_blocks / 2)
    while tasks() * chunks < wanted and task_channels > least:
        task_channels = max(least, math.ceil(task_channels / 2))
    if tasks() * chunks < wanted:
        chunks = max(1, min(units, math.ceil(wanted / tasks())))
    return task_channels, task_blocks, chunks


def weight_gradient(geometry: ConvGeometry, target: Target, channels_last: bool) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the kernel) of the weight gradient."""
    v = volume(geometry)
    groups = geometry.groups
    batch, source, out = shapes(geometry, channels_last)
    # The planes of an image are read where they lie, those of a volume not.
    grid = None if source[1] == 1 else grid_of(geometry, channels_last)
    if grid:
        v = compact(v)
        out = (out[0], *v.output)
    images, group_in = batch * out[1], geometry.in_channels // groups
    in_place = not grid and source[1] == 1 and read_in_place(geometry, source)
    skip = gradient_skipped(geometry) > 0
    # At least 64 sums of each output channel, so that bringing the gradient into order is a small part of a task; more
    # where the source is not copied.
    least = max(8, math.ceil(64 / geometry.taps))
    most = IN_PLACE_CHANNELS if in_place or skip else GRID_CHANNELS if grid else BLOCK_BYTES // 4096 // v.kernel[0]
    task_channels = even(group_in, max(least, most))
    width = out[3] if grid else source[3]
    row_bytes = task_channels * v.kernel[0] * v.stride[1] * width * target.itemsize
    several = not skip and (out[1] == 1 or not in_place)
    block_images, block = _unit(v, out, images, row_bytes, several, math.prod(source))
    task_channels, task_blocks, chunks = _gradient_tasks(
        groups,
        math.ceil(geometry.out_channels / groups / (2 * target.lanes)),
        group_in,
        task_channels,
        least,
        math.ceil(images / block_images) * math.ceil(out[2] / block[0]) * math.ceil(out[3] / block[1]),
        images * out[2] * out[3],
        grid is not None,
    )
    return images, {
        "dtype": target.dtype,
        "source": source,
        "out": out,
        "depth": (v.kernel[0], v.stride[0], -v.padding[0][0], v.dilation[0], 1),
        "kernel": v.kernel[1:],
        "groups": groups,
        "channels_last": channels_last,
        "step": v.stride[1:],
        "dilation": v.dilation[1:],
        "first": (-v.padding[1][0], -v.padding[2][0]),
        "block": block,
        "block_images": block_images,
        "task_channels": task_channels,
        "task_blocks": task_blocks,
        "chunks": chunks,
        "packed": not (in_place or skip),
        "reach": (_inside(v, 1), _inside(v, 2)) if skip else None,
        "edges": edges_of_volume(geometry.edges),
        "grid": grid,
    }
