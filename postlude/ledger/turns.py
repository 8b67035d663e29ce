"""Connections of an SQLite driver for many threads: one call at a time, also when a result is dropped.

The driver asks SQLite for the code of an error after the call that failed. When another thread resets
a statement of the same connection in between, and be it only because a query's unread rows are no
longer wanted, the error is lost, and a refused INSERT or COMMIT looks like one that was done (2,375
INSERTs of 138,316, in a program that provokes it). SQLAlchemy gives a session one connection, and a
session may go from thread to thread, as in a sync dependency and its endpoint.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


class Turn:
    """Whose turn a connection is. Held during each call; what was dropped meanwhile is closed after it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may drop a cursor inside a call
        self._dropped: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        try:
            while self._dropped:
                self._dropped.popleft()()
        finally:
            self._lock.release()

    def after(self, close: Callable[[], None]) -> None:
        """Call ``close`` now, or after the call that another thread is in. Never waits for that.

        It could take as long as a write lock, and the garbage collector runs in event loops, too.
        """
        self._dropped.append(close)
        if self._lock.acquire(blocking=False):
            self.__exit__()


@cache
def connection_class(driver: ModuleType) -> Any:
    """Return the class of such connections, a subclass of the ``driver``'s."""

    class Cursor(driver.Cursor):  # type: ignore[misc,name-defined] # known at run time
        _is_open = False

        def __init__(self, connection: Any) -> None:
            self._turn: Turn = connection.turn
            super().__init__(connection)
            self._is_open = True

        def close(self) -> None:
            with self._turn:
                self._is_open = False
                super().close()

        def __del__(self) -> None:
            if self._is_open:
                self._turn.after(self._drop)

        def _drop(self) -> None:
            with suppress(driver.Error):  # its connection is closed, and it with that
                super().close()

    class Connection(driver.Connection):  # type: ignore[misc,name-defined]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.turn = Turn()
            super().__init__(*arguments, **options)

        def cursor(self, _factory: object = None) -> Any:
            return super().cursor(Cursor)

    for name in ("execute", "executemany", "fetchone", "fetchmany", "fetchall", "__next__"):
        setattr(Cursor, name, _in_turn(name, lambda cursor: cursor._turn, Cursor))  # noqa: SLF001
    for name in ("commit", "rollback", "close"):
        setattr(Connection, name, _in_turn(name, lambda connection: connection.turn, Connection))
    return Connection


def _in_turn(name: str, turn_of: Callable[[Any], Turn], owner: type) -> Any:
    """Return the method ``name`` that ``owner`` inherits, taking its turn."""
    inherited = getattr(owner, name)

    def take_turn(self: Any, *arguments: Any, **options: Any) -> Any:
        with turn_of(self):
            return inherited(self, *arguments, **options)

    return take_turn
