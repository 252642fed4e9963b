"""What the user may set, in one place: threads, precision, workspace limit, forced algorithm.

Each setting comes from the environment, then from its setter, then from the innermost context manager. ``epoch``
grows with every change that a plan depends on, so that plans made earlier are made again.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ._geometry import _index, check_algorithm
from .kernels import _threads

#: Largest workspace of one thread, in bytes, unless asked otherwise.
DEFAULT_WORKSPACE = 64 << 20
#: Below this many floating-point operations (or moved elements) a second thread costs more than it brings: starting a
#: parallel region takes 0.5 to 2 microseconds while the team is awake, in which one core does about this much.
SERIAL_WORK = 400_000

PRECISIONS = ("high", "strict")


def _quota_of_cgroup() -> float:
    """Return the number of processors that the control group grants, or infinity."""
    for path, quota, period in (
        ("/sys/fs/cgroup/cpu.max", None, None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        try:
            words = Path(path).read_text().split()
            if quota is None:
                granted, every = words[0], words[1]
            else:
                granted, every = words[0], Path(str(period)).read_text().strip()
            if granted not in ("max", "-1"):
                return float(granted) / float(every)
        except (OSError, ValueError, IndexError, ZeroDivisionError):
            continue
    return math.inf


def _default_threads() -> int:
    """Return min(affinity, control group's quota, OMP_NUM_THREADS), at least 1."""
    if not _threads.OPENMP:
        return 1
    try:
        affinity = len(os.sched_getaffinity(0))
    except AttributeError:
        affinity = os.cpu_count() or 1
    limit = min(float(affinity), max(1.0, _quota_of_cgroup()))
    with contextlib.suppress(ValueError):
        limit = min(limit, int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0]))
    return max(1, int(limit))


class _State:
    threads = _default_threads()
    serial_only = False
    workspace = DEFAULT_WORKSPACE
    precision = "high"
    algorithm = "auto"
    epoch = 0


_state = _State()
_listeners: list[Callable[[], None]] = []


def listen(listener: Callable[[], None]) -> None:
    """Call ``listener`` now and after every change of a setting: for code that cannot ask, without the interpreter."""
    _listeners.append(listener)
    listener()


def _changed() -> None:
    for listener in _listeners:
        listener()


def _after_fork_in_child() -> None:
    # libgomp's threads did not survive the fork, and it would wait for them: a child works alone.
    if not _threads.FORK_SAFE:
        _state.serial_only = True
        _changed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def get_num_threads() -> int:
    """
    Return the number of threads that large operations use.

    Returns
    -------
    int
        1 where the build has no OpenMP, and in a process forked from one that used GNU OpenMP.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.get_num_threads() >= 1
    True
    """
    return 1 if serial_only() else _state.threads


def serial_only() -> bool:
    """Whether this process has one thread only, whatever was set."""
    return _state.serial_only or not _threads.OPENMP


def set_num_threads(n: int) -> None:
    """
    Set the number of threads that large operations use.

    Results do not depend on it, bit for bit. A build without OpenMP, and a process forked from one that used
    GNU OpenMP, go on with one thread.

    Parameters
    ----------
    n : int
        1 to 1024.

    Raises
    ------
    TypeError
        `n` is no int.
    ValueError
        `n` is out of range.

    Examples
    --------
    >>> import cyconv
    >>> before = cyconv.get_num_threads()
    >>> cyconv.set_num_threads(1)
    >>> cyconv.get_num_threads()
    1
    >>> cyconv.set_num_threads(before)
    """
    _state.threads = _checked_threads(n)
    _changed()


def _checked_threads(n: int) -> int:
    number = _index(n)
    if number is None:
        raise TypeError(f"number of threads: expected an int, got {n!r}")
    if not 1 <= number <= 1024:
        raise ValueError(f"number of threads: expected 1 to 1024, got {n}")
    return number


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """
    Context manager: use ``n`` threads inside.

    The number is that of the whole process: blocks in several Python threads at once see each other's.

    Parameters
    ----------
    n : int
        1 to 1024.

    Yields
    ------
    None
        Behind it the number is what it was.

    Raises
    ------
    TypeError
        `n` is no int.
    ValueError
        `n` is out of range.

    Examples
    --------
    >>> import cyconv
    >>> with cyconv.threads(1):
    ...     cyconv.get_num_threads()
    1
    """
    before = _state.threads
    _state.threads = _checked_threads(n)
    _changed()
    try:
        yield
    finally:
        _state.threads = before
        _changed()


def threads_for(work: float) -> int:
    """Return the number of threads for ``work`` floating-point operations: 1 where a second one does not pay.

    Fewer, too, while threads of other libraries keep processors busy; the threads are awake.
    """
    if work < SERIAL_WORK:
        return 1
    count = get_num_threads()
    return _threads.team(count, work) if count > 1 else count


def epoch() -> int:
    """Return a number that changes whenever a setting that plans depend on does."""
    return _state.epoch


def algorithm() -> str:
    """Return the algorithm that convolutions use where they are asked for ``"auto"``."""
    return _state.algorithm


def max_workspace() -> int:
    """Return the largest workspace of one thread, in bytes."""
    return _state.workspace


def precision() -> str:
    """Return ``"high"`` (every algorithm within 1e-5) or ``"strict"`` (direct summation only)."""
    return _state.precision


@contextlib.contextmanager
def configure(
    *, algorithm: str | None = None, max_workspace: int | None = None, precision: str | None = None
) -> Iterator[None]:
    """
    Context manager: settings of the engine inside; those not named stay.

    They are those of the whole process: blocks in several Python threads at once see each other's.

    Parameters
    ----------
    algorithm : {"auto", "direct", "winograd_f2", "winograd_f4", "depthwise", "im2col", "reference"}, optional
        What convolutions use that were asked for ``"auto"``.
    max_workspace : int, optional
        Largest workspace of one thread, in bytes.
    precision : {"high", "strict"}, optional
        "high": relative errors up to 1e-5 in float32; "strict": direct summation only.

    Yields
    ------
    None
        Behind it the settings are what they were.

    Raises
    ------
    ValueError
        A value is none of these.

    Examples
    --------
    >>> import cyconv
    >>> with cyconv.configure(algorithm="direct", precision="strict"):
    ...     pass
    """
    before = (_state.algorithm, _state.workspace, _state.precision)
    # All checks first: where one fails, nothing has changed.
    if algorithm is not None:
        check_algorithm("configure", algorithm)
    if max_workspace is not None:
        if isinstance(max_workspace, bool) or not hasattr(max_workspace, "__index__"):
            raise ValueError(f"max_workspace: expected an int of at least 65536 bytes, got {max_workspace!r}")
        max_workspace = max_workspace.__index__()
        if not 1 << 16 <= max_workspace <= sys.maxsize:
            bound = "at least 65536" if max_workspace < 1 << 16 else f"at most {sys.maxsize}"
            raise ValueError(f"max_workspace: expected an int of {bound} bytes, got {max_workspace}")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if algorithm is not None:
        _state.algorithm = algorithm
    if max_workspace is not None:
        _state.workspace = max_workspace
    if precision is not None:
        _state.precision = precision
    _state.epoch += 1
    _changed()
    try:
        yield
    finally:
        _state.algorithm, _state.workspace, _state.precision = before
        _state.epoch += 1
        _changed()
