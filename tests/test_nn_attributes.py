"""What users assign to layers after they were made, and what they do to weights of eval mode."""

import copy
import pickle
import threading

import numpy as np
import pytest

from cyconv import nn

LAYERS = {
    "Conv2d": lambda: nn.Conv2d(2, 3, 3, rng=0),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(2, 3, 3, rng=0),
    "LazyConv2d": lambda: nn.LazyConv2d(3, 3, rng=0),
    "Linear": lambda: nn.Linear(5, 3, rng=0),
    "BatchNorm2d": lambda: nn.BatchNorm2d(2),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(2, affine=True),
    "GroupNorm": lambda: nn.GroupNorm(1, 2),
    "LayerNorm": lambda: nn.LayerNorm(5),
    "PReLU": lambda: nn.PReLU(),
}


def example():
    return np.random.default_rng(0).standard_normal((2, 2, 5, 5)).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_only_parameters_can_be_weights(name):
    layer = LAYERS[name]()
    weight, bias = layer.weight, getattr(layer, "bias", None)
    for wrong in ("abc", 1.5, [1.0], nn.ReLU(), np.zeros(3, np.float32)):
        hint = "; assign to weight.data" if isinstance(wrong, np.ndarray) else f"got {type(wrong).__name__}$"
        with pytest.raises(TypeError, match=rf"^{name}: weight must be a Parameter.*{hint}"):
            layer.weight = wrong
        if bias is not None:
            with pytest.raises(TypeError, match=rf"^{name}: bias must be a Parameter or None, got "):
                layer.bias = wrong
    if "Norm" not in name:
        with pytest.raises(TypeError, match=rf"^{name}: weight must be a Parameter, got NoneType"):
            layer.weight = None
    with pytest.raises(AttributeError, match=rf"^{name}: weight cannot be deleted"):
        del layer.weight
    assert layer.weight is weight
    assert getattr(layer, "bias", None) is bias
    if bias is not None:
        layer.bias = None
        layer(example())
        assert "bias" not in dict(layer.named_parameters())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), copy.copy(layer)):
        assert type(twin.weight) is nn.Parameter or name.startswith("Lazy")


@pytest.mark.parametrize("base", [nn.Conv2d, nn.Linear, nn.PReLU])
def test_a_class_that_forgot_to_call_init_says_so(base):
    class Mine(base):
        def __init__(self):
            pass

    with pytest.raises(AttributeError, match=r"has no (weight|bias) yet; was super\(\).__init__\(...\) called"):
        Mine()(example())


@pytest.mark.parametrize("name", ["Conv2d", "ConvTranspose2d", "LazyConv2d"])
@pytest.mark.parametrize("attribute", ["in_channels", "out_channels", "groups", "stride", "padding_mode"])
def test_arguments_of_convolutions_are_fixed(name, attribute):
    layer = LAYERS[name]()
    before = repr(layer)
    with pytest.raises(AttributeError, match=rf"^{name}: {attribute} is fixed at construction; make a new layer"):
        setattr(layer, attribute, 2)
    assert repr(layer) == before


def test_data_is_an_array():
    parameter = nn.Parameter(np.ones(3))
    for wrong in (None, [1.0, 2.0, 3.0], 1.0, nn.Parameter(np.ones(3))):
        with pytest.raises(TypeError, match=r"^Parameter: data must be a NumPy array, got "):
            parameter.data = wrong
    assert parameter.data.tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="gets its values from its lazy layer"):
        nn.LazyLinear(3).weight.data = np.ones((3, 3))


