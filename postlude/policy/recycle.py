"""When has a worker process run for long enough? By its tasks, or by the memory that it holds by now."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

SPREAD = 10
"""Siblings that were started together must not be replaced together: up to a tenth is taken off."""


@dataclass(frozen=True, slots=True)
class Limits:
    """After how many tasks, and at how many bytes of resident memory; 0: never."""

    tasks: int = 0
    rss: int = 0


@dataclass(frozen=True, slots=True)
class Wear:
    """What a process has on its clock: tasks that it has settled, memory now and when it started."""

    tasks: int
    rss: int
    rss_at_start: int


def staggered(limits: Limits, incarnation: str) -> Limits:
    """Return the limits of one incarnation: of the tasks, 90 to 100 per cent, by its id."""
    off = crc32(incarnation.encode()) % (limits.tasks // SPREAD + 1)
    return Limits(limits.tasks - off, limits.rss)


def verdict(limits: Limits, wear: Wear) -> str | None:
    """Say why the process must be replaced, in words for the log; None while it need not be."""
    if limits.tasks and wear.tasks >= limits.tasks:
        return f"it has run {wear.tasks} tasks"
    if limits.rss and wear.rss >= limits.rss and not is_futile(limits, wear):
        return f"it holds {wear.rss} bytes of memory"
    return None


def is_futile(limits: Limits, wear: Wear) -> bool:
    """Say whether a process was over the limit when it started: so would be the one that replaces it."""
    return bool(limits.rss) and wear.rss_at_start >= limits.rss
