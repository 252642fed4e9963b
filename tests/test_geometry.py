"""Sizes of convolutions against counting windows one by one, and every message that a wrong argument gets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyconv import _geometry, reference
from cyconv import functional as F
from cyconv._geometry import conv_geometry, output_size, same_padding


def geometry(x=(2, 3, 7, 8), weight=(4, 3, 3, 3), bias=None, stride=1, padding=0, dilation=1, groups=1, mode="zeros"):
    return conv_geometry("conv2d", 2, x, weight, bias, stride, padding, dilation, groups, mode)


def windows(length, kernel, stride, low, high, dilation):
    """Return where windows start that lie inside the padded input: by trying every place."""
    places = set(range(-low, length + high))
    starts = range(-low, length + high, stride)
    return [start for start in starts if {start + dilation * r for r in range(kernel)} <= places]


# --------------------------------------------------------------------------------------------------------------- sizes


def test_output_size_counts_the_windows():
    """All small convolutions there are."""
    checked = 0
    for length, kernel, stride, low, high, dilation in itertools.product(
        range(1, 8), range(1, 5), range(1, 5), range(3), range(3), range(1, 4)
    ):
        found = windows(length, kernel, stride, low, high, dilation)
        assert output_size(length, kernel, stride, low, high, dilation) == len(found)
        checked += bool(found)
    assert checked > 2000


def test_output_size_with_ceil_mode_takes_the_last_window_if_it_starts_inside():
    for length, kernel, stride, low, high, dilation in itertools.product(
        range(1, 8), range(1, 4), range(1, 4), range(2), range(2), range(1, 3)
    ):
        found = windows(length, kernel, stride, low, high, dilation)
        if not found:
            continue
        # The next one hangs over the end, where the one before left something over. None starts behind the input.
        if found[-1] + dilation * (kernel - 1) < length + high - 1:
            found.append(found[-1] + stride)
        inside = [start for start in found if start < length]
        assert output_size(length, kernel, stride, low, high, dilation, ceil_mode=True) == len(inside)


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_same_padding(length, kernel, stride, dilation, lower):
    low, high = same_padding(length, kernel, stride, dilation, lower)
    assert min(low, high) >= 0
    assert (low - high if lower else high - low) in (0, 1)
    size = -(-length // stride)
    assert output_size(length, kernel, stride, low, high, dilation) == size
    # No less padding would do.
    if low + high:
        assert output_size(length, kernel, stride, low, high - 1 if high else 0, dilation) <= size
        assert len(windows(length, kernel, stride, low + high - 1, 0, dilation)) < size


@pytest.mark.parametrize("padding", [0, 1, (2, 1), ((0, 3), (1, 0)), "same", "same_lower", "valid"], ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), ((2, 3), 1), (3, (1, 2)), ((1, 4), 2)])
def test_shapes_are_those_of_the_oracle(padding, stride, dilation):
    x, weight = np.ones((2, 4, 9, 10)), np.ones((6, 2, 2, 3))
    found = geometry(x.shape, weight.shape, None, stride, padding, dilation, 2)
    assert found.output_shape == reference.conv2d(x, weight, None, stride, padding, dilation, 2).shape
    assert found.input_shape == x.shape
    assert found.weight_shape == weight.shape


def test_alexnet_by_hand():
    found = geometry((1, 3, 227, 227), (96, 3, 11, 11), stride=4)
    assert found.output_shape == (1, 96, 55, 55)
    assert found.formula(0) == "(227 + 2·0 − 1·(11−1) − 1)/4 + 1 = 55"
    assert found.macs == 105_415_200
    assert found.taps == 121
    assert found.rank == 2


def test_formula_of_an_uneven_padding():
    found = geometry((1, 3, 8, 8), (4, 3, 2, 3), padding=((1, 2), (1, 1)), dilation=(3, 1), stride=(2, 1))
    assert found.formula(0) == "(8 + 1 + 2 − 3·(2−1) − 1)/2 + 1 = 4"
    assert found.formula(1) == "(8 + 2·1 − 1·(3−1) − 1)/1 + 1 = 8"


def test_macs_count_groups():
    assert geometry((5, 6, 4, 4), (8, 3, 2, 2), groups=2).macs == 5 * 8 * 3 * 3 * 3 * 2 * 2


def test_without_a_batch_dimension():
    found = geometry((3, 7, 8))
    assert (found.batched, found.batch, found.output_shape) == (False, 1, (1, 4, 5, 6))
    assert geometry().batched


@pytest.mark.parametrize(
    ("given_as", "meant"),
    [
        ({"padding": 1}, {"padding": ((1, 1), (1, 1))}),
        ({"padding": [1]}, {"padding": (1, 1)}),
        ({"padding": (1, 2)}, {"padding": ((1, 1), (2, 2))}),
        ({"padding": [[1, 2], [3, 0]]}, {"padding": ((1, 2), (3, 0))}),
        ({"padding": "valid"}, {"padding": 0}),
        ({"padding": "same"}, {"padding": 1}),
        ({"stride": [2, 2]}, {"stride": 2}),
        ({"stride": (2,)}, {"stride": 2}),
        ({"stride": np.int64(2)}, {"stride": 2}),
        ({"dilation": (np.uint8(2), 2)}, {"dilation": 2}),
        ({"groups": np.int32(1)}, {"groups": 1}),
    ],
    ids=str,
)
def test_other_ways_to_say_the_same(given_as, meant):
    one, other = geometry(**given_as), geometry(**meant)
    for name in ("stride", "padding", "dilation", "groups", "output"):
        assert getattr(one, name) == getattr(other, name)
        assert all(type(item) is int for item in np.ravel(getattr(one, name)).tolist())


def test_equal_arguments_give_the_same_object():
    assert geometry(stride=2) is geometry(stride=2)
    assert geometry(stride=[2, 2]) is geometry(stride=(2, 2))
    assert geometry(stride=2) is not geometry(stride=1)


def test_true_and_floats_are_refused_after_equal_integers_passed():
    """1 == 1.0 == True: what is kept for an int must not be found for them."""
    geometry(stride=1, groups=1)
    for wrong in (1.0, True, np.float64(1), np.True_):
        with pytest.raises(TypeError, match="stride must be an int or 2 ints"):
            geometry(stride=wrong)
        with pytest.raises(TypeError, match="groups must be an int"):
            geometry(groups=wrong)
        with pytest.raises(TypeError, match="dilation must be an int"):
            geometry(dilation=(1, wrong))
        with pytest.raises(TypeError, match="padding must be an int"):
            geometry(padding=(wrong, 1))


# -------------------------------------------------------------------------------------------------------------- errors


X, W = (2, 3, 7, 8), (4, 3, 3, 3)

MESSAGES = [
    # Shapes.
    ({"x": (7, 8)}, "input must have shape (N, C, height, width) or (C, height, width), got (7, 8)"),
    ({"x": (1, 2, 3, 7, 8)}, "input must have shape (N, C, height, width) or (C, height, width), got (1, 2, 3, 7, 8)"),
    (
        {"weight": (4, 3, 3)},
        "weight must have shape (out_channels, in_channels/groups, kernel height, kernel width), got (4, 3, 3)",
    ),
    (
        {"x": (2, 5, 7, 8)},
        "weight of shape (4, 3, 3, 3) with 1 groups takes 3 input channels, but the input of shape (2, 5, 7, 8) has 5",
    ),
    (
        {"weight": (4, 2, 3, 3), "x": (2, 6, 7, 8), "groups": 2},
        "weight of shape (4, 2, 3, 3) with 2 groups takes 4 input channels, but the input of shape (2, 6, 7, 8) has 6",
    ),
    (
        {"x": (2, 0, 7, 8)},
        "weight of shape (4, 3, 3, 3) with 1 groups takes 3 input channels, but the input of shape (2, 0, 7, 8) has 0",
    ),
    ({"x": (2, 0, 7, 8), "weight": (4, 0, 3, 3)}, "weight has an empty axis: (4, 0, 3, 3)"),
    ({"weight": (0, 3, 3, 3)}, "weight has an empty axis: (0, 3, 3, 3)"),
    ({"weight": (4, 3, 0, 3)}, "weight has an empty axis: (4, 3, 0, 3)"),
    ({"bias": (3,)}, "bias must have shape (4,), got (3,)"),
    ({"bias": (1, 4)}, "bias must have shape (4,), got (1, 4)"),
    ({"x": (2, 3, 0, 8)}, "the input has no pixels: its height is 0"),
    ({"x": (2, 3, 7, 0), "padding": 5}, "the input has no pixels: its width is 0"),
    # What does not fit.
    ({"x": (2, 3, 2, 8)}, "kernel 3 does not fit into the padded input of height 2 (2 + 2·0)"),
    (
        {"x": (2, 3, 6, 8), "padding": 1, "dilation": 4},
        "kernel 3 (dilated to 9) does not fit into the padded input of height 8 (6 + 2·1)",
    ),
    (
        {"x": (2, 3, 7, 3), "padding": ((0, 0), (0, 1)), "dilation": (1, 2)},
        "kernel 3 (dilated to 5) does not fit into the padded input of width 4 (3 + 0 + 1)",
    ),
    # Values.
    ({"stride": 0}, "stride must be at least 1, got 0"),
    ({"stride": (1, -2)}, "stride must be at least 1, got -2"),
    ({"stride": 2**31}, "stride must be at most 2147483647, got 2147483648"),
    ({"stride": (1, 2, 3)}, "stride must be an int or 2 ints, got (1, 2, 3)"),
    ({"stride": ()}, "stride must be an int or 2 ints, got ()"),
    ({"dilation": 0}, "dilation must be at least 1, got 0"),
    ({"padding": -1}, "padding must be at least 0, got -1"),
    ({"padding": ((0, -1), (0, 0))}, "padding must be at least 0, got -1"),
    ({"padding": (1, 2, 3)}, "padding must be an int or 2 ints, got (1, 2, 3)"),
    ({"padding": ((1, 2), 3)}, "padding by sides needs 2 (low, high) pairs, got ((1, 2), 3)"),
    ({"padding": ((1, 2),)}, "padding by sides needs 2 (low, high) pairs, got ((1, 2),)"),
    ({"padding": ((1, 2, 3), (1, 2))}, "padding by sides needs 2 (low, high) pairs, got ((1, 2, 3), (1, 2))"),
    ({"padding": "full"}, "padding must be ints, pairs or one of valid, same, same_lower, got 'full'"),
    ({"padding": ("same", "same")}, "padding by sides needs 2 (low, high) pairs, got ('same', 'same')"),
    ({"groups": 0}, "groups must be at least 1, got 0"),
    (
        {"groups": 2},
        "in_channels must be divisible by groups, got 3 and 2 groups",
    ),
    (
        {"x": (2, 6, 7, 8), "weight": (4, 2, 3, 3), "groups": 3},
        "out_channels must be divisible by groups, got 4 and 3 groups",
    ),
    ({"mode": "mirror"}, "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'"),
    (
        {"mode": "reflect", "padding": (7, 0)},
        "padding_mode 'reflect' repeats at most 6 of the 7 pixels along the height, but the padding there is (7, 7)",
    ),
    (
        {"mode": "circular", "padding": ((0, 0), (1, 9))},
        "padding_mode 'circular' repeats at most 8 of the 8 pixels along the width, but the padding there is (1, 9)",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MESSAGES, ids=lambda m: str(m)[:70])
def test_values_that_cannot_be(arguments, message):
    with pytest.raises(ValueError) as caught:
        geometry(**arguments)
    assert str(caught.value) == f"conv2d: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 1.5}, "stride must be an int or 2 ints, got 1.5"),
        ({"stride": None}, "stride must be an int or 2 ints, got None"),
        ({"stride": True}, "stride must be an int or 2 ints, got True"),
        ({"stride": "2"}, "stride must be an int or 2 ints, got '2'"),
        ({"stride": (1, 2.0)}, "stride must be an int, got 2.0"),
        ({"dilation": 2.0}, "dilation must be an int or 2 ints, got 2.0"),
        ({"padding": 0.5}, "padding must be an int or 2 ints, got 0.5"),
        ({"padding": None}, "padding must be an int or 2 ints, got None"),
        ({"padding": ((0, 1.0), (0, 0))}, "padding must be an int, got 1.0"),
        ({"groups": 1.0}, "groups must be an int, got 1.0"),
        ({"groups": None}, "groups must be an int, got None"),
    ],
    ids=str,
)
def test_types_that_cannot_be(arguments, message):
    with pytest.raises(TypeError) as caught:
        geometry(**arguments)
    assert str(caught.value) == f"conv2d: {message}"


@pytest.mark.parametrize("argument", ["stride", "padding", "dilation", "groups", "mode"])
@pytest.mark.parametrize(
    "wrong", [{}, {1: 2}, {1, 2}, object(), b"1", b"11", np.ones(2, int), [[1]], np.True_, lambda: 1], ids=type
)
def test_odd_objects_are_refused_with_a_message_of_ours(argument, wrong):
    name = {"mode": "padding_mode"}.get(argument, argument)
    with pytest.raises((TypeError, ValueError), match=f"^conv2d: {name} (must be|by sides needs) "):
        geometry(**{argument: wrong})


def test_sizes_that_fit_no_memory():
    with pytest.raises(MemoryError, match=r"^conv2d: the output of shape \(1000000, 1000000, 7, 8\) has more than "):
        geometry((10**6, 1, 7, 8), (10**6, 1, 1, 1))
    with pytest.raises(MemoryError, match=r"^conv2d: the output of shape \(1, 1, \d+, \d+\) has more than "):
        geometry((1, 1, 1, 1), (1, 1, 1, 1), padding=2**31 - 1)


def test_no_array_is_touched_before_the_checks():
    """These arrays cost nothing until somebody reads them; their output would be 64 TB."""
    x = np.broadcast_to(np.float32(0), (10**5, 1, 10**4, 10**4))
    weight = np.broadcast_to(np.float32(0), (16, 1, 1, 1))
    with pytest.raises(MemoryError, match=r"^conv2d: the output of shape \(100000, 16, 10000, 10000\)"):
        F.conv2d(x, weight)
    with pytest.raises(ValueError, match=r"^conv2d: kernel 10001 does not fit"):
        F.conv2d(x, np.broadcast_to(np.float32(0), (16, 1, 10001, 1)))


def test_messages_name_the_operation_that_was_called():
    x, weight = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"^conv2d_backward: stride must be at least 1"):
        F.conv2d_backward(np.ones((1, 1, 2, 2)), x, weight, stride=0)
    with pytest.raises(
        ValueError, match=r"^conv2d_backward: grad_output must have the shape of the output, \(1, 1, 2, 2\), got \(1, 1"
    ):
        F.conv2d_backward(np.ones((1, 1, 3, 3)), x, weight)
    with pytest.raises(ValueError, match=r"shape of the output, \(1, 2, 2\), got \(1, 1, 2, 2\)$"):
        F.conv2d_backward(np.ones((1, 1, 2, 2)), x[0], weight)


# ----------------------------------------------------------------------------------------------------- arrays and types


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (ones(1, 1, 3, 3), ones(1, 1, 2, 2, dtype=np.float64)),
            "conv2d: mixed dtypes: input float32, weight float64; convert one of them, e.g. with .astype(np.float32)",
        ),
        (
            (ones(1, 1, 3, 3, dtype=np.float64), ones(1, 1, 2, 2, dtype=np.float64), ones(1)),
            "conv2d: mixed dtypes: input float64, weight float64, bias float32; convert one of them, "
            "e.g. with .astype(np.float64)",
        ),
        (
            (ones(1, 1, 3, 3, dtype=np.uint8), ones(1, 1, 2, 2)),
            "conv2d: input has dtype uint8, expected float32 or float64; convert it with input.astype(np.float32)",
        ),
        (
            (ones(1, 1, 3, 3), ones(1, 1, 2, 2, dtype=bool)),
            "conv2d: weight has dtype bool, expected float32 or float64; convert it with weight.astype(np.float32)",
        ),
        (
            (ones(1, 1, 3, 3), ones(1, 1, 2, 2), ones(1, dtype=np.complex64)),
            "conv2d: bias has dtype complex64, expected float32 or float64; convert it with bias.astype(np.float32)",
        ),
        (
            ("image", ones(1, 1, 2, 2)),
            "conv2d: input has dtype <U5, expected float32 or float64; convert it with input.astype(np.float32)",
        ),
        (
            (None, ones(1, 1, 2, 2)),
            "conv2d: input has dtype object, expected float32 or float64; convert it with input.astype(np.float32)",
        ),
        (
            (np.ma.masked_array(ones(1, 1, 3, 3)), ones(1, 1, 2, 2)),
            "conv2d: input is a masked array; fill it first (input.filled(0))",
        ),
    ],
)
def test_arrays_that_are_not_floating_point_numbers(arguments, message):
    with pytest.raises(TypeError) as caught:
        F.conv2d(*arguments)
    assert str(caught.value) == message


def test_subclasses_and_annotated_dtypes_are_arrays_too():
    class Tagged(np.ndarray):
        pass

    x, weight = ones(1, 1, 3, 3), ones(1, 1, 2, 2)
    noted = x.astype(np.dtype("f4", metadata={"unit": "cd"}))
    for other in (x.view(Tagged), noted):
        y = F.conv2d(other, weight)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, F.conv2d(x, weight))


def test_limits_are_what_the_kernels_can_address():
    assert _geometry.LARGEST < 2**31
    assert _geometry.LARGEST_ARRAY * 8 <= 2**47
