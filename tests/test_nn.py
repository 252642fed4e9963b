"""The layer objects: each does what its functional twin does, remembers what it must, and keeps its parameters."""

import copy
import math
import pickle

import numpy as np
import pytest
from tolerances import assert_close

from cyconv import functional as F
from cyconv import nn
from cyconv.models import LeNet5

DTYPES = ["float32", "float64"]


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# Layer, shape of its input, what functional computes: (forward, backward), given the layer and arrays.
TWINS = {
    "conv2d": (
        lambda dtype: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), (1, 2), 2, dtype=dtype, rng=1),
        (2, 4, 7, 8),
        lambda m, x: F.conv2d(x, m.weight.data, m.bias.data, (2, 2), (1, 0), (1, 2), 2),
        lambda m, g, x, y: F.conv2d_backward(g, x, m.weight.data, m.bias.data, (2, 2), (1, 0), (1, 2), 2),
    ),
    "conv2d without bias": (
        lambda dtype: nn.Conv2d(3, 5, 3, bias=False, dtype=dtype, rng=1),
        (2, 3, 6, 5),
        lambda m, x: F.conv2d(x, m.weight.data),
        lambda m, g, x, y: F.conv2d_backward(g, x, m.weight.data),
    ),
    "conv_transpose2d": (
        lambda dtype: nn.ConvTranspose2d(4, 6, (3, 2), 2, (1, 0), (0, 1), 2, True, (1, 2), dtype=dtype, rng=1),
        (2, 4, 7, 8),
        lambda m, x: F.conv_transpose2d(x, m.weight.data, m.bias.data, (2, 2), (1, 0), (0, 1), 2, (1, 2)),
        lambda m, g, x, y: F.conv_transpose2d_backward(
            g, x, m.weight.data, m.bias.data, (2, 2), (1, 0), (0, 1), 2, (1, 2)
        ),
    ),
    "linear": (
        lambda dtype: nn.Linear(5, 3, dtype=dtype, rng=1),
        (4, 5),
        lambda m, x: F.linear(x, m.weight.data, m.bias.data),
        lambda m, g, x, y: F.linear_backward(g, x, m.weight.data, m.bias.data),
    ),
    "linear without bias": (
        lambda dtype: nn.Linear(5, 3, False, dtype=dtype, rng=1),
        (4, 5),
        lambda m, x: F.linear(x, m.weight.data),
        lambda m, g, x, y: F.linear_backward(g, x, m.weight.data),
    ),
    "max_pool2d": (
        lambda dtype: nn.MaxPool2d(3, 2, 1, 1, False, True),
        (2, 3, 8, 7),
        lambda m, x: F.max_pool2d(x, 3, 2, 1, 1, True),
        lambda m, g, x, y: F.max_pool2d_backward(g, x, 3, 2, 1, 1, True),
    ),
    "max_pool2d, default stride": (
        lambda dtype: nn.MaxPool2d(2),
        (2, 3, 8, 7),
        lambda m, x: F.max_pool2d(x, 2, 2),
        lambda m, g, x, y: F.max_pool2d_backward(g, x, 2, 2),
    ),
    "avg_pool2d": (
        lambda dtype: nn.AvgPool2d(3, 2, 1, True, False),
        (2, 3, 8, 7),
        lambda m, x: F.avg_pool2d(x, 3, 2, 1, True, False),
        lambda m, g, x, y: F.avg_pool2d_backward(g, x, 3, 2, 1, True, False),
    ),
    "avg_pool2d with a divisor": (
        lambda dtype: nn.AvgPool2d((2, 3), divisor_override=5),
        (2, 3, 8, 7),
        lambda m, x: F.avg_pool2d(x, (2, 3), (2, 3), 0, False, True, 5),
        lambda m, g, x, y: F.avg_pool2d_backward(g, x, (2, 3), (2, 3), 0, False, True, 5),
    ),
    "relu": (
        lambda dtype: nn.ReLU(),
        (3, 4, 5),
        lambda m, x: F.relu(x),
        lambda m, g, x, y: F.relu_backward(g, x),
    ),
    "sigmoid": (
        lambda dtype: nn.Sigmoid(),
        (3, 4),
        lambda m, x: F.sigmoid(x),
        lambda m, g, x, y: F.sigmoid_backward(g, None, output=y),
    ),
    "tanh": (
        lambda dtype: nn.Tanh(),
        (3, 4),
        lambda m, x: F.tanh(x),
        lambda m, g, x, y: F.tanh_backward(g, None, output=y),
    ),
    "softmax": (
        lambda dtype: nn.Softmax(1),
        (3, 4, 2),
        lambda m, x: F.softmax(x, 1),
        lambda m, g, x, y: F.softmax_backward(g, None, 1, output=y),
    ),
    "log_softmax": (
        lambda dtype: nn.LogSoftmax(-1),
        (3, 4),
        lambda m, x: F.log_softmax(x, -1),
        lambda m, g, x, y: F.log_softmax_backward(g, None, -1, output=y),
    ),
    "flatten": (
        lambda dtype: nn.Flatten(),
        (3, 4, 2, 5),
        lambda m, x: x.reshape(3, 40),
        lambda m, g, x, y: (g.reshape(3, 4, 2, 5),),
    ),
    "flatten of inner axes": (
        lambda dtype: nn.Flatten(1, 2),
        (3, 4, 2, 5),
        lambda m, x: x.reshape(3, 8, 5),
        lambda m, g, x, y: (g.reshape(3, 4, 2, 5),),
    ),
    "identity": (
        lambda dtype: nn.Identity(),
        (3, 4),
        lambda m, x: x,
        lambda m, g, x, y: (g,),
    ),
}
WITH_PARAMETERS = [name for name in TWINS if name.startswith(("conv", "linear"))]
REMEMBERING = [name for name in TWINS if name != "identity"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TWINS)
def test_a_layer_does_what_its_functional_twin_does(name, dtype):
    make, shape, forward, backward = TWINS[name]
    layer, x = make(dtype), normal(*shape, dtype=dtype)
    y = layer(x)
    expected = forward(layer, x)
    assert_close(y, expected, algorithm="exact")
    assert_close(layer.eval()(x), expected, algorithm="exact")
    layer.train()(x)
    grad_output = normal(*y.shape, dtype=dtype, seed=1)
    grad_input = layer.backward(grad_output)
    gradients = backward(layer, grad_output, x, expected)
    assert_close(grad_input, gradients[0], algorithm="pointwise")
    found = [p.grad for p in layer.parameters()]
    assert len(found) == len(gradients) - 1
    for actual, wanted in zip(found, gradients[1:], strict=True):
        assert_close(actual, wanted, algorithm="exact")


