"""Corners that nothing looked at: lines that no test ran, and changes of the code that every test passed."""

import math

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import _geometry, kernels, nn
from cyconv import functional as F
from cyconv._plan import direct
from cyconv.functional import _raw


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# ---------------------------------------------------------------------------------------------- sizes


@pytest.fixture
def endless_memory(monkeypatch):
    monkeypatch.setattr(_geometry, "physical_memory", lambda: math.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.pad(x, (2**31 - 1, 5)), "pad: no dimension of the output may be longer than 2147483647"),
        (lambda x: F.max_pool2d(np.broadcast_to(x, (1, 1, 2**16, 2**16)), 2), "max_pool2d: a plane of the input has m"),
        (
            lambda x: F.max_unpool2d(x, np.zeros((1, 1, 1, 1), int), 2, 1, 0, (2**16, 2**16)),
            "max_unpool2d: output_size must be between",
        ),
        (
            lambda x: F.max_unpool2d(x, np.zeros((1, 1, 1, 1), int), 2**16, 1, 0),
            "max_unpool2d: a plane of the output would have more than 2147483647 pixels",
        ),
    ],
)
def test_sizes_that_kernels_cannot_count_are_refused_whatever_the_memory(call, message, endless_memory):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((1, 1, 1, 1), np.float32))


def test_memory_is_counted_in_bytes_of_float32(monkeypatch):
    monkeypatch.setattr(_geometry, "physical_memory", lambda: 4.0 * 100)
    assert F.pad(np.ones(1, np.float32), (99, 0)).shape == (100,)
    with pytest.raises(
        MemoryError, match=r"pad: the output of shape .* takes 404 bytes as float32, and this machine has 400"
    ):
        F.pad(np.ones(1, np.float32), (100, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rest", [1, 3])
def test_two_taps_apart_over_a_row_whose_last_stretch_would_be_short(dtype, rest, monkeypatch):
    """A stretch that would leave less than a vector at the end of the row is made longer."""
    blocks, plan = [], direct._patches

    def watched(geometry, target):
        images, arguments = plan(geometry, target)
        blocks.append(arguments["block"][1])
        return images, arguments

    monkeypatch.setattr(direct, "_patches", watched)
    lanes = kernels.load("direct").LANES[np.dtype(dtype).char]

    def stretch(pixels):
        return math.ceil(direct.even(pixels, direct.FLAT_VECTOR_PIXELS) / (3 * lanes)) * 3 * lanes

    pixels = next((p for p in range(lanes, 10**5) if p % stretch(p) == min(rest, lanes - 1)), 0)
    if pixels == 0:
        pytest.skip("vectors so short that a stretch leaves at least one")
    x, w = normal(1, 3, pixels, dtype=dtype), normal(3, 2, 2, dtype=dtype)
    expected = np.einsum("ncp,cks->nkps", x.astype(float), w.astype(float)).reshape(1, 2, 2 * pixels)
    assert_close(F.conv_transpose1d(x, w, None, 2), expected.astype(dtype), algorithm="direct")
    if blocks:  # not where the processor has no such walk
        assert blocks[-1] > stretch(pixels)
        assert pixels % blocks[-1] == 0 or pixels % blocks[-1] >= lanes


# ---------------------------------------------------------------------------------------------- convolution


def test_explain_refuses_what_is_no_shape_and_tells_about_the_reference():
    layer = nn.Conv2d(2, 3, 3, algorithm="reference")
    with pytest.raises(TypeError, match=r"explain: input_shape must be a shape such as \(1, 3, 224, 224\), got 5"):
        cyconv.explain(layer, 5)
    with pytest.raises(ValueError, match="explain: input_shape must not have negative lengths"):
        cyconv.explain(layer, (1, 2, -3, 4))
    found = cyconv.explain(layer, (1, 2, 8, 8))
    assert (found.chosen, found.gradients) == ("reference", ("reference", "reference"))
    assert "GiB" in str(cyconv.explain(nn.Conv2d(64, 64, 3), (64, 64, 512, 512)))


def test_a_layer_knows_more_shapes_than_it_remembers():
    layer = nn.Conv1d(2, 3, 3, rng=0)
    for length in [*range(3, 80), *range(3, 80)]:
        x = normal(1, 2, length, dtype="float32")
        np.testing.assert_array_equal(layer(x), F.conv1d(x, layer.weight.data, layer.bias.data))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_single_pixels_are_the_same_from_packed_weights(rank):
    layer = getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3, groups=2, rng=0)
    x = normal(2, 4, *(1,) * rank, dtype="float32")
    expected = layer(x)
    layer.eval()
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), expected)


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(2, 3, 3, rng=0), lambda: nn.ConvTranspose2d(2, 3, 3, rng=0)])
def test_a_gradient_that_does_not_fit_is_refused_and_the_pass_stays(make):
    layer = make()
    x = normal(1, 2, 6, 6, dtype="float32")
    y = layer(x)
    for wrong, error in ((y.astype(np.float64), TypeError), (y[:, :, :-1], ValueError), (y[0], ValueError)):
        with pytest.raises(error, match="grad_output"):
            layer.backward(wrong)
        assert layer.weight.grad is None
    assert layer.backward(y).shape == x.shape


