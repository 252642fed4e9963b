"""What a convolution will do, in words and numbers: geometry, work, algorithms, and the choice among them."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _plan
from ._geometry import AXES
from ._transposed_geometry import AnyConvGeometry, ConvTransposeGeometry
from .functional import conv_engine, conv_expected_time
from .nn.conv import Convolution


@dataclass(frozen=True)
class Candidate:
    """
    One algorithm for a convolution.

    Attributes
    ----------
    name : str
    obstacle : str
        Why it cannot compute this one; empty where it can.
    workspace : int
        Private bytes of each thread.
    packed : int
        Bytes of the weights as it reads them.
    expected : float
        Seconds, from the multiply-adds, transforms and weights that it takes and the speed of this machine; NaN where
        nothing was modelled.
    measured : float
        Seconds, the median of repeated runs; NaN unless asked for.
    """

    name: str
    obstacle: str = ""
    workspace: int = 0
    packed: int = 0
    expected: float = math.nan
    measured: float = math.nan


@dataclass(frozen=True)
class Explanation:
    """
    What :func:`explain` found; ``print`` shows it.

    Attributes
    ----------
    geometry : ConvGeometry or ConvTransposeGeometry
        All sizes.
    parameters, macs : int
        Learned numbers; multiply-adds of one forward pass by direct summation.
    bytes : int
        Of input, output and weights together.
    chosen, why : str
        The algorithm that will run, and the reason.
    gradients : tuple of str
        The algorithms of the gradients of input and weight, which are chosen apart.
    candidates : tuple of Candidate
    """

    geometry: AnyConvGeometry
    parameters: int
    macs: int
    bytes: int
    chosen: str
    why: str
    gradients: tuple[str, str]
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        g = self.geometry
        lines = [f"{g.operation}  {g.input_shape} -> {g.output_shape}"]
        lines += [f"  {axis:<12} {g.formula(i)}" for i, axis in enumerate(AXES[g.rank])]
        if g.padding_mode != "zeros":
            more = f": the input goes on for {g.extension}" if isinstance(g, ConvTransposeGeometry) else ""
            lines.append(f"  {'padding':<12} {g.padding_mode}{more}")
        group = "" if g.groups == 1 else f" in {g.groups} groups"
        lines.append(f"  {'weight':<12} {g.weight_shape}{group}")
        lines.append(f"  {'parameters':<12} {self.parameters:,}")
        lines.append(f"  {'work':<12} {self.macs:,} multiply-adds = {2e-9 * self.macs:.3g} GFLOP by direct summation")
        intensity = 2 * self.macs / max(self.bytes, 1)
        lines.append(f"  {'memory':<12} {_size(self.bytes)} read and written once: {intensity:.3g} FLOP for each byte")
        lines.append(f"  {'algorithm':<12} {self.chosen}: {self.why}")
        lines.append(f"  {'gradients':<12} of the input by {self.gradients[0]}, of the weight by {self.gradients[1]}")
        measured = any(not math.isnan(c.measured) for c in self.candidates)
        header = f"  {'':<12} {'workspace':>10} {'weights':>10} {'expected':>10}"
        lines.append(header + (f" {'measured':>10}" if measured else ""))
        for c in self.candidates:
            mark = "*" if c.name == self.chosen else " "
            if c.obstacle:
                lines.append(f" {mark}{c.name:<12} cannot: {c.obstacle}")
                continue
            row = f" {mark}{c.name:<12} {_size(c.workspace):>10} {_size(c.packed):>10} {_duration(c.expected):>10}"
            lines.append(row + (f" {_duration(c.measured):>10}" if measured else ""))
        return "\n".join(lines)


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} GiB"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def _median_time(run: Any, seconds: float = 0.2) -> float:
    run()
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while not times or time.perf_counter() < stop:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _candidate(name: str, layer: Convolution, geometry: AnyConvGeometry, last: bool, measure: bool) -> Candidate:
    obstacle = _plan.obstacle(name, geometry, last)
    if obstacle:
        return Candidate(name, obstacle)
    dtype = layer.weight.dtype
    try:
        work = conv_engine(geometry, dtype, last, name)
    except ValueError as error:  # more than max_workspace
        return Candidate(name, str(error).partition(f"{name!r} ")[2])
    expected = conv_expected_time(name, geometry, dtype)
    packed = work.pack(layer.weight.data)
    measured = math.nan
    if measure:
        x = np.ones(geometry.input_shape, dtype)
        if last:
            x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        bias = None if layer.bias is None else layer.bias.data
        measured = _median_time(lambda: work.forward(x, layer.weight.data, bias, packed))
    return Candidate(name, "", work.workspace(), packed.nbytes, expected, measured)


def explain(
    layer: Convolution, input_shape: Sequence[int], *, channels_last: bool = False, measure: bool = False
) -> Explanation:
    """
    Tell what a convolution layer will do with an input: sizes, work, and which algorithm runs and why.

    Parameters
    ----------
    layer : Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d or ConvTranspose3d
        The layer.
    input_shape : sequence of int
        (N, C, *spatial) or (C, *spatial).
    channels_last : bool
        The input lies in memory as (N, H, W, C).
    measure : bool
        Run every algorithm and report its median time, weights packed; takes a fifth of a second each.

    Returns
    -------
    Explanation
        ``print`` shows it; its attributes have the numbers.

    Raises
    ------
    TypeError
        If `layer` is no convolution or `input_shape` no shape.
    ValueError
        If the layer cannot take an input of that shape.

    Examples
    --------
    >>> from cyconv import Conv2d, explain
    >>> e = explain(Conv2d(3, 96, 11, stride=4), (1, 3, 227, 227))
    >>> e.geometry.formula(0), e.parameters, e.chosen
    ('(227 + 2·0 − 1·(11−1) − 1)/4 + 1 = 55', 34944, 'direct')
    """
    if not isinstance(layer, Convolution):
        raise TypeError(
            f"explain: expected a convolution layer, got {type(layer).__name__}; summary() tells about whole networks"
        )
    try:
        shape = tuple(operator.index(length) for length in input_shape)
    except TypeError:
        raise TypeError(f"explain: input_shape must be a shape such as (1, 3, 224, 224), got {input_shape!r}") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"explain: input_shape must not have negative lengths, got {shape}")
    geometry = layer._conv.geometry(shape, layer.weight.shape, None if layer.bias is None else layer.bias.shape)
    dtype = layer.weight.dtype
    chosen, why = layer._conv.choice(geometry, dtype, channels_last)
    arrays = math.prod(geometry.input_shape) + math.prod(geometry.output_shape) + layer.num_parameters()
    names = [name for name in _plan.COMPARED if name == chosen or name != "reference"]
    return Explanation(
        geometry,
        layer.num_parameters(),
        geometry.macs,
        arrays * dtype.itemsize,
        chosen,
        why,
        conv_engine(geometry, dtype, channels_last, layer.algorithm).gradient_names(),
        tuple(_candidate(name, layer, geometry, channels_last, measure) for name in names),
    )
