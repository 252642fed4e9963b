"""The layers that are measured: one table, shared by compare.py and the asv suites.

Shape letters: N batch, C in, K out, H W input, P Q output, R S kernel, G groups; signals have the first of each pair of
letters, volumes one more.  FLOPs are those of direct convolution, 2 N K P Q (C/G) R S, whatever the algorithm executes,
so a GFLOP/s figure may exceed the machine's peak; those of a transposed convolution are its mirror's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One convolution: its shapes, one number for each spatial dimension, and the group of the tables it belongs to."""

    name: str
    group: str
    c: int
    k: int
    size: Sizes
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int = 1
    n: int = 1
    transposed: bool = False
    output_padding: Sizes = ()  # of a transposed convolution: what is added to its output's size

    @property
    def rank(self) -> int:
        """The number of spatial dimensions."""
        return len(self.size)

    @property
    def label(self) -> str:
        """Name with the batch, unique in the table: "resnet 64 56 b16"."""
        return f"{self.name} b{self.n}"

    @property
    def out_size(self) -> Sizes:
        """Along each dimension (H + 2P - D(K-1) - 1) / S + 1; transposed, the size from which that comes."""
        along = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        if self.transposed:
            more = self.output_padding or (0,) * self.rank
            sizes = ((h - 1) * step - 2 * pad + dil * (r - 1) + 1 for h, r, step, pad, dil in along)
            return tuple(size + extra for size, extra in zip(sizes, more, strict=True))
        return tuple((h + 2 * pad - dil * (r - 1) - 1) // step + 1 for h, r, step, pad, dil in along)

    @property
    def input_shape(self) -> Sizes:
        return self.n, self.c, *self.size

    @property
    def weight_shape(self) -> Sizes:
        first, second = (self.c, self.k) if self.transposed else (self.k, self.c)
        return first, second // self.groups, *self.kernel

    @property
    def output_shape(self) -> Sizes:
        return self.n, self.k, *self.out_size

    @property
    def mirror(self) -> Layer:
        """The convolution that a transposed one is the adjoint of: it goes from that one's output to its input."""
        return replace(self, c=self.k, k=self.c, size=self.out_size, transposed=False, output_padding=())

    @property
    def flops(self) -> int:
        if self.transposed:
            return self.mirror.flops
        return 2 * math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def terms(self) -> int:
        """How many products an output is the sum of; transposed, in the mean."""
        return max(1, self.flops // (2 * math.prod(self.output_shape)))

    def numbers(self, direction: str) -> int:
        """How many numbers must be moved at least: input, output and weights once; backward dy, and x, w and their
        gradients."""
        x, w, y = (math.prod(shape) for shape in (self.input_shape, self.weight_shape, self.output_shape))
        return x + w + y if direction == "forward" else 2 * x + 2 * w + y

    @property
    def geometry(self) -> str:
        """Short form for tables: "64->256 1x1 56x56 s2 p1 d2 g4"; what is at its default is left out."""
        text = f"{self.c}->{self.k} {'x'.join(map(str, self.kernel))} {'x'.join(map(str, self.size))}"
        sizes = (self.stride, self.padding, self.dilation, self.output_padding or (0,))
        for letter, values, default in zip("spdo", sizes, (1, 0, 1, 0), strict=True):
            shown = values[:1] if len(set(values)) == 1 else values
            text += f" {letter}{','.join(map(str, shown))}" if shown != (default,) else ""
        return text + (f" g{self.groups}" if self.groups != 1 else "")


def conv(
    name: str,
    group: str,
    c: int,
    k: int,
    size: Sizes,
    kernel: int | Sizes,
    *,
    stride: int | Sizes = 1,
    padding: int | Sizes | None = 0,
    dilation: int | Sizes = 1,
    groups: int = 1,
    n: int = 1,
) -> Layer:
    """A layer of ``len(size)`` spatial dimensions; an int stands for every dimension. ``padding=None`` keeps the size
    at stride 1 (half of the dilated kernel)."""

    def each(value: int | Sizes) -> Sizes:
        return (value,) * len(size) if isinstance(value, int) else value

    kernel, dilation = each(kernel), each(dilation)
    if padding is None:
        padding = tuple(d * (r - 1) // 2 for r, d in zip(kernel, dilation, strict=True))
    return Layer(name, group, c, k, size, kernel, each(stride), each(padding), dilation, groups, n)


@dataclass(frozen=True)
class Goal:
    """What a group should reach: ratios to the best peer (geometric mean, worst), to PyTorch on every layer, the same
    with weights that are new on every call, and to PyTorch in the geometric mean."""

    mean: float | None = None
    worst: float | None = None
    torch: float | None = 1.0
    functional: float | None = None
    torch_mean: float | None = None


# Goals hold for float32, plain NCHW input, packed weights.
IMAGE_GOALS = {
    "resnet3x3": Goal(1.7, 1.4, 2.2, 1.2),
    "vgg": Goal(1.7, 1.4, 2.2, 1.2),
    "unet": Goal(1.7, 1.4, 2.2, 1.2),
    "cifar": Goal(1.7, 1.4, 2.2, 1.2),
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
#: All layers of images together; each layer of signals and volumes; each layer of any kind in float64.
OVERALL, OTHER_RANKS, FLOAT64 = Goal(1.6, 1.0), Goal(torch=1.5), Goal(torch=2.5)
#: Transposed convolutions beside PyTorch, forward and backward.
TRANSPOSED = Goal(torch=1.0, torch_mean=1.5)
RANK_GROUPS = ("conv1d", "dilated1d", "strided1d", "conv3d", "strided3d")
TRANSPOSED_GROUPS = ("dcgan", "upconv", "transposed1d", "transposed3d")
GOALS = IMAGE_GOALS | dict.fromkeys(RANK_GROUPS, OTHER_RANKS) | dict.fromkeys(TRANSPOSED_GROUPS, TRANSPOSED)
GROUPS = tuple(GOALS)
#: Both gradients beside PyTorch: images together, first layers, and each layer of these groups.
BACKWARD_OVERALL, BACKWARD_FIRST = Goal(torch=1.2, torch_mean=2.0), Goal(torch=2.5)
BACKWARD_GOALS = dict.fromkeys(IMAGE_GOALS, Goal(torch=1.2)) | dict.fromkeys(RANK_GROUPS, OTHER_RANKS)
BACKWARD_GOALS |= dict.fromkeys(TRANSPOSED_GROUPS, TRANSPOSED) | {"depthwise": Goal(torch=2.5)}


def goal(group: str, direction: str) -> Goal:
    """The goal of a group in float32."""
    return (GOALS if direction == "forward" else BACKWARD_GOALS)[group]


def _conv(
    group: str,
    name: str,
    c: int,
    k: int,
    size: int | Sizes,
    kernel: int | Sizes,
    batches: Sizes = (1,),
    *,
    stride: int | Sizes = 1,
    padding: int | Sizes | None = None,
    dilation: int | Sizes = 1,
    groups: int = 1,
) -> list[Layer]:
    """One geometry at each batch size; a single size is the edge of a square image."""
    whole = (size, size) if isinstance(size, int) else size
    layer = conv(name, group, c, k, whole, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
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


def _signals() -> list[Layer]:
    """One dimension: codecs, vocoders, recognisers of speech (a second of sound, or about that)."""
    both = (1, 16)
    table = []
    for name, c, k, length, kernel, batches in [
        ("encodec in", 1, 32, 24000, 7, both),  # EnCodec, 24 kHz
        ("encodec 32-16", 32, 16, 24000, 3, (1,)),
        ("encodec 16-32", 16, 32, 24000, 1, (1,)),
        ("encodec out", 512, 128, 75, 7, both),
        ("hifigan in", 80, 512, 86, 7, both),  # HiFi-GAN V1, 22 kHz
        ("hifigan 256 k11", 256, 256, 688, 11, both),
        ("hifigan 128 k7", 128, 128, 5504, 7, both),
        ("hifigan 64 k11", 64, 64, 11008, 11, (1,)),
        ("hifigan 32 k3", 32, 32, 22016, 3, both),
        ("hifigan 32 k11", 32, 32, 22016, 11, (1,)),
        ("hifigan out", 32, 1, 22016, 7, both),
        ("msd in", 1, 128, 8192, 15, (1,)),
        ("w2l 250 k7", 250, 250, 500, 7, both),  # Wav2Letter
        ("w2l 250-2000 k32", 250, 2000, 250, 32, (1,)),
        ("long 64 k41", 64, 64, 8192, 41, both),
    ]:
        table += _conv("conv1d", name, c, k, (length,), kernel, batches)
    table += _conv("conv1d", "msd 1024 k41 g16", 1024, 1024, (128,), 41, both, groups=16)
    for d in (2, 16, 64, 512):
        batches = both if d in (2, 512) else (1,)
        # WaveNet pads in front only, which not every peer can: without padding the work is the same, less a tail.
        table += _conv("dilated1d", f"wavenet k2 d{d}", 64, 128, (16000,), 2, batches, padding=0, dilation=d)
    for d in (2, 32, 512):
        table += _conv("dilated1d", f"wavenet k3 d{d}", 64, 128, (16000,), 3, both if d == 32 else (1,), dilation=d)
    for d in (1, 8, 128):
        table += _conv("dilated1d", f"waveglow d{d}", 256, 512, (2000,), 3, both if d == 8 else (1,), dilation=d)
    table += _conv("dilated1d", "hifigan 64 k11 d5", 64, 64, (11008,), 11, dilation=5)
    table += _conv("dilated1d", "hifigan 128 k7 d3", 128, 128, (5504,), 7, dilation=3)
    for c, k, length, kernel, stride in [(32, 64, 24000, 4, 2), (64, 128, 12000, 8, 4), (128, 256, 3000, 10, 5)]:
        padding = (kernel - stride + 1) // 2
        name = f"encodec {c}-{k} s{stride}"
        table += _conv("strided1d", name, c, k, (length,), kernel, both, stride=stride, padding=padding)
    table += _conv("strided1d", "encodec 256-512 s8", 256, 512, (600,), 16, stride=8, padding=4)
    table += _conv("strided1d", "wav2vec in s5", 1, 512, (16000,), 10, both, stride=5, padding=0)
    table += _conv("strided1d", "wav2vec 512 s2", 512, 512, (3199,), 3, both, stride=2, padding=0)
    table += _conv("strided1d", "msd 128 k41 s2 g4", 128, 128, (8192,), 41, stride=2, groups=4)
    return table


def _volumes() -> list[Layer]:
    """Three dimensions: video (time first) and tomography."""
    both = (1, 16)
    table = []
    for name, c, k, size, kernel, batches in [
        ("c3d 1", 3, 64, (16, 112, 112), 3, (1,)),
        ("c3d 2", 64, 128, (16, 56, 56), 3, (1,)),
        ("c3d 3", 128, 256, (8, 28, 28), 3, (1,)),
        ("c3d 4", 256, 512, (4, 14, 14), 3, (1,)),
        ("c3d 5", 512, 512, (2, 7, 7), 3, both),
        ("r3d 64", 64, 64, (16, 56, 56), 3, (1,)),  # 3D-ResNet-18
        ("r3d 128", 128, 128, (8, 28, 28), 3, (1,)),
        ("r3d 256", 256, 256, (4, 14, 14), 3, both),
        ("r2+1d space", 64, 144, (16, 56, 56), (1, 3, 3), (1,)),
        ("r2+1d time", 144, 64, (16, 56, 56), (3, 1, 1), (1,)),
        ("i3d 192-64", 192, 64, (8, 28, 28), 1, both),
        ("i3d 480-192", 480, 192, (8, 14, 14), 1, (1,)),
        ("i3d 832-256", 832, 256, (4, 7, 7), 1, both),
        ("unet3d 1", 1, 32, (64, 64, 64), 3, (1,)),
        ("unet3d 32-64", 32, 64, (64, 64, 64), 3, (1,)),
        ("unet3d 64-128", 64, 128, (32, 32, 32), 3, (1,)),
        ("unet3d 256", 256, 256, (16, 16, 16), 3, (1,)),
        ("unet3d out", 64, 3, (64, 64, 64), 1, (1,)),
    ]:
        table += _conv("conv3d", name, c, k, size, kernel, batches)
    table += _conv("strided3d", "r3d 1 s1,2,2", 3, 64, (16, 112, 112), (3, 7, 7), stride=(1, 2, 2))
    for c, k, size in [(64, 128, (16, 56, 56)), (128, 256, (8, 28, 28)), (256, 512, (4, 14, 14))]:
        batches = both if c == 256 else (1,)
        table += _conv("strided3d", f"r3d {k} s2", c, k, size, 3, batches, stride=2)
        table += _conv("strided3d", f"r3d {k} 1x1x1 s2", c, k, size, 1, batches, stride=2)
    return table


def _transposed() -> list[Layer]:
    """Transposed convolutions: generators of images, sounds and shapes, and the way up of U-Nets."""
    table: list[Layer] = []

    def add(
        group: str,
        name: str,
        c: int,
        k: int,
        size: Sizes,
        kernel: int,
        stride: int,
        padding: int,
        more: int,
        batches: Sizes,
    ) -> None:
        (layer,) = _conv(group, name, c, k, size, kernel, stride=stride, padding=padding)
        layer = replace(layer, transposed=True, output_padding=(more,) * len(size) if more else ())
        table.extend(replace(layer, n=n) for n in batches)

    both = (1, 16)
    add("dcgan", "dcgan z 100-1024", 100, 1024, (1, 1), 4, 1, 0, 0, (1, 64))  # the paper's; the tutorial has half of it
    for c, k, size in [(1024, 512, 4), (512, 256, 8), (256, 128, 16), (128, 3, 32)]:
        add("dcgan", f"dcgan {c}-{k} {size}", c, k, (size, size), 4, 2, 1, 0, both)
    add("dcgan", "dcgan 64-3 32", 64, 3, (32, 32), 4, 2, 1, 0, (1, 64))
    for c, size in [(1024, 14), (512, 28), (256, 56), (128, 112)]:
        add("upconv", f"unet up {c}-{c // 2} {size}", c, c // 2, (size, size), 2, 2, 0, 0, both if size < 56 else (1,))
    add("upconv", "fcn up 21 k16 s8", 21, 21, (28, 28), 16, 8, 4, 0, (1,))
    add("upconv", "sr 64-64 k3 s2", 64, 64, (56, 56), 3, 2, 1, 1, both)
    for c, length, kernel, stride in [(512, 86, 16, 8), (256, 688, 16, 8), (128, 5504, 4, 2), (64, 11008, 4, 2)]:
        name = f"hifigan up {c}-{c // 2} s{stride}"
        add("transposed1d", name, c, c // 2, (length,), kernel, stride, (kernel - stride) // 2, 0, both)
    for c, k, length in [(1024, 512, 16), (256, 128, 256), (64, 1, 4096)]:
        add("transposed1d", f"wavegan {c}-{k} k25 s4", c, k, (length,), 25, 4, 11, 1, both if k > 1 else (1, 64))
    for c, k, size in [(512, 256, 4), (256, 128, 8), (128, 64, 16), (64, 1, 32)]:
        add("transposed3d", f"3dgan {c}-{k} {size}", c, k, (size,) * 3, 4, 2, 1, 0, (1,))
    for c, size in [(256, 8), (128, 16), (64, 32)]:
        add("transposed3d", f"unet3d up {c}-{c // 2} {size}", c, c // 2, (size,) * 3, 2, 2, 0, 0, (1,))
    return table


LAYERS: tuple[Layer, ...] = tuple(_dense() + _other_dense() + _few_channels() + _signals() + _volumes() + _transposed())
#: Layers that take the one or three channels of an image, by label.
FIRST = frozenset(layer.label for layer in LAYERS if layer.group == "small" and layer.c <= 3)


#: So small that the call is what costs; in no group of the table.
CALL = conv("call 8 8x8", "overhead", 8, 8, (8, 8), 3, padding=1)


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
