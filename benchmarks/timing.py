"""Timing of several contenders side by side: round robin, warmed up, median over the rounds."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from .machine import preemptions


@dataclass(frozen=True)
class Contender:
    """Something to time: ``run()`` does the work once, ``read(result)`` gives its results as NCHW NumPy arrays.

    Both happen within ``context()``, which sets the number of threads and whatever else the library wants around it.
    """

    run: Callable[[], Any]
    read: Callable[[Any], tuple[np.ndarray, ...]]
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def answer(self) -> tuple[np.ndarray, ...]:
        """The results of one run."""
        with self.context():
            return self.read(self.run())


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``rounds`` samples of at least ``sample`` seconds each, after ``warm`` seconds."""

    rounds: int = 7
    sample: float = 0.020
    warm: float = 0.005
    # Workers of the contender before (libgomp, TBB, BLAS) go on spinning for up to 25 ms after their last task, and
    # would take a core from the next one; a pause lets them fall asleep.
    settle: float = 0.030
    # How many seconds of a contest may go into repeating samples during which other processes took the CPU away.
    patience: float = 10.0


FULL = Effort()
QUICK = Effort(rounds=3, sample=0.006, warm=0.003, patience=3.0)


@dataclass
class Timings:
    """Seconds per call in each round, and in how many of all samples other processes interfered in the end."""

    samples: dict[str, list[float]]
    disturbed: int = 0


def _calls(run: Callable[[], Any], seconds: float) -> int:
    """How many calls fill this time, at least one; they are made on the way."""
    start = time.perf_counter()
    done = 0
    while True:
        run()
        done += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return done


def _sample(run: Callable[[], Any], effort: Effort, settle: bool) -> tuple[float, bool]:
    """Seconds per call, and whether the threads were left alone (some kernel work passes for that)."""
    if settle:
        time.sleep(effort.settle)
    start = time.perf_counter()
    warm = _calls(run, effort.warm)
    each = (time.perf_counter() - start) / warm
    calls = max(1, round(effort.sample / each))
    before, start = preemptions(), time.perf_counter()
    for _ in range(calls):
        run()
    spent = time.perf_counter() - start
    return spent / calls, preemptions() - before <= 2 + 20 * spent


def measure(contenders: Mapping[str, Contender], effort: Effort, *, settle: bool = True, seed: int = 0) -> Timings:
    """Time each contender once per round, in an order drawn anew, so that a change of the machine's state meets all.

    A sample that other processes disturbed is taken again after a while, as long as the patience lasts.
    """
    order = np.random.default_rng(seed)
    names = list(contenders)
    found = Timings({name: [] for name in names})
    patience = effort.patience
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(effort.rounds):
            for i in order.permutation(len(names)):
                contender = contenders[names[i]]
                while True:
                    start = time.perf_counter()
                    with contender.context():
                        seconds, alone = _sample(contender.run, effort, settle)
                    if alone or patience <= 0:
                        break
                    time.sleep(0.1)
                    patience -= time.perf_counter() - start
                found.samples[names[i]].append(seconds)
                found.disturbed += not alone
    finally:
        if collecting:
            gc.enable()
    return found
