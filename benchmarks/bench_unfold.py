"""asv: unfold and fold, in both memory orders."""

from __future__ import annotations

import numpy as np

from . import machine
from .peers import cyconv as peer

# (N, C, H, W), (kernel, dilation, padding, stride)
SHAPES = {
    "3x3": ((8, 64, 56, 56), (3, 1, 1, 1)),
    "7x7 stride 2": ((4, 3, 224, 224), (7, 1, 3, 2)),
    "patches": ((8, 64, 56, 56), (2, 1, 0, 2)),
}


class Unfold:
    """One operation per call, on the functional face."""

    params = (tuple(SHAPES), ("contiguous", "channels_last"))
    param_names = ("shape", "order")

    def setup(self, name: str, order: str) -> None:
        cyconv = peer.load()
        cyconv.set_num_threads(min(2, len(machine.usable_cpus())))
        self.functional = cyconv.functional
        shape, self.how = SHAPES[name]
        self.x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        if order == "channels_last":
            self.x = np.moveaxis(np.ascontiguousarray(np.moveaxis(self.x, 1, -1)), -1, 1)
        self.columns = self.functional.unfold(self.x, *self.how)
        kernel, _, padding, stride = self.how
        padded = np.pad(self.x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
        np.testing.assert_array_equal(self.columns, np.moveaxis(windows, (4, 5), (2, 3)).reshape(self.columns.shape))
        (dx,) = self.functional.unfold_backward(self.columns, self.x, *self.how)
        # Each is the adjoint of the other.
        products = (np.vdot(*(a.astype(np.float64) for a in pair)) for pair in ((dx, self.x), 2 * (self.columns,)))
        np.testing.assert_allclose(*products, rtol=1e-5)

    def time_unfold(self, name: str, order: str) -> None:
        self.functional.unfold(self.x, *self.how)

    def time_fold(self, name: str, order: str) -> None:
        self.functional.unfold_backward(self.columns, self.x, *self.how)
