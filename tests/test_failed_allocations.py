"""Allocations fail one after another: each gives a MemoryError, nothing is lost, and the next call is right."""

import functools
import gc
import itertools
import sys

import numpy as np
import numpy_memory
import pytest

import cyconv
from cyconv import _settings
from cyconv import functional as F
from cyconv.functional import _conv
from cyconv.kernels import _workspace

#: No operation allocates as often. (Tables of interpolation are made by NumPy, number by number.)
MOST = 3000


@functools.cache
def numbers(*shape, dtype=np.float32, order="C"):
    """Numbers that are not all alike; the same array on every call."""
    values = np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1) if order == "last" else values


def conv(algorithm, order="C", dtype=np.float32, shape=(2, 6, 9, 8), kernel=(5, 6, 3, 3), *how):
    """A convolution forward and backward."""

    def operation():
        x, weight, bias = (numbers(*s, dtype=dtype) for s in (shape, kernel, kernel[:1]))
        x = numbers(*shape, dtype=dtype, order=order)
        y = F.conv2d(x, weight, bias, *how, algorithm=algorithm)
        return (y, *F.conv2d_backward(np.ones_like(y), x, weight, bias, *how, algorithm=algorithm))

    return operation


def both(name, shape, *arguments, order="C", **named):
    """The operation of this name on ``shape``, forward and backward."""

    def operation():
        x = numbers(*shape, order=order)
        given = [numbers(*a) if isinstance(a, tuple) and named.get("arrays") else a for a in arguments]
        options = {key: value for key, value in named.items() if key != "arrays"}
        y = getattr(F, name)(x, *given, **options)
        return (y, *getattr(F, f"{name}_backward")(np.ones_like(y), x, *given, **options))

    return operation


def loss(name, target, reduction="mean"):
    def operation():
        x = numbers(6, 7)
        value = getattr(F, name)(x, target, reduction=reduction)
        grad = np.ones_like(value)
        return (value, *getattr(F, f"{name}_backward")(grad, x, target, reduction=reduction))

    return operation


def max_pool_with_indices():
    x = numbers(2, 3, 9, 8)
    y, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    dx = F.max_pool2d_backward(np.ones_like(y), x, 3, 2, 1, indices=indices)
    return (y, indices, *dx, F.max_unpool2d(y, indices, 3, 2, 1, (9, 8)))


def max_pool_without_indices():
    x = numbers(2, 3, 9, 8, order="last")
    y = F.max_pool2d(x, 3, 2, 1)
    return (y, *F.max_pool2d_backward(np.ones_like(y), x, 3, 2, 1))


def batch_norm(order):
    def operation():
        x, ones = numbers(4, 5, 6, 7, order=order), np.ones(5, np.float32)
        mean, variance = np.zeros(5, np.float32), np.ones(5, np.float32)
        y = F.batch_norm(x, mean, variance, ones, ones, True)
        dx = F.batch_norm_backward(np.ones_like(y), x, None, None, ones, ones, True)
        return (y, *dx, mean, variance)

    return operation


def group_norm():
    x, ones = numbers(4, 6, 5, 7), np.ones(6, np.float32)
    y = F.group_norm(x, 3, ones, ones)
    return (y, *F.group_norm_backward(np.ones_like(y), x, 3, ones, ones))


def layer_norm():
    x, ones = numbers(40, 33), np.ones(33, np.float32)
    y = F.layer_norm(x, (33,), ones, ones)
    return (y, *F.layer_norm_backward(np.ones_like(y), x, (33,), ones, ones))


def linear():
    x, weight, bias = numbers(7, 30), numbers(11, 30), numbers(11)
    y = F.linear(x, weight, bias)
    return (y, *F.linear_backward(np.ones_like(y), x, weight, bias))


def transposed():
    x, weight, bias = numbers(2, 6, 5, 7), numbers(6, 4, 3, 3), numbers(4)
    y = F.conv_transpose2d(x, weight, bias, 2, 1)
    return (y, *F.conv_transpose2d_backward(np.ones_like(y), x, weight, bias, 2, 1))


def large_results():
    """From 1 MiB on they come from the pool."""
    x = numbers(8, 64, 33, 33)
    y = F.relu(x)
    return (y, *F.relu_backward(y, x))


