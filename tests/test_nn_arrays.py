"""What users do to the arrays of layers: replace them, pickle them, make them views, load into them."""

import copy
import pickle
import threading

import numpy as np
import pytest

from cyconv import nn, optim


def normal(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 16, 3, rng=0), nn.ConvTranspose2d(8, 16, 3, rng=0)])
def test_a_bias_or_weight_that_was_replaced_is_looked_at_anew(layer, training):
    """A kernel takes pointers: it would read behind a short bias, and a strided weight in the wrong order."""
    layer, x = copy.deepcopy(layer).train(training), normal(2, 8, 9, 9, dtype="float32")
    expected = layer(x)
    weight, bias = layer.weight.data, layer.bias.data
    for wrong in (bias[:1].copy(), bias[:, None], bias[:0]):
        layer.bias.data = wrong
        with pytest.raises(ValueError, match=r"bias must have shape \(16,\), got"):
            layer(x)
    layer.bias.data = bias.astype(float)
    with pytest.raises(TypeError, match="mixed dtypes: input float32, weight float32, bias float64"):
        layer(x)
    layer.bias.data = np.repeat(bias, 2)[::2]
    np.testing.assert_array_equal(layer(x), expected)
    for other in (np.asfortranarray(weight), np.repeat(weight, 2, axis=3)[..., ::2]):
        layer.weight.data = other
        np.testing.assert_array_equal(layer(x), expected)
        other *= 2  # not in the way: nothing is kept of an array that had to be copied
        assert (layer(x) != expected).any()
        if training:
            layer(x)
            found = layer.backward(expected), layer.weight.grad
            layer.zero_grad()
            layer.weight.data = np.ascontiguousarray(other)
            layer(x)
            np.testing.assert_array_equal(found[0], layer.backward(expected))
            np.testing.assert_array_equal(found[1], layer.weight.grad)
            layer.zero_grad()
    with pytest.raises(TypeError, match=r"Parameter: data must be a NumPy array, got list"):
        layer.weight.data = [1.0]


def test_nothing_is_kept_of_a_weight_that_is_a_view():
    """All parameters in one vector, as an optimiser of SciPy wants them: what is written there must be seen."""
    layer, x = nn.Conv2d(2, 4, 3, rng=0), normal(1, 2, 9, 9, dtype="float32")
    flat = np.concatenate([p.data.ravel() for p in layer.parameters()])
    layer.weight.data, layer.bias.data = flat[:72].reshape(4, 2, 3, 3), flat[72:]
    before = layer.eval()(x)
    flat *= 2
    np.testing.assert_array_equal(layer(x), 2 * before)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_comes_out_of_a_pickle_can_be_loaded_into_and_trained(protocol, frozen):
    """NumPy leaves arrays in the memory of the pickle's bytes, which it never lets be written again."""
    model, x = nn.Sequential(nn.Conv2d(8, 8, 3, rng=0), nn.Conv2d(8, 8, 3, rng=1)), normal(1, 8, 9, 9, dtype="float32")
    if frozen:
        model.eval()(x)
    again = pickle.loads(pickle.dumps(model, protocol))
    for parameter in again.parameters():
        assert parameter.data.flags.owndata
        assert parameter.data.dtype is np.dtype(np.float32)  # what kernels take without a look at it
    again.eval()(x)
    assert all(layer._conv._frozen[2] is not None for layer in again)
    state = {name: 2 * value for name, value in model.state_dict().items()}
    again.load_state_dict(state)
    for name, value in again.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    again.train()
    again.backward(again(x))
    optim.SGD(again.parameters(), lr=0.1).step()


def test_a_state_is_not_half_loaded_into_an_array_that_is_read_only():
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    locked = np.frombuffer(bytes(8), np.float32)
    model[1].bias.data = locked
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"nothing was changed\n  read-only: 1.bias"):
        model.load_state_dict({name: value + 1 for name, value in before.items()})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("held", [np.ones(7, np.float32), np.ones(3, int), np.ones(3), [1.0, 1.0, 1.0], 3.0])