@pytest.mark.parametrize("name", TWINS)
def test_input_grad_false_leaves_out_the_gradient_of_the_input_only(name):
    make, shape, _, _ = TWINS[name]
    layer, x = make("float64"), normal(*shape)
    grad_output = normal(*layer(x).shape, seed=1)
    layer.backward(grad_output)
    expected = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    assert layer.backward(grad_output, input_grad=False) is None
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        assert_close(parameter.grad, gradient, algorithm="exact")


@pytest.mark.parametrize("name", REMEMBERING)
def test_backward_needs_a_forward_in_training_mode(name):
    make, shape, _, _ = TWINS[name]
    layer, x = make("float64"), normal(*shape)
    with pytest.raises(RuntimeError, match="needs a forward pass in training mode before it; there was none"):
        layer.backward(x)
    y = layer(x)
    layer.eval()
    layer(x)
    with pytest.raises(RuntimeError, match=rf"{type(layer).__name__}: .* in eval mode forward remembers nothing"):
        layer.backward(y)
    layer.train()
    with pytest.raises(RuntimeError, match="there was none"):
        layer.backward(y)


# ---------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_gradients_add_up_until_zero_grad(name):
    make, shape, _, _ = TWINS[name]
    layer, x = make("float64"), normal(*shape)
    grad_output = normal(*layer(x).shape, seed=1)
    layer.backward(grad_output)
    once = [p.grad.copy() for p in layer.parameters()]
    arrays = [p.grad for p in layer.parameters()]
    layer.backward(grad_output)
    for parameter, gradient, array in zip(layer.parameters(), once, arrays, strict=True):
        assert parameter.grad is array  # added in place
        np.testing.assert_array_equal(parameter.grad, 2 * gradient)
    layer.zero_grad(set_to_none=False)
    for parameter, array in zip(layer.parameters(), arrays, strict=True):
        assert parameter.grad is array
        assert not array.any()
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_inside_a_container_gradients_wait(name):
    make, shape, _, _ = TWINS[name]
    layer, x = make("float64"), normal(*shape)
    pending = []
    layer._backward(layer(x), pending, True)
    assert all(p.grad is None for p in layer.parameters())
    assert [id(p) for p, _ in pending] == [id(p) for p in layer.parameters()]


