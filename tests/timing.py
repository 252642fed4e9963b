"""Ratios of times by the clock on the wall, which neighbours on a shared machine stretch: one rule for all of them.

A measurement repeats until it is within the bound that the library holds to, or ATTEMPTS times, and the best is judged.
Where the threads of two libraries compete for the processors, the scheduler of a shared machine decides, and not for
one attempt alone: there the bound itself must be held with CYCONV_TIMING=strict, on a machine with nothing beside it,
which is how the figures of docs/reliability.md come about. Without, what fails is halfway, in factors, to the failure
that the test guards against: more than neighbours do, less than the failure.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

ATTEMPTS = 12


def strict() -> bool:
    """Whether bounds are asked for as they are."""
    value = os.environ.get("CYCONV_TIMING", "")
    assert value in ("", "strict"), f"CYCONV_TIMING is 'strict' or not set, not {value!r}"
    return value == "strict"


def limit(bound: float, failure: float) -> float:
    """What a ratio must keep to here: the bound itself, or halfway to what the failure was found to cost."""
    assert 1 <= bound < failure
    return bound if strict() else math.sqrt(bound * failure)


def best_of(measure: Callable[[], float], bound: float) -> float:
    """Return the first ratio within the bound, or the best of all attempts."""
    best = math.inf
    for _ in range(ATTEMPTS):
        best = min(best, measure())
        if best <= bound:
            break
    return best


def assert_ratio(measure: Callable[[], float], bound: float, what: str) -> None:
    """Fail when the best of the measured ratios is more than the bound."""
    found = best_of(measure, bound)
    assert found <= bound, f"{what}: {found:.2f} times as much, at most {bound:.2f}"


def seconds(function: Callable[[], Any]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratio_in_turns(one: Callable[[], Callable[[], Any]], other: Callable[[], Callable[[], Any]], calls: int) -> float:
    """Return the ratio of the medians of calls that take turns; each is prepared by a call that returns it."""
    times = [[seconds(prepare()) for prepare in (one, other)] for _ in range(calls)]
    return statistics.median(t[0] for t in times) / statistics.median(t[1] for t in times)
