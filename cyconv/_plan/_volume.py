"""Convolutions of one, two and three dimensions seen as one of volumes, whose pixels may lie as one long row."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._geometry import ConvGeometry, Edges
from .._transposed_geometry import AnyConvGeometry


@dataclass(frozen=True)
class Volume:
    """A convolution of one, two or three dimensions as one of three: depth, height, width."""

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def flat_taps(self) -> int:
        """Taps of one slice of the kernel."""
        return self.kernel[1] * self.kernel[2]


def volume(geometry: AnyConvGeometry) -> Volume:
    """Return the convolution with leading dimensions of length 1."""
    more = 3 - geometry.rank
    ones = (1,) * more
    return Volume(
        ones + geometry.input,
        ones + geometry.kernel,
        ones + geometry.stride,
        ((0, 0),) * more + geometry.padding,
        ones + geometry.dilation,
        ones + geometry.output,
    )


def edges_of_volume(edges: Edges | None) -> Edges | None:
    """Return what padding repeats along depth, height and width; None: zeros."""
    return None if edges is None else ((((), ()),) * (3 - len(edges)) + edges)


def flattened(geometry: ConvGeometry, channels_last: bool) -> bool:
    """Whether every output pixel reads just the input pixel at its own place: then all pixels are one long row."""
    return (
        geometry.taps == 1
        and all(s == 1 for s in geometry.stride)
        and all(p == (0, 0) for p in geometry.padding)
        # A transposed convolution may have rows behind those that it reaches.
        and geometry.input == geometry.output
        and (not channels_last or geometry.groups == 1)
    )


def shapes(geometry: ConvGeometry, channels_last: bool) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Return (batch, input, output) with both as (channels, depth, height, width), flattened where that is possible.

    The images of a flattened channels-last batch are one long image.
    """
    v = volume(geometry)
    batch, spatial, out = geometry.batch, v.input, v.output
    if flattened(geometry, channels_last):
        spatial = (1, 1, math.prod(spatial))
        if channels_last:
            batch, spatial = 1, (1, 1, batch * spatial[2])
        out = spatial
    return batch, (geometry.in_channels, *spatial), (geometry.out_channels, *out)


def read_in_place(geometry: ConvGeometry, source: tuple[int, ...]) -> bool:
    """Whether a walk may read the array itself: no padding, one tap, and offsets that fit 32 bits."""
    return geometry.taps == 1 and all(p == (0, 0) for p in geometry.padding) and math.prod(source) < 2**31


def grid_of(geometry: ConvGeometry, channels_last: bool) -> tuple[tuple[int, ...], ...] | None:
    """Return (pixels, steps, volume), along three axes each, of the input pixels that a kernel of one tap and a stride
    meets; None where they need not be brought together.

    Side by side they are the image of a flattened convolution. Channels-last a pixel is a stretch of its own anyway.
    The forward pass reads them where they lie, while it multiplies; bringing them together first takes longer.
    """
    v = volume(geometry)
    one_tap = geometry.taps == 1 and any(s > 1 for s in v.stride) and all(p == (0, 0) for p in geometry.padding)
    repeats = geometry.edges is not None or geometry.output_edges is not None
    if channels_last or not one_tap or repeats or math.prod(v.output) == 0:
        return None
    return v.output, v.stride, v.input


def compact(v: Volume) -> Volume:
    """Return the flattened convolution of the pixels of a grid."""
    row, ones = (1, 1, math.prod(v.output)), (1, 1, 1)
    return Volume(row, ones, ones, ((0, 0),) * 3, ones, row)


def mirrored(v: Volume) -> Volume:
    """Return the input gradient of a convolution of stride 1, which is a convolution of the gradient: of the same taps
    backwards, with as much padding as they had left."""
    left = tuple((k - 1) * d - low for k, d, (low, _) in zip(v.kernel, v.dilation, v.padding, strict=True))
    padding = tuple(
        (low, h + (k - 1) * d - low - p)
        for low, k, d, h, p in zip(left, v.kernel, v.dilation, v.input, v.output, strict=True)
    )
    return Volume(v.output, v.kernel, v.stride, padding, v.dilation, v.input)
