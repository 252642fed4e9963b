"""Strides, dilations and padding of up to 2^31 - 1 together: each call computes, or is refused by name."""

import math
import random
import re

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import functional as F
from cyconv import nn
from cyconv.summary import summary

LARGEST = [2**30, 2**31 - 1]
LARGE = [1000, 30000, 2**20, 2**28, *LARGEST]


def drawn(seed):
    """Return (operation, arrays, arguments) of a call whose arrays are small and whose windows need not be."""
    rng = random.Random(seed)
    rank, length, taps = rng.choice([1, 2, 2, 3]), rng.choice([1, 2, 3, 9]), rng.choice([1, 2, 3])
    name = rng.choice(["conv", "conv", "conv_transpose", "max_pool", "avg_pool"])
    dilation = rng.choice([1, 1, 2, *LARGEST])
    span = dilation * (taps - 1)
    padding = rng.choice([0, 1, span // 2, (span + 1) // 2, span, *LARGEST])
    if length + 2 * padding <= span:
        padding = (span + 1) // 2
    stride = rng.choice([1, 2, *LARGEST])
    if name == "conv_transpose":
        size = (length - 1) * stride - 2 * padding + span + 1
        if size > 300:
            padding += (size - 300 + 1) // 2
    else:  # few windows
        stride = max(stride, (length + 2 * padding - span) // 3, 1)
    padding, stride = min(padding, 2**31 - 1), min(stride, 2**31 - 1)
    groups = rng.choice([1, 1, 2])
    channels = groups * rng.choice([1, 2, 16])
    numbers = np.random.default_rng(seed)
    dtype = rng.choice(["float32", "float64"])
    x = numbers.standard_normal((1, channels, *(length,) * rank)).astype(dtype)
    if rng.random() < 0.5:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    w = numbers.standard_normal((channels, channels // groups, *(taps,) * rank)).astype(dtype)
    how = {
        "conv": (x, w, None, stride, padding, dilation, groups),
        "conv_transpose": (x, w, None, stride, padding, 0, groups, dilation),
        "max_pool": (x, taps, stride, padding, dilation),
        "avg_pool": (x, taps, stride, padding, False, True, None, dilation),
    }[name]
    return f"{name}{rank}d", how


@pytest.mark.parametrize("seed", range(0, 600, 50))
def test_each_call_computes_or_is_refused_by_name(seed):
    for each in range(seed, seed + 50):
        name, how = drawn(each)
        refused = ""
        try:
            output = getattr(F, name)(*how)
            found = getattr(F, f"{name}_backward")(np.ones_like(output), *how)
        except (ValueError, MemoryError) as error:
            refused = str(error)
        if refused:
            assert re.match(rf"{name}(_backward)?: |cyconv: no memory", refused), (each, refused)
        else:
            # Where a window holds nothing but padding, its maximum is minus infinity.
            assert all(np.isfinite(array[array != -np.inf]).all() for array in (output, *found)), each


@pytest.mark.parametrize("stride", LARGE)
@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "reference"])
@pytest.mark.parametrize("order", ["C", "channels last"])
def test_a_stride_past_the_input_is_as_good_as_any_other(stride, algorithm, order):
    """The gradient of the input wrote outside of its workspace: it had blocks of one stride by one stride."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 5, 6)), rng.standard_normal((4, 1, 3, 3))
    if order == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    how, usual = (None, stride, 1, 1, 4), (None, 9, 1, 1, 4)
    output = F.conv2d(x, w, *how, algorithm=algorithm)
    assert output.shape == (2, 4, 1, 1)
    found = F.conv2d_backward(output, x, w, *how, algorithm=algorithm)
    wanted = F.conv2d_backward(output, x, w, *usual, algorithm="reference")
    for actual, expected in zip(
        (output, *found), (F.conv2d(x, w, *usual, algorithm="reference"), *wanted), strict=True
    ):
        assert_close(actual, expected, algorithm="direct")


@pytest.mark.parametrize("stride", LARGE)
def test_so_is_that_of_a_transposed_convolution_of_one_pixel(stride):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 1, 1)), rng.standard_normal((4, 2, 3, 3))
    wanted = np.einsum("nc,ckrs->nkrs", x[:, :, 0, 0], w)
    assert_close(F.conv_transpose2d(x, w, None, stride), wanted, algorithm="direct")
    dx, dw = F.conv_transpose2d_backward(wanted, x, w, None, stride)
    assert_close(dx[:, :, 0, 0], np.einsum("nkrs,ckrs->nc", wanted, w), algorithm="direct")
    assert_close(dw, np.einsum("nc,nkrs->ckrs", x[:, :, 0, 0], wanted), algorithm="direct")


def test_sizes_are_told_by_the_stride_that_was_asked_for():
    layer = nn.Conv2d(1, 2, 3, 1000, rng=0)
    assert "(8 + 2·0 − 1·(3−1) − 1)/1000 + 1 = 1" in str(cyconv.explain(layer, (1, 1, 8, 8)))
    assert "1000" in str(summary(layer, (1, 8, 8)))
    with pytest.raises(ValueError, match=r"'winograd_f2' cannot compute .*: the stride is \(1000, 1000\)"):
        F.conv2d(np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3)), None, 1000, algorithm="winograd_f2")


def test_places_that_no_table_holds_are_refused():
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    far = 2**30
    with pytest.raises(MemoryError, match=r"conv2d: the padded input of shape .* has more than"):
        F.conv2d(x, w, None, far, far, far)
    with pytest.raises(MemoryError, match=r"conv2d: the tables of a kernel do not hold the way .*stride \(1048576"):
        F.conv2d(x, w, None, 2**20, 2**20, 2**20)
    assert math.prod(F.conv2d(x, w[:, :, :1, :1], None, 2, 0, far).shape) == 4  # one tap: no way to go
