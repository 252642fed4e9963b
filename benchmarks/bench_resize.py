"""asv: interpolation, forward and backward, in both memory orders."""

from __future__ import annotations

import numpy as np

from . import machine
from .peers import cyconv as peer

SHAPES = {
    "decoder b8": (8, 64, 56, 56),
    "pyramid b1": (1, 256, 14, 14),
    "image b2": (2, 3, 224, 224),
}


class Interpolate:
    """Twice the size, on the functional face."""

    params = (tuple(SHAPES), ("nearest", "bilinear", "bicubic"), ("NCHW", "NHWC"))
    param_names = ("shape", "mode", "order")

    def setup(self, name: str, mode: str, order: str) -> None:
        cyconv = peer.load()
        cyconv.set_num_threads(min(2, len(machine.usable_cpus())))
        self.functional = cyconv.functional
        x = np.random.default_rng(0).standard_normal(SHAPES[name], dtype=np.float32)
        self.x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if order == "NHWC" else x
        y = self.functional.interpolate(self.x, scale_factor=2, mode=mode)
        # Two neighbours of the middle, by the weights of each mode: (0, 1), (1/4, 3/4), Keys' at a quarter.
        weights = {"nearest": (0, 1, 0, 0), "bilinear": (0, 0.75, 0.25, 0), "bicubic": (-27, 225, 67, -9)}[mode]
        scale = 256 if mode == "bicubic" else 1
        rows = x[:, :, 2:6, 2:6]
        expected = np.einsum("nchw,h,w->nc", rows, *(np.array(weights, np.float32) / scale,) * 2)
        np.testing.assert_allclose(y[:, :, 7, 7], expected, atol=1e-5)
        self.dy = y.copy(order="K")
        (dx,) = self.functional.interpolate_backward(self.dy, self.x, scale_factor=2, mode=mode)
        # Linear in x: <dx, x> = <dy, y>.
        np.testing.assert_allclose(np.vdot(dx, self.x), np.vdot(self.dy, y), rtol=1e-4)

    def time_forward(self, name: str, mode: str, order: str) -> None:
        self.functional.interpolate(self.x, scale_factor=2, mode=mode)

    def time_backward(self, name: str, mode: str, order: str) -> None:
        self.functional.interpolate_backward(self.dy, self.x, scale_factor=2, mode=mode)
