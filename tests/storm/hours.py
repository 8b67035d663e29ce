"""For how long there was anybody who could have done it: spans of time, in microseconds. Pure.

A worker that is frozen runs nothing, and while somebody is frozen who has the ledger's write lock,
nobody does; what is left is the time that a promise of ten seconds is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SECOND = 1_000_000
Span = tuple[int, int]


@dataclass
class Freeze:
    """Processes that were stopped from ``began`` to ``ended``; ``locks``: with the ledger's write lock."""

    pids: frozenset[int]
    began: int
    locks: bool
    ended: int


@dataclass
class Shift:
    """A process that could do something from ``began`` to ``ended``, had nobody stopped it."""

    pid: int
    began: int
    ended: int


class Hours:
    """The time in which at least one of ``shifts`` was there, awake and let write."""

    def __init__(self, shifts: Iterable[Shift], freezes: Iterable[Freeze]) -> None:
        locked = [(freeze.began, freeze.ended) for freeze in freezes if freeze.locks]
        awake: list[Span] = []
        for shift in shifts:
            own = [(f.began, f.ended) for f in freezes if shift.pid in f.pids]
            awake += without([(shift.began, shift.ended)], own)
        self._spans = without(union(awake), locked)

    def between(self, began: int, ended: int) -> float:
        """Return how many seconds of it lie between two instants."""
        overlaps = (min(ended, end) - max(began, begin) for begin, end in self._spans)
        return sum(overlap for overlap in overlaps if overlap > 0) / SECOND


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same time in spans that do not overlap, in their order."""
    found: list[Span] = []
    for began, ended in sorted(spans):
        if found and began <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], ended))
        else:
            found.append((began, ended))
    return found


def without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """Return what is left of ``spans``."""
    left = list(spans)
    for began, ended in holes:
        pieces = [
            piece
            for span in left
            for piece in ((span[0], min(span[1], began)), (max(span[0], ended), span[1]))
        ]
        left = [piece for piece in pieces if piece[0] < piece[1]]
    return left
