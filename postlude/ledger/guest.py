"""Writing tasks in somebody else's transaction: the application's own session on the ledger's database.

Whoever opened the transaction ends it; until then nothing is promised. Refused is a connection whose
commit would promise less than ours, or would not be one with the rows beside it.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from postlude.errors import BadBinding, LedgerBusy, LedgerError
from postlude.ledger.engine import locate
from postlude.ledger.lending import begin, is_autocommit
from postlude.ledger.statement import Statement, Tx, dialect_named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from sqlalchemy import URL, Connection, Engine

    from postlude.settings import Settings

FIX = "give it an engine that postlude.engine() or postlude.async_engine() has made"
FULL = 2
"""``PRAGMA synchronous``: from here on every commit of a WAL database is synced."""

_HOST = Statement(
    text("""
    SELECT (SELECT file FROM pragma_database_list WHERE name = 'main'),
        (SELECT journal_mode FROM pragma_journal_mode),
        (SELECT synchronous FROM pragma_synchronous)""")
)


def check_engine(engine: Engine, settings: Settings) -> None:
    """Raise BadBinding if ``engine`` cannot be one of the ledger's; asks no database."""
    url, library = locate(settings)
    if engine.dialect.name != url.get_backend_name():
        _refuse(f"is on {engine.dialect.name}, and the ledger on {url.get_backend_name()}")
    file = engine.url.database or ""
    if not file.startswith("file:"):  # of a URI the connection will tell
        _check_file(file, url)
    driver: Any = engine.dialect.dbapi
    _check_library(getattr(driver, "sqlite", driver), library)


def check(connection: Connection, settings: Settings) -> None:
    """Raise BadBinding if tasks could not be stored through ``connection`` as safely as by us."""
    cursor: Any = connection.connection.cursor()
    try:
        _check(connection, Tx(cursor, dialect_named("sqlite")), settings)
    finally:
        cursor.close()


@contextmanager
def visit(connection: Connection, settings: Settings) -> Iterator[Tx]:
    """Lend the open transaction of ``connection``, having taken the write lock for it if need be.

    Raises BadBinding as :func:`check` does, LedgerBusy when the lock cannot be had, LedgerError when
    the database refuses. Then what was written stands or falls with that transaction.
    """
    _, library = locate(settings)
    driver: Any = connection.connection.driver_connection
    cursor: Any = connection.connection.cursor()
    try:
        tx = Tx(cursor, dialect_named("sqlite"))
        _check(connection, tx, settings)
        if not driver.in_transaction:
            begin(connection)
        yield tx
    except library.Error as error:
        raise _failure(error) from error
    finally:
        cursor.close()


def _check(connection: Connection, tx: Tx, settings: Settings) -> None:
    url, library = locate(settings)
    driver: Any = connection.connection.driver_connection
    raw = getattr(driver, "_conn", driver)  # what aiosqlite wraps
    if not isinstance(raw, library.Connection):
        _check_library(type(raw), library)
    if is_autocommit(connection):
        _refuse("commits each statement by itself (AUTOCOMMIT)")
    ((file, journal_mode, synchronous),) = tx.rows(_HOST)
    _check_file(file, url)
    if journal_mode != "wal":
        _refuse(f"has journal_mode = {journal_mode}, not WAL")
    if synchronous < FULL:
        _refuse(f"has synchronous = {synchronous}, below FULL: a commit could be lost")


def _check_file(found: str, url: URL) -> None:
    ledger = str(url.database)
    if found in {"", ":memory:"}:
        _refuse(f"is on a database in memory, and the ledger is {ledger}")
    if Path(found).resolve() != Path(ledger).resolve():
        _refuse(f"is on {found}, and the ledger is {ledger}")


def _check_library(found: object, library: ModuleType) -> None:
    name: str = getattr(found, "__module__", getattr(found, "__name__", str(found)))
    if name.partition(".")[0] != library.__name__.partition(".")[0]:
        _refuse(
            f"uses the SQLite library of {name}, and this process has the ledger open with that of "
            f"{library.__name__}; two of them on one file lose its locks"
        )


def _refuse(why: str) -> None:
    message = f"the session's connection {why}; {FIX}"
    raise BadBinding(message)


def _failure(error: Exception) -> LedgerError:
    message = f"the tasks could not be stored in their session's transaction: {error}"
    if "locked" in str(error):
        return LedgerBusy(f"{message}; roll it back and send again")
    return LedgerError(f"{message}; roll it back")
