"""ResNet-20 for images of 32 × 32 (He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition", 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv.functional._arrays import generator
from cyconv.models._weights import start
from cyconv.nn import AvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Module, ReLU, Residual, Sequential


def _conv_norm(c: int, k: int, kernel: int, stride: int, dtype: DTypeLike, rng: Any) -> tuple[Module, Module]:
    """A convolution that keeps the size at stride 1, and its batch norm, which has the bias."""
    conv = Conv2d(c, k, kernel, stride, padding=kernel // 2, bias=False, dtype=dtype, rng=rng)
    return conv, BatchNorm2d(k, dtype=dtype)


def _block(c: int, k: int, stride: int, dtype: DTypeLike, rng: Any) -> tuple[Module, Module]:
    """Two convolutions with a way around them, and a ReLU; a 1 × 1 convolution where the shape changes (option B)."""
    body = Sequential(*_conv_norm(c, k, 3, stride, dtype, rng), ReLU(), *_conv_norm(k, k, 3, 1, dtype, rng))
    shortcut = None if (c, stride) == (k, 1) else Sequential(*_conv_norm(c, k, 1, stride, dtype, rng))
    return Residual(body, shortcut), ReLU()


class ResNet20(Sequential):
    """
    A convolution and three stages of three residual blocks with 16, 32 and 64 channels, for images (N, 3, 32, 32).

    Parameters
    ----------
    num_classes : int
        Length of the output.
    dtype : dtype
        float32 or float64.
    rng : numpy.random.Generator, int or None
        Source of the starting values: a generator, a seed, or None for fresh entropy.

    Raises
    ------
    TypeError, ValueError
        `num_classes` is no positive int, or `dtype` another type.

    Notes
    -----
    Output (N, num_classes): scores before softmax. 272,474 parameters with ten classes (the paper's 0.27 M); the
    19 convolutions of 3 × 3 take 40.6 million multiply-adds an image. Where a stage halves the size the way around is a
    1 × 1 convolution with batch norm (the paper's option B); its option A, zeros for the new channels, has 2,752
    parameters less. Convolutions start as in He et al.'s "Delving deep into rectifiers", the last layer as
    :class:`~cyconv.nn.Linear` does.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.models import ResNet20
    >>> model = ResNet20(rng=0)
    >>> model.num_parameters()
    272474
    >>> model(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, *, dtype: DTypeLike = np.float32, rng: Any = None) -> None:
        rng = generator(type(self).__name__, rng)
        layers = [*_conv_norm(3, 16, 3, 1, dtype, rng), ReLU()]
        for c, k in ((16, 16), (16, 32), (32, 64)):  # 32 × 32, 16 × 16, 8 × 8
            layers += _block(c, k, k // c, dtype, rng)
            layers += _block(k, k, 1, dtype, rng)
            layers += _block(k, k, 1, dtype, rng)
        super().__init__(*layers, AvgPool2d(8), Flatten(), Linear(64, num_classes, dtype=dtype, rng=rng))
        start(self, rng)
