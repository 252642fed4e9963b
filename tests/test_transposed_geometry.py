"""Sizes of transposed convolutions against the convolutions that they undo, and the message of every wrong argument."""

import itertools

import numpy as np
import pytest

from cyconv import functional as F
from cyconv import reference
from cyconv._geometry import output_size, same_padding
from cyconv._transposed_geometry import conv_transpose_geometry, transposed_size


def geometry(
    x=(2, 3, 4, 5),
    weight=(3, 4, 3, 3),
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    mode="zeros",
    output_size=None,
):
    return conv_transpose_geometry(
        "conv_transpose2d",
        2,
        x,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        mode,
        output_size,
    )


# --------------------------------------------------------------------------------------------------------------- sizes


def test_sizes_are_those_from_which_the_convolution_leads_back():
    """All small ones: the stride many lengths, and no other, from which a convolution makes ``length``."""
    for length, kernel, stride, low, high, dilation in itertools.product(
        range(1, 6), range(1, 5), range(1, 5), range(3), range(3), range(1, 4)
    ):
        least = transposed_size(length, kernel, stride, low, high, dilation)
        back = [n for n in range(1, 60) if output_size(n, kernel, stride, low, high, dilation) == length]
        assert back == [n for n in range(least, least + stride) if n >= 1]


@pytest.mark.parametrize("padding", [0, 1, (2, 1), ((0, 3), (1, 0)), "same", "same_lower", "valid"], ids=str)
@pytest.mark.parametrize(
    ("stride", "output_padding", "dilation"),
    [(1, 0, 1), ((2, 3), (1, 2), 1), (3, 0, (1, 2)), ((1, 4), (0, 3), 2), (1, 1, 2), (2, 2, 4)],
)
def test_shapes_are_those_of_the_oracle(padding, stride, output_padding, dilation):
    x, weight = np.ones((2, 4, 5, 6)), np.ones((4, 3, 2, 3))
    arguments = (stride, padding, output_padding, 2, dilation)
    found = geometry(x.shape, weight.shape, None, *arguments)
    assert found.output_shape == reference.conv_transpose2d(x, weight, None, *arguments).shape
    assert found.input_shape == x.shape
    assert found.weight_shape == weight.shape
    assert (found.in_channels, found.out_channels, found.groups) == (4, 6, 2)


def test_by_hand():
    found = geometry((5, 3, 4, 5), (3, 2, 3, 2), (2,), (2, 1), ((1, 0), (0, 0)), (1, 0), 1, (1, 3))
    # 18 rows of the kernel's taps times 4 x 5 pixels of 5 images
    assert found.output == ((4 - 1) * 2 + 3 - 1 + 1, 5 - 1 + 3 + 1) == (9, 8)
    assert found.formula(0) == "(4−1)·2 − 1 − 0 + 1·(3−1) + 1 + 1 = 9"
    assert found.formula(1) == "(5−1)·1 − 2·0 + 3·(2−1) + 1 = 8"
    assert found.macs == 5 * 3 * 2 * 6 * 4 * 5
    assert found.windows == 5 * 4 * 5
    assert (found.rank, found.taps, found.batched, found.operation) == (2, 6, True, "conv_transpose2d")
    assert not geometry((3, 4, 5)).batched


def test_a_bias_has_one_number_for_each_output_channel():
    assert geometry((2, 4, 4, 5), (4, 3, 3, 3), (6,), groups=2).out_channels == 6


def test_same_with_a_kernel_smaller_than_the_stride_has_rows_that_nothing_reaches():
    found = geometry(weight=(3, 4, 1, 2), stride=3, padding="same")
    assert found.output == (12, 15)
    assert found.output_padding == (2, 1)
    assert found.formula(0) == "(4−1)·3 − 2·0 + 1·(1−1) + 1 + 2 = 12"


@pytest.mark.parametrize("wanted", [8, (8, 8), [8, 8], (2, 7, 8, 8), (7, 8, 8), np.array([8, 8]).tolist()], ids=str)
def test_output_size_can_be_a_number_or_the_end_of_a_shape(wanted):
    assert geometry((2, 3, 4, 4), stride=2, padding=1, output_size=wanted).output == (8, 8)


def test_output_size_is_another_way_to_say_output_padding():
    for extra in itertools.product(range(2), range(3)):
        said = geometry(stride=(2, 3), padding=(1, 0), output_padding=extra)
        asked = geometry(stride=(2, 3), padding=(1, 0), output_size=said.output)
        assert (asked.output, asked.padding, asked.output_padding) == (said.output, said.padding, said.output_padding)


