"""The one thread of a process that writes the ledger: many writes, one commit.

Whatever waits in the queue goes into one transaction, so that one fsync pays for many tasks. A write
is a function of the open transaction; its future resolves after the commit, never before. Writes are
replayable, so one whose transaction failed is simply run again: alone, if the batch failed on data
(only the culprit gets the error), or until the database answers.
"""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from postlude.errors import LedgerBusy, LedgerError
from postlude.ledger.engine import BareConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from postlude.ledger.statement import Tx

T = TypeVar("T")
log = structlog.get_logger()

BATCH = 512
"""Writes in one transaction: more gains little, and others wait for the lock."""
PAUSE_S = 0.0005
"""How long a worker leaves the lock alone after a commit: SQLite's lock is unfair, and without the
pause a light writer waited 1.6 s at p99 (measured; 1.1 ms with it)."""
RETRY_S = 0.25
GIVE_UP_S = 4.0
"""How long a batch is tried again while the database does not answer, before its waiters are told."""


@dataclass(slots=True)
class _Write:
    """A write on its way; ``patient`` ones are never given up, their caller must not lose them."""

    run: Callable[[Tx], Any]
    patient: bool
    future: Future[Any] = field(default_factory=Future)


class Writer:
    """Owns the thread, its connection and the bounded queue in front of it."""

    def __init__(self, engine: Engine, *, capacity: int, polite: bool) -> None:
        self._engine = engine
        self._queue: queue.Queue[_Write | None] = queue.Queue(capacity)
        self._polite = polite
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[Tx], T], *, patient: bool = False) -> Future[T]:
        """Put ``run`` into the next transaction. Never blocks; LedgerBusy when the queue is full.

        ``patient`` writes wait for as long as the database is away, and are let in beyond the limit:
        they report what has already happened (an outcome) and must not be lost.
        """
        if self._closing:
            message = "the ledger is closing in this process; nothing was stored"
            raise LedgerBusy(message)
        write = _Write(run, patient)
        try:
            self._queue.put(write, block=patient)
        except queue.Full:
            message = (
                f"{self._queue.maxsize} writes are waiting already; nothing was stored, try again"
            )
            raise LedgerBusy(message) from None
        return write.future

    def close(self, timeout: float = 5.0) -> None:
        """Write what is waiting, then stop. Returns after ``timeout`` seconds at the latest."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout)

    def _loop(self) -> None:
        connection: BareConnection | None = None
        while True:
            batch, last = self._gather()
            connection = self._store(batch, connection)
            if last:
                break
            if self._polite:
                time.sleep(PAUSE_S)
        if connection:
            connection.close()

    def _gather(self) -> tuple[list[_Write], bool]:
        """Wait for a write and take along what else is there; True when it was the last."""
        batch: list[_Write] = []
        item = self._queue.get()
        while item is not None:
            if item.future.set_running_or_notify_cancel():
                batch.append(item)
            if len(batch) == BATCH:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _store(
        self, batch: list[_Write], connection: BareConnection | None
    ) -> BareConnection | None:
        """Commit ``batch``, whatever it takes; returns the connection, None if it must be made anew."""
        started = time.monotonic()
        while batch:
            try:
                connection = connection or BareConnection(self._engine)
                self._commit(batch, connection)
            except Exception as error:  # noqa: BLE001 - the writer outlives everything; waiters get it
                log.warning("ledger.write_failed", writes=len(batch), error=str(error))
                if connection and self._is_about_data(error, connection) and len(batch) > 1:
                    for write in batch:
                        connection = self._store([write], connection)
                    return connection
                batch = self._after_failure(batch, error, connection, started)
                if batch and connection:
                    connection.close()
                    connection = None
            else:
                return connection
        return connection

    @staticmethod
    def _commit(batch: list[_Write], connection: BareConnection) -> None:
        try:
            tx = connection.begin()
            results = [write.run(tx) for write in batch]
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        for write, result in zip(batch, results, strict=True):
            write.future.set_result(result)

    @staticmethod
    def _is_about_data(error: Exception, connection: BareConnection) -> bool:
        """Say whether a write is to blame, rather than the database."""
        return isinstance(error, connection.data_errors) or not isinstance(error, connection.errors)

    def _after_failure(
        self,
        batch: list[_Write],
        error: Exception,
        connection: BareConnection | None,
        started: float,
    ) -> list[_Write]:
        """Answer those who need not wait any longer; returns the writes to try again, after a pause."""
        if connection and self._is_about_data(error, connection):
            _fail(batch, error)
            return []
        over = time.monotonic() - started > GIVE_UP_S
        if over:
            refusal = LedgerError(f"the ledger could not be written: {error}; nothing was stored")
            refusal.__cause__ = error
            _fail([write for write in batch if not write.patient], refusal)
            batch = [write for write in batch if write.patient and not self._closing]
        time.sleep(RETRY_S)
        return batch


def _fail(batch: list[_Write], error: Exception) -> None:
    for write in batch:
        write.future.set_exception(error)
