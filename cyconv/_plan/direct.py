"""Plans of direct convolution: how large the blocks are, and which pixel every tap reads."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from ._common import TASKS, Target, even

#: Output pixels of a block: its results for two vectors of channels take 48 KB at most, and stay near the core.
BLOCK_PIXELS = 392
#: Bytes of source pixels of a block: with the weights that pass by, about half of a second-level cache of 1 MB.
BLOCK_BYTES = 320 << 10
#: Bytes of packed weights that one stretch of a reduction streams: they are read again for every tile of the block.
STRETCH_BYTES = 512 << 10
#: Products of a stretch at most: rounding errors of one running sum grow with the root of its length, to about 3e-6 of
#: the largest result in float32 here. Stretches are added to each other.
STRETCH_TERMS = 4096


def _out_block(rows: int, columns: int, step: tuple[int, int], row_bytes: float, pixels: int) -> tuple[int, int]:
    """Return (rows, columns) of the output blocks; multiples of ``step``, where the phases repeat.

    ``row_bytes``: bytes of source pixels for one row of output.
    """
    block_columns = columns if columns <= 2 * BLOCK_PIXELS else even(columns, BLOCK_PIXELS)
    if block_columns < columns:
        # Whole tiles in every block but the last.
        block_columns = math.ceil(block_columns / pixels) * pixels
    most = min(BLOCK_PIXELS // block_columns, int(BLOCK_BYTES // max(row_bytes * block_columns / columns, 1)))
    block_rows = even(rows, max(most, 1))
    return (math.ceil(block_rows / step[0]) * step[0], math.ceil(block_columns / step[1]) * step[1])


def _prefer_pixel_vectors(channels: int, columns: int, target: Target) -> bool:
    """Whether vectors over the pixels of a row are fuller than vectors over output channels."""
    over_channels = channels / (math.ceil(channels / target.lanes) * target.lanes)
    # A tile of one vector of channels loads a scalar for every multiply-add, and reaches 5/6 of the peak.
    over_channels *= 5 / 6 if channels <= target.lanes else 1
    over_pixels = min(columns, target.lanes) / target.lanes
    # Few channels share each load of pixels.
    over_pixels *= min(1.0, (3 + channels) / 8)
    return over_pixels > over_channels


def _task_blocks(pixel_tasks: int, blocks: int) -> int:
    """Return how many blocks of output channels one task computes."""
    tasks = min(blocks, math.ceil(TASKS / max(pixel_tasks, 1)))
    return math.ceil(blocks / tasks)


def _walk(
    geometry: ConvGeometry,
    target: Target,
    channels_last: bool,
    *,
    source: tuple[int, int, int],
    out: tuple[int, int, int],
    step: tuple[int, int],
    out_step: tuple[int, int],
    phases: list[tuple[int, int, list[tuple[int, int, int]]]],
    images: int,
    packed: bool,
) -> dict[str, Any]:
    groups = geometry.groups
    group_in, group_out = source[0] // groups, out[0] // groups
    row_bytes = group_in * step[0] / out_step[0] * source[2] * target.itemsize if packed else 0
    block = _out_block(out[1], out[2], out_step, row_bytes, target.pixels)
    pixel_vectors = (
        _prefer_pixel_vectors(group_out, out[2], target)
        and (not channels_last and step[1] == 1 and out_step == (1, 1))
        # A whole vector is read from a shorter row too: a private block has room behind it, an array has not.
        and (packed or out[2] >= target.lanes)
    )
    channels = target.pixel_channels if pixel_vectors else 2 * target.lanes
    pixel_tasks = images * groups * math.ceil(out[1] / block[0]) * math.ceil(out[2] / block[1])
    return {
        "dtype": target.dtype,
        "source": source,
        "out": out,
        "groups": groups,
        "channels_last": channels_last,
        "step": step,
        "out_step": out_step,
        "phases": phases,
        "block": block,
        "task_blocks": _task_blocks(pixel_tasks, math.ceil(group_out / channels)),
        "pixel_vectors": pixel_vectors,
        "reduction": min(STRETCH_TERMS, STRETCH_BYTES // (2 * target.lanes * target.itemsize)),
        "packed": packed,
    }


def flattened(geometry: ConvGeometry, channels_last: bool) -> bool:
    """Whether every output pixel reads just the input pixel at its own place: then all pixels are one long row."""
    return (
        geometry.taps == 1
        and all(s == 1 for s in geometry.stride)
        and all(p == (0, 0) for p in geometry.padding)
        and (not channels_last or geometry.groups == 1)
    )


def _flat(
    geometry: ConvGeometry, channels: int, height: int, width: int, channels_last: bool
) -> tuple[int, tuple[int, int, int]]:
    """Return (images, (channels, 1, pixels)) of a flattened convolution; channels-last images are one long image."""
    if channels_last:
        return 1, (channels, 1, geometry.batch * height * width)
    return geometry.batch, (channels, 1, height * width)


def forward(geometry: ConvGeometry, target: Target, channels_last: bool) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the walk) of the forward pass."""
    (height, width), (rows, columns) = geometry.input, geometry.output
    (r, s), (sr, sc), (dr, dc) = geometry.kernel, geometry.stride, geometry.dilation
    (top, _), (left, _) = geometry.padding
    c, k = geometry.in_channels, geometry.out_channels
    taps = [(i * dr - top, j * dc - left, i * s + j) for i in range(r) for j in range(s)]
    group_in = c // geometry.groups
    images, source, out = geometry.batch, (c, height, width), (k, rows, columns)
    if flattened(geometry, channels_last):
        images, source = _flat(geometry, c, height, width, channels_last)
        out = (k, *source[1:])
    no_padding = all(p == (0, 0) for p in geometry.padding)
    arguments = _walk(
        geometry,
        target,
        channels_last,
        source=source,
        out=out,
        step=(sr, sc),
        out_step=(1, 1),
        phases=[(0, 0, taps)],
        images=images,
        packed=not (geometry.taps == 1 and no_padding and math.prod(source) < 2**31),
    )
    weights = (group_in * r * s, r * s, k // geometry.groups * group_in * r * s)
    return images, {**arguments, "weight_strides": weights, "weight_rows": True}


def _phases(geometry: ConvGeometry) -> list[tuple[int, int, list[tuple[int, int, int]]]]:
    """Return the phases of an input gradient: input pixels that the same taps reach from whole output pixels.

    Input row h meets tap i at the output row p with p·S = h + P − i·D. For the rows h = a + S·t of phase a these are
    the taps with (a + P − i·D) divisible by S, and p = t + (a + P − i·D)/S: no zeros are inserted between pixels.
    """
    (r, s), (sr, sc), (dr, dc) = geometry.kernel, geometry.stride, geometry.dilation
    (top, _), (left, _) = geometry.padding
    found = []
    for a in range(min(sr, geometry.input[0])):
        for b in range(min(sc, geometry.input[1])):
            taps = [
                ((a + top - i * dr) // sr, (b + left - j * dc) // sc, i * s + j)
                for i in range(r)
                for j in range(s)
                if (a + top - i * dr) % sr == 0 and (b + left - j * dc) % sc == 0
            ]
            found.append((a, b, taps))
    return found


def input_gradient(geometry: ConvGeometry, target: Target, channels_last: bool) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the walk) of the input gradient: from output channels back to input channels."""
    (height, width), (rows, columns) = geometry.input, geometry.output
    r, s = geometry.kernel
    c, k = geometry.in_channels, geometry.out_channels
    images, source, out = geometry.batch, (k, rows, columns), (c, height, width)
    flat = flattened(geometry, channels_last)
    if flat:
        images, source = _flat(geometry, k, rows, columns, channels_last)
        out = (c, *source[1:])
    arguments = _walk(
        geometry,
        target,
        channels_last,
        source=source,
        out=out,
        step=(1, 1),
        out_step=(geometry.stride[0], geometry.stride[1]),
        phases=_phases(geometry),
        images=images,
        packed=not (flat and math.prod(source) < 2**31),
    )
    group_in = c // geometry.groups
    weights = (r * s, group_in * r * s, k // geometry.groups * group_in * r * s)
    return images, {**arguments, "weight_strides": weights, "weight_rows": False}


def weight_gradient(geometry: ConvGeometry, target: Target, channels_last: bool) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the kernel) of the weight gradient."""
    (height, width), (rows, columns) = geometry.input, geometry.output
    c, k, groups = geometry.in_channels, geometry.out_channels, geometry.groups
    images, source, out = geometry.batch, (c, height, width), (k, rows, columns)
    if flattened(geometry, channels_last):
        images, source = _flat(geometry, c, height, width, channels_last)
        out = (k, *source[1:])
    group_in = c // groups
    no_padding = all(p == (0, 0) for p in geometry.padding)
    # At least 64 sums of each output channel, so that bringing the gradient into order is a small part of a task.
    task_channels = even(group_in, max(8, math.ceil(64 / geometry.taps), BLOCK_BYTES // 4096))
    outputs = groups * math.ceil(k / groups / (2 * target.lanes)) * math.ceil(group_in / task_channels)
    row_bytes = min(task_channels, group_in) * geometry.stride[0] * source[2] * target.itemsize
    block = _out_block(out[1], out[2], (1, 1), row_bytes, 1)
    if block[1] < out[2]:
        block = (1, block[1])
    units = images * math.ceil(out[1] / block[0]) * math.ceil(out[2] / block[1])
    return images, {
        "dtype": target.dtype,
        "source": source,
        "out": out,
        "kernel": geometry.kernel,
        "groups": groups,
        "channels_last": channels_last,
        "step": geometry.stride,
        "dilation": geometry.dilation,
        "first": (-geometry.padding[0][0], -geometry.padding[1][0]),
        "block": block,
        "task_channels": task_channels,
        "chunks": 1 if outputs >= TASKS // 2 else max(1, min(units, TASKS // 2)),
        "packed": not (geometry.taps == 1 and no_padding and math.prod(source) < 2**31),
    }