@pytest.mark.parametrize("step", [2, 3, 100, 2**31 - 1])
@pytest.mark.parametrize("last", [0, 1])
def test_a_stride_past_the_input_changes_no_choice_for_callers_of_pointers(step, last):
    """A plan for pointers was made for a shorter stride, and may have had another algorithm."""
    sizes = ((2, 2, 3), (1, 3, 1), (step, 2, 1), ((0, 3), (1, 0), (1, 0)))
    walks = _raw.conv_walks(
        rank=3, batch=8, in_channels=32, out_channels=8, input=sizes[0], kernel=sizes[1], stride=sizes[2],
        padding=sizes[3], dilation=(1, 1, 1), groups=2, dtype=0, channels_last=last, algorithm=0, keep_weights=0,
    )  # fmt: skip
    geometry = _geometry.conv_geometry(
        "conv3d", 3, (8, 32, 2, 2, 3), (8, 16, 1, 3, 1), None, sizes[2], sizes[3], (1, 1, 1), 2, "zeros"
    )
    assert walks.geometry is geometry  # the same object for the same sizes


# ---------------------------------------------------------------------------------------------- pointwise and glue


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((-1, -1), r"unflatten: sizes must be lengths, of which one may be -1, got \(-1, -1\)"),
        ((-2, 3), r"unflatten: sizes must be lengths, of which one may be -1, got \(-2, 3\)"),
        ((-1, 4), r"unflatten: sizes \(-1, 4\) do not multiply up to 6"),
        ((2, 2), r"unflatten: sizes \(2, 2\) do not multiply up to 6"),
        ((-1, 0), r"unflatten: sizes \(-1, 0\) do not multiply up to 6"),
    ],
)
def test_sizes_of_unflatten(sizes, message):
    with pytest.raises(ValueError, match=message):
        F.unflatten(np.ones((2, 6)), 1, sizes)


def test_the_largest_of_small_gradients():
    assert F.total_norm([np.array([0.25, -0.5]), np.array([0.125])], math.inf) == 0.5
    assert F.total_norm([np.zeros(3)], math.inf) == 0


@pytest.mark.parametrize("operation", [F.add, F.multiply])
def test_no_input_has_the_shape_of_the_result(operation):
    a, b = normal(3, 1), normal(1, 4)
    numpys = np.add if operation is F.add else np.multiply
    np.testing.assert_array_equal(operation(a, b), numpys(a, b))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3), (4, 3, 5, 2)])
