"""The oracle itself: against numbers worked out by hand, against finite differences, against its own adjoint."""

import math

import numpy as np
import pytest
from tolerances import assert_close

from cyconv import reference as ref

RAMP = np.arange(16.0).reshape(1, 1, 4, 4)  # 0 1 2 3 / 4 5 6 7 / 8 9 10 11 / 12 13 14 15
LN2, LN3 = math.log(2), math.log(3)


def row(*values):
    """One sample of one channel, one row."""
    return np.array([[values]], float)


def image(*rows):
    """One sample of one channel."""
    return np.array([[rows]], float)


def check(actual, expected):
    assert_close(actual, np.asarray(expected, float), algorithm="exact")


def nearly(actual, expected):
    assert_close(actual, np.asarray(expected, float), algorithm="reference")


# ------------------------------------------------------------------------------------------------ convolution by hand


def test_conv2d_blur_adds_up_each_window():
    check(ref.conv2d(RAMP, np.ones((1, 1, 3, 3))), image([45, 54], [81, 90]))


def test_conv2d_outline_of_a_square():
    square = image([0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0])
    outline = image([-1, -1, -1], [-1, 8, -1], [-1, -1, -1])
    check(
        ref.conv2d(square, outline, padding=1),
        image([-1, -2, -2, -1], [-2, 5, 5, -2], [-2, 5, 5, -2], [-1, -2, -2, -1]),
    )


def test_conv2d_does_not_flip_the_kernel():
    check(ref.conv2d(image([1, 2], [3, 4]), image([1, 10], [100, 1000])), image([4321]))


def test_conv2d_stride_dilation_bias():
    ones = np.ones((1, 1, 2, 2))
    check(ref.conv2d(RAMP, ones, stride=2), image([10, 18], [42, 50]))
    check(ref.conv2d(RAMP, ones, stride=(2, 1)), image([10, 14, 18], [42, 46, 50]))
    check(ref.conv2d(RAMP, ones, dilation=2), image([20, 24], [36, 40]))
    check(ref.conv2d(RAMP, ones, dilation=(1, 3)), image([14], [30], [46]))
    check(ref.conv2d(RAMP, ones, np.array([0.5]), stride=2), image([10.5, 18.5], [42.5, 50.5]))


def test_conv2d_adds_over_channels_and_splits_into_groups():
    x = np.array([[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]])
    check(ref.conv2d(x, np.array([[1.0, 10, 100, 1000]]).reshape(1, 4, 1, 1)).ravel(), [4321])
    w = np.array([[1.0, 10], [2, 20]]).reshape(2, 2, 1, 1)
    check(ref.conv2d(x, w, groups=2).ravel(), [21, 86])
    depthwise = np.array([1.0, 2, 3, 4, 5, 6, 7, 8]).reshape(8, 1, 1, 1)
    check(ref.conv2d(x, depthwise, groups=4).ravel(), [1, 2, 6, 8, 15, 18, 28, 32])


def test_conv2d_padding_on_each_side():
    one = np.ones((1, 1, 1, 1))
    x = image([1, 2], [3, 4])
    check(ref.conv2d(x, one, padding=((1, 0), (0, 2))), image([0, 0, 0, 0], [1, 2, 0, 0], [3, 4, 0, 0]))
    check(ref.conv2d(x, one, padding=(0, 1)), image([0, 1, 2, 0], [0, 3, 4, 0]))
    check(ref.conv2d(x, one, padding=((0, 0), (1, 0)), padding_mode="circular"), image([2, 1, 2], [4, 3, 4]))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 0]),
        ("reflect", [3, 2, 1, 2, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 3]),
        ("circular", [2, 3, 1, 2, 3, 1]),
    ],
)
def test_padding_modes(mode, expected):
    check(ref.conv1d(row(1, 2, 3), row(1), padding=((2, 1),), padding_mode=mode), row(*expected))


def test_unknown_padding_mode():
    with pytest.raises(ValueError, match=r"padding_mode must be .* got 'mirror'"):
        ref.conv1d(row(1, 2), row(1), padding_mode="mirror")


@pytest.mark.parametrize(
    ("x", "kernel", "kwargs", "same", "lower"),
    [
        ([1, 2, 3], [1, 10], {}, [21, 32, 3], [10, 21, 32]),
        ([1, 2, 3], [1, 10, 100], {}, [210, 321, 32], [210, 321, 32]),
        ([1, 2, 3, 4, 5], [1, 1, 1], {"stride": 2}, [3, 9, 9], [3, 9, 9]),
        ([1, 2, 3, 4], [1, 1, 1], {"stride": 2}, [6, 7], [3, 9]),
        ([1, 2, 3, 4, 5], [1], {"stride": 3}, [1, 4], [1, 4]),
        ([1, 2, 3, 4], [1, 10], {"dilation": 3}, [30, 41, 2, 3], [20, 30, 41, 2]),
        ([1, 2, 3, 4], [1, 10, 100, 1000], {}, [3210, 4321, 432, 43], [2100, 3210, 4321, 432]),
    ],
)
def test_same_padding(x, kernel, kwargs, same, lower):
    check(ref.conv1d(row(*x), row(*kernel), padding="same", **kwargs), row(*same))
    check(ref.conv1d(row(*x), row(*kernel), padding="same_lower", **kwargs), row(*lower))


def test_valid_is_no_padding():
    check(ref.conv2d(RAMP, np.ones((1, 1, 3, 3)), padding="valid"), image([45, 54], [81, 90]))


