"""Waiting in an event loop for what another thread finishes: one wake-up for many waiters.

Waking a loop writes to a socket and hands over the interpreter's lock. A commit answers dozens of
requests at once; woken one by one, they would cost more than the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress

_Waiter = asyncio.Future[bool]


class Signal:
    """Something that one coroutine waits for and any thread may set, once.

    Made in the loop that will wait for it.
    """

    __slots__ = ("_bell", "_waiter")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._bell = _bell_of(loop)
        self._waiter: _Waiter = loop.create_future()

    def set(self) -> None:
        """Wake the coroutine; harmless if it waits no longer or its loop is closed."""
        self._bell.ring(self._waiter)

    async def wait(self, *, within_s: float) -> bool:
        """Return True once it is set, False when that takes longer than ``within_s``."""
        timer = self._bell.loop.call_later(within_s, _answer, self._waiter, False)  # noqa: FBT003
        try:
            return await self._waiter
        finally:
            timer.cancel()


class _Bell:
    """Wakes the waiters of one loop; any thread may ring it."""

    __slots__ = ("_rung", "_waiters", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiters: deque[_Waiter] = deque()
        self._rung = False

    def ring(self, waiter: _Waiter) -> None:
        """Have ``waiter`` woken; calls the loop only if it has not been called already."""
        self._waiters.append(waiter)
        if self._rung:
            return
        self._rung = True
        with suppress(RuntimeError):  # the loop is closed: nobody is waiting in it any more
            self.loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        self._rung = False  # before looking: whoever comes later rings again
        while self._waiters:
            _answer(self._waiters.popleft(), True)  # noqa: FBT003


def _answer(waiter: _Waiter, in_time: bool) -> None:  # noqa: FBT001 # call_later passes no names
    if not waiter.done():
        waiter.set_result(in_time)


class _Here(threading.local):
    """The bell of the loop that runs in this thread; a thread runs one loop at a time."""

    bell: _Bell | None = None


_here = _Here()


def _bell_of(loop: asyncio.AbstractEventLoop) -> _Bell:
    bell = _here.bell
    if bell is None or bell.loop is not loop:
        bell = _here.bell = _Bell(loop)
    return bell