@pytest.mark.parametrize("order", ["C", "channels last"])
def test_prelu_with_a_slope_for_each_channel(shape, order):
    x, w = normal(*shape), np.array([0.5, -0.25, 2.0])
    if order == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    each = w.reshape(-1, *(1,) * (len(shape) - 2))
    np.testing.assert_array_equal(F.prelu(x, w), np.where(x > 0, x, each * x))
    dx, dw = F.prelu_backward(np.ones_like(x), x, w)
    np.testing.assert_array_equal(dx, np.where(x > 0, 1.0, np.broadcast_to(each, shape)))
    wanted = np.where(x > 0, 0, x).sum(tuple(axis for axis in range(len(shape)) if axis != 1))
    assert_close(dw, wanted, algorithm="sum")
    for size in (2, 4):
        with pytest.raises(ValueError, match="one element for each of the 3 channels"):
            F.prelu(x, np.ones(size))


def test_hardtanh_of_one_point():
    np.testing.assert_array_equal(F.hardtanh(np.array([-1.0, 0.5, 2.0]), 0.5, 0.5), [0.5, 0.5, 0.5])


# ---------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("weight", [(2, 1, 4), (1, 3, 1), (4,), (2, 3, 1), (1, 1, 1), (3, 1)])
@pytest.mark.parametrize("order", ["C", "channels last", "Fortran"])
def test_weights_of_losses_along_any_axes(weight, order):
    x, t, w = np.abs(normal(2, 3, 4)) % 1, np.abs(normal(2, 3, 4, seed=1)) % 1, np.abs(normal(*weight, seed=2))
    if order == "channels last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    elif order == "Fortran":
        x = np.asfortranarray(x)
    wanted = -w * (t * np.log(x) + (1 - t) * np.log(1 - x))
    assert_close(F.binary_cross_entropy(x, t, w, "none"), wanted, algorithm="sum")


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("label", [5, -1, 2**40])
def test_a_label_that_is_no_class_is_found_wherever_it_stands(position, label):
    labels = np.array([0, 1, 2])
    labels[position] = label
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(ValueError, match=rf"{loss.__name__}: .*{label}"):
            loss(normal(3, 5), labels)


@pytest.mark.parametrize("ignored", [2**63 - 1, -(2**63), 9])
def test_any_number_of_64_bits_may_be_ignored(ignored):
    labels = np.array([0, ignored, 2])
    expected = F.cross_entropy(normal(3, 5)[[0, 2]], labels[[0, 2]])
    assert F.cross_entropy(normal(3, 5), labels, ignore_index=ignored) == expected
    with pytest.raises(ValueError, match="cross_entropy: ignore_index"):
        F.cross_entropy(normal(3, 5), labels, ignore_index=2**63)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.l1_loss(x, x, "most"), "l1_loss: reduction must be"),
        (lambda x: F.l1_loss_backward(1.0, x, x, "most"), "l1_loss_backward: reduction must be"),
        (lambda x: F.mse_loss_backward(1.0, x, x, "most"), "mse_loss_backward: reduction must be"),
        (lambda x: F.huber_loss_backward(1.0, x, x, "most"), "huber_loss_backward: reduction must be"),
        (lambda x: F.huber_loss_backward(1.0, x, x, "sum", 0.0), "huber_loss_backward: delta must be"),
        (lambda x: F.huber_loss(x, x, "sum", 0.0), "huber_loss: delta must be"),
        (lambda x: F.smooth_l1_loss_backward(1.0, x, x, "sum", -1.0), "smooth_l1_loss_backward: beta must be"),
    ],
)
def test_reductions_and_widths_of_distances(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones(3))
    assert F.smooth_l1_loss_backward(1.0, np.ones(3), np.zeros(3), "sum", 0.0)[0].tolist() == [1, 1, 1]


# ---------------------------------------------------------------------------------------------- normalization