def test_conv3d_by_hand():
    cube = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    check(ref.conv3d(cube, np.ones((1, 1, 2, 2, 2))).ravel(), [28])
    check(ref.conv3d(cube, np.ones((1, 1, 2, 1, 1))).ravel(), [4, 6, 8, 10])


def test_conv1d_gradients_by_hand():
    dx, dw, db = ref.conv1d_backward(row(1, 2), row(1, 2, 3), row(10, 20), np.zeros(1))
    check(dx, row(10, 40, 40))
    check(dw, row(5, 8))
    check(db, [3])


def test_gradient_folds_repeated_padding_back():
    dx, dw = ref.conv1d_backward(row(1, 10), row(1, 2), row(1, 1, 1), padding=1, padding_mode="replicate")
    check(dx, row(12, 21))
    check(dw, row(11, 21, 22))


def test_input_gradient_can_be_left_out():
    x, w, b = RAMP, np.ones((1, 1, 3, 3)), np.zeros(1)
    dy = ref.conv2d(x, w)
    dx, dw, db = ref.conv2d_backward(dy, x, w, b, input_grad=False)
    full = ref.conv2d_backward(dy, x, w, b)
    assert dx is None
    assert full[0] is not None
    check(dw, full[1])
    check(db, full[2])
    assert ref.linear_backward(row(1), row(1), np.ones((1, 1)), input_grad=False)[0] is None
    assert ref.conv_transpose2d_backward(ref.conv_transpose2d(x, w), x, w, input_grad=False)[0] is None


def test_conv_transpose_by_hand():
    x, w = row(1, 2), row(1, 10, 100)
    check(ref.conv_transpose1d(x, w), row(1, 12, 120, 200))
    check(ref.conv_transpose1d(x, w, np.array([0.5])), row(1.5, 12.5, 120.5, 200.5))
    check(ref.conv_transpose1d(x, w, stride=2), row(1, 10, 102, 20, 200))
    check(ref.conv_transpose1d(x, w, stride=2, output_padding=1), row(1, 10, 102, 20, 200, 0))
    check(ref.conv_transpose1d(x, w, stride=2, padding=1), row(10, 102, 20))
    check(ref.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1), row(10, 102, 20, 200))
    check(ref.conv_transpose1d(x, w, stride=2, padding="same"), row(1, 10, 102, 20))
    check(ref.conv_transpose1d(x, w, stride=2, padding="same_lower"), row(10, 102, 20, 200))
    check(ref.conv_transpose1d(x, row(7), stride=3, padding="same"), row(7, 0, 0, 14, 0, 0))
    check(ref.conv_transpose1d(row(1, 2, 3), w, padding=1, padding_mode="circular"), row(312, 123, 231))
    check(ref.conv_transpose2d(image([1, 2]), image([1], [10]), stride=2), image([1, 0, 2], [10, 0, 20]))


