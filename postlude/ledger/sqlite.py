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
WAL_PATIENCE_S = 5.0
WAL_RETRY_S = 0.02
#: SQLite pages stay in the cache of each connection up to this many KiB.
CACHE_KIB = 16_384


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


def prepare(connection: Any) -> None:
    """Set up a fresh DB-API connection: transactions by hand, WAL, an fsync for every commit."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _use_wal(connection)
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
        "wal_autocheckpoint = 4000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: Any) -> None:
    """Turn a fresh file to WAL; others may be doing the same, and SQLite does not wait for that."""
    deadline = time.monotonic() + WAL_PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except connection.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_S)
        else:
            return
