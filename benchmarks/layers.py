"""The layers that are measured: one table, shared by compare.py and the asv suites.

Shape letters: N batch, C in, K out, H W input, P Q output, R S kernel, G groups.  FLOPs are those of direct
convolution, 2 N K P Q (C/G) R S, whatever the algorithm executes, so a GFLOP/s figure may exceed the machine's peak.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Layer:
    """One convolution: its shapes, and the group of the tables that it belongs to."""

    name: str
    group: str
    c: int
    k: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    groups: int = 1
    n: int = 1

    @property
    def label(self) -> str:
        """Name with the batch, unique in the table: "resnet 64 56 b16"."""
        return f"{self.name} b{self.n}"

    @property
    def out_size(self) -> tuple[int, int]:
        """P and Q, by (H + 2P - D(K-1) - 1) / S + 1."""
        spans = zip(self.size, self.kernel, self.padding, strict=True)
        p, q = ((h + 2 * pad - self.dilation * (r - 1) - 1) // self.stride + 1 for h, r, pad in spans)
        return p, q

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.c, *self.size

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.k, self.c // self.groups, *self.kernel

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.k, *self.out_size

    @property
    def flops(self) -> int:
        r, s = self.kernel
        p, q = self.out_size
        return 2 * self.n * self.k * p * q * (self.c // self.groups) * r * s

    @property
    def geometry(self) -> str:
        """Short form for tables: "64->256 1x1 56x56 s2 p1 d2 g4"; what is at its default is left out."""
        (h, w), (r, s), (ph, pw) = self.size, self.kernel, self.padding
        text = f"{self.c}->{self.k} {r}x{s} {h}x{w}"
        text += f" s{self.stride}" if self.stride != 1 else ""
        text += f" p{ph}" if ph == pw != 0 else f" p{ph},{pw}" if ph != pw else ""
        text += f" d{self.dilation}" if self.dilation != 1 else ""
        return text + (f" g{self.groups}" if self.groups != 1 else "")


@dataclass(frozen=True)
class Goal:
    """What the forward pass of a group should reach: ratios to the best peer (geometric mean, worst) and to PyTorch."""

    mean: float
    worst: float
    torch: float = 1.0


# Goals hold for float32, plain NCHW input, packed weights; "functional" (new weights per call) has its own below.
GOALS = {
    "resnet3x3": Goal(1.7, 1.4, 2.2),
    "vgg": Goal(1.7, 1.4, 2.2),
    "unet": Goal(1.7, 1.4, 2.2),
    "cifar": Goal(1.7, 1.4, 2.2),
    "alexnet": Goal(1.1, 1.0),
    "googlenet": Goal(1.1, 1.0),
    "resnet1x1": Goal(1.1, 1.0),
    "strided": Goal(1.1, 1.0),
    "dilated": Goal(1.1, 1.0),
    "odd": Goal(1.1, 1.0),
    "small": Goal(1.7, 1.0),
    "depthwise": Goal(1.5, 1.2),
    "grouped4": Goal(3.0, 3.0),
    "grouped": Goal(1.2, 1.2),
}
OVERALL = Goal(1.6, 1.0)
GROUPS = tuple(GOALS)


def _conv(
    group: str,
    name: str,
    c: int,
    k: int,
    size: int | tuple[int, int],
    kernel: int | tuple[int, int],
    batches: tuple[int, ...] = (1,),
    *,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    dilation: int = 1,
    groups: int = 1,
) -> list[Layer]:
    """One geometry at each batch size; ``padding=None`` keeps the size at stride 1 (half of the dilated kernel)."""
    hw = (size, size) if isinstance(size, int) else size
    rs = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = (dilation * (rs[0] - 1) // 2, dilation * (rs[1] - 1) // 2)
    pads = (padding, padding) if isinstance(padding, int) else padding
    layer = Layer(name, group, c, k, hw, rs, stride, pads, dilation, groups)
    return [replace(layer, n=n) for n in batches]


def _same3x3(group: str, prefix: str, shapes: list[tuple[int, int, int]], batches: tuple[int, ...]) -> list[Layer]:
    """3x3, stride 1, padding 1: (C, K, H = W) each."""
    return [
        layer
        for c, k, hw in shapes
        for layer in _conv(group, f"{prefix} {c}" + (f"-{k}" if c != k else "") + f" {hw}", c, k, hw, 3, batches)
    ]


def _dense() -> list[Layer]:
    """3x3 layers of stride 1 with C and K of at least 16, of maps from 7x7 to 224x224."""
    both = (1, 16)
    table = _same3x3("resnet3x3", "resnet", [(64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7)], both)
    table += _same3x3("vgg", "vgg", [(64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56)], (1,))
    table += _same3x3("vgg", "vgg", [(256, 256, 56), (256, 512, 28), (512, 512, 28), (512, 512, 14)], both)
    table += _same3x3("unet", "unet", [(128, 64, 224), (128, 128, 112), (256, 128, 112), (512, 256, 56)], (1,))
    table += _same3x3("unet", "unet", [(1024, 512, 28), (512, 1024, 14), (1024, 1024, 14)], (1,))
    table += _conv("unet", "unet valid 512 66", 512, 512, 66, 3, padding=0)
    table += _conv("unet", "unet valid 1024 30", 1024, 1024, 30, 3, padding=0)
    table += _same3x3("unet", "unet", [(64, 64, 112), (256, 256, 28)], (16,))
    table += _same3x3("cifar", "cifar", [(16, 16, 32), (32, 32, 16), (64, 64, 8)], both)
    table += _same3x3("cifar", "cifar", [(64, 64, 32), (128, 128, 16), (256, 256, 8)], both)
    return table


def _other_dense() -> list[Layer]:
    """AlexNet, GoogLeNet, ResNet's 1x1 and strided layers, dilated layers, odd sizes."""
    both = (1, 16)
    table = _conv("alexnet", "alexnet c2", 64, 192, 27, 5, both)
    table += _conv("alexnet", "alexnet c3", 192, 384, 13, 3, both)
    table += _conv("alexnet", "alexnet c4", 384, 256, 13, 3, both)
    table += _conv("alexnet", "alexnet c5", 256, 256, 13, 3, both)
    for name, c, k, hw in [
        ("3a.1", 192, 64, 28),
        ("3a.3r", 192, 96, 28),
        ("3a.5r", 192, 16, 28),
        ("4a.p", 480, 64, 14),
        ("4d.1", 512, 112, 14),
        ("5b.1", 832, 384, 7),
    ]:
        table += _conv("googlenet", f"inc{name}", c, k, hw, 1, both if name in ("3a.1", "4d.1") else (1,))
    for name, c, k, hw in [("3a.5", 16, 32, 28), ("4a.5", 16, 48, 14), ("4e.5", 32, 128, 14), ("5b.5", 48, 128, 7)]:
        table += _conv("googlenet", f"inc{name}", c, k, hw, 5, both if name in ("3a.5", "4e.5") else (1,))
    for name, c, k, hw in [
        ("2a", 64, 64, 56),
        ("2a'", 256, 64, 56),
        ("2c", 64, 256, 56),
        ("3c", 128, 512, 28),
        ("4a", 1024, 256, 14),
        ("4c", 256, 1024, 14),
        ("5a", 2048, 512, 7),
        ("5c", 512, 2048, 7),
    ]:
        table += _conv("resnet1x1", f"res{name}", c, k, hw, 1, both if name in ("2c", "4a", "5c") else (1,))
    for name, c, k, hw in [("3d", 256, 512, 56), ("4d", 512, 1024, 28), ("5d", 1024, 2048, 14)]:
        table += _conv("strided", f"res{name} s2", c, k, hw, 1, stride=2)
    for name, c, k, hw in [
        ("r18 3", 64, 128, 56),
        ("r50 3b", 128, 128, 56),
        ("r50 4b", 256, 256, 28),
        ("r50 5b", 512, 512, 14),
    ]:
        table += _conv("strided", f"{name} s2", c, k, hw, 3, both if name == "r50 3b" else (1,), stride=2)
    for d in (6, 12, 18):
        table += _conv("dilated", f"aspp d{d}", 2048, 256, 33, 3, dilation=d)
    table += _conv("dilated", "drn d2", 256, 256, 28, 3, both, dilation=2)
    table += _conv("dilated", "drn d4", 512, 512, 28, 3, dilation=4)
    table += _conv("odd", "5x5 64 28", 64, 64, 28, 5, both)
    table += _conv("odd", "13x13 48 27", 48, 64, 27, 13)
    table += _conv("odd", "7x7 64 28", 64, 64, 28, 7)
    table += _conv("odd", "1x7 192 17", 192, 192, 17, (1, 7))
    table += _conv("odd", "7x1 192 17", 192, 192, 17, (7, 1))
    table += _conv("odd", "3x3 37-53 31x29", 37, 53, (31, 29), 3, both)
    table += _conv("odd", "5x5 17-33 19x23", 17, 33, (19, 23), 5, both)
    table += _conv("odd", "2x2 s2 64-96 57", 64, 96, 57, 2, stride=2, padding=0)
    table += _conv("odd", "5x5 s3 61-67 47", 61, 67, 47, 5, stride=3, padding=(1, 2))
    return table


