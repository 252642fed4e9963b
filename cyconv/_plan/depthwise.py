"""Plans of depthwise convolution."""

from __future__ import annotations

from typing import Any

from .._geometry import ConvGeometry
from ._common import Target

#: Kernels and strides that have a walk over planes.
PLANE_KERNELS, PLANE_STRIDES = (3, 5, 7), (1, 2)


def depthwise_obstacle(geometry: ConvGeometry, channels_last: bool) -> str:
    """Return why the depthwise kernels cannot compute a convolution, or an empty string."""
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


def depthwise(geometry: ConvGeometry, target: Target, channels_last: bool) -> dict[str, Any]:
    """Return the arguments of the kernel."""
    return {
        "dtype": target.dtype,
        "source": (geometry.in_channels, *geometry.input),
        "out": (geometry.out_channels, *geometry.output),
        "kernel": geometry.kernel,
        "stride": geometry.stride,
        "dilation": geometry.dilation,
        "first": (-geometry.padding[0][0], -geometry.padding[1][0]),
        "channels_last": channels_last,
    }