def test_the_first_gradient_is_kept_without_a_copy(monkeypatch):
    layer = nn.Linear(2, 3)
    made = (None, np.ones((3, 2), np.float32), np.ones(3, np.float32))
    monkeypatch.setattr(F, "linear_backward", lambda *args, **kwargs: made)
    layer(np.ones((1, 2), np.float32))
    layer.backward(np.ones((1, 3), np.float32), input_grad=False)
    assert layer.weight.grad is made[1]
    assert layer.bias.grad is made[2]


@pytest.mark.parametrize(
    ("arguments", "keywords", "twin"),
    [
        (((1, 2), "same", 3, 2), {"algorithm": "im2col"}, ((1, 2), "same", (3, 3), 2)),
        ((), {"padding": ((1, 0), (2, 3))}, (1, ((1, 0), (2, 3)))),
        ((), {"padding": [1, 2]}, (1, (1, 2))),
        ((), {}, ()),
    ],
)
def test_constructor_arguments_mean_what_they_mean_in_the_functional_twin(arguments, keywords, twin):
    layer, x = nn.Conv2d(2, 4, 3, *arguments, rng=0, **keywords), normal(1, 2, 9, 9, dtype="float32")
    algorithm = keywords.get("algorithm", "auto")
    expected = F.conv2d(x, layer.weight.data, layer.bias.data, *twin, algorithm=algorithm)
    np.testing.assert_array_equal(layer(x), expected)
    found = layer.backward(expected)
    wanted = F.conv2d_backward(expected, x, layer.weight.data, layer.bias.data, *twin, algorithm=algorithm)
    for one, other in zip((found, layer.weight.grad, layer.bias.grad), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_eval_keeps_packed_weights_and_guards_them():
    layer, x = nn.Conv2d(2, 4, 3, rng=0), normal(1, 2, 9, 9, dtype="float32")
    before = layer(x)
    layer.eval()
    np.testing.assert_array_equal(layer(x), before)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight.data += 1
    layer.train()
    layer.weight.data *= 2
    after = layer.eval()(x)
    assert (after != before).any()
    # A new array, and values loaded in eval mode, are seen as well.
    layer.weight.data = layer.weight.data / 2
    np.testing.assert_array_equal(layer(x), before)
    layer.load_state_dict({"weight": 2 * layer.weight.data, "bias": layer.bias.data})
    np.testing.assert_array_equal(layer(x), after)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda **kwargs: nn.Conv2d(8, 64, (3, 5), groups=2, **kwargs), 4 * 3 * 5),
        (lambda **kwargs: nn.Linear(50, 200, **kwargs), 50),
    ],
)
def test_starting_values_are_uniform_within_one_over_root_fan_in(make, fan_in, dtype):
    layer = make(dtype=dtype, rng=3)
    bound = 1 / math.sqrt(fan_in)
    for parameter, share in ((layer.weight, 0.99), (layer.bias, 0.9)):
        assert parameter.dtype == dtype
        assert np.abs(parameter.data).max() <= bound * (1 + 1e-6)
        assert parameter.data.max() > share * bound
        assert parameter.data.min() < -share * bound
    # the standard deviation of U(±b) is b / √3; 3840 and 10000 samples
    assert layer.weight.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(layer.weight.data.mean()) < 0.05 * bound


