"""When a child that died is started again."""

from __future__ import annotations

from datetime import timedelta

FIRST = timedelta(seconds=0.5)
LONGEST = timedelta(seconds=30)
OUTGROWN = 76
"""Exit code (EX_PROTOCOL of sysexits.h): the ledger is too new for this code, and the next child, unless
somebody has brought newer code, would find the same."""
HEALTHY = timedelta(seconds=60)
"""A child that lived this long is forgiven its earlier deaths."""


def deaths_in_a_row(before: int, lived: timedelta) -> int:
    """Return how many deaths count after one more; the child lived for ``lived`` this time."""
    return 1 if lived >= HEALTHY else before + 1


def delay(deaths: int, longest: timedelta = LONGEST, *, code: int | None = None) -> timedelta:
    """Return how long to wait after the ``deaths``-th death in a row: 0.5 s, 1 s, 2 s … ``longest``.

    ``code`` is its exit code: what is outgrown is not tried again soon.
    """
    if code == OUTGROWN:
        return LONGEST
    doublings = min(max(deaths - 1, 0), 10)
    return min(FIRST * (1 << doublings), longest)
