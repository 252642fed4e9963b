"""Plans of depthwise convolution."""

from __future__ import annotations

from typing import Any

from .._geometry import ConvGeometry
from .._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from ._common import Target

#: Kernels and strides that have a walk over planes.
PLANE_KERNELS, PLANE_STRIDES = (3, 5, 7), (1, 2)


def mirrored_obstacle(geometry: AnyConvGeometry) -> str:
    """Return why a transposed convolution is no convolution with its taps in reverse, or an empty string."""
    if any(s != 1 for s in geometry.stride):
        return f"the stride of the transposed convolution is {geometry.stride}, not 1"
    reach = [d * (k - 1) for k, d in zip(geometry.kernel, geometry.dilation, strict=True)]
    if any(low > most for (low, _), most in zip(geometry.padding, reach, strict=True)):
        return "the padding of the transposed convolution reaches beyond the kernel"
    return ""


def depthwise_obstacle(geometry: AnyConvGeometry, channels_last: bool) -> str:
    """Return why the depthwise kernels cannot compute a convolution, or an empty string."""
    if isinstance(geometry, ConvTransposeGeometry) and (against := mirrored_obstacle(geometry)):
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


def depthwise(geometry: ConvGeometry, target: Target, channels_last: bool, *, gradient: bool = False) -> dict[str, Any]:
    """Return the arguments of the kernel: forward, or the input gradient of stride 1.

    The input gradient is the same convolution with the taps in reverse, and D(K−1) − P rows of padding.
    """
    source, out = (geometry.in_channels, *geometry.input), (geometry.out_channels, *geometry.output)
    first = tuple(-low for low, _ in geometry.padding)
    if gradient:
        source, out = out, source
        reach = (d * (k - 1) for k, d in zip(geometry.kernel, geometry.dilation, strict=True))
        first = tuple(low - most for (low, _), most in zip(geometry.padding, reach, strict=True))
    return {
        "dtype": target.dtype,
        "source": source,
        "out": out,
        "kernel": geometry.kernel,
        "stride": geometry.stride,
        "dilation": geometry.dilation,
        "first": first,
        "channels_last": channels_last,
    }
