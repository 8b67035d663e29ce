"""Engines for tables of your own in the ledger's database: ``postlude.engine()`` and its async twin.

For ``BackgroundTasks.bind``, for your migrations, and for whatever else opens that file: a process
must not open it with two SQLite libraries, and the ledger's is not always the standard library's.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from postlude.errors import LedgerError
from postlude.ledger import lending
from postlude.settings import settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine


def engine(**options: Any) -> Engine:
    """Return a new SQLAlchemy engine for the ledger's database, with the ledger's settings.

    Connects to nothing yet, so it may stand where your app is made; call it once. ``options`` are
    those of ``create_engine``. A transaction's reads each see the latest commit, until its first other
    statement takes the write lock, waiting up to ``POSTLUDE_WRITE_TIMEOUT`` for it; commit soon after.
    Raises UnsafeSQLite, SettingsError, or LedgerError for a database that is not supported.
    """
    return lending.lend(settings(), _begin_life, **options)


def async_engine(**options: Any) -> AsyncEngine:
    """Return the same for ``AsyncSession``. Needs aiosqlite: raises DriverMissing without it.

    ``options`` are those of ``create_async_engine``.
    """
    return lending.lend_async(settings(), _begin_life, **options)


def _begin_life(connection: Connection) -> None:
    """Have a process that serves requests on record before its sessions take the write lock.

    Bound tasks need that, and going on record needs the lock, too: afterwards it would be too late.
    If it fails, the session may need it as little as most do; else storing its tasks says why.
    """
    from postlude.dispatch import promises  # noqa: PLC0415 # only an API serves requests

    if promises.is_awaited():
        with suppress(LedgerError):
            promises.open_for(connection)
