"""Wakes whoever waits for news from the ledger: somebody committed, or a scheduled task is due.

One thread a process, on a connection that never writes. Asking SQLite for its data version costs
2.5 µs and notices only the commits of other connections. When to ask, inotify tells: a commit begins
with a write to the write-ahead log. Where it does not, 5 ms between looks keep an idle worker near one
percent of a core and a new task's wait below that.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from postlude.errors import LedgerError
from postlude.worker.file_watch import FileWatch

if TYPE_CHECKING:
    from postlude.ledger.ledger import Ledger

log = structlog.get_logger()

LOOK_S = 0.005
SYNC_S = 0.001
"""Between looks after a write; an fsync takes one to ten of them."""
SETTLE_S = 0.05
"""How long after a write its commit is looked for so often."""
UNHINTED_S = 0.25
"""Between looks when no write is told of: nothing depends on its being told, but how soon."""
MISSES = 3
AFTER_ERROR_S = 0.5


class Pulse:
    """Sets the event of every listener when the ledger has changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._listeners: set[threading.Event] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._look: _Look | None = None

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
        """Stop looking and let every listener look once more."""
        self._stop.set()
        with self._lock:
            if self._look:
                self._look.interrupt()
        if self._thread:
            self._thread.join(5)
        self.wake()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._look_on()
            except LedgerError as error:
                log.warning("pulse.failed", error=str(error))
                self._stop.wait(AFTER_ERROR_S)

    def _look_on(self) -> None:
        """Look until this is to stop, or the ledger does not answer: LedgerError."""
        look = _Look(self._ledger)
        with self._lock:
            self._look = look
        try:
            while not self._stop.is_set():
                if look.news():
                    self.wake()
        finally:
            with self._lock:
                self._look = None
            look.close()


class _Look:
    """One connection to the ledger and, where there can be one, a watch over what is written to it."""

    def __init__(self, ledger: Ledger) -> None:
        self._connection = ledger.connect()
        self._seen = -1
        self._pause_s = 0.0
        self._settled_at = 0.0
        self._missed = 0
        self._tells = True
        self._watch: FileWatch | None = None
        with suppress(OSError):
            self._connection.data_version()  # makes the log if there is none
            self._watch = FileWatch(ledger.wal)

    def news(self) -> bool:
        """Wait a while; True if somebody has committed since the last call. Raises LedgerError."""
        hinted = self._wait()
        version = self._connection.data_version()
        if version == self._seen:
            return False
        self._seen = version
        self._settled_at, self._pause_s = 0.0, LOOK_S
        self._judge(hinted=hinted)
        return True

    def interrupt(self) -> None:
        """End the wait that is under way; may be called by any thread."""
        if self._watch:
            self._watch.interrupt()

    def close(self) -> None:
        """Close both."""
        self._connection.close()
        if self._watch:
            self._watch.close()

    def _wait(self) -> bool:
        """Wait for what may be news; returns whether a write was told of."""
        if self._watch is None or not self._tells:
            time.sleep(LOOK_S)  # a third of the cost of waiting for an event, 200 times a second
            return False
        if time.monotonic() < self._settled_at:
            time.sleep(SYNC_S)
            return True
        time.sleep(self._pause_s)  # while others commit all the time
        self._pause_s = 0.0
        hinted = self._watch.wait(UNHINTED_S)
        if hinted:
            self._settled_at = time.monotonic() + SETTLE_S
        return hinted

    def _judge(self, *, hinted: bool) -> None:
        """Give up a watch that does not tell of writes, as on some network file systems."""
        self._missed = 0 if hinted else self._missed + 1
        if self._tells and self._missed > MISSES:
            log.info("pulse.polls", reason="the file system does not tell of writes")
            self._tells = False
