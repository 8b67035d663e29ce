"""What ran, and when: memory that the parent and all processes of a contestant share.

A file that each of them maps. Counting a run costs 0.3 µs and never gives up the interpreter's lock;
writing a line to a file would, and would slow down workers with threads more than others.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from pathlib import Path

SLOTS = 8192
"""Threads that may count, in all processes: each has a counter of its own, so none needs a lock."""
_WORD = 8


class Tally:
    """Counters of runs and two instants for each number, all of them monotonic seconds.

    ``since`` is when the wait for a task's start begins, ``started`` when its actor was entered.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._path = path
        words = memoryview(self._map)
        self.capacity = (len(words) // _WORD - SLOTS - 1) // 2
        begin = (SLOTS + 1) * _WORD
        middle = begin + self.capacity * _WORD
        self._counts = words[:begin].cast("Q")
        self.since = words[begin:middle].cast("d")
        self.started = words[middle:].cast("d")
        self._here = threading.local()

    @classmethod
    def create(cls, path: Path, capacity: int) -> Tally:
        """Make a new one for numbers below ``capacity``; an older one at ``path`` is replaced."""
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate((SLOTS + 1 + 2 * capacity) * _WORD)
        return cls(path)

    def ran(self, number: int) -> None:
        """Note that the task ``number`` runs now. Called by the task, in whatever process it is."""
        self.started[number] = time.monotonic()
        try:
            slot = self._here.slot
        except AttributeError:
            slot = self._here.slot = self._take_slot()
        self._counts[slot] += 1

    def total(self) -> int:
        """Return how many runs there have been."""
        return sum(self._counts[1 : self._counts[0] + 1])

    def _take_slot(self) -> int:
        with self._path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            self._counts[0] += 1
            return self._counts[0]


_tally: Tally | None = None


def ran(number: int) -> None:
    """Note a run in the tally that the environment names; what every contestant's task does."""
    global _tally  # noqa: PLW0603 - mapped when the first task runs, after every fork
    if _tally is None:
        _tally = Tally(Path(os.environ["BENCH_TALLY"]))
    _tally.ran(number)
