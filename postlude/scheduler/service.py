"""The scheduler's loop: APScheduler's, guarded, since its own ends silently on an error."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_STOPPED

from postlude.errors import LedgerError
from postlude.scheduler.executor import TickExecutor
from postlude.scheduler.jobstore import POLL, LedgerJobStore

if TYPE_CHECKING:
    from datetime import timedelta

    from postlude.ledger.ledger import Ledger

log = structlog.get_logger()

RETRY_S = 1.0
"""Pause after a pass that could not be finished."""


class Service(BackgroundScheduler):  # type: ignore[misc] # APScheduler ships no types
    """Ticks what is due, in a thread of its own, until it is stopped.

    A pass that fails is abandoned as a whole, which loses nothing: it has written all or nothing,
    and the next one finds what is still due.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._store = LedgerJobStore(ledger)
        self._failures = 0
        super().__init__(
            jobstores={"default": self._store},
            executors={"default": TickExecutor()},
            timezone=UTC,
        )

    @property
    def alive(self) -> bool:
        """Whether the loop's thread runs."""
        return bool(self._thread and self._thread.is_alive())

    def stop(self, timeout: timedelta) -> bool:
        """Begin no further pass and wait for the one under way; False when that takes too long."""
        self.state = STATE_STOPPED
        self.wakeup()
        self._thread.join(timeout.total_seconds())
        return not self.alive

    def _process_jobs(self) -> float | None:
        """Make one pass; returns how many seconds to wait before the next."""
        if self.state == STATE_STOPPED:
            return None
        try:
            self._store.begin()
            wait: float | None = super()._process_jobs()
        except LedgerError as error:
            self._failures += 1
            log.warning("scheduler.pass_abandoned", error=str(error), retry_s=RETRY_S)
            return RETRY_S
        except Exception:
            self._failures += 1
            log.exception("scheduler.pass_abandoned", retry_s=RETRY_S)
            return RETRY_S
        if self._failures:
            log.info("scheduler.recovered", abandoned=self._failures)
            self._failures = 0
        return None if wait is None else min(wait, POLL.total_seconds())  # whatever the clock does
