"""Convolution of signals and volumes: the same kernels as for images, with one dimension less or more."""

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import Conv1d, Conv3d, _plan, reference
from cyconv import functional as F
from cyconv._geometry import conv_geometry

# (input shape, (output channels, *kernel), other arguments)
SIGNALS = [
    ((2, 3, 50), (5, 7), {"stride": 2, "padding": 3}),
    ((1, 16, 2000), (40, 9), {"padding": "same"}),
    ((2, 8, 100), (16, 2), {"dilation": 16}),
    ((2, 18, 61), (37, 3), {"padding": 1}),
    ((3, 18, 62), (37, 3), {"stride": 2, "padding": 1}),
    ((3, 5, 300), (7, 5), {"padding": ((3, 4),), "dilation": 3}),
    ((1, 1, 3000), (4, 101), {"padding": 50}),
    ((2, 6, 33), (6, 3), {"groups": 6, "padding": 1}),
    ((3, 6, 33), (6, 1), {}),
    ((0, 3, 8), (2, 3), {}),
]
VOLUMES = [
    ((2, 3, 5, 7, 9), (10, 3, 3, 3), {"padding": 1}),
    ((1, 8, 6, 8, 8), (33, 2, 3, 1), {"stride": (2, 1, 2), "padding": ((1, 0), (1, 1), (0, 0))}),
    ((2, 4, 7, 6, 20), (8, 3, 2, 3), {"groups": 2, "dilation": (2, 1, 2), "padding": (2, 0, 1)}),
    ((2, 18, 4, 9, 11), (35, 3, 3, 3), {"padding": ((0, 2), (1, 1), (2, 0))}),
    ((2, 18, 7, 13, 15), (35, 3, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 5, 9, 12, 8), (7, 2, 3, 4), {"stride": (3, 1, 2), "padding": ((2, 0), (1, 0), (0, 3))}),
    ((1, 3, 6, 9, 8), (4, 2, 5, 1), {"padding": 2, "dilation": (3, 2, 1)}),
    ((1, 5, 4, 4, 4), (7, 1, 1, 1), {}),
    ((1, 5, 4, 4, 4), (7, 1, 1, 1), {"stride": 2}),
    ((2, 5, 7, 3, 40), (7, 1, 1, 1), {"stride": (3, 1, 1)}),
    ((1, 64, 1, 5, 6), (40, 1, 3, 3), {"padding": (1, 2, 2)}),  # depths of padding alone
    ((1, 2, 9, 5, 5), (3, 3, 3, 3), {"stride": 3}),
    ((1, 4, 5, 9, 9), (4, 3, 3, 3), {"groups": 4, "padding": 1}),
    ((0, 3, 4, 4, 4), (2, 3, 3, 3), {}),
]
CASES = [("conv1d", *case) for case in SIGNALS] + [("conv3d", *case) for case in VOLUMES]


def in_memory_order(x, order):
    return x if order == "planes" else np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def how(stride=1, padding=0, dilation=1, groups=1):
    return stride, padding, dilation, groups, "zeros"


@pytest.mark.parametrize("order", ["planes", "channels last"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd_f2", "winograd_f4", "im2col", "reference"])
@pytest.mark.parametrize(("name", "shape", "kernel", "arguments"), CASES)
def test_forward_and_gradients(name, shape, kernel, arguments, algorithm, dtype, order):
    if algorithm != "auto":
        geometry = conv_geometry(
            name,
            len(shape) - 2,
            shape,
            (kernel[0], shape[1] // arguments.get("groups", 1), *kernel[1:]),
            None,
            *how(**arguments),
        )
        if against := _plan.obstacle(algorithm, geometry, order != "planes"):
            pytest.skip(against)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal((kernel[0], shape[1] // arguments.get("groups", 1), *kernel[1:])).astype(dtype)
    bias = rng.standard_normal(kernel[0]).astype(dtype)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    y = getattr(reference, name)(*wide, **arguments)
    dy = rng.standard_normal(y.shape).astype(dtype)
    expected = [y, *getattr(reference, f"{name}_backward")(dy.astype(np.float64), *wide, **arguments)]
    found = []
    for threads in (1, 2):
        with cyconv.threads(threads):
            given = (in_memory_order(x, order), weight, bias)
            forward = getattr(F, name)(*given, **arguments, algorithm=algorithm)
            found.append([forward, *getattr(F, f"{name}_backward")(dy, *given, **arguments, algorithm=algorithm)])
    for one, two, right in zip(*found, expected, strict=True):
        np.testing.assert_array_equal(one, two)
        assert_close(one, right.astype(dtype), algorithm="winograd_f4" if algorithm == "auto" else algorithm)


def test_im2col_says_that_it_has_no_volumes():
    with pytest.raises(ValueError, match=r"conv3d: algorithm 'im2col' cannot .* one or two spatial dimensions, not 3"):
        F.conv3d(np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), algorithm="im2col")


@pytest.mark.parametrize(("layer", "shape"), [(Conv1d, (3, 11)), (Conv3d, (3, 5, 6, 7))])
def test_layers(layer, shape):
    made = layer(3, 4, 3, padding=1, dtype="float64", rng=0)
    x = np.random.default_rng(1).standard_normal((2, *shape))
    y = made(x)
    assert y.shape == (2, 4, *shape[1:])
    twin = getattr(F, layer.__name__.lower())
    np.testing.assert_array_equal(y, twin(x, made.weight.data, made.bias.data, padding=1))
    np.testing.assert_array_equal(made(x[0]), y[0])
    made(x)
    dx = made.backward(y)
    wanted = getattr(F, f"{twin.__name__}_backward")(y, x, made.weight.data, made.bias.data, padding=1)
    for one, other in zip((dx, made.weight.grad, made.bias.grad), wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=f"{layer.__name__}: input must have shape"):
        made(np.ones(3))


#: (length, taps), arguments: windows that step over all of the input, and taps that lie on both sides of it
BESIDE = {"stride": ((2, 1), {"stride": 5, "padding": 3}), "dilation": ((1, 2), {"dilation": 4, "padding": 2})}


@pytest.mark.parametrize("how", BESIDE)
@pytest.mark.parametrize("channels", [1, 8, 48, 130])
@pytest.mark.parametrize("order", ["planes", "channels-last"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_windows_that_see_nothing_but_padding(rank, order, channels, how):
    """Outputs are the bias, and no pixel has a gradient."""
    (length, taps), arguments = BESIDE[how]
    x = in_memory_order(np.ones((2, channels, *(length,) * rank), np.float32), order)
    weight, bias = np.ones((channels, channels, *(taps,) * rank), np.float32), np.arange(channels, dtype=np.float32)
    y = getattr(F, f"conv{rank}d")(x, weight, bias, **arguments)
    assert y.shape == x.shape
    assert (y == bias.reshape(-1, *(1,) * rank)).all()
    dx, dw, db = getattr(F, f"conv{rank}d_backward")(np.ones_like(y), x, weight, bias, **arguments)
    assert not dx.any()
    assert not dw.any()
    assert (db == 2 * length**rank).all()
