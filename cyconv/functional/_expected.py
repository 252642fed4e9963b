"""How long a convolution should take on this machine."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from .. import _plan, _settings, kernels
from .._transposed_geometry import AnyConvGeometry


@functools.cache
def _multiply_adds_a_second(dtype: str) -> float:
    """Return how many multiply-adds one core does a second at best, measured in about 10 ms."""
    probe = kernels.load("probe")
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        operations = probe.multiply_add(dtype, 100_000, 1)
        best = max(best, operations / 2 / (time.perf_counter() - start))
    return best


def conv_expected_time(name: str, geometry: AnyConvGeometry, dtype: np.dtype[Any]) -> float:
    """Return the seconds that a forward pass with packed weights should take by the algorithm ``name``."""
    lanes = kernels.load("direct").LANES[dtype.char]
    threads = _settings.threads_for(2.0 * geometry.macs)
    cost = _plan.cost(name, geometry, lanes, dtype.itemsize)
    return cost / (_multiply_adds_a_second(dtype.char) * threads)
