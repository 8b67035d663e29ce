"""Connections to the ledger: one SQLAlchemy engine a process, bare connections for the writers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from postlude.errors import LedgerError
from postlude.ledger import sqlite
from postlude.ledger.statement import Tx, dialect_named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from sqlalchemy import URL, Connection, Engine

    from postlude.ledger.statement import Statement
    from postlude.settings import Settings


def build_engine(settings: Settings) -> Engine:
    """Return an engine for ``settings.ledger_url``; connects to nothing yet.

    Raises UnsafeSQLite, or LedgerError for a database that is not supported or a folder that cannot
    be made.
    """
    url, module = locate(settings)
    make_folder(settings.data_dir)
    engine = create_engine(
        url, module=module, connect_args={"check_same_thread": False}, pool_size=5, max_overflow=40
    )
    event.listen(engine, "connect", lambda connection, _record: sqlite.prepare(connection))
    event.listen(engine, "begin", _begin)
    return engine


def locate(settings: Settings) -> tuple[URL, ModuleType]:
    """Return where the ledger is, and the one library that may open it in this process.

    Raises UnsafeSQLite, or LedgerError for a database that is not supported.
    """
    url = make_url(settings.ledger_url)
    if url.get_backend_name() != "sqlite":
        message = (
            f"POSTLUDE_DATABASE_URL names {url.get_backend_name()}, which this version does not "
            "support yet; leave it unset for SQLite"
        )
        raise LedgerError(message)
    return url, sqlite.library(allow_unsafe=settings.allow_unsafe_sqlite)


def _begin(connection: Connection) -> None:
    """Begin a transaction; one with the execution option ``write`` takes the write lock at once."""
    writes = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def make_folder(folder: Path) -> None:
    """Make the ledger's folder; LedgerError says why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"POSTLUDE_DATA_DIR {folder} cannot be made: {error.strerror or error}; "
            "choose a folder that this user may write"
        )
        raise LedgerError(message) from error


class BareConnection:
    """A driver connection of one thread's own, outside the pool, with transactions by hand.

    Errors of the driver become LedgerError, but for :meth:`raw_transaction`: the writer has to tell
    them apart.
    """

    def __init__(self, engine: Engine) -> None:
        driver: Any = engine.dialect.dbapi
        self.errors: type[Exception] = driver.Error
        self.data_errors: tuple[type[Exception], ...] = (
            driver.IntegrityError,
            driver.DataError,
            driver.ProgrammingError,
            driver.InterfaceError,
        )
        self._pooled = engine.raw_connection()
        connection: Any = self._pooled.driver_connection
        self._pooled.detach()
        self._connection = connection
        self._cursor = connection.cursor()
        self._writes = False
        self._dialect = dialect_named(engine.dialect.name)

    def begin(self) -> Tx:
        """Take the write lock, waiting for it up to the busy time-out, and open a transaction."""
        if not self._writes:
            sqlite.wait_alone(self._cursor)
            self._writes = True
        sqlite.begin(self._cursor, patience_ms=sqlite.BUSY_TIMEOUT_MS)
        return Tx(self._cursor, self._dialect)

    def rollback(self) -> None:
        """Undo what is open; does nothing when nothing is."""
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")

    @contextmanager
    def raw_transaction(self) -> Iterator[Tx]:
        """Run a block in one transaction: committed at its end, undone when it raises.

        On return it is on the disk.
        """
        try:
            yield self.begin()
            self._cursor.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """Do the same; a driver's error becomes LedgerError."""
        try:
            with self.raw_transaction() as tx:
                yield tx
        except self.errors as error:
            message = f"the ledger could not be written: {error}"
            raise LedgerError(message) from error

    def rows(self, statement: Statement, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds that is outside of any transaction, and asked again and again.

        It costs 4 µs, over SQLAlchemy's pool 79.
        """
        try:
            return Tx(self._cursor, self._dialect).rows(statement, **parameters)
        except self.errors as error:
            message = f"the ledger could not be read: {error}"
            raise LedgerError(message) from error

    def data_version(self) -> int:
        """Return a number that changes when another connection has committed (2.5 µs)."""
        try:
            self._cursor.execute("PRAGMA data_version")
        except self.errors as error:
            message = f"the ledger could not be read: {error}"
            raise LedgerError(message) from error
        return int(self._cursor.fetchone()[0])

    def trim_log(self) -> bool:
        """Empty the database's log, see :func:`sqlite.trim_log`; nothing else may follow but closing."""
        try:
            return sqlite.trim_log(self._cursor)
        except self.errors as error:
            message = f"the ledger's log could not be emptied: {error}"
            raise LedgerError(message) from error

    def close(self) -> None:
        """Close it; what was not committed is undone."""
        self._pooled.close()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Lend a pooled connection for queries; a database that does not answer is a LedgerError."""
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, PoolTimeout) as error:
        message = f"the ledger could not be read: {getattr(error, 'orig', None) or error}"
        raise LedgerError(message) from error
