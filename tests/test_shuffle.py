"""Numbers that are only moved: pixel and channel shuffles, unflatten."""

import numpy as np
import pytest

import cyconv
from cyconv import functional as F
from cyconv import nn
from cyconv import reference as ref


def counted(*shape, dtype="float64"):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


#: Operation, layer, its arguments, shape of the input.
CASES = [
    ("pixel_shuffle", "PixelShuffle", (2,), (2, 8, 3, 5)),
    ("pixel_shuffle", "PixelShuffle", (3,), (9, 2, 3)),
    ("pixel_shuffle", "PixelShuffle", (2,), (2, 2, 4, 3, 1)),
    ("pixel_shuffle", "PixelShuffle", (1,), (2, 3, 4, 5)),
    ("pixel_shuffle", "PixelShuffle", (2,), (0, 4, 2, 2)),
    ("pixel_unshuffle", "PixelUnshuffle", (2,), (2, 3, 4, 6)),
    ("pixel_unshuffle", "PixelUnshuffle", (3,), (1, 3, 6)),
    ("channel_shuffle", "ChannelShuffle", (2,), (2, 6, 3, 2)),
    ("channel_shuffle", "ChannelShuffle", (3,), (2, 12, 5)),
    ("channel_shuffle", "ChannelShuffle", (4,), (1, 4, 2, 3, 2)),
    ("unflatten", "Unflatten", (1, (2, 3)), (4, 6, 2)),
    ("unflatten", "Unflatten", (-1, (3, 1, 4)), (2, 12)),
    ("unflatten", "Unflatten", (0, (5,)), (5, 2)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "layer", "arguments", "shape"), CASES)
def test_shuffles_are_those_of_the_oracle_and_of_torch(name, layer, arguments, shape, dtype):
    x = counted(*shape, dtype=dtype)
    expected = getattr(ref, name)(x, *arguments)
    dy = np.flip(counted(*expected.shape, dtype=dtype))
    (gradient,) = getattr(ref, f"{name}_backward")(dy, x, *arguments)
    for order in (np.ascontiguousarray, last) if len(shape) > 2 else (np.ascontiguousarray,):
        y = getattr(F, name)(order(x), *arguments)
        np.testing.assert_array_equal(y, expected)
        assert y.dtype == dtype
        (dx,) = getattr(F, f"{name}_backward")(dy, order(x), *arguments)
        np.testing.assert_array_equal(dx, gradient)
        if order is last and name != "unflatten" and x.size:
            assert np.moveaxis(y, 1, -1).flags.c_contiguous
    module = getattr(nn, layer)(*arguments)
    np.testing.assert_array_equal(module(x), expected)
    np.testing.assert_array_equal(module.backward(dy), gradient)
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, layer)(*arguments)
    np.testing.assert_array_equal(expected, theirs(torch.from_numpy(x)).numpy())
    assert repr(module) == repr(theirs)


def test_shuffles_by_hand():
    np.testing.assert_array_equal(F.pixel_shuffle(counted(4, 1, 2), 2), [[[0, 2, 1, 3], [4, 6, 5, 7]]])
    np.testing.assert_array_equal(ref.pixel_shuffle(counted(4, 1, 2), 2), [[[0, 2, 1, 3], [4, 6, 5, 7]]])
    np.testing.assert_array_equal(F.channel_shuffle(counted(1, 6, 1), 3).ravel(), [0, 2, 4, 1, 3, 5])
    np.testing.assert_array_equal(ref.channel_shuffle(counted(1, 6, 1), 3).ravel(), [0, 2, 4, 1, 3, 5])
    assert F.unflatten(counted(2, 12), 1, (3, -1)).shape == (2, 3, 4)
    assert F.unflatten(counted(0, 4), 0, (0, 2)).shape == (0, 2, 4)


