"""What is particular to SQLite: which library may be used, how a connection is set up.

SQLite before 3.51.3 (3.50.7 and 3.44.6 on the older branches) can corrupt a WAL database when two
connections write and checkpoint at once, which is exactly our load. ``pysqlite3`` bundles a fixed
library where it has a wheel. One process must never open one file with two SQLite libraries: each
drops the other's POSIX locks. So whoever opens the ledger goes through this module.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

from postlude.errors import UnsafeSQLite

if TYPE_CHECKING:
    from types import ModuleType

FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""First release with the fix, per branch: current, 3.50, 3.44."""

BUSY_TIMEOUT_MS = 1_000
LOOK_S = 0.0003
"""How often somebody who waits for the write lock looks; a short transaction takes as long."""
_NOT_MINE = frozenset({5, 100, 101})
"""Errors of a refused ``BEGIN``: SQLITE_BUSY, or the success of another thread (SQLITE_ROW, SQLITE_DONE)."""
WAL_PATIENCE_S = 5.0
WAL_RETRY_S = 0.02
_PASSING = frozenset({5, 6, 15})
"""Errors that waiting may cure: SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL (a race for locks)."""
_NO_ROOM = frozenset({10, 13})
"""SQLITE_FULL, and SQLITE_IOERR: that is what a quota, a limit, or the shared index that cannot grow
come out as (os_unix.c tells only ENOSPC on a write from a broken disk)."""
#: SQLite pages stay in the cache of each connection up to this many KiB.
CACHE_KIB = 16_384
CHECKPOINT_PAGES = 4_000
"""Who commits when the log has so many pages, 16 MB, writes them back into the database."""
LOG_KEPT = 32 * 1024**2
"""Bytes of the log's file that are kept for the next pages when it starts anew."""
TRIM_MS = 20
"""How long trimming the log waits for readers to look away, while nobody else can write."""
TRIM_TRIES = 20
"""How often it is tried: so short a wait also loses the race for the write lock now and then."""


def is_safe(version: tuple[int, ...]) -> bool:
    """Say whether this SQLite release can be trusted with a WAL database written by many."""
    newest, *older = FIXED
    return version >= newest or any(
        version[:2] == branch[:2] and version >= branch for branch in older
    )


def library(*, allow_unsafe: bool = False) -> ModuleType:
    """Return the DB-API module that all of this process must use for the ledger.

    Raises UnsafeSQLite when no library at hand has the fix and ``allow_unsafe`` does not accept that.
    """
    found = []
    for name in ("pysqlite3.dbapi2", "sqlite3"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if is_safe(module.sqlite_version_info):
            return module
        found.append(module)
    if allow_unsafe and found:
        return found[0]
    version = f" {found[0].sqlite_version}" if found else ", which is missing here or"
    message = (
        f"SQLite{version} can corrupt a database in WAL mode that several processes "
        "write (fixed in 3.51.3, 3.50.7 and 3.44.6). Install pysqlite3, use PostgreSQL, or accept "
        "the risk with POSTLUDE_ALLOW_UNSAFE_SQLITE=1"
    )
    raise UnsafeSQLite(message)


def has_no_room(error: BaseException) -> bool:
    """Say whether ``error`` means that what was to be written does not fit on the disk."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_ROOM


def prepare(connection: Any, *, patience_ms: int | None = None) -> None:
    """Set up a fresh DB-API connection: transactions by hand, WAL, an fsync for every commit.

    ``patience_ms`` is how long one of its statements waits for a lock; None: as the ledger's own.
    """
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {patience_ms or BUSY_TIMEOUT_MS}")
    _use_wal(connection)
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {LOG_KEPT}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def take_lock(connection: Any, *, patience_ms: int) -> None:
    """Begin a transaction that has the write lock; the driver's error when it cannot be had in time."""
    cursor = connection.cursor()
    wait_alone(cursor)
    try:
        begin(cursor, patience_ms=patience_ms)
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {patience_ms}")
        cursor.close()


def wait_alone(cursor: Any) -> None:
    """Have SQLite itself wait for no lock on this connection: :func:`begin` does."""
    cursor.execute("PRAGMA busy_timeout = 0")


def begin(cursor: Any, *, patience_ms: int) -> None:
    """Take the write lock on a cursor whose connection is set to :func:`wait_alone`.

    SQLite's own waiting looks the more seldom the longer it has waited (every 0.1 s in the end), so
    who comes last gets the lock first: beside busy writers one in a hundred waited for 5 s (measured).
    Here everybody looks equally often. Raises the driver's error when it cannot be had in time.

    Only the connection knows whether it has a transaction. The driver asks for the code of an error
    after the statement: when another thread closes a result of the same connection in between, as a
    session's last query does whose rows nobody has read, a refusal looks like a success, and what
    followed would have been committed statement by statement.
    """
    deadline = time.monotonic() + patience_ms / 1000
    while True:
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except Exception as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in _NOT_MINE or time.monotonic() > deadline:
                raise
        if cursor.connection.in_transaction:
            return
        time.sleep(LOOK_S)


def trim_log(cursor: Any) -> bool:
    """Write the log back into the database and empty it; the cursor's connection is of no further use.

    SQLite does that by itself when there is a moment without a reader, which among busy processes may
    not come for minutes. The bulk is written back without a lock. False when somebody has been reading
    for long, or writes without a pause. Nobody is kept waiting for longer than ``TRIM_MS`` at a time.
    """
    cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
    busy, pages, written = cursor.fetchone()
    if busy or pages - written > CHECKPOINT_PAGES:
        return False
    cursor.execute(f"PRAGMA busy_timeout = {TRIM_MS}")
    for _ in range(TRIM_TRIES):
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not cursor.fetchone()[0]:
            return True
    return False


def _use_wal(connection: Any) -> None:
    """Turn a fresh file to WAL; others may be doing the same, and SQLite does not wait for that.

    That it can shrink again is settled with its first page.
    """
    deadline = time.monotonic() + WAL_PATIENCE_S
    while True:
        try:
            if not connection.execute("PRAGMA page_count").fetchone()[0]:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        except connection.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in _PASSING or time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_S)
        else:
            return