@pytest.mark.parametrize("word", ["same", "same_lower"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (2, 3, 1), (5, 2, 2), (1, 2, 1), (4, 1, 1)])
def test_output_size_with_same_is_any_that_a_same_convolution_leads_from(word, kernel, stride, dilation):
    for size in range(1, 14):
        rows = -(-size // stride)
        found = geometry(
            (1, 3, rows, rows), (3, 1, kernel, kernel), None, stride, word, 0, 1, dilation, output_size=size
        )
        assert found.output == (size, size)
        assert found.padding[0] == same_padding(size, kernel, stride, dilation, word == "same_lower")


def test_equal_arguments_give_the_same_object():
    assert geometry(stride=2) is geometry(stride=2)
    assert geometry(stride=[2, 2], output_padding=[1]) is geometry(stride=(2, 2), output_padding=(1,))
    assert geometry(stride=np.int64(2)).output == geometry(stride=2).output
    assert geometry(stride=2, output_size=(9, 11)) is geometry(stride=2, output_size=[9, 11])
    assert geometry(stride=2) is not geometry(stride=2, output_padding=1)


# -------------------------------------------------------------------------------------------------------------- errors

MESSAGES = [
    ({"x": (4, 5)}, "input must have shape (N, C, height, width) or (C, height, width), got (4, 5)"),
    (
        {"weight": (3, 4, 3)},
        "weight must have shape (in_channels, out_channels/groups, kernel height, kernel width), got (3, 4, 3)",
    ),
    (
        {"weight": (4, 3, 3, 3)},
        "weight of shape (4, 3, 3, 3) takes 4 input channels, but the input of shape (2, 3, 4, 5) has 3",
    ),
    ({"weight": (3, 0, 3, 3)}, "weight has an empty axis: (3, 0, 3, 3)"),
    ({"weight": (3, 4, 0, 3)}, "weight has an empty axis: (3, 4, 0, 3)"),
    ({"x": (2, 0, 4, 5), "weight": (0, 4, 3, 3)}, "weight has an empty axis: (0, 4, 3, 3)"),
    ({"bias": (3,)}, "bias must have shape (4,), got (3,)"),
    ({"groups": 2}, "in_channels must be divisible by groups, got 3 and 2 groups"),
    ({"groups": 0}, "groups must be at least 1, got 0"),
    ({"groups": 3, "bias": (4,)}, "bias must have shape (12,), got (4,)"),
    ({"x": (2, 3, 0, 5)}, "the input has no pixels: its height is 0"),
    ({"x": (2, 3, 4, 0)}, "the input has no pixels: its width is 0"),
    (
        {"padding": 3},
        "the padding leaves no pixels of the output: its height would be (4−1)·1 − 2·3 + 1·(3−1) + 1 = 0",
    ),
    (
        {"padding": ((0, 0), (4, 5)), "stride": (1, 2), "x": (2, 3, 4, 2), "output_padding": (0, 1)},
        "the padding leaves no pixels of the output: its width would be (2−1)·2 − 4 − 5 + 1·(3−1) + 1 + 1 = -3",
    ),
    ({"stride": 0}, "stride must be at least 1, got 0"),
    ({"stride": (1, 2, 3)}, "stride must be an int or 2 ints, got (1, 2, 3)"),
    ({"dilation": 0}, "dilation must be at least 1, got 0"),
    ({"padding": -1}, "padding must be at least 0, got -1"),
    ({"padding": "full"}, "padding must be ints, pairs or one of valid, same, same_lower, got 'full'"),
    ({"output_padding": -1}, "output_padding must be at least 0, got -1"),
    ({"output_padding": (0, 1, 0)}, "output_padding must be an int or 2 ints, got (0, 1, 0)"),
    (
        {"output_padding": 1},
        "output_padding must be smaller than the stride or the dilation, got 1 for the height with stride 1 and "
        "dilation 1",
    ),
    (
        {"output_padding": (1, 3), "stride": 2, "dilation": (1, 3)},
        "output_padding must be smaller than the stride or the dilation, got 3 for the width with stride 2 and "
        "dilation 3",
    ),
    (
        {"output_size": (8, 12), "stride": 2},
        "output_size (8, 12) cannot be: an input of height 4 and width 5 with stride (2, 2) gives height 9 to 10 and "
        "width 11 to 12",
    ),
    (
        {"output_size": 7},
        "output_size (7, 7) cannot be: an input of height 4 and width 5 with stride (1, 1) gives height 6 and width 7",
    ),
    (
        {"output_size": (9, 10), "stride": (2, 3), "padding": "same"},
        "output_size (9, 10) cannot be: an input of height 4 and width 5 with stride (2, 3) gives height 7 to 8 and "
        "width 13 to 15",
    ),
    (
        {"output_size": (9, 12), "output_padding": 1, "stride": 2},
        "output_padding and output_size say the same in two ways; give one of them, got 1 and (9, 12)",
    ),
    (
        {"output_size": (1, 2, 3, 9, 12)},
        "output_size must be an int, 2 ints, or a whole shape that ends with them, got (1, 2, 3, 9, 12)",
    ),
    ({"output_size": (9,)}, "output_size must be an int, 2 ints, or a whole shape that ends with them, got (9,)"),
    ({"output_size": 0}, "output_size must be at least 1, got 0"),
    ({"mode": "mirror"}, "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'"),
    (
        {"mode": "reflect", "weight": (3, 4, 5, 3)},
        "padding_mode 'reflect' repeats at most 3 of the 4 pixels along the height, but the reach of the kernel beyond "
        "the input there is (4, 4)",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MESSAGES, ids=lambda m: str(m)[:70])
def test_values_that_cannot_be(arguments, message):
    with pytest.raises(ValueError) as caught:
        geometry(**arguments)
    assert str(caught.value) == f"conv_transpose2d: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 1.5}, "stride must be an int or 2 ints, got 1.5"),
        ({"stride": True}, "stride must be an int or 2 ints, got True"),
        ({"dilation": None}, "dilation must be an int or 2 ints, got None"),
        ({"padding": 0.5}, "padding must be an int or 2 ints, got 0.5"),
        ({"output_padding": 0.5}, "output_padding must be an int or 2 ints, got 0.5"),
        ({"output_padding": None}, "output_padding must be an int or 2 ints, got None"),
        ({"output_padding": (0, False)}, "output_padding must be an int, got False"),
        ({"groups": 1.0}, "groups must be an int, got 1.0"),
        ({"output_size": 2.0}, "output_size must be an int or 2 ints, got 2.0"),
        ({"output_size": (6, "7")}, "output_size must be an int, got '7'"),
    ],
    ids=str,
)
def test_types_that_cannot_be(arguments, message):
    with pytest.raises(TypeError) as caught:
        geometry(**arguments)
    assert str(caught.value) == f"conv_transpose2d: {message}"


