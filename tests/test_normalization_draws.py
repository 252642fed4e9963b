"""Normalisations of drawn shapes: against the oracle, and torch on the same draws, running statistics, too."""

import numpy as np
import pytest
from draws import Call, compared, each, memory
from hypothesis import given, settings
from hypothesis import strategies as st

from cyconv import nn


@st.composite
def shapes_of(draw, least=0):
    """Draw (N, C, *spatial) of no more than some hundred numbers."""
    rank = draw(st.integers(least, 3))
    return draw(st.integers(0, 4)), draw(st.integers(1, 12)), *draw(each(rank, 1, 5))


@st.composite
def affine(draw, shape):
    """Draw the shapes of weight and bias, either of which may be missing."""
    found = {"weight": shape} if draw(st.booleans()) else {}
    return found | ({"bias": shape} if draw(st.booleans()) else {})


eps = st.sampled_from([1e-5, 1e-3, 0.5])
STATISTICS = ("running_mean", "running_var")


@st.composite
def batch_norms(draw):
    shape = draw(shapes_of())
    training = draw(st.booleans())
    pixels = shape[0]
    for n in shape[2:]:
        pixels *= n
    if pixels < 2 and training:
        shape = (2, shape[1], *(max(n, 1) for n in shape[2:]))
    running = not training or draw(st.booleans())
    shapes = {"input": shape, **{key: shape[1:2] for key in STATISTICS if running}, **draw(affine(shape[1:2]))}
    how = {"training": training, "eps": draw(eps), "momentum": draw(st.sampled_from([0.1, 0.0, 1.0]))}
    if not running:
        how |= dict.fromkeys(STATISTICS)
    kinds = {"running_var": "positive"}
    fixed = STATISTICS if running else ()
    return Call("batch_norm", shapes, how, kinds, fixed, len(shape) - 2, **draw(memory))


@st.composite
def instance_norms(draw):
    shape = draw(shapes_of(least=1))
    use = draw(st.booleans())
    if use and max(shape[2:]) == 1:  # torch: more than one number to normalise
        shape = (*shape[:-1], 2)
    running = not use or draw(st.booleans())
    if running:
        shape = (max(shape[0], 1), *shape[1:])
    shapes = {"input": shape, **{key: shape[1:2] for key in STATISTICS if running}, **draw(affine(shape[1:2]))}
    how = {"use_input_stats": use, "eps": draw(eps), "momentum": draw(st.sampled_from([0.1, 0.0, 1.0]))}
    fixed = STATISTICS if running else ()
    return Call("instance_norm", shapes, how, {"running_var": "positive"}, fixed, len(shape) - 2, **draw(memory))


@st.composite
def group_norms(draw):
    n, c, *space = draw(shapes_of())
    groups = draw(st.integers(1, 4))
    if n and max([c, *space]) == 1:
        c = 2
    shapes = {"input": (n, c * groups, *space), **draw(affine((c * groups,)))}
    how = {"num_groups": groups, "eps": draw(eps)}
    theirs = "weight" in shapes or "bias" not in shapes  # torch's gradient of a bias alone ends in an error
    return Call("group_norm", shapes, how, rank=len(space), theirs=theirs, **draw(memory))


@st.composite
def layer_norms(draw):
    shape = draw(shapes_of())
    last = shape[draw(st.integers(1, len(shape) - 1)) :]
    shapes = {"input": shape, **draw(affine(last))}
    # One number is its own mean: what is left of rounding errors is magnified by 1 / sqrt(eps).
    how = {"normalized_shape": last, "eps": 0.5 if max(last) == 1 else draw(eps)}
    return Call("layer_norm", shapes, how, rank=len(shape) - 2, **draw(memory))


@st.composite
def responses(draw):
    shape = draw(shapes_of(least=1))
    how = {"size": draw(st.integers(1, 7)), "alpha": draw(st.sampled_from([1e-4, 0.5]))}
    how |= {"beta": draw(st.sampled_from([0.75, 0.5, 1.3])), "k": draw(st.sampled_from([1.0, 2.0]))}
    return Call("local_response_norm", {"input": shape}, how, rank=len(shape) - 2, **draw(memory))


FAMILIES = {
    "batch": batch_norms(),
    "instance": instance_norms(),
    "group": group_norms(),
    "layer": layer_norms(),
    "response": responses(),
}


@pytest.mark.parametrize("family", FAMILIES)
@given(st.data())
def test_drawn_calls(family, data):
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


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("BatchNorm1d", {"num_features": 4}),
        ("BatchNorm2d", {"num_features": 4}),
        ("InstanceNorm2d", {"num_features": 4, "affine": True}),
        ("GroupNorm", {"num_groups": 2, "num_channels": 4}),
        ("LayerNorm", {"normalized_shape": (3,)}),
        ("LazyBatchNorm2d", {}),
    ],
)
def test_layers_with_a_weight_alone(name, how):
    x = np.random.default_rng(0).standard_normal((2, 4, 3, 3)[: 3 if name[-2:] == "1d" else 4])
    layer = getattr(nn, name)(**how, bias=False, dtype="float64")
    y = layer(x)
    assert layer.bias is None
    assert [key for key, _ in layer.named_parameters()] == ["weight"]
    assert "bias=False" in repr(layer) or name == "LayerNorm"
    dx = layer.backward(y)
    torch = pytest.importorskip("torch")
    theirs, tensor = getattr(torch.nn, name)(**how).double(), torch.tensor(x, requires_grad=True)
    z = theirs(tensor)
    z.backward(z.detach())
    np.testing.assert_allclose(y, z.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(layer.weight.grad, theirs.weight.grad.numpy(), atol=1e-12)
