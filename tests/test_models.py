"""The networks of cyconv.models: sizes, learning, and the same network in torch."""

import itertools

import numpy as np
import pytest

from cyconv import nn
from cyconv.models import VGG11, ResNet20
from cyconv.optim import SGD

NETWORKS = {
    "ResNet20": ResNet20,
    "VGG11": VGG11,
    "VGG11 with batch norm": lambda *args, **kwargs: VGG11(*args, batch_norm=True, **kwargs),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def batch(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, 32, 32)).astype(dtype), rng.integers(0, 10, n)


def convolutions(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def test_parameters_of_resnet20_by_hand():
    blocks = [2 * 9 * c * c + 4 * c for c in (16, 32, 64)]  # two convolutions, two batch norms
    # The first block of a stage starts from half the channels, and has a 1 × 1 convolution and its norm around it.
    changing = [9 * c * c // 2 + 9 * c * c + 4 * c + c * c // 2 + 2 * c for c in (32, 64)]
    first, last = 3 * 16 * 9 + 32, 64 * 10 + 10
    model = ResNet20(rng=0)
    assert model.num_parameters() == first + 3 * blocks[0] + 2 * sum(blocks[1:]) + sum(changing) + last == 272_474
    assert len([c for c in convolutions(model) if c.kernel_size == (3, 3)]) + 1 == 20  # with the linear layer
    # Option A's way around has no parameters: the 269,722 of the paper's network.
    assert model.num_parameters() - sum(c * c // 2 + 2 * c for c in (32, 64)) == 269_722


def test_parameters_of_vgg11_by_hand():
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    weights = sum(9 * c * k + k for c, k in itertools.pairwise(channels))
    assert VGG11(rng=0).num_parameters() == weights + 5130 == 9_225_610
    assert VGG11(batch_norm=True, rng=0).num_parameters() == weights + 5130 + 2 * sum(channels[1:]) == 9_231_114
    assert len(convolutions(VGG11(rng=0))) + 3 == 11  # the paper has two more linear layers


@each_network
def test_shapes_dtypes_and_seeds(name):
    make = NETWORKS[name]
    model, x = make(rng=0), batch(3, "float32")[0]
    assert model(x).shape == (3, 10)
    assert {p.dtype for p in model.parameters()} == {np.dtype("float32")}
    double = make(7, dtype="float64", rng=0)
    scores = double(x.astype("float64"))
    assert (scores.shape, scores.dtype) == ((3, 7), np.float64)
    for mine, again in zip(model.parameters(), make(rng=np.random.default_rng(0)).parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, again.data)


@each_network
def test_convolutions_start_as_he_says(name):
    """Variance 2 / (K R S), which the layers' own start, 1 / (3 C R S), is not."""
    for conv in convolutions(NETWORKS[name](rng=0)):
        k, _, r, s = conv.weight.shape
        share = conv.weight.data.var() * k * r * s / 2
        assert abs(share - 1) < 5 * (2 / conv.weight.size) ** 0.5
        assert conv.bias is None or not conv.bias.data.any()


@each_network
def test_training_steps_lower_the_loss(name):
    model, loss = NETWORKS[name](rng=0), nn.CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, target = batch(8, "float32")
    values = []
    for _ in range(6):
        optimizer.zero_grad()
        values.append(float(loss(model(x), target)))
        model.backward(loss.backward(), input_grad=False)
        optimizer.step()
    assert values[-1] < 0.8 * values[0]


def twin(torch, layer, switched=False):
    """The same layers in torch, made from what a layer says of itself; names of the state agree.

    ``switched``: with the choices that the layers made in their last pass, which side of 0 a ReLU was on and where a
    maximum stood. Rounding decides these here and there in float32, and each moves gradients by far more than rounding.
    """
    t = torch.nn

    class Residual(t.Module):
        def __init__(self):
            super().__init__()
            self.body = twin(torch, layer.body, switched)
            self.shortcut = t.Identity() if layer.shortcut is None else twin(torch, layer.shortcut, switched)

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    class Chosen(t.Module):
        def forward(self, x):
            if isinstance(layer, nn.ReLU):
                return x * torch.from_numpy(layer._saved > 0)
            k = layer.kernel_size
            # Windows do not overlap: the gradient of ones says which pixel of each was taken.
            rows, columns = (size // k for size in x.shape[2:])
            taken = layer._saved.backward(np.ones((*x.shape[:2], rows, columns), np.float32))
            return t.functional.avg_pool2d(x * torch.from_numpy(taken), k) * k**2

    if isinstance(layer, nn.Sequential):
        return t.Sequential(*(twin(torch, child, switched) for child in layer))
    if isinstance(layer, nn.Residual):
        return Residual()
    if switched and isinstance(layer, nn.ReLU | nn.MaxPool2d):
        return Chosen()
    if isinstance(layer, nn.Conv2d):
        sizes = layer.kernel_size, layer.stride, layer.padding
        return t.Conv2d(layer.in_channels, layer.out_channels, *sizes, bias=layer.bias is not None)
    if isinstance(layer, nn.BatchNorm2d):
        return t.BatchNorm2d(layer.num_features)
    if isinstance(layer, nn.Linear):
        return t.Linear(layer.in_features, layer.out_features)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return getattr(t, type(layer).__name__)(layer.kernel_size)
    assert type(layer) in (nn.ReLU, nn.Flatten)
    return getattr(t, type(layer).__name__)()


@each_network
@pytest.mark.parametrize(("dtype", "allowed"), [("float64", 1e-10), ("float32", 1e-4)])
def test_loss_and_gradients_are_those_of_torch_in_float64(name, dtype, allowed):
    torch = pytest.importorskip("torch")
    ours, loss = NETWORKS[name](dtype=dtype, rng=0), nn.CrossEntropyLoss()
    x, target = batch(6, dtype)
    state = {key: torch.from_numpy(value) for key, value in ours.state_dict().items()}
    value = loss(ours(x), target)
    theirs = twin(torch, ours, switched=dtype == "float32").double()
    assert list(theirs.state_dict()) == list(state)
    theirs.load_state_dict(state)
    want = torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(x.astype("float64"))), torch.from_numpy(target))
    want.backward()
    assert value == pytest.approx(want.item(), rel=allowed)
    ours.backward(loss.backward(), input_grad=False)
    for (key, mine), its in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        exact = its.grad.numpy()
        # A bias before batch norm has no influence, and both gradients of it are rounding.
        scale = abs(exact).max() if abs(exact).max() > 1e-12 else 1.0
        assert abs(mine.grad - exact).max() <= allowed * scale, key
    for key, buffer in ours.named_buffers():
        exact = theirs.state_dict()[key].numpy()
        assert abs(buffer - exact).max() <= allowed * abs(exact).max(), key
