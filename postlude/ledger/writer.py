"""The one thread of a process that writes the ledger: many writes, one commit.

Whatever waits in the queue goes into one transaction, so that one fsync pays for many tasks. A write
is a function of the open transaction; its future resolves after the commit, never before.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from postlude.errors import LedgerBusy
from postlude.ledger.commit import Committer, Write

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from sqlalchemy import Engine

    from postlude.ledger.statement import Tx

T = TypeVar("T")

BATCH = 512
"""Writes in one transaction: more gains little, and others wait for the lock."""
PAUSE_S = 0.0005
"""How long a worker leaves the lock alone after a commit: SQLite's lock is unfair, and without the
pause a light writer waited 1.6 s at p99 (measured; 1.1 ms with it)."""


class Writer:
    """Owns the thread and the bounded queue in front of it."""

    def __init__(self, engine: Engine, *, capacity: int, polite: bool) -> None:
        self._capacity = capacity
        self._polite = polite
        self._committer = Committer(engine)
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[Tx], T], *, patient: bool = False) -> Future[T]:
        """Put ``run`` into the next transaction. Never blocks; LedgerBusy when too much waits.

        ``patient`` writes wait for as long as the database is away, and are let in beyond the limit:
        they report what has already happened (an outcome) and must not be lost.
        """
        if self._closing:
            message = "the ledger is closing in this process; nothing was stored"
            raise LedgerBusy(message)
        waiting = self._queue.qsize()
        if waiting >= self._capacity and not patient:
            message = f"{waiting} writes are waiting already; nothing was stored, try again"
            raise LedgerBusy(message)
        write = Write(run, patient)
        self._queue.put(write)
        return write.future

    def close(self, timeout: float = 5.0) -> None:
        """Write what is waiting, then stop. Returns after ``timeout`` seconds at the latest."""
        self._closing = True
        self._committer.hurried = True
        self._queue.put(None)
        self._thread.join(timeout)

    def _loop(self) -> None:
        last = False
        while not last:
            batch, last = self._gather()
            self._committer.store(batch)
            if self._polite:
                time.sleep(PAUSE_S)
        self._committer.close()

    def _gather(self) -> tuple[list[Write], bool]:
        """Wait for a write and take along what else is there; True when it was the last."""
        batch: list[Write] = []
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
