"""Layers that change the number of pixels: upsampling, and shuffles between channels and pixels."""

from __future__ import annotations

from typing import Any

from cyconv import functional as F
from cyconv.nn.module import Module, Pending


class _Stateless(Module):
    """A layer that is one function of its input and of fixed arguments."""

    def _apply(self, input: Any) -> Any:
        raise NotImplementedError

    def _differentiate(self, grad_output: Any, input: Any) -> Any:
        raise NotImplementedError

    def forward(self, input: Any) -> Any:
        """Return the output."""
        output = self._apply(input)
        self._saved = input if self.training else None
        return output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        return self._differentiate(grad_output, self._saved)[0] if input_grad else None


class Upsample(_Stateless):
    """
    Resize signals, images or volumes to a size, or by a factor.

    Parameters
    ----------
    size, scale_factor, mode, align_corners, recompute_scale_factor
        As in :func:`cyconv.functional.interpolate`; one of the first two.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.interpolate`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.nn import Upsample
    >>> Upsample(scale_factor=2, mode="bilinear")(np.zeros((1, 3, 4, 5))).shape
    (1, 3, 8, 10)
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def _arguments(self) -> tuple[Any, ...]:
        return self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor

    def _apply(self, input: Any) -> Any:
        return F.interpolate(input, *self._arguments())

    def _differentiate(self, grad_output: Any, input: Any) -> Any:
        return F.interpolate_backward(grad_output, input, *self._arguments())

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        which = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{which}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """
    Resize images, each pixel a copy of the nearest: ``Upsample`` with mode "nearest".

    Parameters
    ----------
    size, scale_factor
        As in :class:`Upsample`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.interpolate`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import UpsamplingNearest2d
    >>> UpsamplingNearest2d(scale_factor=2)(np.array([[[[1.0, 2.0]]]]))[0, 0, 0].round(3).tolist()
    [1.0, 1.0, 2.0, 2.0]
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """
    Resize images linearly between the centres of the corner pixels: ``Upsample`` with "bilinear", align_corners=True.

    Parameters
    ----------
    size, scale_factor
        As in :class:`Upsample`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.interpolate`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import UpsamplingBilinear2d
    >>> UpsamplingBilinear2d(scale_factor=2)(np.array([[[[1.0, 2.0]]]]))[0, 0, 0].round(3).tolist()
    [1.0, 1.333, 1.667, 2.0]
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(_Stateless):
    """
    Move channels to pixels: (..., C · r², H, W) to (..., C, H · r, W · r).

    Parameters
    ----------
    upscale_factor : int
        r.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.pixel_shuffle`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import PixelShuffle
    >>> PixelShuffle(2)(np.ones((1, 12, 4, 4))).shape
    (1, 3, 8, 8)
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def _apply(self, input: Any) -> Any:
        return F.pixel_shuffle(input, self.upscale_factor)

    def _differentiate(self, grad_output: Any, input: Any) -> Any:
        return F.pixel_shuffle_backward(grad_output, input, self.upscale_factor)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(_Stateless):
    """
    Move pixels to channels: (..., C, H · r, W · r) to (..., C · r², H, W).

    Parameters
    ----------
    downscale_factor : int
        r.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.pixel_unshuffle`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import PixelUnshuffle
    >>> PixelUnshuffle(2)(np.ones((1, 3, 8, 8))).shape
    (1, 12, 4, 4)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def _apply(self, input: Any) -> Any:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def _differentiate(self, grad_output: Any, input: Any) -> Any:
        return F.pixel_unshuffle_backward(grad_output, input, self.downscale_factor)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(_Stateless):
    """
    Deal the channels out by turns: the first of each group, then the second of each.

    Parameters
    ----------
    groups : int
        Their number; divides the channels.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.channel_shuffle`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ChannelShuffle
    >>> ChannelShuffle(2)(np.arange(4.0).reshape(1, 4, 1)).ravel().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def _apply(self, input: Any) -> Any:
        return F.channel_shuffle(input, self.groups)

    def _differentiate(self, grad_output: Any, input: Any) -> Any:
        return F.channel_shuffle_backward(grad_output, input, self.groups)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"groups={self.groups}"


class Unflatten(_Stateless):
    """
    Split an axis into several.

    Parameters
    ----------
    dim : int
        The axis.
    unflattened_size : tuple of int
        Lengths of the new axes; one of them may be -1.

    Raises
    ------
    TypeError, ValueError
        In forward: as :func:`cyconv.functional.unflatten`.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Unflatten
    >>> Unflatten(1, (3, 4))(np.ones((2, 12))).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        self.dim = dim
        self.unflattened_size = unflattened_size

    def _apply(self, input: Any) -> Any:
        return F.unflatten(input, self.dim, self.unflattened_size)

    def _differentiate(self, grad_output: Any, input: Any) -> Any:
        return F.unflatten_backward(grad_output, input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
