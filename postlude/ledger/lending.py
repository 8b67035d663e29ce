"""Engines for the application's own tables in the ledger's database, as ``postlude.engine`` lends them.

Same library, same file, same pragmas as the ledger's own (CORRECTNESS 7), and a transaction that can
wait for the write lock: SQLite refuses it at once to a transaction that has read what meanwhile was
changed, which under a worker's load is every one. So reads come first and each sees the latest
commit; the first other statement takes the lock, and from there on nobody else writes.
"""

from __future__ import annotations

import re
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import create_engine, event

from postlude.errors import DriverMissing, LedgerBusy
from postlude.ledger import fork, sqlite, turns
from postlude.ledger.engine import locate, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from postlude.settings import Settings

_OUTSIDE = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:SELECT|VALUES|EXPLAIN|PRAGMA|VACUUM|ATTACH|DETACH|BEGIN|COMMIT|END|ROLLBACK|(WITH))\b",
    re.IGNORECASE | re.DOTALL,
)
"""Statements that need no transaction, or cannot be in one; WITH may go either way."""
_WRITES = re.compile(r"\b(?:INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_lent: WeakKeyDictionary[Engine, Callable[[Connection], None]] = WeakKeyDictionary()


def lend(settings: Settings, before_write: Callable[[Connection], None], **options: Any) -> Engine:
    """Return an engine; connects to nothing yet. ``options`` are those of ``create_engine``.

    ``before_write`` is called when a transaction is about to take the write lock. Raises UnsafeSQLite,
    or LedgerError for a database that is not supported.
    """
    url, library = locate(settings)
    patience_ms = _patience_ms(settings)
    engine = create_engine(url, module=library, **options)

    def before_connect(_dialect: object, _record: object, _args: object, options: Any) -> None:
        make_folder(settings.data_dir)
        options.setdefault("factory", turns.connection_class(library))

    event.listen(engine, "do_connect", before_connect)
    prepare = partial(sqlite.prepare, patience_ms=patience_ms)
    event.listen(engine, "connect", lambda connection, _record: prepare(connection))

    def take_lock(connection: Connection) -> None:
        sqlite.take_lock(connection.connection.driver_connection, patience_ms=patience_ms)

    return _guarded(engine, before_write, take_lock)


def lend_async(
    settings: Settings, before_write: Callable[[Connection], None], **options: Any
) -> AsyncEngine:
    """Return the same for ``AsyncSession``, over aiosqlite. Raises DriverMissing without that, too."""
    for name in ("aiosqlite", "greenlet"):
        if find_spec(name) is None:
            message = (
                f"postlude.async_engine() needs {name}: install Postlude with its extra 'async', or"
                " aiosqlite and greenlet"
            )
            raise DriverMissing(message)
    from postlude.ledger import aio  # noqa: PLC0415 # aiosqlite is optional

    url, library = locate(settings)
    patience_ms = _patience_ms(settings)

    def connect() -> Any:
        make_folder(settings.data_dir)
        make = turns.connection_class(library)
        connection = library.connect(url.database, check_same_thread=False, factory=make)
        sqlite.prepare(connection, patience_ms=patience_ms)
        return connection

    engine = aio.create(url, library, connect, **options)
    _guarded(engine.sync_engine, before_write, aio.in_its_thread(sqlite.take_lock, patience_ms))
    return engine


def begin(connection: Connection) -> None:
    """Take the write lock for the transaction of ``connection``, which has not written yet.

    On an engine that is not one of these the driver may keep silent about a refusal, see
    :func:`postlude.ledger.sqlite.begin`: LedgerBusy.
    """
    take_lock = _lent.get(connection.engine)
    if take_lock is not None:
        take_lock(connection)
    else:
        cursor = connection.connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        cursor.close()
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            message = "the session's transaction could not take the write lock; send again"
            raise LedgerBusy(message)


def has_lent(engine: Engine) -> bool:
    """Say whether ``engine`` is one of these."""
    return engine in _lent


def is_autocommit(connection: Connection) -> bool:
    """Say whether each statement is a transaction of its own, as somebody has wanted."""
    wanted = connection.get_execution_options().get("isolation_level")
    of_engine = getattr(
        connection.dialect, "_on_connect_isolation_level", None
    )  # has no other name
    return (wanted or of_engine) == "AUTOCOMMIT"


def writes(statement: str) -> bool:
    """Say whether ``statement`` must be in a transaction that holds the write lock; if in doubt, yes."""
    found = _OUTSIDE.match(statement)
    return not found or bool(found[1] and _WRITES.search(statement))


def _patience_ms(settings: Settings) -> int:
    return int(settings.write_timeout.total_seconds() * 1000)


def _guarded(
    engine: Engine,
    before_write: Callable[[Connection], None],
    take_lock: Callable[[Connection], None],
) -> Engine:
    _lent[engine] = take_lock
    fork.watch(engine)

    def begin_to_write(
        connection: Connection, _cursor: object, statement: str, *_more: object
    ) -> None:
        driver: Any = connection.connection.driver_connection
        if driver.in_transaction or not writes(statement) or is_autocommit(connection):
            return
        before_write(connection)
        take_lock(connection)

    event.listen(engine, "before_cursor_execute", begin_to_write)
    return engine
