"""Pooling layers whose windows come from the size of the output: adaptive, global and fractional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from cyconv import functional as F
from cyconv.functional._arrays import generator
from cyconv.nn._ranks import for_rank
from cyconv.nn.module import Module, Pending
from cyconv.nn.pooling import KeepsMaxima, Pool


class CoveringPool(Pool):
    """What adaptive and global layers share: windows that cover the input."""

    output_size: Any = 1

    def _arguments(self) -> tuple[Any, ...]:
        return ()


class _Adaptive(CoveringPool):
    def _arguments(self) -> tuple[Any, ...]:
        return (self.output_size,)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_Adaptive):
    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size


class _AdaptiveMaxPool(KeepsMaxima, _Adaptive):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self.output_size = output_size
        self.return_indices = return_indices


class _GlobalMaxPool(KeepsMaxima, CoveringPool):
    def __init__(self, return_indices: bool = False) -> None:
        self.return_indices = return_indices


class _FractionalMaxPool(Module):
    _forward: ClassVar[Callable[..., Any]]
    _gradient: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
        *,
        rng: Any = None,
    ) -> None:
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{type(self).__name__}: exactly one of output_size and output_ratio is needed")
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self._random_samples = _random_samples
        # One generator for all calls: the windows are others each time.
        self._rng = generator(type(self).__name__, rng)

    def forward(self, input: Any) -> Any:
        """Return the maxima, with their indices if ``return_indices``."""
        how = (self.kernel_size, self.output_size, self.output_ratio)
        output, indices = self._forward(input, *how, True, self._random_samples, rng=self._rng)
        self._saved = (input, *how, indices) if self.training else None
        return (output, indices) if self.return_indices else output

    def _backward(self, grad_output: Any, pending: Pending, input_grad: bool) -> Any:
        if self._saved is None:
            raise self._nothing_remembered()
        if not input_grad:
            return None
        *arguments, indices = self._saved
        return self._gradient(grad_output, *arguments, indices=indices)[0]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        size = f"output_ratio={self.output_ratio}" if self.output_size is None else f"output_size={self.output_size}"
        return f"kernel_size={self.kernel_size}, {size}"


_ADAPTIVE_AVG_POOL = """
    Take the mean of each of `output_size` windows that cover the input.

    Parameters
    ----------
    output_size : int or {each}; None in a tuple
        As in :func:`cyconv.functional.adaptive_avg_pool{rank}d`.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.adaptive_avg_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {output} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import AdaptiveAvgPool{rank}d
    >>> AdaptiveAvgPool{rank}d(3)(np.ones({shape})).shape
    {three}
    """


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    __doc__ = for_rank(1, _ADAPTIVE_AVG_POOL)

    _forward = staticmethod(F.adaptive_avg_pool1d)
    _gradient = staticmethod(F.adaptive_avg_pool1d_backward)
    _rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    __doc__ = for_rank(2, _ADAPTIVE_AVG_POOL)

    _forward = staticmethod(F.adaptive_avg_pool2d)
    _gradient = staticmethod(F.adaptive_avg_pool2d_backward)
    _rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    __doc__ = for_rank(3, _ADAPTIVE_AVG_POOL)

    _forward = staticmethod(F.adaptive_avg_pool3d)
    _gradient = staticmethod(F.adaptive_avg_pool3d_backward)
    _rank = 3


_ADAPTIVE_MAX_POOL = """
    Take the largest value of each of `output_size` windows that cover the input.

    Parameters
    ----------
    output_size : int or {each}; None in a tuple
        As in :func:`cyconv.functional.adaptive_max_pool{rank}d`.
    return_indices : bool
        Return ``(output, indices)``.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.adaptive_max_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {output} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import AdaptiveMaxPool{rank}d
    >>> AdaptiveMaxPool{rank}d(3)(np.ones({shape})).shape
    {three}
    """


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    __doc__ = for_rank(1, _ADAPTIVE_MAX_POOL)

    _forward = staticmethod(F.adaptive_max_pool1d)
    _gradient = staticmethod(F.adaptive_max_pool1d_backward)
    _rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    __doc__ = for_rank(2, _ADAPTIVE_MAX_POOL)

    _forward = staticmethod(F.adaptive_max_pool2d)
    _gradient = staticmethod(F.adaptive_max_pool2d_backward)
    _rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    __doc__ = for_rank(3, _ADAPTIVE_MAX_POOL)

    _forward = staticmethod(F.adaptive_max_pool3d)
    _gradient = staticmethod(F.adaptive_max_pool3d_backward)
    _rank = 3


_GLOBAL_AVG_POOL = """
    Take the mean of all pixels of each channel.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.global_avg_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {pixel} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import GlobalAvgPool{rank}d
    >>> GlobalAvgPool{rank}d()(np.ones({shape})).shape
    {one}
    """


class GlobalAvgPool1d(CoveringPool):
    __doc__ = for_rank(1, _GLOBAL_AVG_POOL)

    _forward = staticmethod(F.global_avg_pool1d)
    _gradient = staticmethod(F.global_avg_pool1d_backward)
    _rank = 1


class GlobalAvgPool2d(CoveringPool):
    __doc__ = for_rank(2, _GLOBAL_AVG_POOL)

    _forward = staticmethod(F.global_avg_pool2d)
    _gradient = staticmethod(F.global_avg_pool2d_backward)
    _rank = 2


class GlobalAvgPool3d(CoveringPool):
    __doc__ = for_rank(3, _GLOBAL_AVG_POOL)

    _forward = staticmethod(F.global_avg_pool3d)
    _gradient = staticmethod(F.global_avg_pool3d_backward)
    _rank = 3


_GLOBAL_MAX_POOL = """
    Take the largest of all pixels of each channel.

    Parameters
    ----------
    return_indices : bool
        Return ``(output, indices)``.

    Raises
    ------
    TypeError, ValueError
        On a call, as :func:`cyconv.functional.global_max_pool{rank}d`.

    Notes
    -----
    Input {input}, float32 or float64; output {pixel} in the same dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import GlobalMaxPool{rank}d
    >>> GlobalMaxPool{rank}d()(np.ones({shape})).shape
    {one}
    """


class GlobalMaxPool1d(_GlobalMaxPool):
    __doc__ = for_rank(1, _GLOBAL_MAX_POOL)

    _forward = staticmethod(F.global_max_pool1d)
    _gradient = staticmethod(F.global_max_pool1d_backward)
    _rank = 1


class GlobalMaxPool2d(_GlobalMaxPool):
    __doc__ = for_rank(2, _GLOBAL_MAX_POOL)

    _forward = staticmethod(F.global_max_pool2d)
    _gradient = staticmethod(F.global_max_pool2d_backward)
    _rank = 2


class GlobalMaxPool3d(_GlobalMaxPool):
    __doc__ = for_rank(3, _GLOBAL_MAX_POOL)

    _forward = staticmethod(F.global_max_pool3d)
    _gradient = staticmethod(F.global_max_pool3d_backward)
    _rank = 3


class FractionalMaxPool2d(_FractionalMaxPool):
    """
    Take the largest value in each of `output_size` windows, whose distances change at random.

    Parameters
    ----------
    kernel_size, output_size, output_ratio, _random_samples
        As in :func:`cyconv.functional.fractional_max_pool2d`.
    return_indices : bool
        Return ``(output, indices)``.
    rng : numpy.random.Generator, int or None
        Source of the random numbers: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    ValueError
        If neither `output_size` nor `output_ratio` is given, or both.

    Notes
    -----
    Input (N, C, H, W) or (C, H, W), float32 or float64; output (N, C, P, Q) or (C, P, Q) in the same dtype.
    Windows are random in eval mode, too.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import FractionalMaxPool2d
    >>> FractionalMaxPool2d(2, output_ratio=0.75, rng=0)(np.ones((1, 3, 8, 8))).shape
    (1, 3, 6, 6)
    """

    _forward = staticmethod(F.fractional_max_pool2d)
    _gradient = staticmethod(F.fractional_max_pool2d_backward)


class FractionalMaxPool3d(_FractionalMaxPool):
    """
    Take the largest value in each of `output_size` windows, whose distances change at random.

    Parameters
    ----------
    kernel_size, output_size, output_ratio, _random_samples
        As in :func:`cyconv.functional.fractional_max_pool3d`.
    return_indices : bool
        Return ``(output, indices)``.
    rng : numpy.random.Generator, int or None
        Source of the random numbers: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    ValueError
        If neither `output_size` nor `output_ratio` is given, or both.

    Notes
    -----
    Input (N, C, D, H, W) or (C, D, H, W), float32 or float64; output (N, C, O, P, Q) or (C, O, P, Q) in the same dtype.
    Windows are random in eval mode, too.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import FractionalMaxPool3d
    >>> FractionalMaxPool3d(2, output_ratio=0.75, rng=0)(np.ones((1, 3, 4, 8, 8))).shape
    (1, 3, 3, 6, 6)
    """

    _forward = staticmethod(F.fractional_max_pool3d)
    _gradient = staticmethod(F.fractional_max_pool3d_backward)