def training_step():
    rng = np.random.default_rng(0)
    model = cyconv.Sequential(
        cyconv.Conv2d(3, 8, 3, padding=1, rng=rng),
        cyconv.BatchNorm2d(8),
        cyconv.ReLU(),
        cyconv.MaxPool2d(2),
        cyconv.Flatten(),
        cyconv.Linear(8 * 16, 5, rng=rng),
    )
    criterion, optimizer = cyconv.CrossEntropyLoss(), cyconv.SGD(model.parameters(), 0.1, 0.9)
    criterion(model(numbers(4, 3, 8, 8)), np.arange(4))
    model.backward(criterion.backward())
    optimizer.step()
    return tuple(value.copy() for value in model.state_dict().values())


LABELS = np.arange(6)
OPERATIONS = {
    **{f"conv {name}": conv(name) for name in ("direct", "im2col", "winograd_f2", "winograd_f4")},
    **{f"conv {name}, channels-last": conv(name, "last") for name in ("direct", "im2col", "winograd_f4")},
    "conv float64": conv("auto", "C", np.float64),
    "conv, strided": conv("auto", "C", np.float32, (2, 6, 9, 8), (5, 6, 3, 3), 2, 1),
    "conv depthwise": conv("depthwise", "C", np.float32, (2, 6, 9, 8), (6, 1, 3, 3), 1, 1, 1, 6),
    "conv depthwise, channels-last": conv("depthwise", "last", np.float32, (2, 6, 9, 8), (6, 1, 3, 3), 1, 1, 1, 6),
    "conv 1 x 1": conv("auto", "C", np.float32, (2, 6, 9, 8), (5, 6, 1, 1)),
    "conv transposed": transposed,
    "linear": linear,
    "max pooling": max_pool_with_indices,
    "max pooling, no indices": max_pool_without_indices,
    "average pooling": both("avg_pool2d", (2, 3, 9, 8), 3, 2, 1),
    "average pooling, channels-last": both("avg_pool2d", (2, 3, 9, 8), 3, 2, 1, order="last"),
    "adaptive pooling": both("adaptive_avg_pool2d", (2, 3, 9, 8), (4, 3)),
    "global pooling": both("global_avg_pool2d", (2, 3, 9, 8)),
    "power pooling": both("lp_pool2d", (2, 3, 9, 8), 2.0, 2),
    "batch norm": batch_norm("C"),
    "batch norm, channels-last": batch_norm("last"),
    "group norm": group_norm,
    "layer norm": layer_norm,
    "instance norm": both("instance_norm", (3, 4, 5, 6)),
    "local response norm": both("local_response_norm", (2, 7, 5, 6), 5),
    "cross entropy": loss("cross_entropy", LABELS),
    "cross entropy, unreduced": loss("cross_entropy", LABELS, "none"),
    "nll": loss("nll_loss", LABELS),
    "mse": loss("mse_loss", numbers(6, 7, dtype=np.float32) + 1),
    "huber": loss("huber_loss", numbers(6, 7, dtype=np.float32) + 1, "sum"),
    "relu": both("relu", (3, 50)),
    "softmax": both("softmax", (3, 50), 1),
    "pad": both("pad", (2, 3, 5, 4), (1, 2, 0, 1), "reflect"),
    "interpolate": both("interpolate", (2, 3, 5, 4), (9, 7), mode="bilinear", align_corners=False),
    "unfold": both("unfold", (2, 3, 5, 6), 3),
    "results from the pool": large_results,
    "training step": training_step,
}


def caches():
    """Return what clears each cache of plans, whose tables are allocations, too."""
    modules = [module for name, module in sys.modules.items() if name.startswith("cyconv.")]
    found = [value for module in modules for value in vars(module).values() if hasattr(value, "cache_clear")]
    return [_conv._engines.clear, *(value.cache_clear for value in found if value is not cyconv.kernels.load)]


CACHES = caches()


def forget():
    """Let go of all plans, and of what the pool keeps."""
    for clear in CACHES:
        clear()
    _workspace.release_kept()


@pytest.fixture
def hook(monkeypatch):
    """Never leave it set; small work on two threads, as large work is."""
    monkeypatch.setattr(_settings, "SERIAL_WORK", 0)
    with cyconv.threads(2):
        yield _workspace.fail_allocation
    _workspace.fail_allocation(0)
    forget()


