"""Moves tasks that are due to the broker: scheduled → queued, then published where that is needed.

A thread in every worker and scheduler; each due task is promoted by one of them. It sleeps until the
ledger has news or the next task is due.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude.broker.registry import delivery
from postlude.errors import BrokerAway, LedgerError
from postlude.ledger import clock
from postlude.ledger.queries.ready import next_due
from postlude.ledger.transitions.promote import promote

if TYPE_CHECKING:
    from postlude.ledger.engine import BareConnection
    from postlude.process import Process

log = structlog.get_logger()

BATCH = 500
LONGEST_SLEEP_S = 1.0
"""However quiet it is, look this often: the clock may have been set."""
AFTER_ERROR_S = 0.5


class Relay:
    """The relay of one process."""

    def __init__(self, owner: Process) -> None:
        self._process = owner
        self._news = owner.pulse.listen()
        self._reader: BareConnection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the batch at hand."""
        self._stop.set()
        self._news.set()
        self._thread.join(5)
        self._process.pulse.forget(self._news)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                pause = self._pass()
            except (LedgerError, BrokerAway) as error:
                log.warning("relay.failed", error=str(error))
                self._close_reader()
                self._stop.wait(AFTER_ERROR_S)
            except Exception:
                log.exception("relay.failed")
                self._stop.wait(AFTER_ERROR_S)
            else:
                self._news.wait(pause)
        self._close_reader()

    def _pass(self) -> float:
        """Promote and publish what is due; returns for how long to sleep if there is no news."""
        self._news.clear()
        if self._process.ledger.outgrown:  # newer processes see to it
            return LONGEST_SLEEP_S
        # Under load this is asked 200 times a second, hence a connection of its own.
        self._reader = self._reader or self._process.ledger.connect()
        due = next_due(self._reader)
        now = clock.now()
        if due is not None and due <= now:
            self._process.ledger.write(partial(promote, now=now, limit=BATCH))
        delivery().publish()
        if due is None:
            return LONGEST_SLEEP_S
        return min(LONGEST_SLEEP_S, max(0.0, (due - now).total_seconds()))

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
