"""Which tasks a worker's threads have begun, where whoever buries it can read that.

It lies in the worker's lock file, mapped into memory: to note a start is to store one number, which
outlives the process, whatever kills it. A machine that crashes may lose it, so a board counts only
within the boot in which it was written.
"""

from __future__ import annotations

import mmap
import os
import threading
from itertools import count
from pathlib import Path
from typing import IO

_HEAD = 64
"""Bytes for the kernel's boot id, padded with zeros; the numbers follow."""
_SIZE = 4096
_SLOTS = (_SIZE - _HEAD) // 8
_UNKNOWN = -1
"""In the first slot: there are more threads than slots, so the others do not tell everything."""


class Board:
    """One number for each thread: the task that it has begun last. Any thread may call any method."""

    def __init__(self, memory: mmap.mmap | bytearray | None = None) -> None:
        self._memory = memory or bytearray(_SIZE)
        self._slots = memoryview(self._memory)[_HEAD:].cast("q")
        self._turn = count(1)
        self._own = threading.local()

    @classmethod
    def on(cls, file: IO[bytes]) -> Board:
        """Return a board in the empty ``file``, open for both; one nobody can read if that cannot be.

        To be called before the file is locked: a map holds a descriptor of its own, and where a map
        cannot be made, closing that one would drop the lock. So it must live as long as the lock, too.
        """
        try:
            # Written, not merely made long: a full disk shows here, and not when a task begins.
            os.pwrite(file.fileno(), bytes(_SIZE), 0)
            return cls(mmap.mmap(file.fileno(), _SIZE))
        except (OSError, ValueError):  # ValueError: not all of it was written
            return cls()

    def open(self) -> None:
        """Let what is noted here be read from now on: until then it tells nothing."""
        self._memory[:_HEAD] = _boot_id() or bytes(_HEAD)

    def enter(self, task: int) -> None:
        """Note that this thread is about to do something for the task with this ``seq``; 0: for none."""
        try:
            slot = self._own.slot
        except AttributeError:
            slot = self._own.slot = self._next_slot()
        self._slots[slot] = task if slot else _UNKNOWN

    def _next_slot(self) -> int:
        """Return a slot for this thread; the first one when there is none left."""
        slot = next(self._turn)
        return slot if slot < _SLOTS else 0


def read(path: Path) -> frozenset[int] | None:
    """Return what the threads have begun last; None if nobody knows.

    Only once the process that has locked ``path`` is dead or silent, and never in that process itself:
    closing the file would drop its lock.
    """
    try:
        found = path.read_bytes()
    except OSError:
        return None
    boot = _boot_id()
    if len(found) != _SIZE or not boot or found[:_HEAD] != boot:
        return None
    unknown, *slots = memoryview(found)[_HEAD:].cast("q")
    return None if unknown else frozenset(slots) - {0}


def _boot_id() -> bytes | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip().ljust(_HEAD, b"\0")
    except OSError:
        return None
