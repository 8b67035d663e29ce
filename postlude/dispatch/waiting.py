"""Waiting in an event loop for what another thread finishes: one wake-up for many waiters.

Waking a loop writes to a socket and hands over the interpreter's lock. A commit answers dozens of
requests at once; woken one by one, they would cost more than the commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

_Waiter = asyncio.Future[None]


async def finished(future: Future[Any], *, within_s: float) -> bool:
    """Wait until ``future`` is done, whatever came of it; False when that takes too long."""
    loop = asyncio.get_running_loop()
    waiter: _Waiter = loop.create_future()
    timer = loop.call_later(within_s, _wake, waiter)
    future.add_done_callback(partial(_bell_of(loop).ring, waiter))
    try:
        await waiter
    finally:
        timer.cancel()
    return future.done()


class _Bell:
    """Wakes the waiters of one loop; any thread may ring it."""

    __slots__ = ("_rung", "_waiters", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiters: deque[_Waiter] = deque()
        self._rung = False

    def ring(self, waiter: _Waiter, _: Future[Any]) -> None:
        """Have ``waiter`` woken; calls the loop only if it has not been called already."""
        self._waiters.append(waiter)
        if self._rung:
            return
        self._rung = True
        with suppress(RuntimeError):  # the loop is closed: nobody is waiting in it any more
            self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._rung = False  # before looking: whoever comes later rings again
        while self._waiters:
            _wake(self._waiters.popleft())


def _wake(waiter: _Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Here(threading.local):
    """The bell of the loop that runs in this thread; a thread runs one loop at a time."""

    bell: _Bell | None = None


_here = _Here()


def _bell_of(loop: asyncio.AbstractEventLoop) -> _Bell:
    bell = _here.bell
    if bell is None or bell.loop is not loop:
        bell = _here.bell = _Bell(loop)
    return bell
