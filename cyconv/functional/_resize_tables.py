"""Tables of interpolation: for each output along an axis the inputs that it is made of, and their weights.

The places of the nearest modes jump, so they are computed in float32 as torch does in its gradients and for
channels-last inputs (for others it does so in their dtype, and its gradient is then not that of its output); all else
is continuous and computed in double.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._arrays import Array


class Table(NamedTuple):
    """
    One axis. Rows are outputs; those with fewer inputs than there are columns repeat their last place.

    Attributes
    ----------
    inputs : int
        Length of the axis.
    counts : ndarray of int32, (Q,)
        How many entries of each row count.
    place : ndarray of int32, (Q, T)
    weight : ndarray of float64, (Q, T)
    """

    inputs: int
    counts: Array
    place: Array
    weight: Array


def _gathered(inputs: int, outputs: int, output: Array, place: Array, weight: Array) -> Table:
    """Return the table of entries (output, place, weight), those of one output in the order of their places.

    Entries at one place are added up, those of weight 0 left out: infinity times 0 would be NaN.
    """
    where = np.flatnonzero(weight)
    key, entry = np.unique(output[where].astype(np.int64) * inputs + place[where], return_inverse=True)
    total = np.bincount(entry, weight[where], len(key))
    rows, places = key // inputs, key % inputs
    count = np.bincount(rows, minlength=outputs)
    first = np.cumsum(count) - count
    column = np.arange(max(count.max(initial=1), 1))
    taken = np.minimum(column, np.maximum(count - 1, 0)[:, np.newaxis]) + first[:, np.newaxis]
    taken = np.minimum(taken, max(len(key) - 1, 0))
    if len(key) == 0:
        return Table(inputs, count.astype(np.int32), np.zeros(taken.shape, np.int32), np.zeros(taken.shape))
    weights = np.where(column < count[:, np.newaxis], total[taken], 0)
    return Table(inputs, count.astype(np.int32), places[taken].astype(np.int32), weights)


def transposed(table: Table) -> Table:
    """Return the table of the gradient: for each input the outputs that it went into."""
    outputs, taps = table.place.shape
    valid = np.arange(taps) < table.counts[:, np.newaxis]
    output = np.broadcast_to(np.arange(outputs)[:, np.newaxis], valid.shape)
    return _gathered(outputs, table.inputs, table.place[valid], output[valid], table.weight[valid])


def evened(table: Table) -> Table:
    """Return the table with as many entries in every row, where rows are not too different.

    Entries that repeat the last place of a row share its weight: with a weight of 0 an infinity would become NaN.
    """
    taps = table.place.shape[1]
    if not table.counts.all() or 2 * int(table.counts.sum()) < table.place.size:
        return table
    last = table.counts[:, np.newaxis] - 1
    share = np.take_along_axis(table.weight, last, 1) / (taps - last)
    weight = np.where(np.arange(taps) >= last, share, table.weight)
    return Table(table.inputs, np.full_like(table.counts, taps), table.place, weight)


def _nearest(inputs: int, outputs: int, scale: float | None, exact: bool) -> Table:
    q = np.arange(outputs)
    step = np.float32(inputs) / np.float32(outputs) if scale is None else np.float32(scale)
    if exact:
        place = np.floor(((q + 0.5) * np.float64(step)).astype(np.float32))
    elif outputs in (inputs, 2 * inputs):
        place = q // (outputs // inputs)
    else:
        place = np.floor(q.astype(np.float32) * step)
    return _gathered(inputs, outputs, q, np.minimum(place.astype(np.int64), inputs - 1), np.ones(outputs))


def _step(inputs: int, outputs: int, scale: float | None, align_corners: bool) -> float:
    """Return how many inputs further the next output is."""
    if align_corners:
        return (inputs - 1) / (outputs - 1) if outputs > 1 else 0.0
    return inputs / outputs if scale is None else scale


def _centres(inputs: int, outputs: int, scale: float | None, align_corners: bool) -> Array:
    """Return where each output lies among the inputs, of which the first lies at 0."""
    step = _step(inputs, outputs, scale, align_corners)
    q = np.arange(outputs)
    return q * step if align_corners else (q + 0.5) * step - 0.5


def _linear(inputs: int, outputs: int, scale: float | None, align_corners: bool) -> Table:
    if inputs == outputs:
        return _nearest(inputs, outputs, None, False)
    at = np.maximum(_centres(inputs, outputs, scale, align_corners), 0)
    place = np.minimum(np.floor(at), inputs - 1)
    share = np.clip(at - place, 0, 1)
    places = np.minimum(np.stack([place, place + 1]), inputs - 1).astype(np.int64)
    rows = np.tile(np.arange(outputs), (2, 1))
    return _gathered(inputs, outputs, rows.ravel(), places.ravel(), np.stack([1 - share, share]).ravel())


def _cubic_kernel(x: Array, a: float) -> Array:
    """Keys' kernel (1981): cubic within 1 of the centre, cubic within 2, then 0."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _cubic(inputs: int, outputs: int, scale: float | None, align_corners: bool) -> Table:
    at = _centres(inputs, outputs, scale, align_corners)
    place = np.floor(at)
    offsets = np.arange(-1, 3)[:, np.newaxis]
    weights = _cubic_kernel(place + offsets - at, -0.75)
    places = np.clip(place + offsets, 0, inputs - 1).astype(np.int64)
    rows = np.tile(np.arange(outputs), (4, 1))
    return _gathered(inputs, outputs, rows.ravel(), places.ravel(), weights.ravel())


