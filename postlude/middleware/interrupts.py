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
from typing import TYPE_CHECKING

from dramatiq.threading import raise_thread_exception

if TYPE_CHECKING:
    from dramatiq.threading import Interrupt


class Interrupts:
    """Which worker threads are inside an actor; any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._inside: dict[int, int] = {}
        self._struck: set[int] = set()
        self._visits = 0

    def enter(self) -> int:
        """Note that the calling thread is about to run an actor; returns the number of this visit."""
        with self._lock:
            self._visits += 1
            self._inside[threading.get_ident()] = self._visits
            return self._visits

    def leave(self) -> None:
        """Note that the actor has ended; an interrupt that has not struck yet is withdrawn."""
        thread = threading.get_ident()
        with self._lock:
            self._inside.pop(thread, None)
            if thread in self._struck:
                self._struck.discard(thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)

    def strike(self, thread: int, error: type[Interrupt], visit: int | None = None) -> bool:
        """Raise ``error`` in ``thread`` if it is inside (on that ``visit``) and was not struck yet."""
        with self._lock:
            inside = self._inside.get(thread)
            if inside is None or visit not in {None, inside} or thread in self._struck:
                return False
            self._struck.add(thread)
            raise_thread_exception(thread, error)
            return True