def walk(operation, hook, lasting, sign="cyconv"):
    """Let the first, the second, ... allocation fail until none is left that could; return how many there were."""
    expected = [value.tobytes() for value in operation()]
    forget()
    gc.collect()
    for n in itertools.count(1):
        forget()
        before = _workspace.live_blocks()
        hook(n, lasting)
        try:
            operation()
        except MemoryError as error:
            message = str(error)
        else:
            assert hook(0) > 0, "a failed allocation passed unseen"
            return n - 1
        assert sign in message
        assert hook(0) == (1 if lasting else 0), "somebody else raised it"
        # What failed did no harm: first with all that it left behind, then after all of that is gone.
        assert [value.tobytes() for value in operation()] == expected
        forget()
        assert _workspace.live_blocks() == before
        assert n < MOST


@pytest.mark.parametrize("lasting", [False, True], ids=["one", "all that follow"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_failed_allocation_is_a_memory_error_that_loses_nothing(name, lasting, hook):
    assert walk(OPERATIONS[name], hook, lasting) > 0


@pytest.mark.parametrize("name", OPERATIONS)
def test_so_is_each_of_numpys(name, hook):
    """Those of arrays that functional/ and nn/ make by NumPy."""
    operation = OPERATIONS[name]
    operation()  # inputs are made once
    with numpy_memory.watched():
        walk(operation, numpy_memory.fail_allocation, False, sign="")


def test_numpys_allocations_fail_when_told():
    with numpy_memory.watched():
        numpy_memory.fail_allocation(2)
        first = np.empty(5)
        with pytest.raises(MemoryError):
            np.empty(5)
        assert np.empty(5).shape == first.shape


def test_an_operation_that_swallowed_a_failure_would_be_noticed(hook):
    def swallows():
        try:
            return (_workspace.empty((3,), "f") * 0,)
        except MemoryError:
            return (np.zeros(3, np.float32),)

    with pytest.raises(AssertionError, match="unseen"):
        walk(swallows, hook, False)


def test_a_lost_block_would_be_noticed(hook):
    lost = []

    def loses():
        lost.append(_workspace.empty((3,), "f"))
        return (_workspace.empty((3,), "f") * 0,)

    with pytest.raises(AssertionError):
        walk(loses, hook, False)


@pytest.mark.parametrize("order", ["C", "last"])
def test_running_statistics_are_as_before_when_batch_norm_fails(order, hook):
    x, ones = numbers(4, 5, 6, 7, order=order), np.ones(5, np.float32)
    for n in range(1, 20):
        mean, variance = np.zeros(5, np.float32), np.ones(5, np.float32)
        forget()
        hook(n)
        try:
            F.batch_norm(x, mean, variance, ones, ones, True)
        except MemoryError:
            assert not mean.any()
            assert (variance == 1).all()
        else:
            assert n > 1
            break
        finally:
            hook(0)


def test_a_model_goes_on_after_a_step_that_failed(hook):
    """Whatever allocation fails, after zero_grad() the next step's gradients are those of a model that never failed."""
    rng = np.random.default_rng(0)
    conv, norm = cyconv.Conv2d(3, 4, 3, rng=rng), cyconv.BatchNorm2d(4, momentum=0.0)
    model = cyconv.Sequential(conv, norm, cyconv.ReLU())
    x = numbers(2, 3, 6, 5)

    def gradients():
        model.zero_grad()
        y = model(x)
        dx = model.backward(np.ones_like(y))
        return [dx, *(p.grad for p in model.parameters())]

    expected = [g.tobytes() for g in gradients()]
    failures = 0
    for n in range(1, MOST):
        forget()
        hook(n)
        try:
            gradients()
        except MemoryError:
            failures += 1
        else:
            break
        finally:
            hook(0)
        assert [g.tobytes() for g in gradients()] == expected
    assert failures > 3


@pytest.mark.parametrize("ndim", [1, 2, 32, 33, 64])
def test_arrays_of_as_many_axes_as_numpy_has(ndim):
    x = np.ones((1,) * ndim, np.float32)
    assert F.relu(x).shape == x.shape
    assert F.relu(np.asfortranarray(np.ones((1,) * (ndim - 1) + (3,)))).shape == (*(1,) * (ndim - 1), 3)
