"""How many tasks may a worker take now? What it can finish in about 100 ms, and its idle threads."""

from __future__ import annotations

from dataclasses import dataclass

HORIZON_S = 0.1
"""Tasks claimed ahead wait for this worker even if another is idle: 64 ahead made 1 ms tasks wait
8 s beside an idle worker (CORRECTNESS 14)."""
MEMORY_S = 0.15
"""Over which time the pace is averaged: longer makes a worker slow to find out that it is fast."""
LARGEST = 256
"""Tasks in one claim: more makes the transaction long without making it cheaper per task."""


def target(*, threads: int, rate: float) -> int:
    """Return how many unfinished tasks a worker should have; ``rate`` is tasks finished per second."""
    return threads + min(LARGEST, int(rate * HORIZON_S))


def budget(*, threads: int, rate: float, held: int) -> int:
    """Return how many tasks to claim now; 0 until a claim is worth its transaction.

    ``held`` counts what the worker has claimed and not finished.
    """
    if held > enough(threads=threads, rate=rate):
        return 0
    return max(0, target(threads=threads, rate=rate) - held)


def enough(*, threads: int, rate: float) -> int:
    """Return with how many tasks in hand a worker need not claim: half of what it should have."""
    return max(threads - 1, target(threads=threads, rate=rate) // 2)


@dataclass(slots=True)
class Pace:
    """How fast tasks have been finishing: a moving average over the last moments."""

    rate: float = 0.0
    _count: int = 0
    _since: float = 0.0

    def finished(self) -> None:
        """Count one."""
        self._count += 1

    def at(self, now: float) -> float:
        """Return tasks per second as of ``now``, monotonic seconds."""
        span = now - self._since
        if span >= HORIZON_S / 2:
            weight = min(1.0, span / MEMORY_S)
            self.rate += (self._count / span - self.rate) * weight
            self._count, self._since = 0, now
        return self.rate
