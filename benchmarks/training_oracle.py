"""Networks in float64 by NumPy: what logits and losses of training must come out. Knows nothing of cyconv."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import layers, networks, oracle
from .networks import Around, Batch, Conv, Dense, Network, Norm, Part, Pool

EPS = 1e-5  # of batch norm
Back = Callable[[np.ndarray], np.ndarray]


def _windows(x: np.ndarray, size: int) -> np.ndarray:
    """(N, C, P, Q, size * size) of windows side by side."""
    n, c, h, w = x.shape
    split = x.reshape(n, c, h // size, size, w // size, size)
    return split.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // size, w // size, size * size)


def _whole(windows: np.ndarray, size: int) -> np.ndarray:
    """The inverse of ``_windows``."""
    n, c, p, q, _ = windows.shape
    split = windows.reshape(n, c, p, q, size, size).transpose(0, 1, 2, 4, 3, 5)
    return split.reshape(n, c, p * size, q * size)


def _pool(part: Pool, x: np.ndarray) -> tuple[np.ndarray, Back]:
    windows = _windows(x, part.kernel)
    if part.kind == "avg":
        shape = windows.shape
        return windows.mean(-1), lambda dy: _whole(np.broadcast_to(dy[..., None] / shape[-1], shape), part.kernel)
    where = windows.argmax(-1)[..., None]

    def back(dy: np.ndarray) -> np.ndarray:
        spread = np.zeros((*dy.shape, part.kernel**2))
        np.put_along_axis(spread, where, dy[..., None], -1)
        return _whole(spread, part.kernel)

    return windows.max(-1), back


class Reference:
    """A network in float64: logits, and training by SGD with momentum.

    A pass returns the output and a function that carries a gradient back, adding those of the weights to ``grads``.
    """

    def __init__(self, weights: dict[str, np.ndarray], network: Network = networks.LENET) -> None:
        learned = {k: v for k, v in weights.items() if k.split(".")[-1] in ("weight", "bias")}
        self.network = network
        self.weights = {key: value.astype(np.float64) for key, value in learned.items()}
        self.velocity = {key: np.zeros_like(value) for key, value in self.weights.items()}
        self.grads: dict[str, np.ndarray] = {}

    def _conv(self, part: Conv, key: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        size = (x.shape[2], x.shape[3])
        layer = layers.conv(
            key, "", part.c, part.k, size, part.kernel, stride=part.stride, padding=part.padding, n=len(x)
        )
        w = self.weights[f"{key}.weight"]

        def back(dy: np.ndarray) -> np.ndarray:
            dx, self.grads[f"{key}.weight"], db = oracle.backward(layer, dy, x, w)
            if part.bias:
                self.grads[f"{key}.bias"] = db
            return dx

        return oracle.forward(layer, x, w, self.weights.get(f"{key}.bias", np.zeros(part.k))), back

    def _dense(self, key: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        w = self.weights[f"{key}.weight"]

        def back(dy: np.ndarray) -> np.ndarray:
            self.grads[f"{key}.weight"], self.grads[f"{key}.bias"] = dy.T @ x, dy.sum(0)
            return dy @ w

        return x @ w.T + self.weights[f"{key}.bias"], back

    def _norm(self, key: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        """y = weight (x - mean) / sqrt(variance + eps) + bias, over batch and pixels (Ioffe & Szegedy 2015)."""
        axes, column = (0, 2, 3), (1, -1, 1, 1)
        scale = 1 / np.sqrt(x.var(axes, keepdims=True) + EPS)
        normal = (x - x.mean(axes, keepdims=True)) * scale
        w = self.weights[f"{key}.weight"].reshape(column)

        def back(dy: np.ndarray) -> np.ndarray:
            self.grads[f"{key}.weight"], self.grads[f"{key}.bias"] = (dy * normal).sum(axes), dy.sum(axes)
            along = normal * (dy * normal).mean(axes, keepdims=True)
            result: np.ndarray = w * scale * (dy - dy.mean(axes, keepdims=True) - along)
            return result

        return w * normal + self.weights[f"{key}.bias"].reshape(column), back

    def _around(self, part: Around, key: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        y, back = self._run(part.body, x, f"{key}.body.")
        if part.shortcut is None:
            return y + x, lambda dy: back(dy) + dy
        other, back_other = self._run(part.shortcut, x, f"{key}.shortcut.")
        return y + other, lambda dy: back(dy) + back_other(dy)

    def _part(self, part: Part, key: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        if isinstance(part, Conv):
            return self._conv(part, key, x)
        if isinstance(part, Dense):
            return self._dense(key, x)
        if isinstance(part, Norm):
            return self._norm(key, x)
        if isinstance(part, Pool):
            return _pool(part, x)
        if isinstance(part, Around):
            return self._around(part, key, x)
        if part.kind == "flatten":
            return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)
        return np.maximum(x, 0), lambda dy: dy * (x > 0)

    def _run(self, parts: Sequence[Part], x: np.ndarray, prefix: str = "") -> tuple[np.ndarray, Back]:
        backs: list[Back] = []
        for i, part in enumerate(parts):
            x, back = self._part(part, f"{prefix}{i}", x)
            backs.append(back)

        def all_back(dy: np.ndarray) -> np.ndarray:
            for back in reversed(backs):
                dy = back(dy)
            return dy

        return x, all_back

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Scores of a batch; batch norm takes the batch's statistics, as in training."""
        return self._run(self.network.parts, x.astype(np.float64))[0]

    def step(self, x: np.ndarray, labels: np.ndarray) -> float:
        """The cross-entropy of this batch, after which the weights have moved."""
        scores, back = self._run(self.network.parts, x.astype(np.float64))
        shifted = scores - scores.max(1, keepdims=True)
        logp = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        rows = np.arange(len(x))
        d = np.exp(logp)
        d[rows, labels] -= 1
        back(d / len(x))
        for key, grad in self.grads.items():
            self.velocity[key] = networks.MOMENTUM * self.velocity[key] + grad
            self.weights[key] -= self.network.lr * self.velocity[key]
        return float(-logp[rows, labels].mean())

    def losses(self, data: Sequence[Batch]) -> np.ndarray:
        """The loss before each of the first steps, the batches taken in turn."""
        return np.array([self.step(*data[i % len(data)]) for i in range(self.network.checked)])