def test_conv2d_against_the_sum_written_out():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(6, 2, 3, 2)), rng.normal(size=6)
    (sh, sw), (dh, dw), (top, left), groups = (2, 1), (1, 2), (1, 2), 2
    padded = np.zeros((2, 4, 9, 9))
    padded[:, :, top : top + 7, left : left + 6] = x
    expected = np.zeros((2, 6, 4, 7))
    for n, k, p, q in np.ndindex(*expected.shape):
        expected[n, k, p, q] = b[k] + sum(
            w[k, c, r, s] * padded[n, c + k // 3 * 2, sh * p + dh * r, sw * q + dw * s]
            for c, r, s in np.ndindex(2, 3, 2)
        )
    nearly(ref.conv2d(x, w, b, (sh, sw), ((top, 1), (left, 1)), (dh, dw), groups), expected)


# ---------------------------------------------------------------------------------------------------- pooling by hand


def test_max_pool_by_hand():
    y, indices = ref.max_pool2d(RAMP, 2, return_indices=True)
    check(y, image([5, 7], [13, 15]))
    assert indices.dtype == np.int64
    assert indices.tolist() == [[[[5, 7], [13, 15]]]]
    check(ref.max_pool2d(RAMP, (1, 3), stride=(2, 1)), image([2, 3], [10, 11]))
    check(ref.max_pool1d(row(5, 1, 4, 2, 3), 2, stride=1, dilation=2), row(5, 2, 4))
    check(ref.max_pool1d(row(-5, -1, -4, -2), 3, stride=2, padding=1), row(-1, -1))


def test_max_pool_ceil_mode():
    check(ref.max_pool1d(row(1, 2, 3, 4, 5), 2), row(2, 4))
    check(ref.max_pool1d(row(1, 2, 3, 4, 5), 2, ceil_mode=True), row(2, 4, 5))
    check(ref.max_pool1d(row(1, 2, 3), 2, padding=1, ceil_mode=True), row(1, 3))  # a third would start in the padding


def test_max_pool_first_of_equals_and_nan():
    tie = image([3, 3, 1], [3, 3, 1], [0, 0, 0])
    assert ref.max_pool2d(tie, 2, 1, return_indices=True)[1].tolist() == [[[[0, 1], [3, 4]]]]
    y, indices = ref.max_pool1d(row(1, np.nan, 5, 2, -np.inf, -np.inf), 2, return_indices=True)
    check(y, row(np.nan, 5, -np.inf))
    assert indices.tolist() == [[[1, 2, 4]]]


def test_max_pool_gradient_goes_to_the_maximum():
    x = row(1, 4, 2, 3)
    check(ref.max_pool1d_backward(row(1, 10, 100), x, 2, 1)[0], row(0, 11, 0, 100))
    other = np.array([[[0, 1, 2]]])
    check(ref.max_pool1d_backward(row(1, 10, 100), x, 2, 1, indices=other)[0], row(1, 10, 100, 0))


def test_avg_pool_by_hand():
    check(ref.avg_pool2d(RAMP, 2), image([2.5, 4.5], [10.5, 12.5]))
    check(ref.avg_pool2d(RAMP, (1, 2), divisor_override=4), ref.avg_pool2d(RAMP, (1, 2)) / 2)
    check(ref.avg_pool1d(row(1, 2, 3, 4, 5), 2, ceil_mode=True), row(1.5, 3.5, 5))
    pooled = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    check(ref.avg_pool1d(row(1, 2, 3, 4), **pooled), row(1, 3, 2))  # the last: one pixel, one padding, one beyond
    check(ref.avg_pool1d(row(1, 2, 3, 4), **pooled, count_include_pad=False), row(1.5, 3, 4))
    corner = image([4, 4], [4, 4])
    check(ref.avg_pool2d(corner, 2, 2, 1), np.ones((1, 1, 2, 2)))
    check(ref.avg_pool2d(corner, 2, 2, 1, count_include_pad=False), np.full((1, 1, 2, 2), 4))
    check(ref.avg_pool2d(corner, 2, 2, 1, divisor_override=2), np.full((1, 1, 2, 2), 2))


def test_padding_of_pools_by_sides_and_same():
    check(ref.avg_pool1d(row(1, 2, 3, 4), 3, 2, ((0, 1),)), row(2, 7 / 3))
    check(ref.avg_pool1d(row(2, 4, 6, 8, 10), 3, 2, "same"), row(2, 6, 6))
    check(ref.avg_pool1d(row(2, 4, 6, 8), 3, 2, "same", count_include_pad=False), row(4, 7))
    check(ref.avg_pool1d(row(2, 4, 6, 8), 3, 2, "same_lower", count_include_pad=False), row(3, 6))
    check(ref.max_pool1d(row(1, 5, 2, 3), 2, 1, "same"), row(5, 5, 3, 3))
    check(ref.max_pool1d(row(1, 5, 2, 3), 2, 1, "same_lower"), row(1, 5, 5, 3))


def test_avg_pool_dilation():
    check(ref.avg_pool1d(row(1, 2, 3, 4, 5), 2, 1, dilation=3), row(2.5, 3.5))
    check(ref.avg_pool1d(row(1, 2, 3, 4, 5), 2, 2, 1, dilation=3), row(1.5, 3.5))
    check(ref.avg_pool1d(row(1, 2, 3, 4, 5), 2, 2, 1, count_include_pad=False, dilation=3), row(3, 3.5))


def test_ceil_mode_of_averages_counts_padding_but_not_beyond():
    """Torch divides by the places inside the padded input; ONNX since opset 19 likewise, before by the whole kernel."""
    x = row(1, 2, 3, 4)
    check(ref.avg_pool1d(x, 3, 2, 1, ceil_mode=True), row(1, 3, 2))  # (0 + 1 + 2)/3, (2 + 3 + 4)/3, (4 + 0)/2
    check(ref.avg_pool1d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), row(1.5, 3, 4))


def test_lp_pool_by_hand():
    check(ref.lp_pool1d(row(3, 4, 6, 8, 5), 2, 2), row(5, 10))
    # What hangs over counts as if it were there: 5 alone is the root of 2 · 25.
    nearly(ref.lp_pool1d(row(3, 4, 6, 8, 5), 2, 2, ceil_mode=True), row(5, 10, math.sqrt(50)))
    nearly(ref.lp_pool1d_backward(row(10, 5), row(3, 4, 0, 0), 2, 2)[0], row(6, 8, 0, 0))
    check(ref.lp_pool1d(row(1, -2, 3, 4), 1, 2), row(-1, 7))


def test_adaptive_by_hand():
    check(ref.adaptive_avg_pool1d(row(1, 2, 3, 4, 5), 2), row(2, 4))
    check(ref.adaptive_avg_pool1d(row(1, 2, 3), 5), row(1, 1.5, 2, 2.5, 3))
    y, indices = ref.adaptive_max_pool1d(row(3, 9, 4, 4, 4), 2, True)
    check(y, row(9, 4))
    assert indices.tolist() == [[[1, 2]]]
    check(ref.adaptive_avg_pool1d_backward(row(3, 6), row(1, 2, 3, 4, 5), 2)[0], row(1, 1, 3, 2, 2))


def test_fractional_by_hand():
    # alpha = (7 - 2)/(4 - 1); starts floor((i + u) alpha) - floor(u alpha) = 0, 1, 3, and the last 5.
    x = row(1, 0, 3, 2, 5, 4, 7).reshape(1, 1, 1, 7)
    y, indices = ref.fractional_max_pool2d(x, (1, 2), (1, 4), None, True, [[[0.25, 0.9]]])
    check(y, row(1, 3, 5, 7).reshape(1, 1, 1, 4))
    assert indices.ravel().tolist() == [0, 2, 4, 6]


def test_unpool_by_hand():
    check(ref.max_unpool1d(row(5, 7), np.array([[[1, 2]]]), 2), row(0, 5, 7, 0))
    check(ref.max_unpool1d(row(5, 7), np.array([[[1, 1]]]), 2), row(0, 7, 0, 0))
    check(ref.max_unpool1d(row(5, 7), np.array([[[1, 4]]]), 2, output_size=(5,)), row(0, 5, 0, 0, 7))
    got = ref.max_unpool1d_backward(row(1, 2, 3, 4), row(5, 7), np.array([[[1, 1]]]), 2)
    check(got[0], row(2, 2))


