"""asv: max and average pooling, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import machine
from .peers import cyconv as peer

# (N, C, H, W), kernel, stride, padding
SHAPES = {
    "lenet b64": ((64, 6, 28, 28), 2, 2, 0),
    "alexnet b1": ((1, 64, 55, 55), 3, 2, 0),
    "resnet b1": ((1, 64, 112, 112), 3, 2, 1),
    "vgg b1": ((1, 64, 224, 224), 2, 2, 0),
    "inception b1": ((1, 256, 28, 28), 3, 1, 1),
}


def _windows(x: np.ndarray, fill: float, kernel: int, stride: int, padding: int) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]


class Pool:
    """One operation per call, on the functional face."""

    params = (tuple(SHAPES), ("max", "avg"))
    param_names = ("shape", "kind")

    def setup(self, name: str, kind: str) -> None:
        cyconv = peer.load()
        cyconv.set_num_threads(min(2, len(machine.usable_cpus())))
        functional = cyconv.functional
        shape, *self.window = SHAPES[name]
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal(shape, dtype=np.float32)
        self.forward = getattr(functional, f"{kind}_pool2d")
        self.backward = getattr(functional, f"{kind}_pool2d_backward")
        y = self.forward(self.x, *self.window)
        windows = _windows(self.x, -np.inf if kind == "max" else 0.0, *self.window)
        np.testing.assert_allclose(y, windows.max((-1, -2)) if kind == "max" else windows.mean((-1, -2)), atol=1e-6)
        self.dy = rng.standard_normal(y.shape, dtype=np.float32)
        (dx,) = self.backward(self.dy, self.x, *self.window)
        # Both are linear in x where the choice of the maxima stays: <dx, x> = <dy, y>.
        np.testing.assert_allclose(_dot(dx, self.x), _dot(self.dy, y), atol=1e-5 * np.sqrt(_dot(self.dy, self.dy)) * 10)

    def time_forward(self, name: str, kind: str) -> None:
        self.forward(self.x, *self.window)

    def time_backward(self, name: str, kind: str) -> None:
        self.backward(self.dy, self.x, *self.window)

    def peakmem_forward(self, name: str, kind: str) -> None:
        self.forward(self.x, *self.window)


def _dot(a: np.ndarray, b: np.ndarray) -> Any:
    return np.dot(a.ravel().astype(np.float64), b.ravel().astype(np.float64))
