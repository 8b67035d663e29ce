"""Wakes whoever waits for news from the ledger: somebody committed, or a scheduled task is due.

One poller a process, on a connection that never writes. Asking SQLite for its data version costs
2.5 µs and notices only the commits of other connections, so 5 ms between looks keep an idle worker
below one percent of a core and a new task's wait below that.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from postlude.errors import LedgerError

if TYPE_CHECKING:
    from postlude.ledger.engine import BareConnection
    from postlude.ledger.ledger import Ledger

log = structlog.get_logger()

LOOK_S = 0.005
AFTER_ERROR_S = 0.5


class Pulse:
    """Sets the event of every listener when the ledger has changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._listeners: set[threading.Event] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self) -> threading.Event:
        """Return an event that is set after every change; the listener clears it before it looks."""
        event = threading.Event()
        event.set()
        with self._lock:
            self._listeners.add(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="pulse", daemon=True)
                self._thread.start()
        return event

    def forget(self, event: threading.Event) -> None:
        """Stop setting ``event``."""
        with self._lock:
            self._listeners.discard(event)

    def wake(self) -> None:
        """Tell every listener to look."""
        with self._lock:
            for event in self._listeners:
                event.set()

    def close(self) -> None:
        """Stop polling and let every listener look once more."""
        self._stop.set()
        if self._thread:
            self._thread.join(5)
        self.wake()

    def _loop(self) -> None:
        connection: BareConnection | None = None
        seen, wait_s = -1, LOOK_S
        while not self._stop.is_set():
            time.sleep(wait_s)  # a third of the cost of waiting for the event, 200 times a second
            try:
                connection = connection or self._ledger.connect()
                version = connection.data_version()
            except LedgerError as error:
                log.warning("pulse.failed", error=str(error))
                connection, wait_s = None, AFTER_ERROR_S
                continue
            wait_s = LOOK_S
            if version != seen:
                seen = version
                self.wake()
        if connection:
            connection.close()