def _area(inputs: int, outputs: int) -> Table:
    """Return the mean over the inputs that an output overlaps, from floor(q I/O) to ceil((q + 1) I/O)."""
    q = np.arange(outputs)
    first, end = q * inputs // outputs, -(-(q + 1) * inputs // outputs)
    return _windows(inputs, outputs, first, end - first, lambda places: np.ones(places.shape))


def _windows(inputs: int, outputs: int, first: Array, length: Array, kernel: Callable[[Array], Array]) -> Table:
    """Return a table of windows, weighted by a kernel and normalised."""
    places = first[:, np.newaxis] + np.arange(length.max())
    inside = np.arange(length.max()) < length[:, np.newaxis]
    weights = np.where(inside, kernel(places), 0)
    total = weights.sum(1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    rows = np.broadcast_to(np.arange(outputs)[:, np.newaxis], places.shape)
    return _gathered(inputs, outputs, rows[inside], places[inside], weights[inside])


def _smoothed(inputs: int, outputs: int, scale: float | None, align_corners: bool, cubic: bool) -> Table:
    """Return the table of an antialiased mode: the kernel is as wide as the step, as Pillow's are."""
    if inputs == outputs:
        return _nearest(inputs, outputs, None, False)
    step = _step(inputs, outputs, scale, align_corners)
    wide = max(step, 1.0)
    support = wide * (2 if cubic else 1)
    centre = step * (np.arange(outputs) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + support + 0.5).astype(np.int64), inputs)
    length = np.clip(end - first, 0, None)

    def kernel(places: Array) -> Array:
        x = (places - centre[:, np.newaxis] + 0.5) / wide
        return _cubic_kernel(x, -0.5) if cubic else np.maximum(1 - np.abs(x), 0)

    return _windows(inputs, outputs, first, length, kernel)


def axis_table(
    mode: str, inputs: int, outputs: int, scale: float | None, align_corners: bool, antialias: bool
) -> Table:
    """Return the table of one axis."""
    if mode == "area":
        return _area(inputs, outputs)
    if mode in ("nearest", "nearest-exact"):
        return _nearest(inputs, outputs, scale, mode == "nearest-exact")
    if antialias:
        return _smoothed(inputs, outputs, scale, align_corners, mode == "bicubic")
    build = _cubic if mode == "bicubic" else _linear
    return build(inputs, outputs, scale, align_corners)


def widened(table: Table, channels: int) -> Table:
    """Return the table of a channels-last line, element by element."""
    channel = np.arange(channels)
    place = (table.place[:, np.newaxis] * channels + channel[:, np.newaxis]).reshape(-1, table.place.shape[1])
    return Table(
        table.inputs * channels,
        np.repeat(table.counts, channels),
        place.astype(np.int32),
        np.repeat(table.weight, channels, axis=0),
    )


def lane_table(table: Table, dtype: np.dtype[Any], lanes: int, halves: bool) -> tuple[Any, ...] | None:
    """
    Return what picks a row of a plane by vectors of that many lanes, or None where outputs lie too far apart.

    Returns
    -------
    two : bool
        Whether lanes come from two neighbouring vectors.
    readable : int
        How many elements of a row are loaded.
    base : ndarray of int32, (vectors, T)
        Where the vector of each tap begins.
    lane, weight : ndarray, (vectors, T, lanes)
        In the size of the elements.
    """
    outputs, taps = table.place.shape
    if not lanes or (table.counts < taps).any():
        return None
    vectors = -(-outputs // lanes)
    rows = np.minimum(np.arange(vectors * lanes), outputs - 1)
    place = table.place[rows].reshape(vectors, lanes, taps).transpose(0, 2, 1)
    # One place to load from for all taps, if that can be: what was just stored is then loaded as it was stored.
    each = place.min(2)
    bases = (np.broadcast_to(each.min(1, keepdims=True), each.shape), each)
    found = [
        (np.minimum(base, max(table.inputs - span, 0)), span)
        for span in (lanes, 2 * lanes)
        for base in bases
        if (place - np.minimum(base, max(table.inputs - span, 0))[:, :, np.newaxis]).max() < span
    ]
    if not found:
        return None
    base, span = found[0]
    lane = place - base[:, :, np.newaxis]
    weight = np.ascontiguousarray(table.weight[rows].reshape(vectors, lanes, taps).transpose(0, 2, 1), dtype)
    lane = lane.astype(np.int64)
    if dtype.itemsize == 4:
        lane = lane.astype(np.int32)
    elif halves:
        lane = 2 * lane | (2 * lane + 1) << 32
    readable = int(base.max()) + span
    return span > lanes, readable, np.ascontiguousarray(base, np.int32), np.ascontiguousarray(lane), weight
