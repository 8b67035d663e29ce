"""aiosqlite under our SQLite library instead of the standard library's, for SQLAlchemy's asyncio."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_dbapi
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from sqlalchemy import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

ROWS_AT_ONCE = 64
"""How many rows aiosqlite fetches in one go of its thread; its own default."""


def create(
    url: URL, library: ModuleType, connect: Callable[[], Any], **options: Any
) -> AsyncEngine:
    """Return an engine whose connections ``connect`` makes, each in a thread of its own."""

    async def connect_in_thread() -> aiosqlite.Connection:
        connection = _Connection(connect, ROWS_AT_ONCE)
        connection._thread.daemon = True  # noqa: SLF001 # as SQLAlchemy does for its own
        return await connection

    return create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        module=_Driver(library),
        async_creator=connect_in_thread,
        **options,
    )


def in_its_thread(take_lock: Callable[..., None], patience_ms: int) -> Callable[[Connection], None]:
    """Return ``take_lock`` for connections of such an engine: the event loop goes on meanwhile."""

    def take(connection: Connection) -> None:
        adapted: Any = connection.connection.dbapi_connection
        adapted.run_async(lambda driver: driver.run(partial(take_lock, patience_ms=patience_ms)))

    return take


class _Connection(aiosqlite.Connection):
    """A connection that can do more than one thing in one visit to its thread."""

    async def run(self, call: Callable[[Any], None]) -> None:
        """Call ``call`` with the driver's connection."""
        await self._execute(call, self._conn)  # type: ignore[no-untyped-call] # it has no types


class _Driver(AsyncAdapt_aiosqlite_dbapi):
    """What SQLAlchemy takes for aiosqlite: its errors and constants are those of our library."""

    def __init__(self, library: ModuleType) -> None:
        super().__init__(aiosqlite, library)
        for name in (
            "DatabaseError",
            "Error",
            "IntegrityError",
            "NotSupportedError",
            "OperationalError",
            "ProgrammingError",
            "sqlite_version",
            "sqlite_version_info",
        ):
            setattr(self, name, getattr(library, name))
