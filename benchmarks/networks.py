"""LeNet-5: random weights and batches, and a float64 NumPy network that says what logits and losses must come out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import layers, oracle
from .layers import Layer

LEARNING_RATE, MOMENTUM = 0.05, 0.9
CHECKED_STEPS = 10
TRAINING_BATCHES, INFERENCE_BATCHES = (32, 64, 256), (1, 128)
Batch = tuple[np.ndarray, np.ndarray]


def state(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights under the names of a Sequential, uniform within 1/sqrt(fan_in) as PyTorch draws them."""
    rng = np.random.default_rng(seed)
    shapes = {"0": (6, 1, 5, 5), "3": (16, 6, 5, 5), "7": (120, 400), "9": (84, 120), "11": (10, 84)}
    arrays = {}
    for key, shape in shapes.items():
        bound = float(np.prod(shape[1:])) ** -0.5
        arrays[f"{key}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        arrays[f"{key}.bias"] = rng.uniform(-bound, bound, shape[:1]).astype(np.float32)
    return arrays


def batches(size: int, count: int = 8, seed: int = 0) -> list[Batch]:
    """Images of noise, brighter where the label says, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        labels = rng.integers(0, 10, size)
        x = rng.standard_normal((size, 1, 28, 28), dtype=np.float32)
        x[np.arange(size), 0, 2 * labels + 2, 4:24] += 2
        made.append((x, labels))
    return made


def _convs(n: int) -> tuple[Layer, Layer]:
    return (
        layers.conv("c1", "", 1, 6, (28, 28), 5, padding=2, n=n),
        layers.conv("c2", "", 6, 16, (14, 14), 5, n=n),
    )


def _pool(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2x2 maxima, and where in each window the first of them stands."""
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
    return windows.max(-1), windows.argmax(-1)


def _unpool(dy: np.ndarray, where: np.ndarray) -> np.ndarray:
    n, c, h, w = dy.shape
    windows = np.zeros((n, c, h, w, 4))
    np.put_along_axis(windows, where[..., None], dy[..., None], -1)
    return windows.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


class Reference:
    """LeNet-5 in float64: logits, and training by SGD with momentum."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = {key: value.astype(np.float64) for key, value in weights.items()}
        self.velocity = {key: np.zeros_like(value) for key, value in self.weights.items()}

    def _features(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(input, convolution, place of the maxima) of both convolutional stages, and the flat features last."""
        kept, a = [], x
        for key, layer in zip("03", _convs(len(x)), strict=True):
            conv = oracle.forward(layer, a, self.weights[f"{key}.weight"], self.weights[f"{key}.bias"])
            pooled, where = _pool(np.maximum(conv, 0))
            kept.append((a, conv, where))
            a = pooled
        return [*kept, (a, a, a)]

    def _dense(self, a: np.ndarray) -> list[np.ndarray]:
        """Inputs of the three linear layers, and the logits last."""
        values = [a.reshape(len(a), -1)]
        for key in ("7", "9", "11"):
            z = values[-1] @ self.weights[f"{key}.weight"].T + self.weights[f"{key}.bias"]
            values.append(z if key == "11" else np.maximum(z, 0))
        return values

    def logits(self, x: np.ndarray) -> np.ndarray:
        return self._dense(self._features(x)[-1][0])[-1]

    def step(self, x: np.ndarray, labels: np.ndarray) -> float:
        """The cross-entropy of this batch, after which the weights have moved."""
        stages = self._features(x)
        values = self._dense(stages[-1][0])
        shifted = values[-1] - values[-1].max(1, keepdims=True)
        logp = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        rows = np.arange(len(x))
        d = np.exp(logp)
        d[rows, labels] -= 1
        d /= len(x)
        grads = {}
        for key, a in zip(("11", "9", "7"), values[-2::-1], strict=True):
            grads[f"{key}.weight"], grads[f"{key}.bias"] = d.T @ a, d.sum(0)
            d = (d @ self.weights[f"{key}.weight"]) * (a > 0 if key != "7" else 1)
        d = d.reshape(stages[-1][0].shape)
        for key, layer, (a, conv, where) in zip("30", _convs(len(x))[::-1], stages[1::-1], strict=True):
            d = _unpool(d, where) * (conv > 0)
            w = self.weights[f"{key}.weight"]
            d, grads[f"{key}.weight"], grads[f"{key}.bias"] = oracle.backward(layer, d, a, w)
        for key, grad in grads.items():
            self.velocity[key] = MOMENTUM * self.velocity[key] + grad
            self.weights[key] -= LEARNING_RATE * self.velocity[key]
        return float(-logp[rows, labels].mean())

    def losses(self, data: Sequence[Batch], steps: int = CHECKED_STEPS) -> np.ndarray:
        """The loss before each of the first steps, the batches taken in turn."""
        return np.array([self.step(*data[i % len(data)]) for i in range(steps)])
