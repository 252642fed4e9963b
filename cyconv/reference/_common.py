"""What every family of the oracle shares: a wide type to add up in, int-or-tuple arguments, the missing batch axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
IntOrTuple: TypeAlias = int | Sequence[int]


def wide(x: Array) -> Array:
    """Return `x` in float64 (or wider), so that the only rounding of a float32 result is the last one."""
    return x.astype(np.promote_types(x.dtype, np.float64), copy=False)


def per_axis(value: Any, ndim: int) -> tuple[Any, ...]:
    """Return one entry per spatial axis: an int, or a sequence of one, counts for all of them."""
    entries = tuple(value) if isinstance(value, Sequence) else (value,)
    return entries * ndim if len(entries) == 1 else entries


def batched(x: Array, ndim: int) -> Array:
    """Return `x` as (N, C, *spatial); an unbatched (C, *spatial) becomes a batch of one."""
    return x if x.ndim == ndim + 2 else x[np.newaxis]


def unbatched_like(y: Array, x: Array) -> Array:
    """Drop the batch axis of `y` again if `x`, what the caller gave, has none; give it the dtype of `x`."""
    return (y if y.ndim == x.ndim else y[0]).astype(x.dtype, copy=False)