def test_avg_pool_gradient_by_hand():
    x = row(1, 2, 3, 4, 5)
    check(ref.avg_pool1d_backward(row(2, 4, 6), x, 2, ceil_mode=True)[0], row(1, 1, 2, 2, 6))
    check(ref.avg_pool1d_backward(row(3, 6, 9), row(1, 2, 3), 3, 1, 1)[0], row(3, 6, 5))


# ------------------------------------------------------------------------------- linear, activations, losses by hand


def test_linear_by_hand():
    x, w, b = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 10], [2, 20], [0, 1]]), np.array([0.5, 0, 0])
    check(ref.linear(x, w, b), [[21.5, 42, 2], [43.5, 86, 4]])
    check(ref.linear(x[0], w), [21, 42, 2])
    dx, dw, db = ref.linear_backward(np.array([[1.0, 0, 0], [0, 1, 1]]), x, w, b)
    check(dx, [[1, 10], [2, 21]])
    check(dw, [[1, 2], [3, 4], [3, 4]])
    check(db, [1, 1, 1])


def test_activations_by_hand():
    x, dy = np.array([-2.0, 0, 3, np.nan]), np.array([1.0, 10, 100, 1000])
    check(ref.relu(x), [0, 0, 3, np.nan])
    check(ref.relu_backward(dy, x)[0], [0, 0, 100, 1000])
    check(ref.relu_backward(dy, None, output=ref.relu(x))[0], [0, 0, 100, 1000])
    nearly(ref.sigmoid(np.array([LN3, -LN3, 0, 1000, -1000])), [0.75, 0.25, 0.5, 1, 0])
    nearly(ref.sigmoid_backward(np.array([16.0]), np.array([LN3]))[0], [3])
    nearly(ref.tanh(np.array([LN2, -LN2, 1000])), [0.6, -0.6, 1])
    nearly(ref.tanh_backward(np.array([100.0]), np.array([LN2]))[0], [64])


def test_softmax_by_hand():
    x = np.array([[0, LN3], [1000, 1000]])
    nearly(ref.softmax(x, 1), [[0.25, 0.75], [0.5, 0.5]])
    nearly(ref.log_softmax(x, -1), [[-2 * LN2, LN3 - 2 * LN2], [-LN2, -LN2]])
    nearly(ref.softmax(x.T, 0), [[0.25, 0.5], [0.75, 0.5]])
    dy = np.array([[16.0, 0], [0, 4]])
    nearly(ref.softmax_backward(dy, x, 1)[0], [[3, -3], [-1, 1]])
    nearly(ref.log_softmax_backward(dy, x, 1)[0], [[12, -12], [-2, 2]])
    check(ref.softmax(np.array([[-np.inf, -np.inf], [-np.inf, 0]]), 1), [[np.nan, np.nan], [0, 1]])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softmax", "log_softmax"])
def test_backward_from_the_output_alone(name):
    x, dy = np.random.default_rng(1).normal(size=(2, 3, 5))
    dim = (1,) if "softmax" in name else ()
    backward = getattr(ref, name + "_backward")
    nearly(backward(dy, None, *dim, output=getattr(ref, name)(x, *dim))[0], backward(dy, x, *dim)[0])
    with pytest.raises(ValueError, match="both are None"):
        backward(dy, None, *dim)


def test_flatten():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert ref.flatten(x).shape == (24,)
    assert ref.flatten(x, 1).shape == (2, 12)
    assert ref.flatten(x, 0, 1).shape == (6, 4)
    assert ref.flatten(x, -2, -2).shape == (2, 3, 4)
    assert ref.flatten(np.float64(3)).shape == (1,)
    assert ref.flatten(np.zeros((0, 3, 4)), 1).shape == (0, 12)
    check(ref.flatten_backward(ref.flatten(x, 1), x, 1)[0], x)


def test_dropout():
    x = np.arange(1.0, 2001)
    y, mask = ref.dropout(x, 0.25, rng=3, return_mask=True)
    check(y, np.where(mask, x / 0.75, 0))
    assert 1400 < mask.sum() < 1600
    check(ref.dropout(x, 0.25, rng=np.random.default_rng(3)), y)
    check(ref.dropout_backward(x, x, 0.25, mask=mask)[0], y)
    check(ref.dropout(x, 1.0), np.zeros(2000))
    check(ref.dropout(x, 0.0), x)
    kept, everything = ref.dropout(x, 0.9, False, return_mask=True)
    check(kept, x)
    assert everything.all()
    check(ref.dropout_backward(x, x, 0.9, False, mask=everything)[0], x)


def test_cross_entropy_by_hand():
    x, target = np.array([[0, LN3], [0, LN3]]), np.array([0, 1])  # the softmax of each is 1/4, 3/4
    quarter, rest = 2 * LN2, 2 * LN2 - LN3
    nearly(ref.cross_entropy(x, target, reduction="none"), [quarter, rest])
    nearly(ref.cross_entropy(x, target), (quarter + rest) / 2)
    nearly(ref.cross_entropy(x, target, reduction="sum"), quarter + rest)
    nearly(ref.cross_entropy(x, target, np.array([1.0, 3])), (quarter + 3 * rest) / 4)
    nearly(ref.cross_entropy(x, np.array([-100, 1])), rest)
    nearly(ref.cross_entropy(x, target, ignore_index=1, reduction="none"), [quarter, 0])
    nearly(ref.cross_entropy(x[0], np.array(1)), rest)
    nearly(ref.cross_entropy(x[:1], target[1:], label_smoothing=0.2), 0.1 * quarter + 0.9 * rest)
    nearly(ref.cross_entropy(x, np.array([[0.5, 0.5], [0, 1]])), (0.5 * quarter + 1.5 * rest) / 2)
    assert np.isnan(ref.cross_entropy(x, np.array([-100, -100])))
    assert ref.cross_entropy(np.array([[0.0, -np.inf]]), np.array([0])) == 0