def test_equal_seeds_give_equal_values_and_a_generator_moves_on():
    one, two, other = (nn.Linear(5, 4, rng=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.weight.data, two.weight.data)
    np.testing.assert_array_equal(one.bias.data, two.bias.data)
    assert (one.weight.data != other.weight.data).any()
    rng = np.random.default_rng(7)
    first, second = nn.Linear(5, 4, rng=rng), nn.Linear(5, 4, rng=rng)
    np.testing.assert_array_equal(first.weight.data, one.weight.data)
    assert (first.weight.data != second.weight.data).any()
    unseeded = [nn.Linear(5, 4).weight.data for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).any()


def test_torch_starting_values_have_the_same_bounds():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Conv2d(8, 64, (3, 5), groups=2)
    ours = nn.Conv2d(8, 64, (3, 5), groups=2, rng=0)
    assert ours.weight.shape == tuple(theirs.weight.shape)
    for mine, its in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert np.abs(mine.data).max() == pytest.approx(its.abs().max().item(), rel=0.1)


INITS = [
    (lambda w: nn.init.uniform_(w, -2, 4, rng=0), 1.0, 6 / math.sqrt(12)),
    (lambda w: nn.init.normal_(w, 3, 2, rng=0), 3.0, 2.0),
    (lambda w: nn.init.constant_(w, 5), 5.0, 0.0),
    # the weight is (40, 30, 5): fan_in 150, fan_out 200
    (lambda w: nn.init.kaiming_uniform_(w, rng=0), 0.0, math.sqrt(2 / 150)),
    (lambda w: nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", rng=0), 0.0, math.sqrt(2 / 200)),
    (lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear", rng=0), 0.0, math.sqrt(1 / 150)),
    (lambda w: nn.init.xavier_uniform_(w, rng=0), 0.0, math.sqrt(2 / 350)),
    (lambda w: nn.init.xavier_normal_(w, nn.init.calculate_gain("tanh"), rng=0), 0.0, 5 / 3 * math.sqrt(2 / 350)),
]


@pytest.mark.parametrize(("fill", "mean", "deviation"), INITS)
@pytest.mark.parametrize("kind", [np.asarray, nn.Parameter])
def test_initialisers(fill, mean, deviation, kind):
    array = np.full((40, 30, 5), np.nan, np.float32)
    target = kind(array)
    assert fill(target) is target
    assert array.mean() == pytest.approx(mean, abs=0.05 * deviation)
    assert array.std() == pytest.approx(deviation, rel=0.03)


def test_initialisers_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="'fan_in' or 'fan_out', got 'both'"):
        nn.init.kaiming_uniform_(np.zeros((2, 2)), mode="both")
    with pytest.raises(ValueError, match=r"nonlinearity must be one of .*relu.* got 'swish'"):
        nn.init.calculate_gain("swish")
    with pytest.raises(ValueError, match=r"at least 2 dimensions .* got shape \(3,\)"):
        nn.init.xavier_normal_(np.zeros(3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels"),
        (lambda: nn.Conv2d(0, 4, 3), ValueError, "in_channels"),
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 2.5), TypeError, "kernel_size"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), ValueError, "stride"),
        (lambda: nn.Conv2d(3, 4, 3, dilation=0), ValueError, "dilation"),
        (lambda: nn.Conv2d(3, 4, 3, padding=-1), ValueError, "padding"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "Conv2d: padding must be .* got 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "Conv2d: padding_mode must be .* got 'mirror'"),
        (lambda: nn.Conv2d(3, 4, 3, groups=0), ValueError, "groups"),
        (lambda: nn.Conv2d(2**31 - 1, 2**31 - 1, 3), MemoryError, "Conv2d: the weight of shape"),
        (lambda: nn.Conv2d(3, 4, 3, dtype=np.int32), TypeError, "Conv2d: dtype must be float32 or float64, got int32"),
        (lambda: nn.Linear(3, 4, dtype=np.float16), TypeError, "Linear: dtype must be float32 or float64, got float16"),
        (lambda: nn.Linear(0, 4), ValueError, "Linear: in_features must be at least 1, got 0"),
        (lambda: nn.Linear(4, 1.5), TypeError, "Linear: out_features must be an int, got 1.5"),
        (lambda: nn.Dropout(1.5), ValueError, r"Dropout: p must be a probability in \[0, 1\], got 1.5"),
        (lambda: nn.Dropout(float("nan")), ValueError, "Dropout: p must be"),
        (lambda: nn.Parameter([1.0]), TypeError, "data must be a NumPy array, got list"),
    ],
)
def test_wrong_constructor_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---------------------------------------------------------------------------------------------- single layers