def test_a_gradient_to_which_nothing_can_be_added_changes_no_other(held):
    model, x = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1)), np.ones((2, 3), np.float32)
    model.backward(model(x))
    before = [parameter.grad.copy() for parameter in model.parameters()]
    model[0].bias.grad = held
    model(x)
    with pytest.raises(ValueError, match=r"backward: a parameter of \(3,\), float32 holds a gradient of .* set it to"):
        model.backward(np.ones((2, 3), np.float32))
    model[0].bias.grad = before[1]
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_starting_values_are_not_drawn_into_what_is_read_only():
    layer = nn.Conv2d(2, 3, 3, rng=0).eval()
    layer(normal(1, 2, 5, 5, dtype="float32"))
    with pytest.raises(ValueError, match=r"^init: the array is read-only, .* call train\(\) before"):
        nn.init.kaiming_normal_(layer.weight)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Conv2d(3, 4, 3, rng="seed"),
            TypeError,
            "^Conv2d: rng must be a generator, a seed or None, got 'seed'",
        ),
        (lambda: nn.Linear(3, 4, rng=-1), ValueError, "^Linear: rng must be a generator, a seed or None, got -1"),
        (lambda: nn.Dropout(0.5, rng="seed"), TypeError, "^Dropout: rng must be a generator"),
        (lambda: nn.SeparableConv2d(3, 4, 3, rng="seed"), TypeError, "^SeparableConv2d: rng must be a generator"),
        (lambda: nn.Conv2d(3, 4, 3, dtype="float"), None, ""),
        (
            lambda: nn.Conv2d(3, 4, 3, dtype="half a float"),
            TypeError,
            "^Conv2d: dtype must be float32 or float64, got 'ha",
        ),
        (lambda: nn.Dropout("x"), ValueError, r"^Dropout: p must be a probability in \[0, 1\], got 'x'"),
    ],
)
def test_arguments_that_numpy_would_refuse_without_a_name(make, error, message):
    if error is None:
        assert make().weight.dtype == np.float64
        return
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3), nn.ConvTranspose1d(4, 4, 3), nn.LazyConv2d(4, 3)])
@pytest.mark.parametrize(
    "name", ["kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "algorithm"]
)
def test_what_a_convolution_is_made_of_cannot_be_changed_without_effect(layer, name):
    """The plans are made at construction; a new stride would be shown, and not be used."""
    before = repr(layer)
    with pytest.raises(AttributeError, match=rf"^{type(layer).__name__}: {name} is fixed at construction"):
        setattr(layer, name, 2)
    assert repr(layer) == before


def test_several_threads_may_call_a_lazy_network_first():
    for _ in range(20):
        layer, x, found = nn.LazyConv2d(3, 5, rng=0).eval(), normal(2, 4, 8, 8, dtype="float32"), []
        threads = [threading.Thread(target=lambda: found.append(layer(x).tobytes())) for _ in range(8)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1


def test_a_state_of_the_own_arrays_is_taken_as_it_was():
    """Two layers change places: the first copy must not be what the second one reads."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False, rng=0), nn.Linear(3, 3, bias=False, rng=1))
    first, second = (layer.weight.data.copy() for layer in model)
    model.load_state_dict({"0.weight": model[1].weight.data, "1.weight": model[0].weight.data.T})
    np.testing.assert_array_equal(model[0].weight.data, second)
    np.testing.assert_array_equal(model[1].weight.data, first.T)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_array([1.0, 2.0], [True, False]), "bias is a masked array; fill it first"),
        ([[1], [2, 3]], "bias cannot be made an array"),
    ],
)
def test_entries_of_a_state_that_are_no_arrays_are_listed(value, message):
    layer = nn.Linear(2, 2, rng=0)
    before = layer.state_dict()
    with pytest.raises(
        ValueError, match=rf"nothing was changed\n  misshapen: weight .*\n  no array: bias: .*{message}"
    ):
        layer.load_state_dict({"weight": np.ones(3), "bias": value})
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4)])
def test_norms_name_themselves_where_the_input_is_no_array(layer):
    with pytest.raises(ValueError, match=rf"^{type(layer).__name__}: input cannot be made an array"):
        layer([[1], [1, 2]])
