"""VGG-11 (Simonyan & Zisserman 2014, "Very deep convolutional networks", configuration A) for images of 32 × 32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv.functional._arrays import generator
from cyconv.models._weights import start
from cyconv.nn import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential

#: Output channels of the convolutions, stage by stage; each stage ends in max pooling.
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(Sequential):
    """
    Eight convolutions of 3 × 3 in five stages, and one linear layer, for images (N, 3, 32, 32).

    Parameters
    ----------
    num_classes : int
        Length of the output.
    batch_norm : bool
        Put batch norm between convolutions and ReLUs, which the paper does not have yet.
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
    Output (N, num_classes): scores before softmax. 9,225,610 parameters with ten classes, 9,231,114 with batch norm;
    the convolutions take 152.8 million multiply-adds an image. Five poolings leave one pixel of an image of 32 × 32,
    so one linear layer stands where the paper, for images of 224 × 224, has three with 124 million parameters.
    Convolutions start as in He et al.'s "Delving deep into rectifiers", the last layer as :class:`~cyconv.nn.Linear`
    does.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.models import VGG11
    >>> model = VGG11(batch_norm=True, rng=0)
    >>> model.num_parameters()
    9231114
    >>> model(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)
    """

    def __init__(
        self, num_classes: int = 10, batch_norm: bool = False, *, dtype: DTypeLike = np.float32, rng: Any = None
    ) -> None:
        rng = generator(type(self).__name__, rng)
        layers: list[Module] = []
        c = 3
        for stage in STAGES:
            for k in stage:
                layers.append(Conv2d(c, k, 3, padding=1, dtype=dtype, rng=rng))
                layers += [BatchNorm2d(k, dtype=dtype)] if batch_norm else []
                layers.append(ReLU())
                c = k
            layers.append(MaxPool2d(2))
        super().__init__(*layers, Flatten(), Linear(c, num_classes, dtype=dtype, rng=rng))
        start(self, rng)
