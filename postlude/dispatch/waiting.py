"""Waiting in an event loop for what another thread finishes: one wake-up for many waiters.

Waking a loop writes to a socket and hands over the interpreter's lock. A commit answers dozens of
requests at once; woken one by one, they would cost more than the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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

    def wait(self, *, within_s: float) -> Awaitable[bool]:
        """Return what is True once it is set, False when that takes longer than ``within_s``."""
        self._bell.limit(self._waiter, within_s)
        return self._waiter


def soon(call: Callable[[], None]) -> None:
    """Call it once this thread's event loop, if it runs one, has seen to what is ready by now.

    The ledger's writer would otherwise contend for the interpreter's lock with the very requests whose
    tasks it could take along.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        call()
    else:
        loop.call_soon(call)


class _Bell:
    """Wakes the waiters of one loop; any thread may ring it.

    Those who wait for a limited time share a timer, as nearly all are woken before: two calls of the
    loop for each would cost 7 µs of a request.
    """

    __slots__ = ("_limits", "_rung", "_timed", "_waiters", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiters: deque[_Waiter] = deque()
        self._rung = False
        self._limits: deque[tuple[float, _Waiter]] = deque()
        self._timed = False

    def limit(self, waiter: _Waiter, within_s: float) -> None:
        """Answer ``waiter`` with False in so many seconds; called in the loop.

        A limit is kept no earlier than those that were set before it: they are all alike.
        """
        while self._limits and self._limits[0][1].done():
            self._limits.popleft()
        self._limits.append((self.loop.time() + within_s, waiter))
        if not self._timed:
            self._timed = True
            self.loop.call_at(self._limits[0][0], self._end_waits)

    def _end_waits(self) -> None:
        self._timed = False
        now = self.loop.time()
        while self._limits and (self._limits[0][1].done() or self._limits[0][0] <= now):
            _answer(self._limits.popleft()[1], False)  # noqa: FBT003
        if self._limits:
            self._timed = True
            self.loop.call_at(self._limits[0][0], self._end_waits)

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
