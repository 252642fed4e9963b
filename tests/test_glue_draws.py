"""Activations, losses, products and what only moves numbers, of drawn shapes: against the oracle, and torch on the same
draws."""

import numpy as np
import pytest
from draws import Call, compared, each, memory
from hypothesis import given, settings
from hypothesis import strategies as st

# torch's kl_div says that its mean will change.
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")

ACTIVATIONS = {
    "relu": {},
    "relu6": {},
    "leaky_relu": {"negative_slope": st.floats(0, 1)},
    "elu": {"alpha": st.floats(0.25, 2)},
    "selu": {},
    "gelu": {"approximate": st.sampled_from(["none", "tanh"])},
    "silu": {},
    "mish": {},
    "hardswish": {},
    "hardsigmoid": {},
    "hardtanh": {"min_val": st.floats(-2, 0), "max_val": st.floats(0.5, 2)},
    "softplus": {"beta": st.floats(0.5, 3), "threshold": st.floats(1, 30)},
    "softsign": {},
    "sigmoid": {},
    "tanh": {},
}


@st.composite
def shapes_of(draw, least=0):
    dims = draw(st.integers(least, 4))
    return tuple(draw(st.integers(0 if i == 0 and least != 1 else 1, 9)) for i in range(dims))


@st.composite
def activations(draw):
    name = draw(st.sampled_from(sorted(ACTIVATIONS)))
    how = {key: draw(value) for key, value in ACTIVATIONS[name].items() if draw(st.booleans())}
    shape, laid = draw(shapes_of()), draw(memory)
    theirs = name != "hardsigmoid" or laid["dtype"] == "float32"  # torch multiplies gradients by 1/6 in float32
    return Call(name, {"input": shape}, how, rank=max(len(shape) - 2, 0), theirs=theirs, **laid)


@st.composite
def softmaxes(draw):
    shape = draw(shapes_of(least=1))
    how = {"dim": draw(st.integers(-len(shape), len(shape) - 1))}
    name = draw(st.sampled_from(["softmax", "log_softmax"]))
    return Call(name, {"input": shape}, how, rank=max(len(shape) - 2, 0), **draw(memory))


@st.composite
def prelus(draw):
    shape = (*draw(st.sampled_from([(0,), (1,), (3,)])), draw(st.integers(1, 9)), *draw(each(2, 1, 5)))
    weights = draw(st.sampled_from([(1,), shape[1:2]]))
    return Call("prelu", {"input": shape, "weight": weights}, rank=2, **draw(memory))


@st.composite
def products(draw):
    outputs, inputs = draw(each(2, 1, 40))
    front = draw(st.sampled_from([(), (0,), (1,), (5,), (2, 3)]))
    shapes = {"input": (*front, inputs), "weight": (outputs, inputs)}
    if draw(st.booleans()):
        shapes["bias"] = (outputs,)
    return Call("linear", shapes, **draw(memory))


@st.composite
def shuffles(draw):
    name = draw(st.sampled_from(["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"]))
    r = draw(st.integers(1, 4))
    c, h, w = draw(each(3, 1, 4))
    batch = draw(st.sampled_from([(0,), (1,), (2,)] + [()] * (name != "channel_shuffle")))
    image, how = {
        "pixel_shuffle": ((c * r * r, h, w), {"upscale_factor": r}),
        "pixel_unshuffle": ((c, h * r, w * r), {"downscale_factor": r}),
        "channel_shuffle": ((c * r, h, w), {"groups": r}),
    }[name]
    return Call(name, {"input": (*batch, *image)}, how, rank=2, **draw(memory))


