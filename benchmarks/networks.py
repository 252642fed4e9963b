"""The networks whose training is measured, as lists of parts: random weights and batches for all contenders.

Names of weights are those that a Sequential of the same parts gives them, in cyconv as in torch; a part that goes round
others has its own under ``body`` and ``shortcut``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MOMENTUM = 0.9
INFERENCE_BATCHES = (1, 128)  # of LeNet-5
Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Conv:
    """A convolution of square kernels."""

    c: int
    k: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.k, self.c, self.kernel, self.kernel


@dataclass(frozen=True)
class Dense:
    """A linear layer."""

    c: int
    k: int
    bias: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return self.k, self.c


@dataclass(frozen=True)
class Norm:
    """Batch norm."""

    c: int


@dataclass(frozen=True)
class Pool:
    """Square windows side by side: their maxima, or their means."""

    kind: str
    kernel: int


@dataclass(frozen=True)
class Plain:
    """What has neither weights nor sizes: "relu" or "flatten"."""

    kind: str


@dataclass(frozen=True)
class Around:
    """A body and a way around it, added; without a shortcut the input itself goes around."""

    body: tuple[Part, ...]
    shortcut: tuple[Part, ...] | None = None


Part = Conv | Dense | Norm | Pool | Plain | Around
RELU, FLATTEN = Plain("relu"), Plain("flatten")


@dataclass(frozen=True)
class Network:
    """A network, and how it is trained here.

    ``gain``: weights start uniform within gain / sqrt(fan_in). ``checked``: the losses of so many steps are compared
    with float64 before a step is timed.
    """

    name: str
    image: tuple[int, int, int]
    parts: tuple[Part, ...]
    batches: tuple[int, ...] = (64,)
    lr: float = 0.01
    gain: float = math.sqrt(6)
    checked: int = 3


def _lenet5() -> Network:
    first = (Conv(1, 6, 5, padding=2), RELU, Pool("max", 2), Conv(6, 16, 5), RELU, Pool("max", 2), FLATTEN)
    dense = (Dense(400, 120), RELU, Dense(120, 84), RELU, Dense(84, 10))
    return Network("lenet", (1, 28, 28), first + dense, (32, 64, 256), lr=0.05, gain=1.0, checked=10)


def _conv_norm(c: int, k: int, kernel: int, stride: int = 1) -> tuple[Part, Part]:
    return Conv(c, k, kernel, stride, kernel // 2, bias=False), Norm(k)


def _resnet20() -> Network:
    parts: list[Part] = [*_conv_norm(3, 16, 3), RELU]
    for c, k in ((16, 16), (16, 32), (32, 64)):
        for start, stride in ((c, k // c), (k, 1), (k, 1)):
            body = (*_conv_norm(start, k, 3, stride), RELU, *_conv_norm(k, k, 3))
            parts += [Around(body, None if stride == 1 else _conv_norm(start, k, 1, stride)), RELU]
    return Network("resnet20", (3, 32, 32), (*parts, Pool("avg", 8), FLATTEN, Dense(64, 10)))


def _vgg11(name: str, norm: bool) -> Network:
    parts: list[Part] = []
    c = 3
    for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        for k in stage:
            parts += [Conv(c, k, 3, padding=1), *([Norm(k)] if norm else []), RELU]
            c = k
        parts.append(Pool("max", 2))
    return Network(name, (3, 32, 32), (*parts, FLATTEN, Dense(512, 10)), lr=0.001)


LENET, RESNET20 = _lenet5(), _resnet20()
VGG11, VGG11_NORM = _vgg11("vgg11", norm=False), _vgg11("vgg11-bn", norm=True)
NETWORKS = {network.name: network for network in (LENET, RESNET20, VGG11, VGG11_NORM)}


def named(parts: tuple[Part, ...], prefix: str = "") -> Iterator[tuple[str, Part]]:
    """Every part that has weights, by its name in a Sequential."""
    for i, part in enumerate(parts):
        name = f"{prefix}{i}"
        if isinstance(part, Around):
            yield from named(part.body, f"{name}.body.")
            yield from named(part.shortcut or (), f"{name}.shortcut.")
        elif isinstance(part, Conv | Dense | Norm):
            yield name, part


def state(network: Network = LENET, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights, and statistics of batch norm as they start, under the names of a Sequential."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for key, part in named(network.parts):
        if isinstance(part, Norm):
            for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
                arrays[f"{key}.{name}"] = np.full(part.c, value, np.float32)
            arrays[f"{key}.num_batches_tracked"] = np.array(0)
        elif isinstance(part, Conv | Dense):
            shape = part.weight_shape
            bound = float(np.prod(shape[1:])) ** -0.5
            arrays[f"{key}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32) * np.float32(network.gain)
            if part.bias:
                arrays[f"{key}.bias"] = rng.uniform(-bound, bound, shape[:1]).astype(np.float32)
    return arrays


def batches(size: int, count: int = 8, seed: int = 0, network: Network = LENET) -> list[Batch]:
    """Images of noise, brighter where the label says, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        labels = rng.integers(0, 10, size)
        x = rng.standard_normal((size, *network.image), dtype=np.float32)
        x[np.arange(size), 0, 2 * labels + 2, 4:24] += 2
        made.append((x, labels))
    return made
