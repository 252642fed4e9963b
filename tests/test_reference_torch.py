"""The oracle against torch, values and gradients, in float64: our names mean what theirs mean."""

import itertools

import numpy as np
import pytest
from tolerances import relative_error

from cyconv import reference as ref

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Arrays this small only wait for torch's threads, seconds of it when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CONVS = [  # input, weight, other arguments
    ((2, 3, 8, 7), (4, 3, 3, 3), {}),
    ((2, 3, 8, 7), (4, 3, 3, 3), {"padding": 1}),
    ((2, 3, 8, 7), (4, 3, 3, 2), {"padding": "same"}),
    ((2, 3, 8, 7), (4, 3, 4, 2), {"padding": "same", "dilation": (1, 3)}),
    ((2, 3, 8, 7), (4, 3, 2, 5), {"padding": "valid", "stride": 2}),
    ((2, 3, 8, 7), (4, 3, 3, 3), {"padding": (0, 2), "stride": (3, 2)}),
    ((2, 3, 8, 7), (4, 3, 3, 3), {"padding": 3, "dilation": (2, 3)}),
    ((2, 3, 8, 7), (4, 3, 1, 1), {"stride": 3}),
    ((2, 3, 8, 7), (4, 3, 2, 2), {"stride": 5, "padding": 1}),
    ((2, 3, 8, 7), (4, 3, 8, 7), {}),
    ((2, 6, 8, 7), (4, 3, 3, 3), {"groups": 2}),
    ((2, 6, 8, 7), (12, 1, 3, 3), {"groups": 6, "stride": 2, "padding": 1}),
    ((1, 1, 11, 1), (1, 1, 5, 1), {"stride": 2, "padding": (4, 0)}),
    ((3, 8, 7), (4, 3, 3, 3), {"padding": 1}),
    ((0, 3, 8, 7), (4, 3, 3, 3), {"padding": 1}),
    ((2, 4, 9), (6, 2, 3), {"groups": 2, "stride": 2, "padding": 2, "dilation": 2}),
    ((2, 2, 4, 5, 6), (3, 2, 2, 3, 1), {"stride": (1, 2, 3), "padding": (1, 0, 2)}),
]
TRANSPOSED = [
    ((2, 3, 4, 5), (3, 4, 3, 3), {}),
    ((2, 3, 4, 5), (3, 4, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 3, 4, 5), (3, 4, 4, 4), {"stride": 2, "padding": 1}),
    ((2, 3, 4, 5), (3, 4, 2, 1), {"stride": (3, 2), "output_padding": (2, 0)}),
    ((2, 3, 4, 5), (3, 4, 2, 2), {"stride": 1, "dilation": 3, "output_padding": 2}),
    ((2, 4, 4, 5), (4, 3, 3, 3), {"groups": 2, "stride": 2, "dilation": (1, 2), "padding": (0, 3)}),
    ((3, 4, 5), (3, 4, 3, 3), {}),
    ((0, 3, 4, 5), (3, 4, 3, 3), {"padding": 1}),
    ((2, 4, 5), (4, 3, 3), {"groups": 2, "stride": 3}),
    ((1, 2, 3, 2, 4), (2, 3, 2, 3, 1), {"stride": (1, 2, 3), "output_padding": (0, 1, 2)}),
]
POOL_WINDOWS = [  # spatial dimensions, input, window
    (2, (2, 3, 8, 7), {"kernel_size": 2}),
    (2, (2, 3, 8, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (2, (2, 3, 8, 7), {"kernel_size": (3, 2), "stride": 1, "padding": (1, 0)}),
    (2, (2, 3, 9, 5), {"kernel_size": (4, 3), "stride": (3, 4), "padding": (2, 1)}),
    (2, (2, 3, 5, 6), {"kernel_size": 2, "stride": 5, "padding": 1}),
    (2, (2, 3, 3, 3), {"kernel_size": 2, "padding": 1}),
    (2, (3, 8, 7), {"kernel_size": 3}),
    (2, (0, 3, 8, 7), {"kernel_size": 3}),
    (1, (2, 3, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (3, (2, 3, 4, 6, 5), {"kernel_size": (2, 3, 2), "stride": (1, 2, 2), "padding": (0, 1, 1)}),
]


def agree(actual, expected):
    expected = expected.detach().numpy()
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    special = [np.where(np.isfinite(values), 0, values) for values in (actual, expected)]
    assert np.array_equal(*special, equal_nan=True)
    assert relative_error(actual, expected) <= 1e-12


def compare(name, theirs, arrays, *args, **kwargs):
    """Compare ``ref.name(*arrays, *args, **kwargs)`` and all its gradients with the function of torch."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    expected = theirs(*tensors)
    actual = getattr(ref, name)(*arrays, *args, **kwargs)
    agree(actual, expected)
    dy = np.random.default_rng(5).normal(size=expected.shape)
    wanted = torch.autograd.grad(expected, tensors, torch.from_numpy(np.asarray(dy)))
    got = getattr(ref, name + "_backward")(dy, *arrays, *args, **kwargs)
    assert len(got) == len(wanted)
    for ours, autograd in zip(got, wanted, strict=True):
        agree(ours, autograd)


def normal(*shapes):
    rng = np.random.default_rng(6)
    return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(("x", "w", "kwargs"), CONVS)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(x, w, kwargs, bias):
    name = f"conv{len(w) - 2}d"
    arrays = normal(x, w, w[:1])[: 2 + bias]
    compare(name, lambda *tensors: getattr(F, name)(*tensors, **kwargs), arrays, **kwargs)


@pytest.mark.parametrize(("x", "w", "kwargs"), TRANSPOSED)
@pytest.mark.parametrize("bias", [True, False])
def test_conv_transpose(x, w, kwargs, bias):
    name = f"conv_transpose{len(w) - 2}d"
    arrays = normal(x, w, w[1] * kwargs.get("groups", 1))[: 2 + bias]
    compare(name, lambda *tensors: getattr(F, name)(*tensors, **kwargs), arrays, **kwargs)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("sides", [((1, 1), (1, 1)), ((2, 0), (1, 3)), ((0, 1), (0, 0)), ((4, 4), (5, 5))])
def test_padding_modes(mode, sides):
    (top, bottom), (left, right) = sides

    def padded_first(x, w, b):
        x = F.pad(x, (left, right, top, bottom), mode="constant" if mode == "zeros" else mode)
        return F.conv2d(x, w, b, stride=(1, 2))

    compare("conv2d", padded_first, normal((2, 3, 5, 6), (4, 3, 3, 2), 4), (1, 2), sides, padding_mode=mode)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("values", ["normal", "ties", "nan"])
@pytest.mark.parametrize(
    ("ndim", "shape", "kwargs"),
    [
        *POOL_WINDOWS,
        (2, (2, 3, 9, 10), {"kernel_size": 3, "dilation": 2, "padding": (1, 0)}),
        (2, (2, 3, 9, 10), {"kernel_size": (2, 3), "stride": 2, "dilation": (4, 3), "padding": 1}),
    ],
)
def test_max_pool(ndim, shape, kwargs, values, ceil_mode):
    name = f"max_pool{ndim}d"
    rng = np.random.default_rng(7)
    x = rng.normal(size=shape) if values == "normal" else rng.integers(0, 3, shape).astype(float)
    if values == "nan":
        x[rng.random(shape) < 0.2] = np.nan
        x[rng.random(shape) < 0.2] = -np.inf
    theirs = getattr(F, name)
    compare(name, lambda t: theirs(t, **kwargs, ceil_mode=ceil_mode), [x], **kwargs, ceil_mode=ceil_mode)
    _, indices = getattr(ref, name)(x, **kwargs, ceil_mode=ceil_mode, return_indices=True)
    expected = theirs(torch.from_numpy(x), **kwargs, ceil_mode=ceil_mode, return_indices=True)[1]
    assert np.array_equal(indices, expected.numpy())


@pytest.mark.parametrize(("ceil_mode", "count_include_pad"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(("ndim", "shape", "kwargs"), POOL_WINDOWS)
def test_avg_pool(ndim, shape, kwargs, ceil_mode, count_include_pad):
    name = f"avg_pool{ndim}d"
    more = {**kwargs, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    for divisor in [{}] if name == "avg_pool1d" else [{}, {"divisor_override": 7}]:
        compare(name, lambda t, d=divisor: getattr(F, name)(t, **more, **d), normal(shape), **more, **divisor)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("norm_type", [1, 2, 2.5, 3])
@pytest.mark.parametrize(("ndim", "shape", "kwargs"), [c for c in POOL_WINDOWS if "padding" not in c[2] and c[1][0]])
def test_lp_pool(ndim, shape, kwargs, norm_type, ceil_mode):
    x = np.abs(normal(shape)[0])
    x[..., :2] = 0
    compare(
        f"lp_pool{ndim}d",
        lambda t: getattr(F, f"lp_pool{ndim}d")(t, norm_type, **kwargs, ceil_mode=ceil_mode),
        [x],
        norm_type,
        **kwargs,
        ceil_mode=ceil_mode,
    )


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((2, 3, 9), 4), ((3, 4), 7), ((2, 3, 7, 8), (3, None)), ((3, 7, 8), 5), ((2, 4, 5, 4), (3, 2, 6))],
)
def test_adaptive_pool(shape, size, kind):
    rank = 3 if size == (3, 2, 6) else 2 if shape[-1] == 8 else 1
    name = f"adaptive_{kind}_pool{rank}d"
    x = np.random.default_rng(8).integers(-2, 3, shape).astype(float)
    compare(name, lambda t: getattr(F, name)(t, size), [x], size)
    if kind == "max":
        x[x == 2] = np.nan
        x[x == 1] = -np.inf
        theirs = getattr(F, name)(torch.from_numpy(x), size, True)
        for ours, other in zip(getattr(ref, name)(x, size, True), theirs, strict=True):
            assert np.array_equal(ours, other.numpy(), equal_nan=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "kernel", "size"), [((4, 5, 23, 30), (3, 2), (9, 13)), ((4, 5, 12, 13, 14), 2, (5, 1, 7))]
)
def test_fractional_max_pool(shape, kernel, size, dtype):
    name = f"fractional_max_pool{len(shape) - 2}d"
    rng = np.random.default_rng(9)
    x = rng.integers(0, 9, shape).astype(dtype)
    x[rng.random(shape) < 0.05] = np.nan
    samples = rng.random((*shape[:2], len(shape) - 2)).astype(dtype)
    theirs = getattr(F, name)(torch.from_numpy(x), kernel, size, None, True, torch.from_numpy(samples))
    for ours, other in zip(getattr(ref, name)(x, kernel, size, None, True, samples), theirs, strict=True):
        assert np.array_equal(ours, other.numpy(), equal_nan=True)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_max_unpool(ndim):
    x = torch.from_numpy(normal((2, 3, 9, 8, 7)[: ndim + 2])[0])
    y, indices = getattr(F, f"max_pool{ndim}d")(x, 3, 2, 1, return_indices=True)
    name, size = f"max_unpool{ndim}d", tuple(x.shape[2:])
    compare(name, lambda t: getattr(F, name)(t, indices, 3, 2, 1, size), [y.numpy()], indices.numpy(), 3, 2, 1, size)


@pytest.mark.parametrize(("x", "bias"), list(itertools.product([(5, 3), (3,), (2, 4, 3), (0, 3)], [True, False])))
def test_linear(x, bias):
    compare("linear", F.linear, normal(x, (4, 3), 4)[: 2 + bias])


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_activations(name):
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 700, -700, 1e-300])
    compare(name, getattr(torch, name), [np.concatenate([normal(50)[0] * 5, special])])


@pytest.mark.parametrize(("name", "dim"), list(itertools.product(["softmax", "log_softmax"], [0, 1, -1])))
def test_softmax(name, dim):
    compare(name, lambda t: getattr(F, name)(t, dim), [normal((3, 4, 5))[0] * 20], dim)


@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, -1), (0, 1), (-2, 2), (1, 1)])
def test_flatten(start, end):
    compare("flatten", lambda t: torch.flatten(t, start, end), normal((2, 3, 4)), start, end)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (4,), (2, 4, 3), (2, 4, 3, 2), (0, 4)])
def test_class_losses(shape, weighted, reduction):
    rng = np.random.default_rng(8)
    classes_last = shape[:1] + shape[2:] if len(shape) > 1 else ()
    labels = np.asarray(rng.integers(0, 4, classes_last))
    ignored = np.where(rng.random(classes_last) < 0.3, -100, labels)
    weight = rng.random(4) if weighted else None
    w = None if weight is None else torch.from_numpy(weight)
    x = rng.normal(size=shape)
    for target in (labels, ignored):
        t = torch.from_numpy(np.asarray(target))
        compare(
            "nll_loss",
            lambda i, t=t: F.nll_loss(i, t, w, reduction=reduction),
            [x],
            target=target,
            weight=weight,
            reduction=reduction,
        )
        for smooth in (0.0, 0.1):
            compare(
                "cross_entropy",
                lambda i, t=t, s=smooth: F.cross_entropy(i, t, w, reduction=reduction, label_smoothing=s),
                [x],
                target=target,
                weight=weight,
                reduction=reduction,
                label_smoothing=smooth,
            )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (4,), (2, 4, 3)])
def test_cross_entropy_of_probabilities(shape, weighted, reduction):
    rng = np.random.default_rng(9)
    target, weight = rng.random(shape), rng.random(4) if weighted else None
    w = None if weight is None else torch.from_numpy(weight)
    for smooth in (0.0, 0.3):
        compare(
            "cross_entropy",
            lambda i, t, s=smooth: F.cross_entropy(i, t, w, reduction=reduction, label_smoothing=s),
            [*normal(shape), target],
            weight=weight,
            reduction=reduction,
            label_smoothing=smooth,
        )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_mse_loss(reduction):
    compare(
        "mse_loss",
        lambda a, b: F.mse_loss(a, b, reduction=reduction),
        normal((3, 4, 2), (3, 4, 2)),
        reduction=reduction,
    )


def test_relu_passes_nan_gradients_as_torch():
    x = torch.tensor([np.nan, 0.0, -0.0, 1.0], dtype=torch.float64, requires_grad=True)
    torch.relu(x).backward(torch.ones(4, dtype=torch.float64))
    ours = ref.relu_backward(np.ones(4), x.detach().numpy())[0]
    assert np.array_equal(ours, x.grad.numpy())