def test_max_pool_returns_indices_of_the_flat_plane():
    x = np.array([[[1.0, 5, 2, 0], [3, 4, 8, 6]]])
    layer = nn.MaxPool2d(2, return_indices=True)
    for _ in range(2):  # in training, then in eval mode
        y, indices = layer(x)
        np.testing.assert_array_equal(y, [[[5, 8]]])
        np.testing.assert_array_equal(indices, [[[1, 6]]])
        assert indices.dtype == np.int64
        layer.eval()
    layer.train()(x)
    np.testing.assert_array_equal(layer.backward(np.array([[[10.0, 20]]])), [[[0, 10, 0, 0], [0, 0, 20, 0]]])


def test_dropout_thins_in_training_and_not_in_eval_mode():
    layer, x = nn.Dropout(0.25, rng=0), np.ones((100, 100), np.float32)
    y = layer(x)
    assert y.dtype == np.float32
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(4 / 3))}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(layer.backward(x), y)  # the same places, the same factor
    assert layer.backward(x, input_grad=False) is None
    assert (layer(x) != y).any()
    np.testing.assert_array_equal(nn.Dropout(0.25, rng=0)(x), y)
    assert layer.eval()(x) is x
    with pytest.raises(RuntimeError, match=r"Dropout: .* eval mode"):
        layer.backward(x)


@pytest.mark.parametrize("p", [0, 1])
def test_dropout_at_both_ends(p):
    layer, x = nn.Dropout(p, rng=0), np.ones((3, 4))
    np.testing.assert_array_equal(layer(x), x * (1 - p))
    np.testing.assert_array_equal(layer.backward(x), x * (1 - p))


# ---------------------------------------------------------------------------------------------- losses

TARGETS = np.array([1, 0, 3])
LOSSES = {
    "cross entropy": (
        nn.CrossEntropyLoss,
        {"weight": np.array([1.0, 2, 3, 4]), "ignore_index": 0, "label_smoothing": 0.2},
        F.cross_entropy,
        F.cross_entropy_backward,
        TARGETS,
    ),
    "cross entropy of probabilities": (
        nn.CrossEntropyLoss,
        {},
        F.cross_entropy,
        F.cross_entropy_backward,
        np.full((3, 4), 0.25),
    ),
    "nll": (
        nn.NLLLoss,
        {"weight": np.array([1.0, 2, 3, 4]), "ignore_index": 0},
        F.nll_loss,
        F.nll_loss_backward,
        TARGETS,
    ),
    "mse": (nn.MSELoss, {}, F.mse_loss, F.mse_loss_backward, normal(3, 4, seed=5)),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_what_its_functional_twin_does(name, reduction):
    make, arguments, forward, backward, target = LOSSES[name]
    loss, x = make(**arguments, reduction=reduction), normal(3, 4)
    value = loss(x, target)
    expected = forward(x, target, **arguments, reduction=reduction)
    np.testing.assert_array_equal(value, expected)
    grad_output = normal(*np.shape(value), seed=6)
    wanted = backward(grad_output, x, target, **arguments, reduction=reduction)[0]
    assert_close(loss.backward(grad_output), wanted, algorithm="exact")
    assert loss.backward(grad_output, input_grad=False) is None
    if reduction == "none":
        with pytest.raises(ValueError, match="backward needs grad_output in their shape"):
            loss.backward()
    else:
        assert float(value) == value
        wanted = backward(np.float64(1), x, target, **arguments, reduction=reduction)[0]
        assert_close(loss.backward(), wanted, algorithm="exact")


def test_cross_entropy_by_hand():
    loss = nn.CrossEntropyLoss()
    value = loss(np.log([[1.0, 3.0], [1.0, 1.0]]), np.array([1, 0]))
    assert value == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-14)
    np.testing.assert_allclose(loss.backward(), [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-14)
    np.testing.assert_allclose(loss.backward(2.0), [[0.25, -0.25], [-0.5, 0.5]], rtol=1e-14)


def test_mse_by_hand_in_float32():
    loss = nn.MSELoss()
    value = loss(np.array([1, 2], np.float32), np.array([3, 5], np.float32))
    assert value == 6.5
    assert value.dtype == np.float32
    assert_close(loss.backward(), np.array([-2, -3], np.float32), algorithm="exact")


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_needs_a_forward_in_training_mode(name):
    make, arguments, _, _, target = LOSSES[name]
    loss, x = make(**arguments), normal(3, 4)
    with pytest.raises(RuntimeError, match="there was none"):
        loss.backward()
    loss(x, target)
    loss.eval()(x, target)
    with pytest.raises(RuntimeError, match=rf"{make.__name__}: .* eval mode"):
        loss.backward()


def test_a_loss_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"NLLLoss: reduction must be .* got 'average'"):
        nn.NLLLoss(reduction="average")
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 2"):
        nn.CrossEntropyLoss(label_smoothing=2)


