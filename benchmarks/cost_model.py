"""The cost model of ``auto`` (cyconv/_plan/choice.py) beside measured times: its constants by least squares.

The model says time = cost / rate, with a cost in multiply-adds that is linear in the constants (in 1 / BLAS_SHARE). So
time = (base + sum of constant x feature) / rate + time of a call, and what each constant is multiplied with is found by
asking the model itself, with one constant 1 and all others 0: nothing of its formula is repeated here.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

#: Names in choice.py; those in brackets are keys of a dictionary.
CONSTANTS = (
    "TRANSFORM",
    "WEIGHT_CACHED",
    "WEIGHT_FROM_MEMORY",
    "PACK[direct]",
    "PACK[winograd_f2]",
    "PACK[winograd_f4]",
    "BLAS_SHARE",
)
_RESAMPLED = 100


def _choice() -> Any:
    return importlib.import_module("cyconv._plan.choice")


def _inverse(name: str, value: float) -> float:
    """Between a constant and what the cost is linear in."""
    if name != "BLAS_SHARE":
        return value
    return 1 / value if value else math.inf


def in_force() -> dict[str, float]:
    """The constants as they stand in choice.py."""
    module, found = _choice(), {}
    for name in CONSTANTS:
        attribute, _, key = name.partition("[")
        value = getattr(module, attribute)
        found[name] = float(value[key.rstrip("]")] if key else value)
    return found


@contextlib.contextmanager
def constants(values: Mapping[str, float]) -> Iterator[None]:
    """Context manager: the model has these constants inside; those not named stay."""
    module = _choice()
    before = {name.partition("[")[0]: getattr(module, name.partition("[")[0]) for name in values}
    try:
        for name, value in values.items():
            attribute, _, key = name.partition("[")
            setattr(module, attribute, {**getattr(module, attribute), key.rstrip("]"): value} if key else value)
        yield
    finally:
        for attribute, value in before.items():
            setattr(module, attribute, value)


@dataclass(frozen=True)
class Question:
    """What the model is asked: the cost of one algorithm on one convolution."""

    algorithm: str
    geometry: Any
    lanes: int
    itemsize: int
    fresh: bool

    def cost(self) -> float:
        """Multiply-adds, with the constants in force."""
        return float(_choice().cost(self.algorithm, self.geometry, self.lanes, self.itemsize, self.fresh))

    def features(self) -> tuple[float, np.ndarray]:
        """(cost with no constant, what each constant is multiplied with).

        Raises
        ------
        ValueError
            The cost is no longer linear in these constants.
        """
        none = {name: _inverse(name, 0.0) for name in CONSTANTS}
        with constants(none):
            base = self.cost()
        found = np.empty(len(CONSTANTS))
        for i, name in enumerate(CONSTANTS):
            with constants({**none, name: 1.0}):
                found[i] = self.cost() - base
        now = np.array([_inverse(name, value) for name, value in in_force().items()])
        if not math.isclose(base + float(found @ now), self.cost(), rel_tol=1e-6):
            raise ValueError(f"the cost of {self.algorithm} in choice.py is not linear in {', '.join(CONSTANTS)}")
        return base, found


@dataclass(frozen=True)
class Fit:
    """Constants that explain measured times best.

    Attributes
    ----------
    values : dict
        The constants; NaN where no measured case depends on one.
    spread : dict
        10 and 90 % of the constants that resampled cases give.
    rate, call : float
        Multiply-adds a second; seconds of a call that computes nothing.
    ratios : dict
        By algorithm: median of measured over expected time.
    error : float
        Root of the mean squared relative difference between expected and measured times.
    """

    values: dict[str, float]
    spread: dict[str, tuple[float, float]]
    rate: float
    call: float
    ratios: dict[str, float]
    error: float

    def usable(self) -> dict[str, float]:
        """The constants to choose with: those that were not seen stay as they are, none is zero."""
        return {name: value for name, value in self.values.items() if value > 0}


def _solve(columns: np.ndarray) -> np.ndarray:
    """Coefficients, none negative, with which the columns add up to ones; NaN where a column is empty."""
    found = np.full(columns.shape[1], np.nan)
    seen = columns.any(axis=0)
    # Columns of like size: some are 1e9 multiply-adds, others a microsecond.
    scale = np.linalg.norm(columns[:, seen], axis=0)
    solution = nnls(columns[:, seen] / scale, np.ones(len(columns)))[0]
    # What rounding leaves of a zero is none.
    found[seen] = np.where(solution > 1e-9 * solution.max(initial=0.0), solution, 0.0) / scale
    return found


def _constants_of(solution: np.ndarray) -> np.ndarray:
    """From (1 / rate, constants / rate, call) to the constants; NaN where the times do not tell."""
    if not solution[0] > 0:
        return np.full(len(CONSTANTS), np.nan)
    found = np.array([_inverse(name, x) for name, x in zip(CONSTANTS, solution[1:-1] / solution[0], strict=True)])
    return np.where(np.isfinite(found), found, np.nan)


def _spread(values: np.ndarray) -> tuple[float, float]:
    """10 and 90 % of those that are known."""
    known = values[~np.isnan(values)]
    return (float(np.quantile(known, 0.1)), float(np.quantile(known, 0.9))) if len(known) else (math.nan, math.nan)


def fit(questions: Sequence[Question], seconds: Sequence[float], seed: int = 0) -> Fit:
    """Least squares of relative differences, so that short and long layers count alike."""
    asked = [question.features() for question in questions]
    times = np.asarray(seconds)
    terms = np.column_stack([[base for base, _ in asked], [row for _, row in asked], np.ones(len(asked))])
    columns = terms / times[:, None]
    solution = _solve(columns)
    order = np.random.default_rng(seed)
    resampled = np.array(
        [_constants_of(_solve(columns[order.integers(0, len(columns), len(columns))])) for _ in range(_RESAMPLED)]
    )
    # Expected over measured.
    share = columns @ np.nan_to_num(solution)
    names = np.array([question.algorithm for question in questions])
    return Fit(
        dict(zip(CONSTANTS, map(float, _constants_of(solution)), strict=True)),
        {name: _spread(resampled[:, i]) for i, name in enumerate(CONSTANTS)},
        float(1 / solution[0]) if solution[0] > 0 else math.inf,
        float(solution[-1]),
        {str(name): 1 / max(float(np.median(share[names == name])), 1e-9) for name in dict.fromkeys(names)},
        float(np.sqrt(np.mean((share - 1) ** 2))),
    )
