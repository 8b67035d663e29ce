"""Raising an exception in a worker thread, but only while it is inside its actor.

CPython can set an exception for another thread to raise at its next bytecode. One that arrives after
the actor has returned strikes whatever the thread does next: stock Dramatiq loses the thread, and the
message, to it. Here one lock decides: an interrupt is set only while the thread is inside, and
withdrawn when the thread leaves before it has struck. C code that does not return cannot be
interrupted at all.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dramatiq.threading import raise_thread_exception

if TYPE_CHECKING:
    from dramatiq.threading import Interrupt


@dataclass(slots=True, eq=False)
class _Visits:
    """The visits of one thread to actors; its lock keeps a strike from coming after the visit."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0
    inside: bool = False
    struck: bool = False


class Interrupts:
    """Which worker threads are inside an actor; any thread may call any method."""

    def __init__(self) -> None:
        self._visits: dict[int, _Visits] = {}

    def enter(self) -> int:
        """Note that the calling thread is about to run an actor; returns the number of this visit."""
        thread = threading.get_ident()
        visits = self._visits.get(thread)
        if visits is None:
            visits = self._visits[thread] = _Visits()
        with visits.lock:
            visits.number += 1
            visits.inside = True
            return visits.number

    def leave(self) -> None:
        """Note that the actor has ended; an interrupt that has not struck yet is withdrawn."""
        thread = threading.get_ident()
        visits = self._visits.get(thread)
        if visits is None:
            return
        with visits.lock:
            visits.inside = False
            if visits.struck:
                visits.struck = False
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)

    def strike(self, thread: int, error: type[Interrupt], visit: int | None = None) -> bool:
        """Raise ``error`` in ``thread`` if it is inside (on that ``visit``) and was not struck yet."""
        visits = self._visits.get(thread)
        if visits is None:
            return False
        with visits.lock:
            if not visits.inside or visits.struck or visit not in {None, visits.number}:
                return False
            visits.struck = True
            raise_thread_exception(thread, error)
            return True
