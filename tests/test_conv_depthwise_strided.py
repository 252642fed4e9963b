"""Input gradients of strided depthwise convolutions: every way in which a short row meets taps, strides and dilations.

Channels-last, eight results a stride apart are computed together where all of them meet the same taps. Which taps a
result meets changes where a window leaves the row: at any place of it, when the row is short and the window wide.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tolerances import assert_close

from cyconv import functional as F
from cyconv import reference

LENGTHS = (1, 5, 9, 14, 18, 23, 30, 41)
KERNELS = (1, 2, 3, 5, 7)


def calls(stride, dilation):
    """Return (shape of the input, weight's, padding) of all convolutions that fit: long rows, and long columns."""
    for length, taps, padding in itertools.product(LENGTHS, KERNELS, (0, 2)):
        if length + 2 * padding > dilation * (taps - 1):
            yield (2, 3, 2, length), (3, 1, 1, taps), (0, padding)
            yield (1, 3, length, 2), (3, 1, taps, 1), (padding, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dilation", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_every_short_row_gets_what_arrives_at_it(stride, dilation, dtype):
    rng = np.random.default_rng(stride + 10 * dilation)
    how = {"stride": stride, "dilation": dilation, "groups": 3}
    for shape, kernel, padding in calls(stride, dilation):
        x = np.moveaxis(rng.standard_normal((shape[0], *shape[2:], shape[1])).astype(dtype), -1, 1)
        weight = rng.standard_normal(kernel).astype(dtype)
        y = F.conv2d(x, weight, padding=padding, **how)
        grad = rng.standard_normal(y.shape).astype(dtype)
        got = F.conv2d_backward(grad, x, weight, padding=padding, algorithm="depthwise", **how)
        for a, b in zip(got, reference.conv2d_backward(grad, x, weight, padding=padding, **how), strict=True):
            assert_close(a, b, algorithm="depthwise")
        if y.shape[2] * y.shape[3] == 1:
            continue  # one pixel has no order in memory, and is taken for planes
        # Back to the size of the input, of which the last stride leaves something over.
        over = [
            (n + 2 * p - dilation * (k - 1) - 1) % stride
            for n, p, k in zip(shape[2:], padding, kernel[2:], strict=True)
        ]
        got = F.conv_transpose2d(
            y, weight, None, padding=padding, output_padding=tuple(over), algorithm="depthwise", **how
        )
        wanted = reference.conv_transpose2d(y, weight, None, padding=padding, output_padding=tuple(over), **how)
        assert_close(got, wanted, algorithm="depthwise")