CONVOLUTIONS = {
    "winograd": lambda: nn.Conv2d(16, 16, 3, padding=1, rng=0),
    "direct": lambda: nn.Conv2d(4, 8, 3, algorithm="direct", rng=0),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 3, stride=2, rng=0),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, groups=8, rng=0),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_weight_that_was_made_writable_in_eval_mode_is_taken_anew(name):
    layer = CONVOLUTIONS[name]().eval()
    x = np.random.default_rng(1).standard_normal((2, layer.in_channels, 12, 12)).astype(np.float32)
    first = layer(x)
    data = layer.weight.data
    for factor in (2, 3):
        with pytest.raises(ValueError, match="read-only"):
            data *= factor
        data.flags.writeable = True
        data *= np.float32(factor)
        twin = copy.deepcopy(layer)
        expected = twin(x)
        assert not np.array_equal(expected, first)
        for _ in range(2):
            np.testing.assert_array_equal(layer(x), expected)
        assert not data.flags.writeable
    layer.train()
    assert data.flags.writeable


def test_threads_that_call_a_layer_in_eval_mode_while_another_changes_modes():
    layer = CONVOLUTIONS["winograd"]()
    x = np.random.default_rng(1).standard_normal((1, 16, 12, 12)).astype(np.float32)
    wanted = {mode: layer.train(mode)(x).tobytes() for mode in (True, False)}
    stop, wrong = threading.Event(), []

    def call():
        while not stop.is_set():
            try:
                if layer(x).tobytes() not in wanted.values():
                    wrong.append("another result")
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        layer.train()
        layer.eval()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not wrong
    layer.train()
    assert layer.weight.data.flags.writeable
    layer.weight.data *= 2
    assert layer.eval()(x).tobytes() not in wanted.values()


@pytest.mark.parametrize("make", [nn.BatchNorm2d, lambda n: nn.InstanceNorm2d(n, track_running_stats=True)])
def test_only_arrays_can_be_running_statistics(make):
    layer = make(2)
    before = layer.state_dict()
    for name, axes in (("running_mean", 1), ("running_var", 1), ("num_batches_tracked", 0)):
        for wrong in ("abc", 3, [0.0, 0.0], np.zeros((2, 2), np.float32)):
            with pytest.raises(TypeError, match=rf": {name} must be a NumPy array of {axes} axes or None, got "):
                setattr(layer, name, wrong)
    assert list(layer.state_dict()) == list(before)
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    assert layer(example()).shape == example().shape


def test_what_containers_are_given_later():
    residual, concat = nn.Residual(nn.Identity()), nn.Concat(nn.Identity())
    for wrong in (3, np.sin):
        with pytest.raises(TypeError, match=rf"^Residual: body must be a layer, got {type(wrong).__name__}"):
            residual.body = wrong
        with pytest.raises(TypeError, match=rf"^Residual: shortcut must be a layer, got {type(wrong).__name__}"):
            residual.shortcut = wrong
    for wrong in ("a", None, 1.0):
        for put in (lambda w=wrong: setattr(concat, "dim", w), lambda w=wrong: nn.Concatenate(w)):
            with pytest.raises(TypeError, match=r"^Concat(enate)?: dim must be an int, got "):
                put()
    delattr(concat, "0")
    with pytest.raises(ValueError, match="Concat: at least one branch is needed"):
        concat(example())


def test_layers_that_return_nothing_are_named():
    class Nothing(nn.Module):
        def forward(self, input):
            pass

    for net, message in (
        (nn.Residual(Nothing()), "Residual: body must give an array, got NoneType"),
        (nn.Residual(nn.Identity(), Nothing()), "Residual: shortcut must give an array, got NoneType"),
        (nn.Concat(nn.Identity(), Nothing()), "Concat: branch 1 must give an array, got NoneType"),
    ):
        with pytest.raises(TypeError, match=f"^{message}$"):
            net(example())


@pytest.mark.parametrize("layer", [nn.Add(), nn.Concatenate()])
def test_gradients_of_joins_have_the_dtype_of_the_output(layer):
    y = layer(example(), example())
    with pytest.raises(TypeError, match="mixed dtypes: grad_output float64, output float32"):
        layer.backward(y.astype(float))
    assert all(gradient.dtype == np.float32 for gradient in layer.backward(y))


def test_a_mode_is_set_everywhere_or_nowhere():
    net = nn.Sequential(nn.ReLU())
    net[0].owner = net
    with pytest.raises(ValueError, match="holds it"):
        net.eval()
    assert net.training
    assert net[0].training
