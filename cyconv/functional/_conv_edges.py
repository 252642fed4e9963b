"""Gradients at padding that repeats pixels: what they add to the pixels that are repeated.

Forward passes and weight gradients read such padding as part of their walks. An input gradient is the other way
round: what arrives at a place of the padding belongs to the pixel that stands there, and several places add up in one
pixel. The walks of input gradients give each pixel what arrives at its own place. The padding itself is cut into
slabs, for two dimensions above, below, left and right; what arrives at one is the input gradient of a small convolution
(of the few output pixels and taps that meet it), and its rows and columns are added to those that they repeat. So no
array of the size of the padded input is made, and the order of all sums follows from the geometry alone.

A transposed convolution reads pixels again around its input, and its gradients go the same way, with the convolution's
forward pass in place of its input gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from .._geometry import ConvGeometry, Edges
from ._arrays import Array

#: What stands in brackets behind an array.
Index: TypeAlias = tuple[slice | int, ...]
#: Products of channels from which on the taps of a kernel are copied one by one; weights that stay in a second-level
#: cache meanwhile.
MANY, NEAR = 4096, 1 << 17


@dataclass(frozen=True)
class _Stretch:
    """One axis of a slab: the convolution that leads to it or away from it, as numbers of that axis."""

    input: slice  #: of the convolution's input, where it is not the slab itself
    taps: slice
    output: slice  #: of the convolution's output, where it is not the slab itself
    sizes: tuple[int, int, int]  #: lengths of input, kernel and output
    low: int  #: padding
    high: int


def _stretch(
    first: tuple[int, int, int], length: int, taps: int, count: int, stride: int, dilation: int, whole: bool
) -> _Stretch | None:
    """Return the convolution from ``length`` pixels to ``count`` with those of the taps that meet, None if none do.

    ``first``: its low padding, and where its input and its output begin; ``whole``: all taps, to keep their shape.
    """
    low, start, begin = first
    # Tap i of output pixel p meets the input at p S + i D - low.
    least = max(0, min(-(-(low - (count - 1) * stride) // dilation), low // dilation))
    most = min(taps, (low + length - 1) // dilation + 1)
    if most <= least:
        return None
    if whole:
        least, most = 0, taps
    low -= least * dilation
    high = max(0, (count - 1) * stride + dilation * (most - least - 1) + 1 - low - length)
    return _Stretch(
        slice(start, start + length),
        slice(least, most),
        slice(begin, begin + count),
        (length, most - least, count),
        low,
        high,
    )


def _of_input(geometry: ConvGeometry, axis: int, whole: bool, place: int, length: int) -> _Stretch | None:
    """Return the convolution from ``length`` places of the padded input, from ``place`` on, to what they lead to."""
    stride, dilation, taps = geometry.stride[axis], geometry.dilation[axis], geometry.kernel[axis]
    low = place + geometry.padding[axis][0]
    first = max(0, min(-(-(low - dilation * (taps - 1)) // stride), low // stride))
    last = min(geometry.output[axis], (low + length - 1) // stride + 1)
    if last <= first:
        return None
    return _stretch((low - first * stride, 0, first), length, taps, last - first, stride, dilation, whole)


def _of_output(geometry: ConvGeometry, axis: int, whole: bool, place: int, length: int) -> _Stretch | None:
    """Return the convolution to ``length`` places of the extended output, from ``place`` on, from what they read."""
    stride, dilation, taps = geometry.stride[axis], geometry.dilation[axis], geometry.kernel[axis]
    low = geometry.padding[axis][0] - place * stride
    first = max(0, -low)
    reach = (place + length - 1) * stride + dilation * (taps - 1) - geometry.padding[axis][0]
    last = min(geometry.input[axis], reach + 1)
    if last <= first:
        return None
    return _stretch((max(low, 0), first, 0), last - first, taps, length, stride, dilation, whole)


@dataclass(frozen=True)
class _Slab:
    """A part of the padding, and the small convolution that it has part in.

    Its thin axis comes first in that convolution, since walks go along rows.
    """

    geometry: ConvGeometry
    engine: Any
    input: tuple[slice, ...]
    taps: tuple[slice, ...]
    output: tuple[slice, ...]
    axis: int  #: along which it lies outside; it is as long as the array along those before, and padded behind
    repeated: tuple[int, ...]  #: the pixels along that axis that its places repeat
    within: tuple[tuple[Index, Index], ...]  #: where, along the axes behind, the pixels at its ends are added to it
    onto: tuple[tuple[Index, Index], ...]  #: where in the whole array its places are added


def _slabs(
    geometry: ConvGeometry,
    edges: Edges,
    lengths: tuple[int, ...],
    whole: bool,
    stretch: Callable[[ConvGeometry, int, bool, int, int], _Stretch | None],
    engine: Callable[[ConvGeometry], Any],
) -> Iterator[_Slab]:
    """Cut what lies around an array of ``lengths`` into slabs; those that meet nothing are left out."""
    for axis, (before, behind) in enumerate(edges):
        for place, repeated in ((-len(before), before), (lengths[axis], behind)):
            if not repeated:
                continue
            spans = [(0, length) for length in lengths[:axis]]
            spans.append((place, len(repeated)))
            spans += [
                (-len(low), len(low) + length + len(high))
                for (low, high), length in zip(edges[axis + 1 :], lengths[axis + 1 :], strict=True)
            ]
            found = [stretch(geometry, i, whole, *span) for i, span in enumerate(spans)]
            cut = [part for part in found if part is not None]
            if len(cut) < len(found):
                continue
            first = [cut[axis], *cut[:axis], *cut[axis + 1 :]]
            part = replace(
                geometry,
                input=tuple(s.sizes[0] for s in first),
                kernel=tuple(s.sizes[1] for s in first),
                output=tuple(s.sizes[2] for s in first),
                stride=(geometry.stride[axis], *geometry.stride[:axis], *geometry.stride[axis + 1 :]),
                dilation=(geometry.dilation[axis], *geometry.dilation[:axis], *geometry.dilation[axis + 1 :]),
                padding=tuple((s.low, s.high) for s in first),
                padding_mode="zeros",
                edges=None,
                output_edges=None,
            )
            taps, inputs, outputs = (tuple(getattr(s, what) for s in cut) for what in ("taps", "input", "output"))
            within, onto = _sums(edges, lengths, axis, repeated)
            yield _Slab(part, engine(part), inputs, taps, outputs, axis, repeated, within, onto)


def _sums(
    edges: Edges, lengths: tuple[int, ...], axis: int, repeated: tuple[int, ...]
) -> tuple[tuple[tuple[Index, Index], ...], tuple[tuple[Index, Index], ...]]:
    """Return (to, from) of the additions within a slab, its thin axis first, and of those from it onto the array."""
    everything = slice(None)
    within: list[tuple[Index, Index]] = []
    inner: list[slice | int] = [everything] * (len(edges) + 2)
    for other in range(axis + 1, len(edges)):
        before, behind = edges[other]
        first, last = len(before), len(before) + lengths[other]
        for place, pixel in (*enumerate(before), *enumerate(behind, last)):
            to, source = inner.copy(), inner.copy()
            to[other + 2], source[other + 2] = first + pixel, place
            within.append((tuple(to), tuple(source)))
        inner[other + 2] = slice(first, last)
    onto: list[tuple[Index, Index]] = []
    for place, pixel in enumerate(repeated):
        to = [everything] * (axis + 2) + [pixel]
        onto.append((tuple(to), (*inner[:2], place, *inner[3:])))
    return tuple(within), tuple(onto)


class _Surroundings:
    """What padding that repeats pixels adds to the gradients of one convolution, or transposed convolution."""

    def __init__(self, edges: Edges | None, channels_last: bool, slabs: Callable[[], Iterator[_Slab]]) -> None:
        self._edges = edges
        self._channels_last = channels_last
        self._cut = slabs
        self._slabs: list[_Slab] | None = None

    def __iter__(self) -> Iterator[_Slab]:
        if self._edges is None:
            return iter(())
        if self._slabs is None:
            self._slabs = list(self._cut())
        return iter(self._slabs)

    def _piece(self, x: Array, slab: _Slab, where: Index = ()) -> Array:
        """Return a copy of a part of ``x`` as the engine takes it."""
        part = _thin_first(x[(slice(None), slice(None), *where)], slab.axis)
        if not self._channels_last:
            return np.ascontiguousarray(part)
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(part, 1, -1)), -1, 1)

    def _taps(self, weight: Array, slab: _Slab) -> Array:
        """Return the taps that meet a slab."""
        part = _thin_first(weight[(slice(None), slice(None), *slab.taps)], slab.axis)
        if part.shape[0] * part.shape[1] < MANY or slab.geometry.taps > 64:
            return np.ascontiguousarray(part)
        # Tap by tap, since NumPy is slow with many short rows; some channels at a time, which stay near meanwhile.
        taps = np.empty(part.shape, part.dtype)
        rows = max(1, NEAR // weight[0].size)
        for first in range(0, len(part), rows):
            for tap in np.ndindex(part.shape[2:]):
                where = (slice(first, first + rows), slice(None), *tap)
                taps[where] = part[where]
        return taps

    def _fold(self, part: Array, slab: _Slab, x: Array) -> None:
        """Add a slab to the pixels of ``x`` that it repeats; along the axes behind its own its ends come in first."""
        for to, source in slab.within:
            part[to] += part[source]
        for to, source in slab.onto:
            x[to] += part[source]


def _thin_first(x: Array, axis: int) -> Array:
    """Return a view with a spatial axis before the others."""
    if axis == 0:
        return x
    return x.transpose(0, 1, axis + 2, *(i + 2 for i in range(x.ndim - 2) if i != axis))


class PaddingGradient(_Surroundings):
    """The part of a convolution's input gradient that arrives at its padding.

    Parameters
    ----------
    geometry : ConvGeometry
    engine : callable
        Returns what computes the small convolution of a slab.
    channels_last : bool
        Memory order of the arrays.
    whole : bool
        The engine wants the whole kernel, also of taps that do not meet a slab.
    """

    def __init__(
        self, geometry: ConvGeometry, engine: Callable[[ConvGeometry], Any], channels_last: bool, whole: bool = False
    ) -> None:
        edges = geometry.edges
        super().__init__(
            edges, channels_last, lambda: _slabs(geometry, edges or (), geometry.input, whole, _of_input, engine)
        )

    def add_to(self, dx: Array, grad: Array, weight: Array) -> None:
        """Add it to ``dx``, which has what arrives at the pixels themselves."""
        for slab in self:
            arrived = slab.engine.transposed(self._piece(grad, slab, slab.output), self._taps(weight, slab), None)
            self._fold(arrived, slab, dx)


class ExtensionGradient(_Surroundings):
    """The part of a transposed convolution's gradients that its input has where it is read beyond its ends.

    Parameters
    ----------
    geometry : ConvGeometry
        Of the convolution from the output of the transposed convolution to its input.
    engine, channels_last
        As for :class:`PaddingGradient`.
    """

    def __init__(self, geometry: ConvGeometry, engine: Callable[[ConvGeometry], Any], channels_last: bool) -> None:
        edges = geometry.output_edges
        super().__init__(
            edges, channels_last, lambda: _slabs(geometry, edges or (), geometry.output, False, _of_output, engine)
        )

    def add_to(self, dx: Array, grad: Array, weight: Array) -> None:
        """Add to the gradient of the input, ``dx``, what its repeated pixels have part in."""
        for slab in self:
            arrived = slab.engine.forward(self._piece(grad, slab, slab.input), self._taps(weight, slab), None)
            self._fold(arrived, slab, dx)

    def add_to_weight(self, dw: Array, grad: Array, x: Array) -> None:
        """Add to the gradient of the weight, ``dw``, what the repeated pixels of ``x`` have part in."""
        assert self._edges is not None or not list(self)
        for slab in self:
            part = x
            for axis, ends in enumerate(self._edges or ()):
                if axis >= slab.axis:
                    inner = range(x.shape[axis + 2])
                    index = slab.repeated if axis == slab.axis else (*ends[0], *inner, *ends[1])
                    part = part.take(index, axis + 2)
            taps, _ = slab.engine.weight_gradient(self._piece(part, slab), self._piece(grad, slab, slab.input), False)
            dw[(slice(None), slice(None), *slab.taps)] += np.moveaxis(taps, 2, slab.axis + 2)
