"""asv: padding, forward and backward, and what the padding of a convolution costs in each mode."""

from __future__ import annotations

import numpy as np

from . import machine
from .peers import cyconv as peer

NUMPY = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
SHAPES = {"lenet b64": (64, 1, 28, 28), "resnet b1": (1, 64, 56, 56), "stem b1": (1, 3, 224, 224)}
WIDTHS = (2, 1, 1, 2)


def _prepare() -> object:
    cyconv = peer.load()
    cyconv.set_num_threads(min(2, len(machine.usable_cpus())))
    return cyconv.functional


class Pad:
    """One call, in both memory orders."""

    params = (tuple(SHAPES), tuple(NUMPY), ("nchw", "nhwc"))
    param_names = ("shape", "mode", "order")

    def setup(self, name: str, mode: str, order: str) -> None:
        self.functional = _prepare()
        x = np.random.default_rng(0).standard_normal(SHAPES[name], dtype=np.float32)
        wanted = np.pad(x, ((0, 0), (0, 0), WIDTHS[2:], WIDTHS[:2]), NUMPY[mode])  # type: ignore[call-overload]
        if order == "nhwc":
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        self.x, self.mode = x, mode
        y = self.functional.pad(x, WIDTHS, mode)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(y, wanted)
        self.dy = np.ones_like(y)

    def time_forward(self, name: str, mode: str, order: str) -> None:
        self.functional.pad(self.x, WIDTHS, self.mode)  # type: ignore[attr-defined]

    def time_backward(self, name: str, mode: str, order: str) -> None:
        self.functional.pad_backward(self.dy, self.x, WIDTHS, self.mode)  # type: ignore[attr-defined]


class ConvPaddingMode:
    """A 3 x 3 convolution of 64 channels, 56 x 56, and a depthwise one, in each mode."""

    params = (("zeros", "reflect", "replicate", "circular"), (1, 64))
    param_names = ("mode", "groups")

    def setup(self, mode: str, groups: int) -> None:
        self.functional = _prepare()
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((1, 64, 56, 56), dtype=np.float32)
        self.w = rng.standard_normal((64, 64 // groups, 3, 3), dtype=np.float32)
        self.how = {"padding": 1, "groups": groups, "padding_mode": mode}
        padded = np.pad(self.x, ((0, 0), (0, 0), (1, 1), (1, 1)), NUMPY.get(mode, "constant"))  # type: ignore[call-overload]
        self.dy = self.functional.conv2d(self.x, self.w, **self.how)  # type: ignore[attr-defined]
        wanted = self.functional.conv2d(padded, self.w, groups=groups)  # type: ignore[attr-defined]
        np.testing.assert_allclose(self.dy, wanted, atol=1e-5 * np.abs(wanted).max())

    def time_forward(self, mode: str, groups: int) -> None:
        self.functional.conv2d(self.x, self.w, **self.how)  # type: ignore[attr-defined]

    def time_backward(self, mode: str, groups: int) -> None:
        self.functional.conv2d_backward(self.dy, self.x, self.w, **self.how)  # type: ignore[attr-defined]
