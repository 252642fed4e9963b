"""Transposed convolutions that hurt, and the one check that all must pass."""

from __future__ import annotations

import numpy as np
from conv_cases import MODES, in_order, target
from tolerances import assert_close

from cyconv import _plan, reference
from cyconv import functional as F
from cyconv._transposed_geometry import conv_transpose_geometry


def arrays(x, weight, groups=1, bias=True, dtype="float64", order="C", seed=0):
    """Return (input, weight, bias or None) of these shapes."""
    rng = np.random.default_rng(seed)
    draw = [rng.standard_normal(shape).astype(dtype) for shape in (x, weight, weight[1] * groups)]
    draw[0] = ordered(draw[0], order, len(weight) - 2)
    return (*draw[:2], draw[2] if bias else None)


def ordered(x, order, rank):
    """Return ``x``, with a batch dimension or without, in that memory order."""
    return in_order(x, order) if x.ndim == rank + 2 else in_order(x[None], order)[0]


def has_order(x, order, rank):
    """Whether ``x`` lies in memory in that order."""
    return (x if order == "C" else np.moveaxis(x, -rank - 1, -1)).flags.c_contiguous


def geometry_of(
    x, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1, padding_mode="zeros", output_size=None
):
    rank = len(weight) - 2
    return conv_transpose_geometry(
        f"conv_transpose{rank}d",
        rank,
        x,
        weight,
        None,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        padding_mode,
        output_size,
    )


def check(x, weight, how, *, bias=True, dtype="float64", order="C", algorithm="direct"):
    """Output and gradients of one transposed convolution against the oracle, in the memory order of the input."""
    rank = len(weight) - 2
    name = f"conv_transpose{rank}d"
    given = arrays(x, weight, how.get("groups", 1), bias, dtype, order)
    wide = [a if a is None else a.astype(np.float64) for a in given]
    want = getattr(reference, name)(*wide, **how)
    grad = ordered(np.random.default_rng(1).standard_normal(want.shape).astype(dtype), order, rank)
    gradients = getattr(reference, f"{name}_backward")(grad.astype(np.float64), *wide, **how)
    try:
        got = getattr(F, name)(*given, **how, algorithm=algorithm)
        assert_close(got, want.astype(dtype), algorithm=algorithm if algorithm != "auto" else "winograd_f4")
        back = getattr(F, f"{name}_backward")(grad, *given, **how, algorithm=algorithm)
        assert len(back) == len(gradients) == 2 + bias
        # A bias gradient adds up numbers that cancel.
        scales = (None, None, max(np.sqrt(grad.size), 1))
        for mine, theirs, scale in zip(back, gradients, scales, strict=False):
            tolerance = "direct" if scale else algorithm if algorithm != "auto" else "winograd_f4"
            assert_close(mine, theirs.astype(dtype), algorithm=tolerance, scale=scale)
        if given[0].shape[-rank - 1] > 1 and np.prod(given[0].shape[-rank:]) > 1:
            assert has_order(got, order, rank)
            assert has_order(back[0], order, rank)
    except Exception as error:
        raise AssertionError(
            f"{error}\nagain: check({x}, {weight}, {how}, bias={bias}, dtype={dtype!r}, order={order!r}, "
            f"algorithm={algorithm!r})"
        ) from error


def suits(x, weight, how, algorithm, order):
    """Whether an algorithm computes this one in that memory order."""
    both = weight[0] == 1 or np.prod(x[2 - len(weight) :]) == 1  # contiguous in either sense, and taken as C
    return not _plan.obstacle(algorithm, geometry_of(x, weight, **how), order != "C" and not both)


def in_modes(dtype):
    """Return the cases whose input is read beyond its ends, each in one of the modes that repeat pixels, in turn."""
    found = {}
    for name, (x, weight, how) in table(dtype).items():
        extension = geometry_of(x, weight, **how).extension
        sizes = x[2 - len(weight) :]
        beyond = {"reflect": -1, "replicate": 10**9, "circular": 0}
        fit = [m for m in MODES if all(max(e) <= n + beyond[m] for e, n in zip(extension, sizes, strict=True))]
        if any(map(any, extension)):
            mode = fit[len(found) % len(fit)]
            found[f"{name}, {mode}"] = (x, weight, {**how, "padding_mode": mode})
    return found


