"""Which limit of the machine binds a layer: its multiply-adds, or the numbers that it must move.

S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from . import machine
from .contest import Row

#: Arrays that no cache holds have at least so many times the size of the last-level cache.
_BEYOND_CACHE = 4


@dataclass(frozen=True)
class Shares:
    """What share of each limit a layer reached; None where it is not known.

    ``cached``: its data fit into the last-level cache, and the memory limit is that of copying arrays of their size.
    """

    fma: float | None = None
    memory: float | None = None
    cached: bool = False

    @property
    def limit(self) -> str | None:
        """The limit that binds: the one of which it reached the larger share."""
        if self.fma is None:
            return None
        return "memory" if self.memory is not None and self.memory > self.fma else "fma"

    @property
    def share(self) -> float | None:
        """The share of the limit that binds."""
        return self.memory if self.limit == "memory" else self.fma

    def as_json(self) -> dict[str, Any]:
        return {
            "fma share": self.fma,
            "memory share": self.memory,
            "memory share is of": "cache" if self.cached else "memory",
            "limit": self.limit,
            "limit share": self.share,
        }


class Roofline:
    """The limits of this machine in this run, for one dtype: the highest values seen so far count.

    Attributes
    ----------
    peak : dict
        FLOP/s by number of threads.
    bandwidth : dict
        Bytes read and written a second by (number of threads, bytes of all arrays).
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.peak: dict[int, float] = {}
        self.bandwidth: dict[tuple[int, int], float | None] = {}

    def look(self, threads: int) -> str:
        """Measure once more, and say what was found."""
        peak, how = machine.fma_peak(threads, self.dtype)
        self.peak[threads] = max(peak, self.peak.get(threads, 0.0))
        text = f"FMA peak with {threads} threads {self.peak[threads] / 1e9:.0f} GFLOP/s ({how})"
        copied = self._copied(threads, _BEYOND_CACHE * machine.last_level_cache(), again=True)
        return text if copied is None else f"{text}, copying {copied / 1e9:.1f} GB/s"

    def _copied(self, threads: int, size: int, again: bool = False) -> float | None:
        key = threads, size
        if again or key not in self.bandwidth:
            found = machine.copy_bandwidth(threads, size)
            self.bandwidth[key] = max((x for x in (found, self.bandwidth.get(key)) if x is not None), default=None)
        return self.bandwidth[key]

    def shares(self, row: Row, name: str = "cyconv") -> Shares:
        """The shares that this contender reached."""
        seconds = row.time(name)
        if seconds is None or not row.flops:
            return Shares()
        peak = self.peak.get(row.threads)
        cache = machine.last_level_cache()
        cached = row.bytes <= cache
        # Copies of the next power of two: a few sizes are enough, and small arrays lie in nearer caches.
        size = 1 << math.ceil(math.log2(max(row.bytes, 16384))) if cached else _BEYOND_CACHE * cache
        bandwidth = self._copied(row.threads, min(size, cache) if cached else size)
        return Shares(
            row.flops / seconds / peak if peak else None,
            row.bytes / seconds / bandwidth if bandwidth else None,
            cached,
        )

    def as_json(self) -> dict[str, Any]:
        copies = [{"threads": t, "bytes": size, "bytes/s": rate} for (t, size), rate in sorted(self.bandwidth.items())]
        return {"fma peak": self.peak, "copying": copies, "last-level cache": machine.last_level_cache()}
