"""Plans of depthwise convolution."""

from __future__ import annotations

import math
from typing import Any

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._common import TASKS, Target, even

#: Kernels and strides that have a walk over planes.
PLANE_KERNELS, PLANE_STRIDES = (3, 5, 7), (1, 2)
#: A task of a weight gradient over planes: so many pixels, where planes are small, but no more planes than this.
TASK_PIXELS, TASK_PLANES = 4096, 32
#: Channels-last: vectors of channels of a task at least; pixels of a chunk for each tap at least.
TASK_VECTORS, CHUNK_TAPS = 4, 16


def mirrored_obstacle(geometry: AnyConvGeometry) -> str:
    """Return why a transposed convolution is no convolution with its taps in reverse, or an empty string."""
    if any(s != 1 for s in geometry.stride):
        return f"the stride of the transposed convolution is {geometry.stride}, not 1"
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
        return f"the stride of the transposed convolution is {geometry.stride}, not 1 or 2"
    return mirrored_obstacle(geometry)


def depthwise_obstacle(geometry: AnyConvGeometry, channels_last: bool) -> str:
    """Return why the depthwise kernels cannot compute a convolution, or an empty string."""
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
        return f"the stride is {geometry.stride}, not 1 or 2"
    if geometry.dilation != (1, 1):
        return f"the dilation is {geometry.dilation}, not 1"
    return ""


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
    }


def depthwise(geometry: ConvGeometry, target: Target, channels_last: bool, *, gradient: bool = False) -> dict[str, Any]:
    """Return the arguments of the kernel: forward, or the input gradient.

    The input gradient of stride 1 is the same convolution with the taps in reverse, and D(K−1) − P rows of padding;
    that of other strides has a walk of its own.
    """
    arguments = _arguments(geometry, target, channels_last)
    if not gradient:
        return arguments
    arguments["source"], arguments["out"] = arguments["out"], arguments["source"]
    if mirrored_obstacle(geometry):
        return {**arguments, "spread": True}
    reach = (d * (k - 1) for k, d in zip(geometry.kernel, geometry.dilation, strict=True))
    arguments["first"] = tuple(low - most for (low, _), most in zip(geometry.padding, reach, strict=True))
    return arguments


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