def _few_channels() -> list[Layer]:
    """First layers, last layers, LeNet; depthwise; grouped."""
    both = (1, 16)
    table = _conv("small", "lenet c1", 1, 6, 28, 5, (1, 64))
    table += _conv("small", "lenet c2", 6, 16, 14, 5, (1, 64), padding=0)
    table += _conv("small", "alexnet c1", 3, 64, 224, 11, both, stride=4, padding=2)
    table += _conv("small", "resnet c1", 3, 64, 224, 7, both, stride=2)
    table += _conv("small", "vgg c1", 3, 64, 224, 3)
    table += _conv("small", "cifar c1", 3, 16, 32, 3, (1, 64))
    table += _conv("small", "cifar c1 wide", 3, 64, 32, 3, (1, 64))
    table += _conv("small", "k10 3x3", 64, 10, 32, 3, both)
    table += _conv("small", "k10 1x1", 192, 10, 8, 1, both)
    table += _conv("small", "k3 3x3", 64, 3, 224, 3)
    for c, hw in [(64, 112), (128, 56), (256, 28), (512, 14), (1024, 7)]:
        table += _conv("depthwise", f"dw3 {c} {hw}", c, c, hw, 3, both if hw in (112, 14) else (1,), groups=c)
    for c, hw in [(64, 112), (128, 56), (256, 28), (512, 14)]:
        table += _conv("depthwise", f"dw3 {c} {hw} s2", c, c, hw, 3, both if hw == 56 else (1,), stride=2, groups=c)
    for c, hw, stride in [(240, 28, 1), (672, 14, 1), (144, 56, 2), (672, 14, 2)]:
        name = f"dw5 {c} {hw}" + (" s2" if stride == 2 else "")
        table += _conv("depthwise", name, c, c, hw, 5, stride=stride, groups=c)
    for c, hw, stride in [(96, 56, 1), (384, 14, 1), (768, 7, 1), (96, 56, 2)]:
        name = f"dw7 {c} {hw}" + (" s2" if stride == 2 else "")
        table += _conv("depthwise", name, c, c, hw, 7, stride=stride, groups=c)
    table += _conv("grouped4", "g32x4 56", 128, 128, 56, 3, both, groups=32)
    table += _conv("grouped4", "g32x4 56 s2", 128, 128, 56, 3, stride=2, groups=32)
    table += _conv("grouped4", "g4x4 56", 16, 16, 56, 3, groups=4)
    table += _conv("grouped", "g32x8 28", 256, 256, 28, 3, both, groups=32)
    table += _conv("grouped", "g32x16 14", 512, 512, 14, 3, both, groups=32)
    table += _conv("grouped", "g32x32 7", 1024, 1024, 7, 3, groups=32)
    table += _conv("grouped", "g4x32 28", 128, 128, 28, 3, groups=4)
    table += _conv("grouped", "g4x64 14", 256, 256, 14, 3, both, groups=4)
    return table


LAYERS: tuple[Layer, ...] = tuple(_dense() + _other_dense() + _few_channels())


def select(layers: str | None = None, groups: list[str] | None = None) -> list[Layer]:
    """Layers of these groups whose label matches the regular expression, in the table's order."""
    unknown = sorted(set(groups or ()) - set(GROUPS))
    if unknown:
        raise ValueError(f"unknown groups {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    pattern = re.compile(layers or "")
    return [x for x in LAYERS if pattern.search(x.label) and (not groups or x.group in groups)]


def by_label(label: str) -> Layer:
    """The one layer of that label."""
    (layer,) = (x for x in LAYERS if x.label == label)
    return layer