def test_cross_entropy_gradient_by_hand():
    x, target = np.array([[0, LN3], [0, LN3]]), np.array([0, 1])
    nearly(ref.cross_entropy_backward(1.0, x, target, reduction="sum")[0], [[-0.75, 0.75], [0.25, -0.25]])
    nearly(ref.cross_entropy_backward(4.0, x, target)[0], [[-1.5, 1.5], [0.5, -0.5]])
    nearly(ref.cross_entropy_backward(np.array([4.0, 8]), x, target, reduction="none")[0], [[-3, 3], [2, -2]])
    nearly(ref.cross_entropy_backward(1.0, x, target, ignore_index=0)[0], [[0, 0], [0.25, -0.25]])
    check(ref.cross_entropy_backward(1.0, x, np.array([-100, -100]))[0], np.zeros((2, 2)))
    nearly(ref.cross_entropy_backward(1.0, x[:1], target[1:], label_smoothing=0.2)[0], [[0.15, -0.15]])


def test_nll_and_mse_by_hand():
    x, target, weight = np.array([[-1.0, -2], [-3, -4]]), np.array([1, 0]), np.array([1.0, 3])
    check(ref.nll_loss(x, target), 2.5)
    check(ref.nll_loss(x, target, weight), (3 * 2 + 1 * 3) / 4)
    check(ref.nll_loss(x, target, weight, reduction="none"), [6, 3])
    check(ref.nll_loss_backward(4.0, x, target, weight)[0], [[0, -3], [-1, 0]])
    check(ref.nll_loss(x, target, ignore_index=0), 2)
    a, b = np.array([1.0, 5, 2]), np.array([2.0, 2, 2])
    check(ref.mse_loss(a, b, "none"), [1, 9, 0])
    check(ref.mse_loss(a, b, "sum"), 10)
    check(ref.mse_loss(a, b), 10 / 3)
    da, db = ref.mse_loss_backward(3.0, a, b)
    check(da, [-2, 6, 0])
    check(db, [2, -6, 0])
    with pytest.raises(ValueError, match=r"reduction must be .* got 'avg'"):
        ref.mse_loss(a, b, "avg")


# ----------------------------------------------------------------- every operation: gradients, dtypes, missing batch