@st.composite
def shapings(draw):
    shape = draw(shapes_of(least=1))
    axis = draw(st.integers(0, len(shape) - 1))
    sign = draw(st.sampled_from([0, len(shape)]))
    if draw(st.booleans()):
        how = {"start_dim": axis - sign, "end_dim": draw(st.integers(axis, len(shape) - 1))}
        return Call("flatten", {"input": shape}, how, **draw(memory))
    a, b = draw(each(2, 1, 4))
    parts = draw(st.sampled_from([(a, b), (a, b, 1), (-1, b), (a, -1)]))
    shape = (*shape[:axis], a * b, *shape[axis + 1 :])
    return Call("unflatten", {"input": shape}, {"dim": axis - sign, "sizes": parts}, **draw(memory))


reductions = st.sampled_from(["none", "mean", "sum"])
ELEMENTWISE = {
    "mse_loss": ("normal", {}),
    "l1_loss": ("normal", {}),
    "smooth_l1_loss": ("normal", {"beta": st.floats(0.25, 2)}),
    "huber_loss": ("normal", {"delta": st.floats(0.25, 2)}),
    "binary_cross_entropy": ("uniform", {}),
    "binary_cross_entropy_with_logits": ("normal", {}),
    "kl_div": ("normal", {"log_target": st.booleans()}),
}


@st.composite
def elementwise_losses(draw):
    name = draw(st.sampled_from(sorted(ELEMENTWISE)))
    kind, more = ELEMENTWISE[name]
    shape = draw(shapes_of(least=1))
    how = {key: draw(value) for key, value in more.items() if draw(st.booleans())}
    how["reduction"] = draw(reductions)
    shapes, kinds, fixed = {"input": shape, "target": shape}, {"input": kind, "target": kind}, ()
    if name == "binary_cross_entropy_with_logits":
        kinds["target"] = "uniform"
        if draw(st.booleans()):
            shapes["pos_weight"], kinds["pos_weight"], fixed = shape[-1:], "positive", ("pos_weight",)
    if name == "kl_div":
        kinds["target"] = "normal" if how.get("log_target") else "positive"
    if name not in ("smooth_l1_loss", "kl_div") and draw(st.booleans()):
        shapes["weight"], kinds["weight"], fixed = shape, "positive", (*fixed, "weight")
    return Call(name, shapes, how, kinds, fixed, max(len(shape) - 2, 0), **draw(memory))


@st.composite
def class_losses(draw):
    name = draw(st.sampled_from(["cross_entropy", "nll_loss"]))
    classes, space = draw(st.integers(1, 9)), draw(each(draw(st.integers(0, 2)), 1, 4))
    front = draw(st.sampled_from([(1,), (4,), (0,)] + [()] * (not space)))
    how = {"reduction": draw(reductions)}
    shapes = {"input": (*front, classes, *space), "target": (*front, *space)}
    kinds, fixed = {"target": classes}, ("target",)
    if draw(st.booleans()):
        how["ignore_index"] = draw(st.integers(-1, classes - 1))
        shapes["target"] = shapes["target"]
    if name == "cross_entropy":
        how["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
        if draw(st.booleans()):
            shapes["target"], kinds, fixed = shapes["input"], {"target": "uniform"}, ()
            how.pop("ignore_index", None)
    if draw(st.booleans()):
        shapes["weight"], kinds["weight"], fixed = (classes,), "positive", (*fixed, "weight")
    return Call(name, shapes, how, kinds, fixed, len(space), **draw(memory))


FAMILIES = {
    "activations": activations(),
    "softmax": softmaxes(),
    "prelu": prelus(),
    "linear": products(),
    "shuffles": shuffles(),
    "shapes": shapings(),
    "losses": elementwise_losses(),
    "losses of classes": class_losses(),
}


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_drawn_calls(family, data):
    with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing
        data.draw(FAMILIES[family]).check()


@pytest.mark.parametrize("family", FAMILIES)
def test_most_draws_are_compared_with_torch(family):
    pytest.importorskip("torch")
    compared.clear()

    @settings(max_examples=20)
    @given(FAMILIES[family])
    def look(call):
        call.check()

    look()
    assert compared.total() >= 6
