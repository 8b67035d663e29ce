"""An open ledger: one a process. Writes go through its writer thread and are group-committed."""

from __future__ import annotations

from concurrent.futures import TimeoutError as Late
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError

from postlude.errors import AcceptUnknown, LedgerBusy, LedgerError
from postlude.ledger import schema
from postlude.ledger.compatible import check, fits, must_fit
from postlude.ledger.engine import BareConnection, build_engine, reading
from postlude.ledger.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from sqlalchemy import Connection

    from postlude.ledger.statement import Tx
    from postlude.settings import Settings

T = TypeVar("T")


class Ledger:
    """An open ledger: raises LedgerTooOld or LedgerTooNew when its tables do not fit this code.

    ``polite`` writers pause after each commit, so that the API's light writes get their turn beside
    a worker that runs flat out.
    """

    def __init__(self, settings: Settings, *, polite: bool = False) -> None:
        self._engine = build_engine(settings)
        self._timeout = settings.write_timeout
        check(self._engine)
        self.compatible_from = schema.VERSION
        """The oldest version of the code that may work here, as the last heartbeat has found."""
        self._writer = Writer(self._engine, capacity=settings.write_queue, polite=polite)

    @property
    def wal(self) -> Path:
        """The write-ahead log: every commit begins with a write to it."""
        return Path(f"{self._engine.url.database}-wal")

    @property
    def outgrown(self) -> bool:
        """Say whether a newer version has taken over, in which this code may store nothing new."""
        return not fits(self.compatible_from)

    def must_fit(self) -> None:
        """Raise LedgerTooNew if :attr:`outgrown`; to be called before anything new is stored.

        What reports how something ended is stored all the same. Asks nobody.
        """
        must_fit(self.compatible_from)

    def submit(self, write: Callable[[Tx], T], *, patient: bool = False) -> Future[T]:
        """Run ``write`` in the next transaction; the future resolves after its commit.

        Never blocks; LedgerBusy when too much waits. ``write`` must be replayable. ``patient``: it
        reports something that has happened, so it is never refused and waits out any outage.
        """
        return self._writer.submit(write, patient=patient)

    def write(self, write: Callable[[Tx], T], *, timeout: timedelta | None = None) -> T:
        """Submit and wait.

        Past ``timeout`` (default: the setting ``write_timeout``) raises LedgerBusy when the write had
        not begun and so never will, AcceptUnknown when it may have been stored.
        """
        future = self.submit(write)
        limit = (timeout or self._timeout).total_seconds()
        try:
            return future.result(limit)
        except Late:
            if future.done():
                return future.result()
            if future.cancel():
                message = (
                    f"the ledger did not get to this write within {limit:g} s; nothing was stored"
                )
                raise LedgerBusy(message) from None
            message = f"the ledger did not confirm this write within {limit:g} s; it may be stored"
            raise AcceptUnknown(message) from None

    def read(self) -> AbstractContextManager[Connection]:
        """Lend a connection for queries; LedgerError when the database does not answer."""
        return reading(self._engine)

    def connect(self) -> BareConnection:
        """Return a connection of the caller's own, for a thread that must not wait for the writer.

        Raises LedgerError when the database cannot be opened.
        """
        driver: Any = self._engine.dialect.dbapi
        try:
            return BareConnection(self._engine)
        except (DBAPIError, driver.Error) as error:
            message = f"the ledger could not be opened: {error}"
            raise LedgerError(message) from error

    def log_size(self) -> int:
        """Return how many bytes the file with SQLite's write-ahead log has."""
        try:
            return self.wal.stat().st_size
        except FileNotFoundError:
            return 0

    def trim_log(self) -> bool:
        """Empty that file. Keeps writers waiting for some 20 ms at a time; False: not now."""
        with closing(self.connect()) as connection:
            return connection.trim_log()

    def close(self) -> None:
        """Write what is waiting, then close every connection."""
        self._writer.close()
        self._engine.dispose()
