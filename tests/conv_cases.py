"""Convolutions that hurt: sizes around the register tile of the loaded kernels, and the one check that all must pass.

Every failure ends with a line that repeats it.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from cyconv import _plan, kernels, reference
from cyconv import functional as F
from cyconv._geometry import conv_geometry

DTYPES = ("float32", "float64")
ORDERS = ("C", "channels-last")
#: The plans that cut direct summation: of walks, and of the weight gradient (a function of this name hides the module).
CUTS = tuple(importlib.import_module(f"cyconv._plan.{name}") for name in ("direct", "weight_gradient"))


def cut_work(patch: pytest.MonkeyPatch, **numbers: int) -> None:
    """Set constants of the plans of direct summation, in every module that reads them."""
    for name, number in numbers.items():
        readers = [module for module in CUTS if hasattr(module, name)]
        assert readers, f"no plan reads {name}"
        for module in readers:
            patch.setattr(module, name, number)


@dataclass(frozen=True)
class Case:
    """One convolution; the arrays follow from it. ``n`` None: without a batch dimension."""

    n: int | None = 2
    c: int = 3
    k: int = 4
    size: tuple[int, int] = (7, 6)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: Any = 0
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True
    mode: str = "zeros"

    def __repr__(self) -> str:
        """Only what differs from a plain case, as it can be typed."""
        plain = type(self).__dataclass_fields__
        given = (f"{name}={value!r}" for name, value in vars(self).items() if value != plain[name].default)
        return f"Case({', '.join(given)})"

    @property
    def how(self) -> tuple[Any, ...]:
        """What stands behind the arrays in a call."""
        return self.stride, self.padding, self.dilation, self.groups, self.mode

    def geometry(self) -> Any:
        """Return the geometry of the forward pass."""
        x = (self.c, *self.size) if self.n is None else (self.n, self.c, *self.size)
        return conv_geometry("conv2d", 2, x, (self.k, self.c // self.groups, *self.kernel), None, *self.how)

    def arrays(self, dtype: str, order: str = "C") -> tuple[Any, ...]:
        """Return (input, weight, bias or None, gradient of the output)."""
        geometry = self.geometry()
        rng = np.random.default_rng([geometry.macs % 2**32, self.c, self.k])
        batched = slice(None) if geometry.batched else 0

        def draw(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(dtype)

        x, grad = (in_order(draw(*s), order)[batched] for s in (geometry.input_shape, geometry.output_shape))
        return x, draw(*geometry.weight_shape), draw(self.k) if self.bias else None, grad


def case_for(algorithm: str) -> Case:
    """Return a plain case that the algorithm computes."""
    return (
        Case(2, 3, 3, (6, 19), padding=1, groups=3) if algorithm == "depthwise" else Case(2, 3, 5, (6, 19), padding=1)
    )


def in_order(x: Any, order: str) -> Any:
    """Return (N, C, H, W) ``x`` in that memory order."""
    if order == "C":
        return np.ascontiguousarray(x)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def memory_order(x: Any) -> str:
    """Return the memory order of (N, C, H, W) or (C, H, W) ``x``; "C" where it is both."""
    return "C" if x.flags.c_contiguous else "channels-last" if np.moveaxis(x, -3, -1).flags.c_contiguous else "other"


@functools.lru_cache(maxsize=512)
def expected(case: Case, dtype: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the oracle's output and gradients."""
    x, weight, bias, grad = case.arrays(dtype)
    return (reference.conv2d(x, weight, bias, *case.how), reference.conv2d_backward(grad, x, weight, bias, *case.how))


def scale_of_bias_gradient(case: Case) -> float:
    """A bias gradient adds up numbers that cancel: what its rounding errors are to be measured by."""
    geometry = case.geometry()
    pixels = geometry.batch * geometry.output[0] * geometry.output[1]
    return float(np.sqrt(max(pixels, 1)))