CASES = [  # operation, shapes of the arrays (an array: given as it is), other arguments
    ("conv1d", [(2, 4, 9), (6, 2, 3), (6,)], {"stride": 2, "padding": "same_lower", "groups": 2}),
    ("conv1d", [(4, 9), (6, 4, 3)], {"padding": 2, "padding_mode": "circular"}),
    ("conv2d", [(2, 4, 7, 6), (6, 2, 3, 2), (6,)], {"stride": (2, 1), "padding": ((2, 1), (0, 1)), "groups": 2}),
    ("conv2d", [(2, 3, 7, 6), (2, 3, 3, 2)], {"padding": 2, "dilation": (1, 3), "padding_mode": "reflect"}),
    ("conv2d", [(3, 5, 6), (2, 3, 5, 1), (2,)], {"padding": (4, 0), "padding_mode": "replicate"}),
    ("conv2d", [(0, 3, 5, 6), (2, 3, 5, 1), (2,)], {}),
    ("conv3d", [(1, 2, 4, 5, 3), (2, 2, 2, 3, 1), (2,)], {"padding": "same", "stride": 2}),
    ("conv_transpose1d", [(2, 4, 5), (4, 3, 3), (6,)], {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    ("conv_transpose2d", [(2, 2, 4, 3), (2, 3, 3, 4)], {"stride": 2, "padding": ((1, 2), (0, 1)), "dilation": (2, 1)}),
    ("pad", [(2, 3, 4)], {"pad": (2, 3, 1, -1), "mode": "reflect"}),
    ("conv_transpose2d", [(2, 4, 3), (2, 3, 3, 4), (3,)], {"stride": 2, "padding": "same"}),
    ("conv_transpose2d", [(2, 4, 3), (2, 3, 3, 4), (3,)], {"padding": 1, "padding_mode": "reflect"}),
    ("conv_transpose2d", [(0, 2, 4, 3), (2, 3, 3, 4), (3,)], {}),
    ("conv_transpose3d", [(1, 2, 2, 3, 2), (2, 2, 2, 3, 1), (2,)], {"stride": (1, 2, 3)}),
    ("max_pool1d", [(2, 3, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ("max_pool2d", [(2, 3, 7, 8)], {"kernel_size": (3, 2), "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(3, 7, 8)], {"kernel_size": 3, "stride": (1, 2)}),
    ("max_pool2d", [(0, 3, 7, 8)], {"kernel_size": 3}),
    ("max_pool3d", [(2, 1, 4, 5, 4)], {"kernel_size": 2, "ceil_mode": True}),
    ("avg_pool1d", [(2, 3, 9)], {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True}),
    ("avg_pool2d", [(2, 3, 7, 8)], {"kernel_size": (3, 2), "padding": 1, "count_include_pad": False}),
    ("avg_pool2d", [(2, 3, 6, 8)], {"kernel_size": (4, 3), "stride": 3, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(3, 7, 8)], {"kernel_size": 3, "stride": (1, 2), "divisor_override": 5}),
    ("avg_pool2d", [(0, 3, 7, 8)], {"kernel_size": 3}),
    ("avg_pool3d", [(2, 1, 4, 5, 4)], {"kernel_size": 2, "ceil_mode": True}),
    ("max_pool2d", [(2, 3, 7, 8)], {"kernel_size": 3, "stride": 2, "padding": "same", "dilation": 2}),
    ("avg_pool2d", [(2, 3, 7, 8)], {"kernel_size": 3, "padding": ((0, 2), (1, 0)), "stride": 2, "dilation": (2, 1)}),
    ("avg_pool1d", [(2, 3, 9)], {"kernel_size": 4, "stride": 3, "padding": "same_lower", "count_include_pad": False}),
    ("lp_pool1d", [(2, 3, 9)], {"norm_type": 4, "kernel_size": 4, "stride": 3, "ceil_mode": True}),
    ("lp_pool2d", [(2, 3, 7, 8)], {"norm_type": 2.0, "kernel_size": (3, 2), "padding": 1}),
    ("lp_pool3d", [(2, 4, 5, 4)], {"norm_type": 2, "kernel_size": 2}),
    ("adaptive_avg_pool1d", [(2, 3, 9)], {"output_size": 4}),
    ("adaptive_avg_pool2d", [(2, 3, 7, 8)], {"output_size": (3, None)}),
    ("adaptive_avg_pool3d", [(2, 4, 5, 4)], {"output_size": (3, 2, 6)}),
    ("adaptive_max_pool1d", [(2, 3, 9)], {"output_size": 4}),
    ("adaptive_max_pool2d", [(2, 3, 7, 8)], {"output_size": (3, None)}),
    ("adaptive_max_pool3d", [(2, 4, 5, 4)], {"output_size": (3, 2, 6)}),
    ("global_avg_pool1d", [(2, 3, 9)], {}),
    ("global_avg_pool2d", [(2, 3, 7, 8)], {}),
    ("global_avg_pool3d", [(2, 4, 5, 4)], {}),
    ("global_max_pool1d", [(2, 3, 9)], {}),
    ("global_max_pool2d", [(2, 3, 7, 8)], {}),
    ("global_max_pool3d", [(2, 4, 5, 4)], {}),
    (
        "fractional_max_pool2d",
        [(2, 1, 7, 8)],
        {"kernel_size": (2, 3), "output_size": (4, 5), "_random_samples": [[[0.25, 0.5]], [[0.75, 0.0]]]},
    ),
    (
        "fractional_max_pool3d",
        [(2, 7, 8, 5)],
        {"kernel_size": 2, "output_ratio": 0.6, "_random_samples": [[[0.25, 0.5, 0.1], [0.75, 0.0, 0.9]]]},
    ),
    ("max_unpool1d", [(2, 2)], {"indices": np.array([[0, 3], [2, 4]]), "kernel_size": 2, "output_size": (5,)}),
    ("max_unpool2d", [(1, 2, 1)], {"indices": np.array([[[2], [0]]]), "kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_unpool3d", [(1, 1, 1, 2, 1)], {"indices": np.array([[[[[15], [0]]]]]), "kernel_size": 2}),
    ("linear", [(5, 3), (4, 3), (4,)], {}),
    ("linear", [(2, 5, 3), (4, 3)], {}),
    ("linear", [(0, 3), (4, 3), (4,)], {}),
    ("relu", [(3, 5)], {}),
    ("sigmoid", [(3, 5)], {}),
    ("tanh", [(3, 5)], {}),
    *(
        (name, [(3, 5)], {})
        for name in ("relu6", "leaky_relu", "elu", "selu", "silu", "mish", "hardswish", "hardsigmoid")
    ),
    *((name, [(3, 5)], {}) for name in ("gelu", "hardtanh", "softplus", "softsign")),
    ("gelu", [(3, 5)], {"approximate": "tanh"}),
    ("hardtanh", [(3, 5)], {"min_val": -0.5, "max_val": 0.75}),
    ("softplus", [(3, 5)], {"beta": 2.0, "threshold": 1.0}),
    ("prelu", [(3, 5, 2), (5,)], {}),
    ("prelu", [(3, 5, 2), (1,)], {}),
    ("batch_norm", [(4, 3, 5)], {"running_mean": None, "running_var": None, "training": True}),
    ("batch_norm", [(4, 3)], {"running_mean": np.array([1.0, 0, 2]), "running_var": np.array([1.0, 4, 2]), "eps": 0.1}),
    ("instance_norm", [(2, 3, 5)], {}),
    ("group_norm", [(2, 6, 5)], {"num_groups": 2}),
    ("layer_norm", [(4, 3, 5)], {"normalized_shape": (3, 5)}),
    ("local_response_norm", [(2, 6, 3)], {"size": 4, "alpha": 0.5, "k": 2.0}),
    ("softmax", [(3, 5, 2)], {"dim": 1}),
    ("softmax", [(0, 5)], {"dim": 1}),
    ("log_softmax", [(3, 5, 2)], {"dim": -1}),
    ("flatten", [(3, 5, 2)], {"start_dim": 1}),
    ("unfold", [(2, 3, 5, 4)], {"kernel_size": (2, 3), "dilation": (2, 1), "padding": 1, "stride": (1, 2)}),
    ("fold", [(2, 12, 6)], {"output_size": (3, 4), "kernel_size": 2}),
    ("unflatten", [(3, 6)], {"dim": 1, "sizes": (2, 3)}),
    ("interpolate", [(2, 3, 5, 4)], {"size": (8, 3), "mode": "bilinear"}),
    ("interpolate", [(2, 3, 5)], {"size": 3, "mode": "area"}),
    ("pixel_shuffle", [(2, 8, 3, 4)], {"upscale_factor": 2}),
    ("pixel_unshuffle", [(2, 3, 4, 6)], {"downscale_factor": 2}),
    ("channel_shuffle", [(2, 6, 3)], {"groups": 3}),
    ("mse_loss", [(3, 5), (3, 5)], {}),
    ("mse_loss", [(3, 5), (3, 5)], {"reduction": "none"}),
    ("mse_loss", [(3, 5), (3, 5)], {"weight": np.arange(15.0).reshape(3, 5)}),
    ("l1_loss", [(3, 5), (3, 5)], {}),
    ("smooth_l1_loss", [(3, 5), (3, 5)], {"beta": 0.7, "reduction": "sum"}),
    ("huber_loss", [(3, 5), (3, 5)], {"delta": 0.7, "reduction": "none"}),
    ("binary_cross_entropy", [np.linspace(0.1, 0.9, 6), np.linspace(0.7, 0.2, 6)], {"weight": np.arange(6.0)}),
    ("binary_cross_entropy_with_logits", [(3, 5), (3, 5)], {"pos_weight": np.arange(5.0)}),
    (
        "kl_div",
        [np.linspace(-2, -1, 6).reshape(2, 3), np.linspace(0.1, 0.9, 6).reshape(2, 3)],
        {"reduction": "batchmean"},
    ),
    ("kl_div", [(3, 5), (3, 5)], {"log_target": True}),
    ("nll_loss", [(3, 4, 2)], {"target": np.array([[0, 3], [1, 1], [2, -1]]), "ignore_index": -1}),
    ("cross_entropy", [(3, 4)], {"target": np.array([3, -100, 1]), "label_smoothing": 0.1}),
    ("cross_entropy", [(2, 4)], {"target": np.array([3, 0]), "weight": np.array([1, 2, 3, 0.5]), "reduction": "none"}),
    ("cross_entropy", [(2, 4, 3), (2, 4, 3)], {"reduction": "sum", "label_smoothing": 0.1}),
    ("cross_entropy", [(4,)], {"target": np.array(2)}),
]
each_case = pytest.mark.parametrize(("name", "shapes", "kwargs"), CASES, ids=[case[0] for case in CASES])


def arrays_of(shapes, dtype=np.float64):
    rng = np.random.default_rng(sum(math.prod(np.shape(s) if isinstance(s, np.ndarray) else s) for s in shapes))
    return [np.asarray(s if isinstance(s, np.ndarray) else rng.normal(size=s), dtype) for s in shapes], rng


#: Pools whose arguments know of no batch: fractional ones have samples, the others indices.
MEAN_OR_MAXIMUM = ("max", "avg", "lp_", "ada", "glo")


def test_every_gradient_has_a_case():
    backwards = {name.removesuffix("_backward") for name in ref.__all__ if name.endswith("_backward")}
    forwards = {name for name in ref.__all__ if not name.endswith("_backward")}
    assert forwards == backwards
    assert forwards - {"dropout"} == {name for name, _, _ in CASES}  # dropout is random, and done by hand above


@each_case
def test_gradients_against_differences(name, shapes, kwargs):
    forward, backward = getattr(ref, name), getattr(ref, name + "_backward")
    arrays, rng = arrays_of(shapes)
    dy = rng.normal(size=np.shape(forward(*arrays, **kwargs)))
    gradients = backward(dy, *arrays, **kwargs)
    assert len(gradients) == len(arrays)
    for i, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        assert gradient.shape == array.shape
        direction, h = rng.normal(size=array.shape), 1e-5
        moved = [[*arrays[:i], array + sign * h * direction, *arrays[i + 1 :]] for sign in (1, -1)]
        up, down = (forward(*each, **kwargs) for each in moved)
        assert ((up - down) / (2 * h) * dy).sum() == pytest.approx((gradient * direction).sum(), rel=1e-7, abs=1e-8)


@each_case
def test_the_dtype_is_kept_and_the_sum_taken_wide(name, shapes, kwargs):
    forward, backward = getattr(ref, name), getattr(ref, name + "_backward")
    arrays, rng = arrays_of(shapes, np.float32)
    wide = [array.astype(np.float64) for array in arrays]
    y = forward(*arrays, **kwargs)
    assert_close(y, np.asarray(forward(*wide, **kwargs), np.float32), algorithm="exact")
    dy = rng.normal(size=np.shape(y)).astype(np.float32)
    expected = backward(dy.astype(np.float64), *wide, **kwargs)
    for gradient, exact in zip(backward(dy, *arrays, **kwargs), expected, strict=True):
        assert_close(gradient, exact.astype(np.float32), algorithm="exact")


@each_case
def test_arguments_are_left_as_they_were(name, shapes, kwargs):
    arrays, rng = arrays_of(shapes)
    dy = rng.normal(size=np.shape(getattr(ref, name)(*arrays, **kwargs)))
    for array in (dy, *arrays):
        array.flags.writeable = False
    getattr(ref, name)(*arrays, **kwargs)
    getattr(ref, name + "_backward")(dy, *arrays, **kwargs)


@pytest.mark.parametrize(
    ("name", "shapes", "kwargs"),
    # Some arguments of the others are arrays with a batch axis themselves.
    [case for case in CASES if case[0].startswith("conv") or ("_pool" in case[0] and case[0][:3] in MEAN_OR_MAXIMUM)],
)
def test_a_batch_is_its_samples_one_by_one(name, shapes, kwargs):
    forward = getattr(ref, name)
    (x, *rest), _ = arrays_of(shapes)
    if x.ndim == int(name[-2]) + 2:
        y = forward(x, *rest, **kwargs)
        assert y.ndim == x.ndim
        for sample, expected in zip(x, y, strict=True):
            nearly(forward(sample, *rest, **kwargs), expected)
    else:
        nearly(forward(x[np.newaxis], *rest, **kwargs)[0], forward(x, *rest, **kwargs))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("size", "kernel", "kwargs"),
    [
        ((7, 6), (3, 3), {"padding": 1}),
        ((7, 6), (3, 2), {"stride": 2, "padding": ((2, 0), (1, 2))}),
        ((5, 8), (2, 3), {"stride": (3, 2), "dilation": 2, "padding": "same"}),
        ((6, 6), (4, 1), {"stride": 3, "padding": "same_lower"}),
    ],
)
def test_adjoint_identity(size, kernel, kwargs, mode):
    """Convolution is linear in its input: <conv(x), y> = <x, gradient(y)>, and the gradient is conv_transpose(y)."""
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(2, 4, *size)), rng.normal(size=(6, 2, *kernel))
    forward = ref.conv2d(x, w, groups=2, padding_mode=mode, **kwargs)
    y = rng.normal(size=forward.shape)
    dx, _ = ref.conv2d_backward(y, x, w, groups=2, padding_mode=mode, **kwargs)
    assert (forward * y).sum() == pytest.approx((x * dx).sum(), rel=1e-12)
    if mode == "zeros" and not isinstance(kwargs["padding"], str):
        short = [a - b for a, b in zip(size, ref.conv_transpose2d(y, w, groups=2, **kwargs).shape[2:], strict=True)]
        nearly(ref.conv_transpose2d(y, w, output_padding=short, groups=2, **kwargs), dx)


def test_transposed_convolution_is_the_adjoint():
    """Of the convolution with zeros; of a circular one where the output is stride times as long as the input."""
    rng = np.random.default_rng(4)
    y, w = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(3, 2, 4, 3))
    for mode, paddings in (
        ("zeros", (1, ((2, 0), (1, 1)), "same", "same_lower")),
        ("circular", ("same", "same_lower")),
    ):
        for padding in paddings:
            x = rng.normal(size=ref.conv_transpose2d(y, w, stride=2, padding=padding, padding_mode=mode).shape)
            convolved = ref.conv2d(x, w, stride=2, padding=padding, padding_mode=mode)
            back = ref.conv_transpose2d(y, w, stride=2, padding=padding, padding_mode=mode)
            assert (convolved * y).sum() == pytest.approx((x * back).sum(), rel=1e-12)


def test_transposed_convolution_in_modes_by_hand():
    """The input (1, 2, 3), extended by what reaches the output, spread by (1, 10, 100), and cut."""
    x, w = row(1, 2, 3), row(1, 10, 100)
    # Stride 1, nothing taken off: two pixels before and behind reach the output.
    check(ref.conv_transpose1d(x, w, padding_mode="replicate"), row(111, 112, 123, 233, 333))  # 1 1 | 1 2 3 | 3 3
    check(ref.conv_transpose1d(x, w, padding_mode="reflect"), row(321, 212, 123, 232, 321))  # 3 2 | 1 2 3 | 2 1
    check(ref.conv_transpose1d(x, w, padding_mode="circular"), row(231, 312, 123, 231, 312))  # 2 3 | 1 2 3 | 1 2
    # Stride 2: pixel p reaches the rows 2p to 2p + 2; with one row taken off, 2p - 1 to 2p + 1.
    check(ref.conv_transpose1d(x, w, stride=2, padding_mode="circular"), row(301, 10, 102, 20, 203, 30, 301))
    check(ref.conv_transpose1d(x, w, stride=2, padding=1, padding_mode="replicate"), row(10, 102, 20, 203, 30))
    check(
        ref.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1, padding_mode="replicate"),
        row(10, 102, 20, 203, 30, 303),
    )
    grads = ref.conv_transpose1d_backward(
        row(1, 0, 0, 0, 1000), x, w, padding_mode="replicate"
    )  # row 0 = 111 x[0], row 4 = 111 x[2]
    check(grads[0], row(111, 0, 111000))
    check(grads[1], row(3001, 3001, 3001))


def test_pooling_of_a_window_that_meets_no_pixel():
    kwargs = {"kernel_size": 2, "stride": 1, "padding": 2, "dilation": 3}  # the second window: at -1 and at 2
    y, indices = ref.max_pool1d(row(7, 8), **kwargs, return_indices=True)
    check(y, row(8, -np.inf, 7))
    assert indices.tolist() == [[[1, -1, 0]]]
    check(ref.max_pool1d_backward(row(1, 10, 100), row(7, 8), **kwargs)[0], row(100, 1))
    check(ref.avg_pool1d(row(7, 8), 2, stride=1, padding=1), row(3.5, 7.5, 4))