def table(dtype):
    """Return transposed convolutions that hurt, by name: (input, weight, arguments); sizes follow the kernels."""
    kernel = target(dtype)
    lanes, tile, few = kernel.lanes, kernel.pixels, kernel.pixel_channels
    cases = {
        "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        "no images": ((0, 3, 4, 5), (3, 2, 2, 2), {"stride": 2}),
        "no batch dimension": ((3, 4, 5), (3, 2, 3, 2), {"stride": 2, "padding": 1}),
        "stride > kernel": ((2, 3, 4, 5), (3, 4, 2, 1), {"stride": (3, 4)}),
        "stride > output": ((2, 3, 1, 1), (3, 4, 3, 2), {"stride": 9, "padding": ((1, 0), (0, 0))}),
        "strides differ": ((2, 4, 5, 6), (4, 5, 3, 3), {"stride": (1, 2), "padding": 1}),
        "strides down": ((2, 4, 5, 2 * lanes), (4, 2, 3, 3), {"stride": (2, 1), "padding": 1}),
        "rows that nothing reaches": ((2, 3, 5, 4), (3, 4, 1, 1), {"stride": 3, "output_padding": 2}),
        "rows behind, dilation": ((2, 3, 5, 4), (3, 4, 1, 2), {"dilation": (2, 3), "output_padding": (1, 2)}),
        "rows behind, dilation, padding": (
            (2, 3, 5, 4),
            (3, 4, 2, 2),
            {"dilation": 4, "output_padding": 3, "padding": 2},
        ),
        "sides": ((2, 3, 5, 4), (3, 4, 3, 4), {"stride": 2, "padding": ((0, 2), (3, 1)), "output_padding": (0, 1)}),
        "padding > kernel": ((2, 3, 9, 8), (3, 4, 2, 2), {"padding": 3}),
        "same": ((2, 3, 5, 4), (3, 4, 3, 4), {"stride": (2, 3), "padding": "same"}),
        "same_lower": ((2, 3, 5, 4), (3, 4, 4, 4), {"stride": (2, 3), "padding": "same_lower", "dilation": 2}),
        "dilation and stride, even": ((2, 3, 5, 4), (3, 4, 3, 3), {"stride": 2, "dilation": (2, 4), "padding": 2}),
        "dilation and stride, coprime": ((2, 3, 5, 4), (3, 4, 3, 4), {"stride": (3, 2), "dilation": (2, 3)}),
        "groups": ((2, 6, 5, 4), (6, 3, 3, 3), {"groups": 3, "stride": 2}),
        "groups, several vectors each": ((1, 4, 3, 4), (4, 3 * lanes + 1, 2, 2), {"groups": 2, "stride": 2}),
        "depthwise, stride 1": ((2, lanes + 1, 6, 9), (lanes + 1, 1, 3, 3), {"groups": lanes + 1, "padding": 1}),
        "depthwise, no padding": ((1, 3, 4, lanes), (3, 1, 5, 5), {"groups": 3}),
        "depthwise, sides": ((1, 3, 7, lanes + 3), (3, 1, 7, 7), {"groups": 3, "padding": ((6, 0), (1, 5))}),
        "depthwise, dilation": (
            (2, 5, 7, 6),
            (5, 1, 2, 3),
            {"groups": 5, "dilation": (3, 2), "output_padding": (2, 1)},
        ),
        "depthwise, padding beyond the kernel": ((1, 3, 7, 8), (3, 1, 3, 3), {"groups": 3, "padding": 3}),
        "depthwise, two outputs each": ((2, 3, 6, 9), (3, 2, 3, 3), {"groups": 3, "padding": 1}),
        "depthwise, two outputs each, stride": ((2, 3, 6, 9), (3, 2, 3, 3), {"groups": 3, "stride": 2}),
        "depthwise, stride": ((2, 5, 6, lanes + 1), (5, 1, 4, 4), {"groups": 5, "stride": 2, "padding": 1}),
        "1 x 1": ((3, 7, 5, 7), (7, 2 * lanes + 3, 1, 1), {}),
        "1 x 1, few outputs": ((3, 7, 5, 7), (7, 3, 1, 1), {}),
        "1 x 1, stride": ((2, 5, 4, 3), (5, 7, 1, 1), {"stride": (2, 3)}),
        "primes": ((3, 11, 7, 13), (11, 23, 5, 3), {"stride": (2, 3), "padding": (3, 2), "output_padding": (1, 2)}),
        "row": ((2, 3, 1, 17), (3, 5, 1, 5), {"stride": (1, 2)}),
        "column": ((2, 3, 17, 1), (3, 5, 5, 1), {"stride": (2, 1)}),
        "long rows": ((1, 2, 2, 2 * _plan.direct.BLOCK_PIXELS), (2, lanes + 1, 1, 3), {"stride": (1, 2)}),
        "long rows, few outputs": ((1, 2, 2, 2 * _plan.direct.BLOCK_PIXELS + 3), (2, 1, 2, 3), {"stride": (1, 2)}),
        "several blocks of rows": ((1, 3, 40, 23), (3, 2 * lanes + 1, 4, 4), {"stride": 2, "padding": 1}),
        "several blocks of rows, few outputs": ((1, 3, 40, 23), (3, 2, 5, 4), {"stride": (3, 2), "padding": 1}),
        "many inputs, few pixels": ((1, 2100, 2, 3), (2100, 5, 2, 2), {"stride": 1}),
        "many outputs, few pixels": ((1, 3, 2, 2), (3, 9 * lanes + 1, 3, 3), {"stride": 2}),
        "3 x 3": ((2, 5, 6, 7), (5, lanes + 3, 3, 3), {"padding": 1}),
        "3 x 3, no padding": ((2, 5, 1, 1), (5, 3, 3, 3), {}),
        "3 x 3, sides": ((2, 3, 8, 9), (3, 4, 3, 3), {"padding": ((0, 3), (4, 1))}),
        "3 x 3, dilation": ((2, 3, 8, 9), (3, lanes + 1, 3, 3), {"dilation": (2, 3), "padding": (1, 4)}),
        "3 x 3, dilation, rows behind": ((2, 3, 6, 5), (3, 4, 3, 3), {"dilation": (2, 4), "output_padding": (1, 3)}),
        "5 x 5": ((2, 3, 8, 9), (3, lanes + 1, 5, 5), {"padding": ((2, 1), (4, 0))}),
        "signal": ((2, 3, 50), (3, 5, 7), {"stride": 3, "padding": 2, "output_padding": 1}),
        "signal, one output": ((2, 3, 50), (3, 1, 8), {"stride": 4, "padding": 2}),
        "signal, groups": ((2, 6, 9), (6, 2, 3), {"groups": 3, "dilation": 3, "output_padding": 2}),
        "signal, same": ((1, 3, 33), (3, lanes, 5), {"stride": 2, "padding": "same"}),
        "volume": ((2, 3, 4, 3, 5), (3, lanes + 1, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        "volume, 2 x 2 x 2": ((2, 3, 4, 3, 5), (3, 5, 2, 2, 2), {"stride": 2}),
        "volume, stride > kernel": (
            (1, 3, 3, 4, 2),
            (3, lanes, 2, 1, 2),
            {"stride": (4, 2, 3), "output_padding": (3, 1, 0)},
        ),
        "volume, stride of the depth": (
            (1, 3, 4, 5, 2 * lanes),
            (3, 2, 5, 3, 3),
            {"stride": (3, 1, 1), "padding": (2, 1, 1)},
        ),
        "volume, few outputs": ((1, 4, 4, 5, 2 * lanes), (4, 3, 4, 4, 4), {"stride": 2, "padding": 1}),
        "volume, dilation": (
            (1, 3, 4, 3, 3),
            (3, 4, 3, 2, 2),
            {"stride": (2, 1, 2), "dilation": (3, 2, 2), "output_padding": (2, 1, 0)},
        ),
        "volume, dilation even": (
            (1, 3, 4, 3, 3),
            (3, 4, 4, 2, 2),
            {"stride": (4, 2, 2), "dilation": (2, 2, 1), "padding": (1, 0, 0)},
        ),
        "volume, groups": ((1, 6, 3, 4, 5), (6, 2, 3, 3, 3), {"groups": 3, "stride": (2, 2, 1)}),
        "volume, 1 x 1 x 1": ((1, 3, 3, 4, 5), (3, 4, 1, 1, 1), {"stride": (2, 1, 1)}),
    }
    # So little to add up for one output that vectors over pixels are taken for any width of a vector.
    cases["one output"] = ((1, 1, 30, 4 * lanes), (1, 1, 2, 2), {"stride": 2})
    cases["volume, one output"] = ((1, 1, 3, 20, 4 * lanes), (1, 1, 4, 2, 2), {"stride": 2})
    cases["volume, one output, stride of the depth"] = ((1, 2, 3, 9, 4 * lanes), (2, 1, 4, 1, 1), {"stride": (2, 1, 1)})
    cases["many rows, one output"] = ((1, 1, 70, 8 * lanes), (1, 1, 2, 2), {"stride": 2})
    for k in (lanes - 1, lanes, lanes + 1, 2 * lanes, 2 * lanes + 1):
        cases[f"{k} outputs"] = ((2, 3, 5, 6), (3, k, 3, 4), {"stride": 2, "padding": 1})
    for width in (tile // 2, tile - 1, tile, tile + 1, 2 * tile + 1):
        cases[f"{width} columns"] = ((2, 3, 4, width), (3, lanes + 1, 2, 2), {"stride": 2})
    for width in (1, lanes - 1, lanes, lanes + 1, 3 * lanes + 2):
        cases[f"few outputs, {width} columns"] = ((2, 3, 5, width), (3, 2, 4, 4), {"stride": 2, "padding": (1, 0)})
    for k in range(1, 2 * few + 2):
        cases[f"{k} outputs over pixels"] = ((1, 2, 4, 3 * lanes + 1), (2, k, 3, 3), {"stride": 2, "output_padding": 1})
    return cases
