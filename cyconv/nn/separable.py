"""Separable convolution: each channel by itself, then all channels of each pixel."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv._geometry import integer
from cyconv.functional._arrays import generator
from cyconv.nn.container import Sequential
from cyconv.nn.conv import Conv1d, Conv2d, Conv3d


class _SeparableConv(Sequential):
    _plain: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        algorithm: str = "auto",
        dtype: DTypeLike = np.float32,
        rng: Any = None,
    ) -> None:
        owner = type(self).__name__
        channels = integer(owner, "in_channels", in_channels, 1)
        outputs = integer(owner, "out_channels", out_channels, 1)
        self.depth_multiplier = integer(owner, "depth_multiplier", depth_multiplier, 1)
        between = channels * self.depth_multiplier
        source = generator(owner, rng)
        depthwise = self._plain(
            channels, between, kernel_size, stride, padding, dilation, channels, False, padding_mode,
            algorithm=algorithm, dtype=dtype, rng=source,
        )  # fmt: skip
        pointwise = self._plain(between, outputs, 1, bias=bias, dtype=dtype, rng=source)
        super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise))

    def append(self, module: Any) -> Any:
        """Refuse: a separable convolution has two parts."""
        raise TypeError(f"{type(self).__name__}: it has two parts; put it into a Sequential with what comes behind")

    def _forward_rectified(self, input: Any) -> Any:
        return self.pointwise._forward_rectified(self.depthwise(input))  # type: ignore[attr-defined]


_SEPARABLE = """
    Convolve each channel with kernels of its own, then mix the channels of each {pixel} (Chollet 2017).

    Parameters
    ----------
    in_channels, out_channels : int
        C and K.
    kernel_size, stride, padding, dilation, padding_mode
        Of the first step, as in :class:`{plain}`.
    depth_multiplier : int
        Kernels for each channel; the second step reads C · depth_multiplier channels.
    bias : bool
        Whether the second step adds a bias; the first has none.
    algorithm : str
        What computes the first step, as in :class:`{plain}`.
    dtype : dtype
        float32 or float64.
    rng : numpy.random.Generator, int or None
        Source of the starting values: a generator, a seed, or None for fresh entropy.

    Attributes
    ----------
    depthwise : {plain}
        C channels to C · depth_multiplier, in C groups.
    pointwise : {plain}
        With a kernel of 1.

    Raises
    ------
    TypeError, ValueError, MemoryError
        As :class:`{plain}`.

    Notes
    -----
    C · depth_multiplier · (R… + K) weights instead of the C · K · R… of a full convolution, where R… is the number of
    taps of the kernel. Keras' SeparableConv.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import {plain}, Separable{plain}
    >>> layer = Separable{plain}(32, 64, 3, padding=1)
    >>> layer(np.zeros({shape}, np.float32)).shape
    {result}
    >>> layer.num_parameters(), {plain}(32, 64, 3, padding=1).num_parameters()
    {parameters}
"""


class SeparableConv1d(_SeparableConv):
    __doc__ = _SEPARABLE.format(
        pixel="sample",
        plain="Conv1d",
        shape="(1, 32, 8)",
        result="(1, 64, 8)",
        parameters="(2208, 6208)",
    )
    _plain = Conv1d


class SeparableConv2d(_SeparableConv):
    __doc__ = _SEPARABLE.format(
        pixel="pixel",
        plain="Conv2d",
        shape="(1, 32, 8, 8)",
        result="(1, 64, 8, 8)",
        parameters="(2400, 18496)",
    )
    _plain = Conv2d


class SeparableConv3d(_SeparableConv):
    __doc__ = _SEPARABLE.format(
        pixel="voxel",
        plain="Conv3d",
        shape="(1, 32, 8, 8, 8)",
        result="(1, 64, 8, 8, 8)",
        parameters="(2976, 55360)",
    )
    _plain = Conv3d
