"""What holds for every public layer: one table of calls, and the promises that all of them keep."""

import copy
import inspect
import pickle

import numpy as np
import pytest
from tolerances import assert_close

import cyconv
from cyconv import nn

#: Arguments of convolutions that are not square, in the ranks 1, 2, 3.
SIZES = {1: (9,), 2: (7, 8), 3: (5, 6, 7)}
WINDOWS = {1: (3,), 2: (3, 2), 3: (3, 2, 1)}
WIDTHS = {1: (1, 2), 2: (1, 2, 0, 1), 3: (1, 2, 0, 1, 2, 0)}


def normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


class Case:
    """How a layer is made and what it is called with: shapes of normal numbers, or arrays."""

    def __init__(self, *arguments, inputs=((2, 4, 7, 8),), **keywords):
        self.arguments, self.keywords, self.inputs = arguments, keywords, inputs

    def make(self, name, dtype="float64"):
        own = inspect.signature(getattr(nn, name)).parameters
        more = {key: value for key, value in (("dtype", dtype), ("rng", 1)) if key in own}
        return getattr(nn, name)(*self.arguments, **self.keywords, **more)

    def arrays(self, dtype="float64"):
        rng = np.random.default_rng(0)
        found = [item if isinstance(item, np.ndarray) else rng.standard_normal(item) for item in self.inputs]
        return [item.astype(dtype if item.dtype.kind == "f" else item.dtype) for item in found]


def _of_ranks(name, case):
    return {f"{name}{rank}d": case(rank, (2, 4, *SIZES[rank])) for rank in SIZES}


def _shuffled_indices(*shape):
    """Return for each channel places in it, none of them twice."""
    rng = np.random.default_rng(3)
    plane = int(np.prod(shape[2:]))
    each = [rng.permutation(2 ** len(shape[2:]) * plane)[:plane] for _ in range(shape[0] * shape[1])]
    return np.array(each, np.int64).reshape(shape)


