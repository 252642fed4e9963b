"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998) with ReLU and max pooling, as it is taught today."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cyconv.functional._arrays import generator
from cyconv.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential


class LeNet5(Sequential):
    """
    Two convolutions and three linear layers for images (N, 1, 28, 28).

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
    Output (N, num_classes): scores before softmax. 61,706 parameters with ten classes: 156 + 2,416 + 48,120 +
    10,164 + 850.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.models import LeNet5
    >>> LeNet5(rng=0)(np.zeros((1, 1, 28, 28), np.float32)).shape
    (1, 10)
    """

    def __init__(self, num_classes: int = 10, *, dtype: DTypeLike = np.float32, rng: Any = None) -> None:
        rng = generator(type(self).__name__, rng)
        super().__init__(
            Conv2d(1, 6, 5, padding=2, dtype=dtype, rng=rng),  # 28 × 28
            ReLU(),
            MaxPool2d(2),  # 14 × 14
            Conv2d(6, 16, 5, dtype=dtype, rng=rng),  # 10 × 10
            ReLU(),
            MaxPool2d(2),  # 5 × 5
            Flatten(),
            Linear(16 * 5 * 5, 120, dtype=dtype, rng=rng),
            ReLU(),
            Linear(120, 84, dtype=dtype, rng=rng),
            ReLU(),
            Linear(84, num_classes, dtype=dtype, rng=rng),
        )