def check(case: Case, dtype: str, order: str, algorithm: str = "direct") -> None:
    """Output and all gradients of a case against the oracle, in the memory order of the input."""
    x, weight, bias, grad = case.arrays(dtype, order)
    want, gradients = expected(case, dtype)
    try:
        got = F.conv2d(x, weight, bias, *case.how, algorithm=algorithm)
        assert_close(got, want, algorithm=algorithm)
        back = F.conv2d_backward(grad, x, weight, bias, *case.how, algorithm=algorithm)
        assert len(back) == len(gradients)
        for name, mine, theirs in zip(("input", "weight", "bias"), back, gradients, strict=False):
            scale = None
            if name == "bias":
                scale = max(scale_of_bias_gradient(case), float(np.abs(theirs).max(initial=0)))
            try:
                assert_close(mine, theirs, algorithm=algorithm, scale=scale)
            except AssertionError as error:
                raise AssertionError(f"gradient of the {name}: {error}") from None
        for name, result, source in (("output", got, x), ("gradient of the input", back[0], x)):
            if min(source.shape) > 1 and result.size and min(result.shape) > 1:
                assert memory_order(result) == memory_order(source), f"{name} has another memory order"
    except Exception as error:
        raise AssertionError(f"{error}\nagain: check({case}, {dtype!r}, {order!r}, {algorithm!r})") from error


def suits(case: Case, algorithm: str, order: str) -> bool:
    """Whether an algorithm computes this case in that memory order."""
    both = case.c == 1 or case.size == (1, 1)  # contiguous in either sense, and taken as NCHW
    return not _plan.obstacle(algorithm, case.geometry(), order != "C" and not both)


MODES = ("reflect", "replicate", "circular")


def in_modes(cases: dict[str, Case]) -> dict[str, Case]:
    """Return the cases that have padding, each in one of the modes that repeat pixels, in turn."""
    found = {}
    for name, case in cases.items():
        padding = case.geometry().padding
        if any(map(any, padding)):
            beyond = {"reflect": -1, "replicate": 10**9, "circular": 0}
            fit = [m for m in MODES if all(max(p) <= n + beyond[m] for p, n in zip(padding, case.size, strict=True))]
            mode = fit[len(found) % len(fit)]
            found[f"{name}, {mode}"] = replace(case, mode=mode)
    return found


def target(dtype: str) -> _plan.Target:
    """Return what plans must know of the loaded kernels."""
    kernel = kernels.load("direct")
    letter = np.dtype(dtype).char
    sizes = kernel.LANES[letter], kernel.TILE_PIXELS, kernel.MOST_PIXEL_CHANNELS, kernel.MOST_PAIR_CHANNELS
    return _plan.Target(letter, *sizes)