ELEMENTS = Case(inputs=((3, 4, 5),))
CASES = {
    **_of_ranks("Conv", lambda r, x: Case(4, 6, WINDOWS[r], 2, 1, 1, 2, inputs=(x,))),
    **_of_ranks("LazyConv", lambda r, x: Case(6, WINDOWS[r], 1, "same", padding_mode="reflect", inputs=(x,))),
    **_of_ranks("ConvTranspose", lambda r, x: Case(4, 6, WINDOWS[r], 2, 1, 1, 2, inputs=(x,))),
    **_of_ranks("LazyConvTranspose", lambda r, x: Case(6, WINDOWS[r], bias=False, inputs=(x,))),
    **_of_ranks("SeparableConv", lambda r, x: Case(4, 6, WINDOWS[r], padding=1, depth_multiplier=2, inputs=(x,))),
    **_of_ranks("MaxPool", lambda r, x: Case(WINDOWS[r], 2, 0, 2, False, True, inputs=(x,))),
    **_of_ranks("AvgPool", lambda r, x: Case(WINDOWS[r], 2, 0, True, False, 5, inputs=(x,))),
    **_of_ranks("LPPool", lambda r, x: Case(3.0, WINDOWS[r], 2, inputs=(np.abs(normal(*x)),))),
    **_of_ranks("AdaptiveAvgPool", lambda r, x: Case((2, 3, 4)[:r], inputs=(x,))),
    **_of_ranks("AdaptiveMaxPool", lambda r, x: Case((2, 3, 4)[:r], inputs=(x,))),
    **_of_ranks("GlobalAvgPool", lambda r, x: Case(inputs=(x,))),
    **_of_ranks("GlobalMaxPool", lambda r, x: Case(inputs=(x,))),
    **_of_ranks("MaxUnpool", lambda r, x: Case(2, inputs=(x, _shuffled_indices(*x)))),
    **_of_ranks("BatchNorm", lambda r, x: Case(4, 1e-3, 0.2, inputs=(x,))),
    **_of_ranks("LazyBatchNorm", lambda r, x: Case(bias=False, inputs=(x,))),
    **_of_ranks("InstanceNorm", lambda r, x: Case(4, affine=True, inputs=(x,))),
    **_of_ranks("Dropout", lambda r, x: Case(0.3, inputs=(x,))),
    **_of_ranks("ZeroPad", lambda r, x: Case(WIDTHS[r], inputs=(x,))),
    **_of_ranks("ConstantPad", lambda r, x: Case(WIDTHS[r], 1.5, inputs=(x,))),
    **_of_ranks("ReflectionPad", lambda r, x: Case(WIDTHS[r], inputs=(x,))),
    **_of_ranks("ReplicationPad", lambda r, x: Case(WIDTHS[r], inputs=(x,))),
    **_of_ranks("CircularPad", lambda r, x: Case(WIDTHS[r], inputs=(x,))),
    "FractionalMaxPool2d": Case((2, 3), output_size=(3, 4)),
    "FractionalMaxPool3d": Case(2, output_ratio=0.5, inputs=((2, 4, 6, 6, 6),)),
    "GroupNorm": Case(2, 4),
    "LayerNorm": Case((7, 8)),
    "LocalResponseNorm": Case(3, 0.1, 0.5, 2.0),
    "Linear": Case(5, 3, inputs=((4, 5),)),
    "LazyLinear": Case(3, False, inputs=((2, 4, 5),)),
    "Dropout": Case(0.3),
    "AlphaDropout": Case(0.3),
    "FeatureAlphaDropout": Case(0.3),
    "Unfold": Case((3, 2), 1, (1, 0), 2),
    "Fold": Case((7, 6), (3, 2), 1, (1, 0), 2, inputs=((2, 4 * 6, 12),)),
    "ChannelShuffle": Case(2),
    "PixelShuffle": Case(2),
    "PixelUnshuffle": Case(2, inputs=((2, 3, 6, 8),)),
    "Flatten": Case(1, 2),
    "Unflatten": Case(1, (2, 2)),
    "Identity": ELEMENTS,
    "Softmax": Case(1),
    "LogSoftmax": Case(-1),
    "PReLU": Case(4, 0.1),
    "Upsample": Case(scale_factor=1.5, mode="bicubic", align_corners=True),
    "UpsamplingBilinear2d": Case((9, 4)),
    "UpsamplingNearest2d": Case(scale_factor=2),
    "Add": Case(inputs=((2, 3, 4), (3, 1), (2, 3, 4))),
    "Multiply": Case(inputs=((2, 3, 4), (3, 1))),
    "Concatenate": Case(-1, inputs=((2, 3, 4), (2, 3, 1))),
    "ELU": Case(0.7, inputs=((3, 4, 5),)),
    "LeakyReLU": Case(0.2, inputs=((3, 4, 5),)),
    "Hardtanh": Case(-0.5, 0.7, inputs=((3, 4, 5),)),
    "GELU": Case("tanh", inputs=((3, 4, 5),)),
    "Softplus": Case(2.0, 1.5, inputs=((3, 4, 5),)),
    **dict.fromkeys(
        ("Hardsigmoid", "Hardswish", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softsign", "Tanh"), ELEMENTS
    ),
}

NAMES = sorted(CASES)
CONTAINERS = {"Concat", "Graph", "Module", "Residual", "Sequential"}
RANDOM = {name for name in NAMES if "Dropout" in name or name.startswith("Fractional")}


def ready(name, dtype="float64"):
    """Return (a layer that has learned its sizes and has no gradients, its inputs, a gradient of its output)."""
    layer, inputs = CASES[name].make(name, dtype), CASES[name].arrays(dtype)
    again = copy.deepcopy(layer)
    output = again(*inputs)
    if name.startswith("Lazy"):
        layer = copy.deepcopy(again.eval().train())  # forgets the forward pass
    return layer, inputs, np.random.default_rng(2).standard_normal(output.shape).astype(dtype)


def gradients(layer, grad_output, **keywords):
    """Return a list: the gradients of the inputs, then those of the parameters."""
    found = layer.backward(grad_output, **keywords)
    parameters = [parameter.grad for parameter in layer.parameters()]
    return [*(found if isinstance(found, tuple) else (found,)), *parameters]


def reals(inputs):
    return [item for item in inputs if item.dtype.kind == "f"]


def test_every_public_layer_stands_in_the_table():
    public = {name for face in (cyconv, nn) for name in face.__all__ if inspect.isclass(getattr(face, name))}
    layers = {name for name in public if issubclass(getattr(nn, name, object), nn.Module) and not name.endswith("Loss")}
    assert layers - CONTAINERS == set(CASES)


@pytest.mark.parametrize("name", NAMES)
def test_repr_is_a_call_that_makes_the_layer(name):
    layer = CASES[name].make(name)
    text = repr(layer)
    assert text.startswith(f"{name}(")
    # As torch prints them, a sequence lists its layers, a lazy layer what it will know, and "Upsampling" its mode.
    if not isinstance(layer, nn.Sequential) and not name.startswith(("Lazy", "Upsampling")):
        assert repr(eval(text, dict(vars(nn)))) == text


@pytest.mark.parametrize("name", NAMES)
def test_backward_needs_a_forward_pass_in_training_mode(name):
    layer, inputs, grad_output = ready(name)
    if name == "Identity":
        assert layer.backward(grad_output) is grad_output
        return
    with pytest.raises(RuntimeError, match="needs a forward pass in training mode before it; there was none"):
        layer.backward(grad_output)
    layer(*inputs)
    layer.eval()(*inputs)
    with pytest.raises(RuntimeError, match="in eval mode forward remembers nothing"):
        layer.backward(grad_output)
    with pytest.raises(RuntimeError, match="there was none"):
        layer.train().backward(grad_output)
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_without_the_gradient_of_the_input_the_others_are_the_same(name):
    layer, inputs, grad_output = ready(name)
    twin = copy.deepcopy(layer)
    layer(*inputs)
    twin(*inputs)
    wanted = gradients(layer, grad_output)[len(reals(inputs)) :]
    nothing, *found = gradients(twin, grad_output, input_grad=False)
    assert nothing is None
    assert len(found) == len([*layer.parameters()])
    for actual, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_dtypes_and_arrays_of_the_caller_stay(name, dtype):
    layer, inputs, grad_output = ready(name, dtype)
    before = [*(item.copy() for item in inputs), grad_output.copy()]
    for item in (*inputs, grad_output):
        item.flags.writeable = False
    output = layer(*inputs)
    found = gradients(layer, grad_output)
    assert {item.dtype for item in (output, *found)} == {np.dtype(dtype)}
    assert [item.shape for item in found[: len(reals(inputs))]] == [item.shape for item in reals(inputs)]
    for item, kept in zip((*inputs, grad_output), before, strict=True):
        np.testing.assert_array_equal(item, kept)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_a_layer_of_its_own(name, through):
    layer, inputs, grad_output = ready(name)
    layer(*inputs)
    twin = through(layer)
    expected = [layer(*inputs), *gradients(layer, grad_output)]
    for parameter in layer.parameters():
        parameter.data *= 3  # is none of the twin's
    if name != "Identity":
        with pytest.raises(RuntimeError, match="there was none"):
            twin.backward(grad_output)  # a copy remembers no forward pass
    for actual, wanted in zip([twin(*inputs), *gradients(twin, grad_output)], expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_derivatives(name):
    layer, inputs, grad_output = ready(name)
    twin = copy.deepcopy(layer)
    twin(*inputs)
    found = gradients(twin, grad_output)
    rng, step = np.random.default_rng(4), 1e-6
    ways = [rng.standard_normal(item.shape) for item in found]

    def at(offset):
        moved = copy.deepcopy(layer)  # draws the same numbers again
        ways_of_parameters = ways[len(reals(inputs)) :]
        for parameter, way in zip(moved.parameters(), ways_of_parameters, strict=True):
            parameter.data += offset * way
        shifted = (item + offset * way for item, way in zip(reals(inputs), ways, strict=False))
        return np.vdot(grad_output, moved(*(next(shifted) if item.dtype.kind == "f" else item for item in inputs)))

    difference = (at(step) - at(-step)) / (2 * step)
    inner = sum(np.vdot(gradient, way) for gradient, way in zip(found, ways, strict=True))
    scale = sum(np.linalg.norm(gradient) for gradient in found)
    assert abs(difference - inner) <= 1e-7 * max(scale, 1.0)


def _channels_last(item):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(item, 1, -1)), -1, 1)


@pytest.mark.parametrize("name", [name for name in NAMES if len(CASES[name].inputs) == 1])
def test_the_order_in_memory_changes_no_number(name):
    layer, (x,), grad_output = ready(name)
    if x.ndim < 3:
        return
    twin = copy.deepcopy(layer)
    for actual, expected in zip(
        (twin(_channels_last(x)), *gradients(twin, _channels_last(grad_output))),
        (layer(x), *gradients(layer, grad_output)),
        strict=True,
    ):
        assert_close(actual, expected, algorithm="winograd_f4")