def test_statistics_may_be_any_arrays_of_their_shape():
    x, dy = normal(2, 3, 8), normal(2, 3, 8, seed=1)
    mean, variance = x.mean((0, 2)).reshape(1, 3), x.var((0, 2)).reshape(1, 3)
    usual = F.batch_norm_backward(dy, x, None, None, None, None, True)
    for given in ((mean, variance), (mean.tolist(), variance.tolist())):
        found = F.batch_norm_backward(dy, x, None, None, None, None, True, statistics=given)
        assert_close(found[0], usual[0], algorithm="normalization")
    for given in ((mean, variance[:, :2]), (mean[:, :2], variance)):
        with pytest.raises(ValueError, match=r"statistics must be what forward returned, two arrays of shape \(1, 3\)"):
            F.batch_norm_backward(dy, x, None, None, None, None, True, statistics=given)


def test_running_statistics_are_only_read_backward():
    x, mean, var = normal(2, 3, 8), np.zeros(3), np.ones(3)
    mean.flags.writeable = var.flags.writeable = False
    for backward in (F.batch_norm_backward, F.instance_norm_backward):
        (dx,) = backward(x, x, mean, var, None, None, False)
        assert_close(dx, x / math.sqrt(1 + 1e-5), algorithm="normalization")


# ---------------------------------------------------------------------------------------------- pooling and resizing


def test_arguments_that_were_never_wrong_before():
    x = np.ones((1, 1, 6, 6), np.float32)
    with pytest.raises(TypeError, match="fractional_max_pool2d: mixed dtypes: _random_samples float64, input float32"):
        F.fractional_max_pool2d(x, 2, 3, _random_samples=np.full((1, 1, 2), 0.5))
    with pytest.raises(ValueError, match="fractional_max_pool2d: output_ratio must be a number or 2 numbers"):
        F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.5, 0.5))
    with pytest.raises(TypeError, match="interpolate: antialias must be True or False, got 'yes'"):
        F.interpolate(x, 2, mode="bilinear", antialias="yes")
    with pytest.raises(ValueError, match="total_norm: norm_type must be above 0, got -1"):
        F.total_norm([x], -1)


@pytest.mark.parametrize("rows", [0, 5, 7])
def test_rows_of_fold_are_whole_windows(rows):
    with pytest.raises(ValueError, match="fold: "):
        F.fold(np.ones((1, rows, 4)), (3, 3), 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.batch_norm(x, None, None, None, None, True, 0.1, -0.5),
        lambda x: F.batch_norm_backward(x, x, None, None, None, None, True, 0.1, -0.5),
        lambda x: F.instance_norm(x, eps=-0.5),
        lambda x: F.layer_norm(x, (8,), eps=-0.5),
        lambda x: F.group_norm(x, 1, eps=-0.5),
        lambda x: nn.LayerNorm(8, eps=-0.5)(x.astype(np.float32)),
    ],
)
def test_eps_is_not_negative(call):
    with pytest.raises(ValueError, match=r"eps must be at least 0, got -0\.5"):
        call(normal(2, 3, 8))


def test_fold_gives_c_contiguous_images():
    assert F.fold(normal(2, 12, 9), (4, 4), 2).flags.c_contiguous


def test_slopes_of_prelu_have_one_axis():
    for shape in ((3, 1), (1, 3), (1, 1, 1)):
        with pytest.raises(ValueError, match=r"prelu: weight must have shape \(1,\), or one element for each"):
            F.prelu(normal(2, 3, 4), np.ones(shape))


def test_a_class_without_weight_has_no_part_even_where_its_probability_is_nothing():
    x = np.array([[0.5, -np.inf, 1.0]])
    t, w = np.array([[0.5, 0.25, 0.25]]), np.array([1.0, 0.0, 2.0])
    dx, dt = F.cross_entropy_backward(1.0, x, t, w, reduction="sum", target_grad=True)
    log = x - np.log(np.exp(x[0, 0]) + np.exp(x[0, 2]))
    np.testing.assert_allclose(dt, [[-log[0, 0], 0, -2 * log[0, 2]]], rtol=1e-14)
    assert np.isfinite(dx).all()
