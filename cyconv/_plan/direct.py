"""Plans of direct convolution: how large the blocks are, and which pixel every tap reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._geometry import ConvGeometry, Edges
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._common import TASKS, Target, even
from ._volume import (
    Volume,
    compact,
    edges_of_volume,
    flattened,
    grid_of,
    mirrored,
    read_in_place,
    shapes,
    volume,
)

#: Output pixels of a block: its results for two vectors of channels take 28 KB, and stay near the core; more where the
#: pixels are one long row that is read in place; and more where input channels are few: the rows that neighbouring
#: blocks share are copied for each, which weighs against a short reduction.
BLOCK_PIXELS, FLAT_PIXELS, FEW_CHANNELS_PIXELS = 224, 392, 896
#: Input channels that are few.
FEW_CHANNELS = 8
#: Output pixels of a block where vectors run over pixels; as many more where there are enough tasks without, since
#: neighbouring blocks share source rows; where the pixels are one long row that is read in place.
VECTOR_PIXELS, MANY_VECTOR_PIXELS, FLAT_VECTOR_PIXELS = 2048, 4096, 784
#: Products of an output at most where vectors run over the pixels of patches: the pixels of a tile then stay in a
#: first-level cache. From 256 on, vectors over output channels are faster.
PATCH_TERMS = 128
#: Bytes of source pixels of a block: with the weights that pass by, about half of a second-level cache of 1 MB.
BLOCK_BYTES = 320 << 10
#: Bytes of packed weights that one stretch of a reduction streams: they are read again for every tile of the block.
STRETCH_BYTES = 512 << 10
#: Taps are taken one by one, and only where they meet the image, when more than this share of all products meets
#: padding and each tap has enough channels that fetching the sums again for each costs little.
SKIP_SHARE, SKIP_CHANNELS = 0.08, 48
#: Vectors over pixels leave out the rows of a kernel that meet padding when these are more than this share of all
#: products, and the source pixels of all channels, which each tap then goes through, stay in a first-level cache.
SKIP_ROWS_SHARE, SKIP_ROWS_BYTES = 0.15, 32 << 10
#: Longer maps have too little padding to ask, unless the dilation is as long.
SKIP_LENGTH = 512
#: Products of a stretch at most: rounding errors of one running sum grow with the root of its length, to about 3e-6 of
#: the largest result in float32 here. Stretches are added to each other.
STRETCH_TERMS = 4096


def out_block(
    rows: int, columns: int, step: tuple[int, int], row_bytes: float, pixels: int, few_channels: bool = False
) -> tuple[int, int]:
    """Return (rows, columns) of the output blocks; multiples of ``step``, where the phases repeat.

    ``row_bytes``: bytes of source pixels for one row of output.
    """
    most_pixels = FLAT_PIXELS if rows == 1 and row_bytes == 0 else FEW_CHANNELS_PIXELS if few_channels else BLOCK_PIXELS
    columns = max(columns, 1)  # images without pixels have a plan, too: those of an empty batch, as one row
    block_columns = columns if columns <= 2 * most_pixels else even(columns, most_pixels)
    if block_columns < columns:
        # Whole tiles in every block but the last.
        block_columns = math.ceil(block_columns / pixels) * pixels
    most = min(most_pixels // block_columns, int(BLOCK_BYTES // max(row_bytes * block_columns / columns, 1)))
    block_rows = even(rows, max(most, 1))
    return (math.ceil(block_rows / step[0]) * step[0], math.ceil(block_columns / step[1]) * step[1])


def _pixel_block(
    rows: int, columns: int, row_bytes: float, target: Target, most: int = VECTOR_PIXELS
) -> tuple[int, int]:
    """Return (rows, columns) of the output blocks where vectors run over pixels: results go straight to the output.

    ``most``: pixels of a block of several rows.
    """
    if rows == 1:
        # Whole tiles of three or four vectors. What is left has a whole vector at least: less would be read behind the
        # end of the array. (Only multiples of all lengths up to 48 vectors could do without.)
        most = FLAT_VECTOR_PIXELS // (12 * target.lanes) * 12 * target.lanes
        while columns > most and 0 < columns % most < target.lanes:
            most -= target.lanes
        return 1, min(columns, most)
    return even(rows, max(1, min(most // columns, int(BLOCK_BYTES // max(row_bytes, 1))))), columns


def _pair_block(rows: int, columns: int, step: tuple[int, int], row_bytes: float, target: Target) -> tuple[int, int]:
    """Return (rows, columns) of the output blocks where vectors run over the pixels of two phases."""
    if rows == 1:
        # Whole tiles of three vectors of either phase.
        tile = 6 * target.lanes
        most = min(2 * FLAT_VECTOR_PIXELS, int(BLOCK_BYTES // max(row_bytes / columns, 1)))
        return step[0], min(columns, max(1, most // tile) * tile)
    block_rows, _ = _pixel_block(rows, columns, row_bytes, target)
    return math.ceil(block_rows / step[0]) * step[0], columns


def _prefer_pixel_vectors(
    channels: int, terms: int, rows: int, columns: int, target: Target, out_step: tuple[int, int] = (1, 1)
) -> bool:
    """Whether vectors over the pixels of a row are faster than vectors over output channels.

    ``channels``: outputs of a group; ``terms``: products of one output. Both are estimates of a share of the peak: how
    full the vectors are, times what is lost around the reduction, which is less where results need no transposing.
    ``out_step``: that of phases, which have ``rows`` and ``columns`` each, and are brought together afterwards: quickly
    by twos. Measured with 560 of them on AVX-512: 12 take 15 % longer than they had to, or more.
    """
    over_channels = channels / (math.ceil(channels / target.lanes) * target.lanes)
    # A tile of one vector of channels loads a scalar for every multiply-add, and reaches 5/6 of the peak.
    over_channels *= 5 / 6 if channels <= target.lanes else 1
    over_channels *= 0.95 * terms / (terms + 20)
    # Rows end with a vector of their own; one long row with a tile of three vectors.
    whole = 3 * target.lanes if rows == 1 and columns > 3 * target.lanes else target.lanes
    over_pixels = columns / (math.ceil(columns / whole) * whole)
    # Few channels share each load of pixels.
    over_pixels *= min(1.0, (3 + channels) / 8)
    if out_step == (1, 1):
        over_pixels *= 0.92 * terms / (terms + 4)
    else:
        over_pixels *= 0.7 * terms / (terms + (10 if out_step[1] <= 2 else 60)) * rows / (rows + 2)
    return over_pixels > over_channels


def _prefer_pairs(channels: int, terms: int, columns: int, target: Target) -> bool:
    """Whether vectors over the pixels of two phases at once, of ``columns`` each, are faster than vectors over output
    channels: estimates as in ``_prefer_pixel_vectors``, for AVX-512."""
    over_channels = channels / (math.ceil(channels / target.lanes) * target.lanes)
    over_channels *= (5 / 6 if channels <= target.lanes else 1) * 0.95 * terms / (terms + 20)
    over_pixels = columns / (math.ceil(columns / target.lanes) * target.lanes)
    over_pixels *= min(1.0, (3 + channels) / 7) * 0.93 * terms / (terms + 4)
    return over_pixels > over_channels


def _task_blocks(pixel_tasks: int, blocks: int) -> int:
    """Return how many blocks of output channels one task computes."""
    tasks = min(blocks, math.ceil(TASKS / max(pixel_tasks, 1)))
    return math.ceil(blocks / tasks)


def _rows_skipped(height: int, rows: int, step: int, down: list[int]) -> float:
    """Return the share of the products of taps, so many rows down from the start of a window, that meets rows of
    padding."""
    inside = (min(rows, (height - d - 1) // step + 1) - max(0, math.ceil(-d / step)) for d in down)
    return 1 - sum(max(0, n) for n in inside) / max(rows * len(down), 1)


@dataclass(frozen=True)
class _Sums:
    """What a walk adds up: for each pixel of ``out`` the products of its taps with pixels of ``source``."""

    source: tuple[int, ...]  #: channels, depth, height, width
    out: tuple[int, ...]
    groups: int
    depth: tuple[int, ...]  #: slices of the kernel; step, first and dilation in the source; step in the output
    step: tuple[int, int]
    out_step: tuple[int, int]
    phases: list[tuple[int, int, list[tuple[int, int, int]]]]

    @property
    def group_in(self) -> int:
        """Input channels of a group."""
        return self.source[0] // self.groups

    @property
    def group_out(self) -> int:
        """Output channels of a group."""
        return self.out[0] // self.groups

    @property
    def slices(self) -> int:
        """Slices of the kernel that meet one depth."""
        return math.ceil(self.depth[0] / self.depth[4])

    @property
    def terms(self) -> int:
        """Products of one output."""
        taps = sum(len(taps) for _, _, taps in self.phases)
        return math.ceil(self.group_in * self.slices * taps / len(self.phases))

    @property
    def phase(self) -> tuple[int, int]:
        """Rows and columns of a phase."""
        return math.ceil(self.out[2] / self.out_step[0]), math.ceil(self.out[3] / self.out_step[1])

    @property
    def pairs(self) -> bool:
        """Whether each row of the output has two phases of pixels, as many of both, and as many taps."""
        taps = len(self.phases[0][2])
        return (
            self.out_step[1] == 2
            and self.out[3] > 0
            and self.out[3] % 2 == 0
            and all(len(phase[2]) == taps for phase in self.phases)
        )


class _Form(NamedTuple):
    """How a walk goes over its sums."""

    pixel_vectors: bool  #: vectors run over pixels, not over output channels
    paired: bool  #: they run over the pixels of two phases
    packed: bool  #: from a private copy of the source


def _form(sums: _Sums, target: Target, channels_last: bool, packed: bool, may_copy: bool) -> _Form:
    """Return the faster form; ``may_copy``: a source that is not ``packed`` is where vectors over pixels ask for it."""
    if channels_last:
        return _Form(False, False, packed)
    over_pixels = sums.step[1] <= 2 and _prefer_pixel_vectors(
        sums.group_out, sums.terms, *sums.phase, target, sums.out_step
    )
    # A whole vector is read from a shorter row too: a private block has room behind it, an array has not. And only a
    # block holds every second column side by side.
    lying = sums.step[1] == 1 and sums.out[3] >= target.lanes
    packed = packed or (may_copy and over_pixels and not lying)
    paired = (
        packed
        and target.pair_channels > 0
        and sums.pairs
        and _prefer_pairs(sums.group_out, sums.terms, sums.phase[1], target)
    )
    return _Form(paired or (over_pixels and (packed or lying)), paired, packed)


def _block(sums: _Sums, form: _Form, target: Target, images: int) -> tuple[int, int]:
    """Return (rows, columns) of the output blocks."""
    rows, columns = sums.out[2:]
    row_bytes = 0.0
    if form.packed:
        row_bytes = sums.group_in * sums.slices * sums.step[0] / sums.out_step[0] * sums.source[3] * target.itemsize
    if form.paired:
        return _pair_block(rows, columns, sums.out_step, row_bytes, target)
    # The phases of a stride, and of that of the depth, are brought together in a private block.
    if form.pixel_vectors and sums.out_step == (1, 1) and sums.depth[4] == 1:
        most = MANY_VECTOR_PIXELS if images * sums.groups >= TASKS else VECTOR_PIXELS
        return _pixel_block(rows, columns, row_bytes, target, most)
    few = form.packed and sums.group_in * sums.depth[0] <= FEW_CHANNELS
    block = out_block(rows, columns, sums.out_step, row_bytes, target.pixels, few)
    if form.pixel_vectors and block[0] == 1:
        # A long row, of few output channels: longer stretches of it, as far as its source stays near.
        longest = min(VECTOR_PIXELS, int(BLOCK_BYTES * columns // max(row_bytes, 1)))
        stretch = math.ceil(even(columns, longest) / sums.out_step[1]) * sums.out_step[1]
        block = 1, max(block[1], stretch)
    return block


def _skip_rows(sums: _Sums, form: _Form, target: Target, edges: Edges | None) -> bool:
    """Whether vectors over pixels leave out the rows of the kernel that meet padding."""
    if not form.pixel_vectors or form.paired or not form.packed or edges is not None:
        return False
    if sums.out_step != (1, 1) or sums.depth[::4] != (1, 1):
        return False
    _, _, height, width = sums.source
    down = [tap[0] for tap in sums.phases[0][2]]
    return (
        sums.group_in * height * width * target.itemsize <= SKIP_ROWS_BYTES
        and _rows_skipped(height, sums.out[2], sums.step[0], down) > SKIP_ROWS_SHARE
    )


def _walk(
    sums: _Sums,
    target: Target,
    channels_last: bool,
    *,
    batch: int,
    packed: bool,
    edges: Edges | None,
    may_copy: bool = False,
    tap_major: bool = False,
    grid: tuple[tuple[int, ...], ...] | None = None,
) -> dict[str, Any]:
    """``may_copy``: a source that could be read where it lies is copied where vectors over pixels ask for it;
    ``grid``: places of the output that get a result, if not all do."""
    out = sums.out
    form = _form(sums, target, channels_last, packed, may_copy)
    block = _block(sums, form, target, batch * out[1])
    channels = 2 * target.lanes
    if form.pixel_vectors:
        channels = target.pair_channels if form.paired else target.pixel_channels
    pixel_tasks = batch * out[1] * sums.groups * math.ceil(out[2] / block[0]) * math.ceil(out[3] / block[1])
    return {
        "dtype": target.dtype,
        "source": sums.source,
        "out": out,
        "depth": sums.depth,
        "groups": sums.groups,
        "channels_last": channels_last,
        "step": sums.step,
        "out_step": sums.out_step,
        "phases": sums.phases,
        "block": block,
        "task_blocks": _task_blocks(pixel_tasks, math.ceil(sums.group_out / channels)),
        "pixel_vectors": form.pixel_vectors,
        "paired": form.paired,
        "tap_major": tap_major or _skip_rows(sums, form, target, edges),
        "reduction": min(STRETCH_TERMS, STRETCH_BYTES // (2 * target.lanes * target.itemsize)),
        "packed": form.packed,
        "edges": edges_of_volume(edges),
        "grid": grid,
    }


def _padding_share(v: Volume) -> float:
    """Return the share of the products of a forward pass, in height and width, that meet padding."""
    inside = 1.0
    for axis in (1, 2):
        low = v.padding[axis][0]
        met = sum(
            0 <= p * v.stride[axis] + i * v.dilation[axis] - low < v.input[axis]
            for p in range(min(v.output[axis], SKIP_LENGTH))
            for i in range(v.kernel[axis])
        )
        inside *= met / (min(v.output[axis], SKIP_LENGTH) * v.kernel[axis])
    return 1 - inside


def padding_skipped(geometry: AnyConvGeometry) -> float:
    """Return the share of the products that direct summation leaves out because they meet padding."""
    if isinstance(geometry, ConvTransposeGeometry) or geometry.edges is not None:
        return 0.0
    return skipped(volume(geometry), geometry.in_channels // geometry.groups)


def input_gradient_skipped(geometry: ConvGeometry) -> float:
    """Return the same for the gradient of the input."""
    v = volume(geometry)
    if any(s != 1 for s in v.stride) or v.input[0] != 1 or v.output[0] != 1 or geometry.output_edges is not None:
        return 0.0
    return skipped(mirrored(v), geometry.out_channels // geometry.groups)


def skipped(v: Volume, channels: int) -> float:
    share = _padding_share(v)
    flat = v.input[0] == v.kernel[0] == 1 and v.padding[0] == (0, 0)
    return share if flat and channels >= SKIP_CHANNELS and share > SKIP_SHARE else 0.0


def _skip_padding(v: Volume, source: tuple[int, ...], out: tuple[int, ...], groups: int, target: Target) -> bool:
    """Whether to take the taps one by one, only where they meet the image, and read the image where it lies."""
    channels, outputs = source[0] // groups, out[0] // groups
    return (
        skipped(v, channels) > 0
        and not _prefer_pixel_vectors(outputs, channels * math.prod(v.kernel), v.output[1], v.output[2], target)
        and math.prod(source) < 2**31
    )


def forward(geometry: ConvGeometry, target: Target, channels_last: bool) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the walk) of the forward pass."""
    v = volume(geometry)
    (slices, r, s), (sd, sr, sc), (dd, dr, dc) = v.kernel, v.stride, v.dilation
    (front, _), (top, _), (left, _) = v.padding
    taps = [(i * dr - top, j * dc - left, i * s + j) for i in range(r) for j in range(s)]
    batch, source, out = shapes(geometry, channels_last)
    # Windows that meet no padding may be read where they lie, those of one slice: all images share a table of taps.
    in_place = v.kernel[0] == 1 and all(p == (0, 0) for p in geometry.padding) and math.prod(source) < 2**31
    tap_major = geometry.edges is None and _skip_padding(v, source, out, geometry.groups, target)
    sums = _Sums(source, out, geometry.groups, (slices, sd, -front, dd, 1), (sr, sc), (1, 1), [(0, 0, taps)])
    arguments = _walk(
        sums,
        target,
        channels_last,
        batch=batch,
        packed=not (in_place or tap_major),
        may_copy=geometry.taps > 1 and not tap_major,
        edges=geometry.edges,
        tap_major=tap_major,
    )
    filter_size = geometry.in_channels // geometry.groups * geometry.taps
    weights = (filter_size, geometry.taps, r * s, geometry.out_channels // geometry.groups * filter_size)
    return batch * out[1], {**arguments, "weight_strides": weights, "weight_rows": True}


def _phases(v: Volume) -> list[tuple[int, int, list[tuple[int, int, int]]]]:
    """Return the phases of an input gradient: input pixels that the same taps reach from whole output pixels.

    Input row h meets tap i at the output row p with p·S = h + P − i·D. For the rows h = a + S·t of phase a these are
    the taps with (a + P − i·D) divisible by S, and p = t + (a + P − i·D)/S: no zeros are inserted between pixels.
    """
    (_, r, s), (_, sr, sc), (_, dr, dc) = v.kernel, v.stride, v.dilation
    _, (top, _), (left, _) = v.padding
    found = []
    for a in range(min(sr, v.input[1])):
        for b in range(min(sc, v.input[2])):
            taps = [
                ((a + top - i * dr) // sr, (b + left - j * dc) // sc, i * s + j)
                for i in range(r)
                for j in range(s)
                if (a + top - i * dr) % sr == 0 and (b + left - j * dc) % sc == 0
            ]
            found.append((a, b, taps))
    return found


def _patched(geometry: ConvGeometry, target: Target, channels_last: bool) -> bool:
    """Whether an input gradient goes from each output pixel to a patch of input pixels that is its own, in rows of two:
    kernels as large as the stride, of a transposed convolution that doubles the width; and whether that is faster by
    vectors over all pixels of an image, which know no rows, than by vectors over channels.
    """
    v = volume(geometry)
    apart = v.kernel == v.stride and v.kernel[2] == 2 and all(p == (0, 0) for p in geometry.padding)
    whole = v.input == tuple(p * s for p, s in zip(v.output, v.stride, strict=True))
    dilated = any(d > 1 and k > 1 for d, k in zip(v.dilation, v.kernel, strict=True))
    repeats = geometry.edges is not None or geometry.output_edges is not None
    pixels = math.prod(v.output)
    if channels_last or not apart or not whole or dilated or repeats or target.pair_channels == 0:
        return False
    if pixels < target.lanes or geometry.out_channels * pixels >= 2**31:
        return False
    return geometry.out_channels // geometry.groups <= PATCH_TERMS


def _patches(geometry: ConvGeometry, target: Target) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the walk) of an input gradient that is ``_patched``: products of one tap each over
    one long row of pixels."""
    v, groups = volume(geometry), geometry.groups
    pixels, group_out = math.prod(v.output), geometry.in_channels // groups
    tile = 3 * target.lanes
    stretch = math.ceil(even(pixels, FLAT_VECTOR_PIXELS) / tile) * tile
    while 0 < pixels % stretch < target.lanes:  # what is left has a whole vector
        stretch += tile
    rows = geometry.taps // 2
    tasks = geometry.batch * groups * math.ceil(pixels / stretch)
    return geometry.batch, {
        "dtype": target.dtype,
        "source": (geometry.out_channels, 1, 1, pixels),
        "out": (geometry.in_channels, 1, 1, pixels),
        "depth": (1, 1, 0, 1, 1),
        "groups": groups,
        "channels_last": False,
        "step": (1, 1),
        "out_step": (1, 1),
        # The row of a phase: that of the output, of all depths.
        "phases": [
            (i // v.kernel[1] * v.input[1] + i % v.kernel[1], j, [(0, 0, 2 * i + j)])
            for i in range(rows)
            for j in (0, 1)
        ],
        "block": (1, min(stretch, pixels)),
        "task_blocks": _task_blocks(tasks, math.ceil(group_out / target.pair_channels)),
        "pixel_vectors": True,
        "paired": True,
        "tap_major": False,
        "reduction": STRETCH_TERMS,
        "packed": True,
        "edges": None,
        "grid": (v.output, v.stride, v.input),
        "weight_strides": (
            geometry.taps,
            geometry.in_channels // groups * geometry.taps,
            0,
            geometry.out_channels // groups * geometry.in_channels // groups * geometry.taps,
        ),
        "weight_rows": False,
    }


def input_gradient(geometry: ConvGeometry, target: Target, channels_last: bool) -> tuple[int, dict[str, Any]]:
    """Return (images, arguments of the walk) of the input gradient: from output channels back to input channels.

    What padding that repeats pixels adds to them is not part of it.
    """
    if _patched(geometry, target, channels_last):
        return _patches(geometry, target)
    v = volume(geometry)
    batch, out, source = shapes(geometry, channels_last)
    grid = grid_of(geometry, channels_last)
    if grid:
        v = compact(v)
        source, out = (source[0], *v.input), (out[0], *v.output)
    tap_major = input_gradient_skipped(geometry) > 0 and _skip_padding(
        mirrored(v), source, out, geometry.groups, target
    )
    in_place = (grid or flattened(geometry, channels_last)) and read_in_place(geometry, source)
    # Input depth z meets slice k at the output depth (z + P - k D) / S, where that is whole.
    depth = (v.kernel[0], 1, v.padding[0][0], -v.dilation[0], v.stride[0])
    sums = _Sums(source, out, geometry.groups, depth, (1, 1), (v.stride[1], v.stride[2]), _phases(v))
    arguments = _walk(
        sums,
        target,
        channels_last,
        batch=batch,
        packed=not (in_place or tap_major),
        edges=geometry.output_edges,
        tap_major=tap_major,
        grid=grid,
    )
    filter_size = geometry.in_channels // geometry.groups * geometry.taps
    weights = (geometry.taps, filter_size, v.flat_taps, geometry.out_channels // geometry.groups * filter_size)
    return batch * out[1], {**arguments, "weight_strides": weights, "weight_rows": False}
