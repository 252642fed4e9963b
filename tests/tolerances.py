"""The one table of tolerances, by algorithm and dtype, each with its reason, and the assertion that applies it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Tolerance(NamedTuple):
    """Largest error allowed, relative to the largest magnitude of the expected array, and why it is that large."""

    float32: float
    float64: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "exact": Tolerance(0.0, 0.0, "values are only moved or compared: max pooling, relu, flatten, the same bits twice"),
    "pointwise": Tolerance(5e-7, 1e-15, "a few roundings in a row, nothing added up: activations, dropout, optimisers"),
    "sum": Tolerance(1e-6, 1e-14, "short sums of like terms: average pooling, softmax, losses"),
    "normalization": Tolerance(3e-6, 5e-14, "sums of thousands about their mean, in double across chunks"),
    "direct": Tolerance(4e-6, 1e-14, "sums of up to a few thousand products, cut into register-tile chunks"),
    "im2col": Tolerance(4e-6, 1e-14, "the same sums in the order of the BLAS at hand"),
    "depthwise": Tolerance(4e-6, 1e-14, "direct with one channel: shorter sums, held to no less"),
    "winograd_f2": Tolerance(4e-6, 1e-14, "F(2,3): its transforms only add and halve, as accurate as direct"),
    "winograd_f4": Tolerance(1e-5, 3e-14, "F(4,3), points 0, 11/16, 3/2: its transforms magnify roundings a few times"),
    "reference": Tolerance(1e-7, 1e-14, "added up in float64: one rounding to float32, or the sum's own in float64"),
}


def tolerance(algorithm: str, dtype: np.dtype | type) -> float:
    """Return the table's entry; KeyError for an unknown algorithm, ValueError for a dtype that has none."""
    row = TOLERANCES[algorithm]
    name = np.dtype(dtype).name
    if name not in ("float32", "float64"):
        raise ValueError(f"tolerances are for float32 and float64, not {name}")
    return float(getattr(row, name))


def relative_error(actual: np.ndarray, expected: np.ndarray, scale: float | None = None) -> float:
    """Return the largest finite |actual - expected| over `scale`, by default the largest finite |expected|.

    Relative to the largest and not to each: an output whose terms cancel keeps the rounding errors of the terms.
    """
    finite = np.isfinite(expected) & np.isfinite(actual)
    if not finite.any():
        return 0.0
    wanted = expected[finite].astype(np.float64)
    error = float(np.abs(actual[finite].astype(np.float64) - wanted).max())
    if scale is None:
        scale = float(np.abs(wanted).max())
    if error == 0:
        return 0.0
    return error / scale if scale > 0 else np.inf


def assert_close(actual: object, expected: object, *, algorithm: str = "direct", scale: float | None = None) -> None:
    """Assert that two arrays agree: dtype, shape, places of NaN and of each infinity, and values to the tolerance.

    Parameters
    ----------
    actual, expected : ndarray or NumPy scalar, float32 or float64
    algorithm : str
        Row of `TOLERANCES`.
    scale : float, optional
        What the error is relative to, where the largest |expected| does not say it (a sum that cancels to nothing).
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    for name, value in (("actual", actual), ("expected", expected)):
        assert isinstance(value, np.ndarray | np.generic), f"{name} is no array but a {type(value).__name__}: {value!r}"
    a, e = np.asarray(actual), np.asarray(expected)
    assert a.dtype == e.dtype, f"dtype {a.dtype}, expected {e.dtype}"
    assert a.shape == e.shape, f"shape {a.shape}, expected {e.shape}"
    limit = tolerance(algorithm, a.dtype)
    for what, where in (("NaN", np.isnan), ("+inf", np.isposinf), ("-inf", np.isneginf)):
        differ = where(a) != where(e)
        assert not differ.any(), (
            f"{what} differs at {differ.sum()} of {a.size} places, first at index {_first(differ)}: "
            f"{a[_first(differ)]}, expected {e[_first(differ)]}"
        )
    error = relative_error(a, e, scale)
    if error > limit:
        gap = np.abs(np.where(np.isfinite(e), a, 0) - np.where(np.isfinite(e), e, 0))
        worst = _first(gap == gap.max())
        raise AssertionError(
            f"error {error:.2e} of the largest value, allowed {limit:.0e} ({algorithm}, {a.dtype}); "
            f"worst at index {worst}: {a[worst]}, expected {e[worst]}"
        )


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])
