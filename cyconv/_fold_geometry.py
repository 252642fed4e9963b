"""Every check and size of unfold and fold.

Columns of unfold are what a depthwise convolution has as output, whose kernels each pick one tap: sizes and messages
are those of `_geometry.conv_geometry`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._geometry import AXES, ConvGeometry, conv_geometry, pair


def fold_rank(operation: str, **sizes: Any) -> int:
    """Return how many spatial dimensions the first of the arguments that is a sequence has; two where none is."""
    for argument, value in sizes.items():
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if not 1 <= len(value) <= 3:
                raise ValueError(f"{operation}: {argument} must be an int or one to three ints, got {value!r}")
            return len(value)
    return 2


def unfold_geometry(
    operation: str, input_shape: tuple[int, ...], kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> ConvGeometry:
    """Check all arguments of unfold and return its sizes, with a tap of a channel for each output channel.

    Raises
    ------
    ValueError
        A value or shape is not possible; the message has the arithmetic.
    TypeError
        An argument has the wrong type.
    MemoryError
        The columns could not be addressed.
    """
    rank = fold_rank(operation, kernel_size=kernel_size)
    kernel = pair(operation, "kernel_size", kernel_size, rank, 1)
    if len(input_shape) not in (rank + 1, rank + 2):
        axes = ", ".join(AXES[rank])
        raise ValueError(f"{operation}: input must have shape (N, C, {axes}) or (C, {axes}), got {input_shape}")
    channels = input_shape[-rank - 1]
    if channels < 1:
        raise ValueError(f"{operation}: input must have at least one channel, got {input_shape}")
    weight = (channels * math.prod(kernel), 1, *kernel)
    return conv_geometry(operation, rank, input_shape, weight, None, stride, padding, dilation, channels, "zeros")


def fold_geometry(
    operation: str,
    input_shape: tuple[int, ...],
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> ConvGeometry:
    """Check all arguments of fold and return the sizes of the unfold that it is the adjoint of.

    Raises
    ------
    ValueError
        A value or shape is not possible; the message has the arithmetic.
    TypeError
        An argument has the wrong type.
    MemoryError
        The image could not be addressed.
    """
    rank = fold_rank(operation, output_size=output_size, kernel_size=kernel_size)
    size = pair(operation, "output_size", output_size, rank, 1)
    kernel = pair(operation, "kernel_size", kernel_size, rank, 1)
    if len(input_shape) not in (2, 3):
        raise ValueError(
            f"{operation}: input must have shape (N, C·{'·'.join('K' * rank)}, L) or without N, got {input_shape}"
        )
    taps, rows = math.prod(kernel), input_shape[-2]
    if rows % taps or rows < 1:
        raise ValueError(
            f"{operation}: the second last dimension of input must be channels times the {taps} taps of a kernel of "
            f"{kernel}, got {rows}"
        )
    outer = (*input_shape[:-2], rows // taps)
    geometry = unfold_geometry(operation, (*outer, *size), kernel, dilation, padding, stride)
    if input_shape[-1] != math.prod(geometry.output):
        sizes = ", ".join(f"{axis} {geometry.formula(i)}" for i, axis in enumerate(AXES[rank]))
        raise ValueError(
            f"{operation}: input must have {' · '.join(map(str, geometry.output))} = {math.prod(geometry.output)} "
            f"columns ({sizes}), got {input_shape[-1]}"
        )
    return geometry