def test_sizes_that_fit_no_memory():
    with pytest.raises(MemoryError, match=r"^conv_transpose2d: the output of shape \(1, 1, \d+, \d+\) has more than "):
        geometry((1, 1, 9, 9), (1, 1, 1, 1), stride=2**31 - 1)


def test_no_array_is_touched_before_the_checks():
    x = np.broadcast_to(np.float32(0), (10**5, 1, 10**4, 10**4))
    with pytest.raises(MemoryError, match=r"^conv_transpose2d: the output of shape \(100000, 16, 10000, 10000\)"):
        F.conv_transpose2d(x, np.broadcast_to(np.float32(0), (1, 16, 1, 1)))


def test_messages_name_the_operation_that_was_called():
    x, weight = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"^conv_transpose2d_backward: stride must be at least 1"):
        F.conv_transpose2d_backward(np.ones((1, 1, 4, 4)), x, weight, stride=0)
    with pytest.raises(ValueError, match=r"^conv_transpose2d_backward: grad_output must have the shape of the output"):
        F.conv_transpose2d_backward(x, x, weight)
    with pytest.raises(ValueError, match=r"shape of the output, \(1, 4, 4\), got \(1, 1, 4, 4\)$"):
        F.conv_transpose2d_backward(np.ones((1, 1, 4, 4)), x[0], weight)
    with pytest.raises(TypeError, match=r"^conv_transpose2d: mixed dtypes: input float64, weight float32"):
        F.conv_transpose2d(x, weight.astype("f"))
    with pytest.raises(TypeError, match=r"^conv_transpose2d_backward: mixed dtypes: grad_output float32"):
        F.conv_transpose2d_backward(np.ones((1, 1, 4, 4), "f"), x, weight)
    with pytest.raises(TypeError, match=r"^conv_transpose1d: input has dtype int64, expected float32 or float64"):
        F.conv_transpose1d(np.ones((1, 1, 3), int), np.ones((1, 1, 2)))
    with pytest.raises(ValueError, match=r"^conv_transpose3d: input must have shape \(N, C, depth, height, width\)"):
        F.conv_transpose3d(x[0], weight)
    with pytest.raises(ValueError, match=r"^conv_transpose2d: algorithm must be one of auto, .*, got 'fft'$"):
        F.conv_transpose2d(x, weight, algorithm="fft")