def test_a_shuffle_undone_is_what_was_there():
    x = counted(2, 12, 4, 6)
    np.testing.assert_array_equal(F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), x)
    np.testing.assert_array_equal(F.channel_shuffle(F.channel_shuffle(x, 3), 4), x)
    np.testing.assert_array_equal(F.flatten(F.unflatten(x, 1, (3, 4)), 1, 2), x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.pixel_shuffle(counted(1, 6, 2, 2), 2), ValueError, r"upscale_factor² = 2² = 4, got 6"),
        (
            lambda: F.pixel_shuffle(counted(4, 2), 2),
            ValueError,
            r"input must have shape \(..., C, H, W\), got \(4, 2\)",
        ),
        (lambda: F.pixel_shuffle(counted(1, 4, 2, 2), 2.0), TypeError, "upscale_factor must be an int, got 2.0"),
        (lambda: F.pixel_shuffle(counted(1, 4, 2, 2), 0), ValueError, "upscale_factor must be at least 1, got 0"),
        (lambda: F.pixel_unshuffle(counted(1, 4, 3, 4), 2), ValueError, "divisible by downscale_factor 2, got 3 x 4"),
        (lambda: F.channel_shuffle(counted(1, 4, 3), 3), ValueError, "divisible by groups, got 4 and 3 groups"),
        (lambda: F.channel_shuffle(counted(1, 4), 2), ValueError, r"input must have shape \(N, C, \*spatial\)"),
        (lambda: F.unflatten(counted(2, 12), 1, (5, -1)), ValueError, r"sizes \(5, -1\) do not multiply up to 12"),
        (lambda: F.unflatten(counted(2, 12), 1, (-1, -1)), ValueError, "of which one may be -1"),
        (lambda: F.unflatten(counted(2, 12), 2, (3, 4)), ValueError, r"dim must be in \[-2, 2\)"),
        (lambda: F.unflatten(counted(2, 12), 1.0, (3, 4)), TypeError, "dim must be an int, got 1.0"),
        (lambda: F.unflatten(counted(2, 12), 1, 12), TypeError, "sizes must be a tuple of at least one int, got 12"),
        (lambda: F.unflatten(counted(2, 12), 1, ()), TypeError, "at least one int"),
        (lambda: F.pixel_shuffle_backward(counted(2, 2), counted(4, 1, 1), 2), ValueError, "grad_output"),
        (lambda: F.unflatten_backward(counted(2, 2), counted(4), 0, (4, 1)), ValueError, r"must have shape \(4, 1\)"),
    ],
)
def test_mistakes_are_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("shape", [(16, 3, 2), (2, 16, 3, 2), (2, 3, 16, 3, 2)])
def test_results_have_the_memory_order_of_the_input_with_a_batch_and_without(shape):
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(np.ones(shape), -3, -1)), -1, -3)
    for function, result in ((F.pixel_shuffle, F.pixel_shuffle(x, 2)), (F.pixel_unshuffle, F.pixel_unshuffle(x, 1))):
        assert np.moveaxis(result, -3, -1).flags.c_contiguous, function.__name__
    y = F.pixel_shuffle(x, 2)
    (dx,) = F.pixel_shuffle_backward(y, x, 2)
    assert dx.strides == x.strides


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("pixel_shuffle", (2,)),
        ("pixel_unshuffle", (2,)),
        ("channel_shuffle", (2,)),
        ("flatten", (1,)),
        ("unflatten", (1, (2, 2))),
    ],
)
def test_gradients_of_another_dtype_are_refused(name, how):
    x = np.ones((1, 4, 2, 2), np.float32)
    dy = np.ones(getattr(F, name)(x, *how).shape)
    with pytest.raises(TypeError, match=f"{name}_backward: mixed dtypes: grad_output float64, input float32"):
        getattr(F, f"{name}_backward")(dy, x, *how)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [np.ascontiguousarray, last])
@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_sizes_around_a_vector(factor, order, dtype):
    """Whole blocks of the kernel's transpose, rests of rows and of streams, several tasks."""
    for channels, height, width in ((1, 2, 3), (4, 3, 4), (5, 2, 9), (16, 20, 17)):
        x = order(counted(2, channels * factor**2, height, width, dtype=dtype))
        y = ref.pixel_shuffle(x, factor)
        dealt = ref.channel_shuffle(x, factor)
        for threads in (1, 3):
            with cyconv.threads(threads):
                np.testing.assert_array_equal(F.pixel_shuffle(x, factor), y)
                np.testing.assert_array_equal(F.pixel_unshuffle(order(y), factor), x)
                np.testing.assert_array_equal(F.channel_shuffle(x, factor), dealt)
                np.testing.assert_array_equal(F.channel_shuffle_backward(order(dealt), x, factor)[0], x)