# ---------------------------------------------------------------------------------------------- LeNet


def test_lenet_parameters_and_shapes():
    model = LeNet5(rng=0)
    assert model.num_parameters() == 61_706
    assert [(p.size, p.dtype) for p in model.parameters()] == [
        (size, np.float32) for size in (150, 6, 2400, 16, 48000, 120, 10080, 84, 840, 10)
    ]
    assert model(normal(3, 1, 28, 28, dtype="float32")).shape == (3, 10)
    assert LeNet5(7, dtype=np.float64, rng=0)(normal(1, 1, 28, 28)).dtype == np.float64
    # one generator for all layers: no two start alike
    assert (model[9].weight.data[:, :84] != model[11].weight.data[:1, :84]).any()
    np.testing.assert_array_equal(LeNet5(rng=0)[11].weight.data, model[11].weight.data)


def torch_lenet(torch):
    t = torch.nn
    return t.Sequential(
        *(t.Conv2d(1, 6, 5, padding=2), t.ReLU(), t.MaxPool2d(2), t.Conv2d(6, 16, 5), t.ReLU(), t.MaxPool2d(2)),
        *(t.Flatten(), t.Linear(400, 120), t.ReLU(), t.Linear(120, 84), t.ReLU(), t.Linear(84, 10)),
    )


def test_a_torch_lenet_loads_as_it_is_and_computes_the_same():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs, ours = torch_lenet(torch).double(), LeNet5(dtype=np.float64)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs).replace("Sequential", "LeNet5")
    x, target = normal(4, 1, 28, 28), np.array([3, 1, 4, 1])
    scores = theirs(torch.from_numpy(x))
    value = torch.nn.CrossEntropyLoss()(scores, torch.from_numpy(target))
    value.backward()
    loss = nn.CrossEntropyLoss()
    assert_close(ours(x), scores.detach().numpy())
    assert loss(ours(x), target) == pytest.approx(value.item(), rel=1e-12)
    ours.backward(loss.backward(), input_grad=False)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(mine.grad, its.grad.numpy())


def test_gradients_of_lenet_are_the_slope_of_its_loss():
    model, loss = LeNet5(dtype=np.float64, rng=0), nn.CrossEntropyLoss()
    x, target = normal(2, 1, 28, 28), np.array([3, 8])
    loss(model(x), target)
    dx = model.backward(loss.backward())
    rng = np.random.default_rng(1)
    # central difference along one random direction of all parameters and the input together
    directions = [(p.data, p.grad, rng.standard_normal(p.shape)) for p in model.parameters()]
    directions.append((x, dx, rng.standard_normal(x.shape)))
    predicted = sum(float((gradient * d).sum()) for _, gradient, d in directions)
    values = []
    for step in (1e-6, -2e-6):
        for array, _, direction in directions:
            array += step * direction
        values.append(loss(model(x), target))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(predicted, rel=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_parameters_of_their_own_and_no_activations(duplicate):
    model, x = LeNet5(rng=0), normal(2, 1, 28, 28, dtype="float32")
    y = model(x)
    twin = duplicate(model)
    for layer in twin:
        with pytest.raises(RuntimeError, match="there was none"):
            layer.backward(y)
    np.testing.assert_array_equal(twin.eval()(x), y)
    twin.train()[0].weight.data += 1
    assert (twin(x) != y).any()
    np.testing.assert_array_equal(model(x), y)
