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
    task: object = None
    inside: bool = False
    abandoned: bool = False
    struck: bool = False


class Interrupts:
    """Which worker threads are inside an actor; any thread may call any method."""

    def __init__(self) -> None:
        self._visits: dict[int, _Visits] = {}

    def enter(self, task: object = None) -> int:
        """Note that the calling thread is about to run ``task``; returns the number of this visit."""
        thread = threading.get_ident()
        visits = self._visits.get(thread)
        if visits is None:
            visits = self._visits[thread] = _Visits()
        with visits.lock:
            visits.number += 1
            visits.inside, visits.task, visits.abandoned = True, task, False
            return visits.number

    def leave(self) -> bool:
        """Note that the actor has ended; an interrupt that has not struck yet is withdrawn.

        False when the visit was abandoned: somebody else has settled its task, and this thread's
        news come too late.
        """
        thread = threading.get_ident()
        visits = self._visits.get(thread)
        if visits is None:
            return True
        with visits.lock:
            visits.inside, visits.task = False, None
            if visits.struck:
                visits.struck = False
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
            return not visits.abandoned

    def abandon(self, thread: int, visit: int) -> bool:
        """Give up on a thread that does not leave its actor; the caller settles the task in its place.

        False when it has left, or was given up before: of any number of callers and the thread itself
        one settles.
        """
        visits = self._visits[thread]
        with visits.lock:
            if not visits.inside or visits.abandoned or visit != visits.number:
                return False
            visits.abandoned = True
            return True

    def strike_task(self, task: object, error: type[Interrupt]) -> bool:
        """Raise ``error`` in the thread that is inside the actor for ``task``, if there is one."""
        inside = [thread for thread, visits in list(self._visits.items()) if visits.task is task]
        return any(self.strike(thread, error, task=task) for thread in inside)

    def strike(
        self,
        thread: int,
        error: type[Interrupt],
        visit: int | None = None,
        *,
        task: object = None,
    ) -> bool:
        """Raise ``error`` in ``thread`` if it is inside and was not struck yet.

        On that ``visit``, or for that ``task``, if one is given: a thread goes from one to the next.
        """
        visits = self._visits.get(thread)
        if visits is None:
            return False
        with visits.lock:
            if not visits.inside or visits.struck or visit not in {None, visits.number}:
                return False
            if task is not None and visits.task is not task:
                return False
            visits.struck = True
            raise_thread_exception(thread, error)
            return True