def awkward(dtype: str) -> dict[str, Case]:
    """Return the cases by name; their sizes follow the vectors and the tile of the loaded kernels."""
    kernel = target(dtype)
    lanes, tile, few = kernel.lanes, kernel.pixels, kernel.pixel_channels
    stretch = _plan.forward(Case().geometry(), kernel, False)[1]["reduction"]
    cases = {
        "one pixel": Case(1, 1, 1, (1, 1), (1, 1)),
        "no images": Case(0, 3, 5, (4, 5), (2, 2)),
        "no batch dimension": Case(None, 3, 5, (6, 7), (2, 3), padding=1),
        "no bias": Case(bias=False),
        "kernel = input": Case(2, 5, 3, (4, 7), (4, 7)),
        "kernel = padded input": Case(2, 3, 5, (3, 2), (5, 6), padding=((0, 2), (3, 1))),
        "stride > kernel": Case(2, 3, 4, (11, 13), (2, 1), (3, 4)),
        "stride > input": Case(2, 3, 4, (5, 6), (2, 2), (9, 7)),
        "strides differ": Case(2, 4, 5, (11, 9), (3, 3), (1, 2), padding=1),
        "padding above": Case(2, 3, 4, (5, 4), padding=((2, 0), (0, 0))),
        "padding below": Case(2, 3, 4, (5, 4), padding=((0, 3), (0, 0))),
        "padding left": Case(2, 3, 4, (5, 4), padding=((0, 0), (2, 0))),
        "padding right": Case(2, 3, 4, (5, 4), padding=((0, 0), (0, 3))),
        "padding > kernel": Case(1, 2, 3, (3, 4), (2, 2), padding=(5, 4)),
        "windows of padding alone": Case(1, 2, 3, (2, 2), (2, 2), (2, 2), padding=6),
        "all taps beside the image": Case(2, 50, 7, (6, 1), (3, 2), padding=((1, 1), (1, 2)), dilation=(1, 3)),
        "same": Case(2, 3, 4, (7, 8), (3, 4), (2, 3), padding="same"),
        "same_lower": Case(2, 3, 4, (7, 8), (4, 4), (2, 3), padding="same_lower"),
        "dilation": Case(2, 3, 4, (13, 11), (3, 2), padding=(2, 1), dilation=(3, 4)),
        "dilation and stride, even": Case(2, 3, 4, (15, 14), (3, 3), (2, 2), padding=2, dilation=(2, 4)),
        "dilation and stride, coprime": Case(2, 3, 4, (17, 16), (3, 4), (3, 2), padding=1, dilation=(2, 3)),
        "groups": Case(2, 6, 9, (7, 5), padding=1, groups=3),
        "groups, several vectors each": Case(1, 4, 6 * lanes + 2, (5, 6), (2, 2), groups=2),
        "depthwise": Case(2, lanes + 1, lanes + 1, (9, 8), padding=1, groups=lanes + 1),
        "depthwise, two each": Case(2, 5, 10, (8, 9), (3, 5), (2, 1), padding=2, groups=5),
        "1 x 1": Case(3, 7, 2 * lanes + 3, (5, 7), (1, 1)),
        "1 x 1, few outputs": Case(3, 7, 3, (5, 7), (1, 1)),
        "1 x 1, fewer pixels than a vector": Case(3, 5, 2, (1, 3), (1, 1)),
        "1 x 1, groups": Case(3, 6, 8, (5, 7), (1, 1), groups=2),
        "1 x 1, stride": Case(2, 5, 7, (6, 9), (1, 1), (2, 3)),
        "1 x 1, stride down": Case(2, 5, 3, (6, 9), (1, 1), (2, 1)),
        "1 x 1, padding": Case(2, 5, 7, (4, 5), (1, 1), padding=1),
        "1 x 1, many pixels": Case(2, 3, lanes + 1, (30, 41), (1, 1)),
        "primes": Case(3, 11, 23, (19, 29), (5, 3), padding=(3, 2)),
        "row": Case(2, 3, 5, (1, 37), (1, 5), padding=(0, 2)),
        "column": Case(2, 3, 5, (37, 1), (5, 1), padding=(2, 0)),
        "long rows": Case(1, 2, lanes + 1, (2, 2 * _plan.direct.BLOCK_PIXELS + 3), (1, 3)),
        "long rows, few outputs": Case(1, 2, 1, (2, 2 * _plan.direct.BLOCK_PIXELS + 3), (2, 3), padding=1),
        "long rows, stride": Case(1, 2, 3, (2, 4 * _plan.direct.BLOCK_PIXELS + 7), (2, 3), (1, 2)),
        "a long row, stride, few inputs": Case(1, 2, 5, (1, 2 * _plan.direct.VECTOR_PIXELS + 7), (1, 4), (1, 3)),
        "several blocks of rows": Case(1, 3, 2 * lanes + 1, (3 * _plan.direct.BLOCK_PIXELS // 20, 23), padding=1),
        "several blocks of rows, few outputs": Case(1, 3, 2, (3 * _plan.direct.VECTOR_PIXELS // 60, 61), padding=1),
        "several blocks of rows, stride": Case(1, 3, lanes + 1, (71, 43), (3, 2), (2, 2), padding=1),
        "blocks of rows cut by the source": Case(1, 160, 3, (9, 57), padding=1),
        "several stretches of the reduction": Case(1, stretch // 9 + 3, 5, (3, 4), padding=1),
        "several stretches, channel vectors": Case(1, stretch // 4 + 5, lanes + 1, (3, 2), (2, 2)),
        "stretch exactly": Case(1, stretch // 4, 2, (3, 2), (2, 2)),
        "many outputs, few pixels": Case(1, 3, 9 * lanes + 1, (3, 3), (2, 2)),
        "many images of few pixels": Case(19, 3, 5, (4, 3), (2, 2)),
        "many images of few pixels, several units": Case(150, 3, 5, (4, 3), (1, 1)),
        "many images of few pixels, stride": Case(41, 5, lanes + 3, (7, 6), (3, 3), (2, 2), padding=1),
        "several blocks of outputs in a task": Case(5, 7, 10 * lanes - 1, (23, 19), (1, 1)),
        "several blocks of outputs in a task, windows": Case(9, 5, 6 * lanes + 1, (21, 20), (2, 2), (1, 2), padding=1),
        "1 x 1, many inputs": Case(1, 259, lanes + 1, (9, 8), (1, 1)),
        "padding left out, few outputs": Case(2, 5, 3, (6, 20), (5, 5), padding=4),
        "padding left out, few outputs, blocks of rows": Case(1, 2, 1, (30, 61), (7, 3), padding=((25, 27), (1, 1))),
        "padding left out, few outputs, stride": Case(2, 4, 3, (9, 31), (4, 3), (2, 2), padding=((7, 6), (1, 2))),
        "padding left out": Case(2, 17, 2 * lanes + 3, (13, 14), padding=6, dilation=6),
        "padding left out, blocks of rows": Case(1, 15, lanes + 1, (30, 17), padding=((8, 5), (7, 9)), dilation=(7, 8)),
        "padding left out, whole taps": Case(1, 14, 3, (13, 14), padding=15, dilation=15),
        "padding left out, stride": Case(2, 16, lanes + 2, (28, 27), (3, 3), (2, 2), 4, 4),
        "padding left out, groups": Case(1, 28, 10, (13, 14), (5, 3), padding=(8, 4), dilation=4, groups=2),
        "padding left out backwards": Case(2, 4 * lanes - 1, 50, (9, 7), padding=4, dilation=4),
        "padding left out backwards, by sides": Case(
            2, lanes + 1, 49, (7, 9), (3, 2), padding=((3, 0), (0, 2)), dilation=(3, 2)
        ),
        "padding left out backwards, > kernel": Case(1, lanes + 1, 48, (5, 6), (2, 2), padding=3),
        "padding left out backwards, none outside": Case(1, lanes + 1, 48, (5, 6), (2, 3)),
        "channels of several tasks": Case(2, 2 * 80 + 3, 3, (4, 5), (3, 3), padding=1),
        "channels of several tasks, 1 x 1": Case(2, 2 * 80 + 3, lanes + 2, (4, 5), (1, 1)),
        "kernel wider than a tile": Case(1, 2, 3, (3, 3 * tile), (2, 2 * tile + 1), padding=(0, 1)),
        "kernel of half a tile": Case(1, 2, lanes + 1, (5, 2 * tile), (3, tile // 2), padding=(0, 1)),
        "tall kernel": Case(1, 2, lanes, (19, 4), (11, 2), padding=(1, 0)),
    }
    for kernel in ((3, 3), (5, 3), (5, 5), (9, 5), (4, 3), (2, 11), (7, 7)):
        name = f"{kernel[0]} x {kernel[1]} from few channels"
        cases[name] = Case(2, 2, lanes - 1, (11, 13), kernel, padding=1)
        cases[f"{name}, two vectors and one"] = Case(1, 1, 3 * lanes, (10, 14), kernel, (2, 1))
    for k in (lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1, 3 * lanes):
        cases[f"{k} outputs"] = Case(2, 3, k, (5, 6), (3, 2), padding=1)
    for width in (tile // 2, tile // 2 + 1, tile - 1, tile, tile + 1, 2 * tile + 1):
        cases[f"{width} columns"] = Case(2, 3, lanes + 1, (4, width), (2, 1))
        cases[f"{width} columns, one vector of outputs"] = Case(
            2, 3, lanes, (5, width), (1, 1), padding=((0, 1), (0, 0))
        )
    for width in (lanes - 1, lanes, lanes + 1, 2 * lanes + 3, 8 * lanes + 1):
        cases[f"few outputs, {width} columns"] = Case(2, 3, 2, (5, width), padding=1)
    for k in range(1, 2 * few + 2):
        cases[f"{k} outputs over pixels"] = Case(1, 2, k, (4, 4 * lanes + 1), (2, 2), padding=((0, 1), (1, 0)))
    for size in ((1, 1), (2, 3), (4, 4), (5, 9), (3, 14), (13, 16)):
        cases[f"3 x 3 from {size[0]} x {size[1]}"] = Case(3, 5, lanes - 1, size, padding=2)
        cases[f"3 x 3 to {size[0]} x {size[1]}"] = Case(2, lanes + 1, 2 * lanes + 1, (size[0] + 2, size[1] + 2))
        cases[f"5 x 5 from {size[0]} x {size[1]}"] = Case(2, 5, lanes + 3, size, (5, 5), padding=((2, 3), (4, 2)))
    for kernel in ((7, 7), (4, 4), (1, 7), (7, 1), (1, 3), (5, 1), (9, 2)):
        name = f"{kernel[0]} x {kernel[1]} in pieces"
        cases[name] = Case(2, lanes + 1, 2 * lanes + 3, (10, 13), kernel, padding=((3, 0), (2, 4)), dilation=(1, 2))
    cases["3 x 3, dilation"] = Case(2, lanes + 1, 2 * lanes + 1, (9, 11), padding=2, dilation=2)
    cases["3 x 3, dilations differ"] = Case(2, 5, 3, (13, 10), padding=((1, 4), (0, 3)), dilation=(3, 2))
    cases["3 x 3, dilation of the map's size"] = Case(1, 3, 4, (5, 6), padding=4, dilation=(5, 4))
    cases["3 x 3, dilation, long rows"] = Case(1, 3, 5, (7, 300), padding=(2, 7), dilation=(1, 7))
    cases["3 x 3, dilation, many images"] = Case(11, 3, 5, (6, 7), padding=3, dilation=3)
    cases["5 x 5, dilation"] = Case(2, 3, 4, (12, 15), (5, 5), padding=(3, 4), dilation=(2, 3))
    cases["5 x 5, long rows"] = Case(1, 3, 5, (5, 300), (5, 5), padding=2)
    cases["3 x 3, padding by sides"] = Case(2, 3, 4, (5, 6), padding=((0, 3), (4, 1)))
    cases["3 x 3, long rows"] = Case(1, 3, 5, (3, 500), padding=1)
    cases["3 x 3, many images"] = Case(23, 3, 5, (3, 4), padding=1)
    cases["3 x 3, blocks cut by the channels"] = Case(2, 600, 3, (9, 8), padding=1)
    cases["3 x 3, many outputs"] = Case(1, 130, 9 * lanes, (7, 6), padding=1)
    two = (2, 2)
    for size in ((1, 1), (3, 4), (7, 8), (8, 17), (15, 33)):
        cases[f"3 x 3 / 2 from {size[0]} x {size[1]}"] = Case(3, 5, lanes - 1, size, stride=two, padding=1)
        wanted = (2 * size[0] + 1, 2 * size[1] + 2)
        cases[f"3 x 3 / 2 to {size[0]} x {size[1]}"] = Case(2, lanes + 1, 2 * lanes + 1, wanted, stride=two)
    for kernel in ((4, 4), (1, 5), (3, 1), (7, 2)):
        name = f"{kernel[0]} x {kernel[1]} / 2 in pieces"
        cases[name] = Case(2, lanes + 1, 2 * lanes + 3, (13, 16), kernel, two, ((3, 0), (2, 4)))
    for kernel, stride in (((3, 1), (1, 2)), ((1, 3), (2, 1))):
        cases[f"{kernel[0]} x {kernel[1]} / {stride}"] = Case(2, 3, lanes + 1, (13, 12), kernel, stride, 1)
    for stride in ((1, 2), (2, 1)):
        cases[f"3 x 3 / {stride}"] = Case(2, lanes + 1, lanes + 3, (13, 18), (3, 3), stride, 1)
    cases["3 x 3 / 2, padding by sides"] = Case(2, 3, 4, (9, 12), stride=two, padding=((0, 3), (4, 1)))
    cases["3 x 3 / 2, groups"] = Case(2, 10, 2 * lanes + 6, (11, 14), stride=two, padding=1, groups=2)
    cases["3 x 3 / 2, long rows"] = Case(1, 3, 5, (5, 500), stride=two, padding=1)
    cases["3 x 3 / 2, many images"] = Case(23, 3, 5, (5, 7), stride=two, padding=1)
    cases["3 x 3 / 2, blocks cut by the channels"] = Case(2, 300, 3, (17, 15), stride=two, padding=1)
    cases["3 x 3 / 2, many outputs"] = Case(1, 70, 9 * lanes, (13, 11), stride=two, padding=1)
    for edge in (3, 5, 7):
        for stride in (1, 2):
            for channels, size in ((3, (edge, lanes + edge)), (2, (edge + 1, 3 * lanes + 5))):
                how = {"kernel": (edge, edge), "stride": (stride, stride), "groups": channels}
                name = f"depthwise {edge} x {edge} / {stride}, {channels} planes"
                cases[name] = Case(2, channels, channels, size, padding=edge // 2, **how)
                cases[f"{name}, without padding"] = Case(1, channels, 2 * channels, size, **how)
    for width in (1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 4 * lanes + 3):
        cases[f"depthwise, {width} columns"] = Case(1, 2, 2, (5, width), padding=((2, 1), (1, 3)), groups=2)
        cases[f"depthwise, {width} columns, stride"] = Case(
            1, 2, 2, (6, width), (5, 5), (2, 2), ((0, 5), (6, 0)), groups=2, bias=False
        )
    for name, size, edge, stride, padding in [
        ("wide rows", (9, 5 * lanes + 3), 3, 1, 1),
        ("wide rows, stride", (17, 7 * lanes + 5), 3, 2, 1),
        ("wide rows, 5 x 5, stride", (9, 6 * lanes), 5, 2, ((2, 1), (1, 2))),
        ("wide rows, 7 x 7", (10, 4 * lanes + 1), 7, 1, ((0, 6), (3, 0))),
        ("padding > kernel", (4, 5), 3, 1, ((4, 5), (lanes + 4, 2 * lanes + 3))),
        ("padding > kernel, stride", (5, 4), 3, 2, ((6, 3), (2 * lanes + 5, lanes + 8))),
        ("rows that no window meets", (8, 2 * lanes + 2), 5, 2, ((0, 0), (1, 0))),
    ]:
        how = {"kernel": (edge, edge), "stride": (stride, stride), "padding": padding, "groups": 3}
        cases[f"depthwise, {name}"] = Case(2, 3, 3, size, **how)
    for edge, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)):
        how = {"kernel": (edge, edge), "stride": (stride, stride), "padding": edge // 2}
        for channels, size in ((lanes, (7, 7)), (2 * lanes - 1, (3, 5)), (lanes + 4, (6, 14 * stride))):
            name = f"depthwise {edge} x {edge} / {stride}, blocks of {channels} planes"
            cases[name] = Case(2, channels, channels, size, groups=channels, **how)
    for width in (1, 3, 4, 5, 8, 9, 13, 28, 31, 40):
        cases[f"depthwise, blocks, {width} columns"] = Case(
            1, lanes, lanes, (5, width), (5, 5), padding=((4, 0), (2, 2)), groups=lanes
        )
    for size in ((1, 1), (1, 3), (20, 28)):
        cases[f"depthwise, blocks of {size[0]} x {size[1]} pixels"] = Case(
            1, lanes, lanes, size, (5, 5), padding=2, groups=lanes
        )
    cases["depthwise, blocks, two outputs each"] = Case(
        2, lanes - 1, 2 * lanes - 2, (7, 6), (5, 5), padding=((1, 3), (0, 4)), groups=lanes - 1
    )
    cases["depthwise, blocks, bands of rows"] = Case(1, lanes, lanes, (61, 11), (5, 5), padding=2, groups=lanes)
    cases["depthwise, blocks, bands of rows, stride"] = Case(
        1, lanes + 1, lanes + 1, (131, 17), (5, 5), (2, 2), ((3, 0), (0, 4)), groups=lanes + 1
    )
    cases["depthwise, blocks, padding > kernel"] = Case(
        1, lanes, lanes, (4, 5), (7, 7), padding=((9, 8), (8, 17)), groups=lanes
    )
    cases["depthwise, blocks, padding > kernel, stride"] = Case(
        1, lanes, lanes, (5, 3), (3, 3), (2, 2), ((7, 3), (4, 21)), groups=lanes
    )
    cases["depthwise, rows too long for blocks"] = Case(
        1, lanes, lanes, (3, 4100 // lanes * 16), padding=1, groups=lanes
    )
    cases["depthwise, small planes of several tasks"] = Case(3, 70, 70, (2, 3), padding=1, groups=70)
    cases["depthwise, chunks of rows"] = Case(5, 2, 2, (23, 19), (2, 2), (1, 1), 1, groups=2)
    cases["depthwise, wide kernel"] = Case(2, 5, 5, (4, 31), (2, 19), padding=(0, 9), groups=5)
    for stride, dilation in (((3, 3), (1, 1)), ((2, 3), (2, 3)), ((4, 4), (2, 6)), ((3, 2), (2, 3)), ((5, 4), (1, 1))):
        cases[f"depthwise, stride {stride}, dilation {dilation}"] = Case(
            2, lanes + 2, lanes + 2, (11, 50), (3, 3), stride, (2, 3), dilation, lanes + 2
        )
    for channels in (lanes - 1, lanes, 2 * lanes, 4 * lanes + 1):
        cases[f"depthwise, {channels} channels"] = Case(
            2, channels, channels, (6, 7), (2, 3), (3, 1), 1, (1, 2), groups=channels
        )
    return cases
