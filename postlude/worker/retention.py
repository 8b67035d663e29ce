"""Deletes what has been kept for long enough, a few tasks at a time, in every worker and scheduler."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude.ledger import clock
from postlude.ledger.transitions.incarnation import sweep
from postlude.ledger.transitions.retain import (
    delete_expired_keys,
    delete_finished,
    forget_deleted,
    give_back,
)
from postlude.policy.retention import cutoffs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.process import Process

log = structlog.get_logger()

FIRST_S = 30.0
EVERY_S = 600.0
BATCH = 200
"""Tasks or keys deleted in one transaction: a few milliseconds."""
PAUSE_S = 0.02
"""Between two batches others write; what is overdue goes at ten thousand a second all the same."""
SLOW_S = 60.0
"""A look that takes longer is worth a line in the log."""
KEEP_PROCESSES = timedelta(days=7)
"""How long the ledger remembers a process that has ended."""
KEEP_IDS = timedelta(days=90)
"""How long it remembers that a deleted task was, if its id does not tell."""


class Retention:
    """A chore of one process. Any number of processes may do it at once: what is gone is gone."""

    def __init__(self, owner: Process) -> None:
        self._process = owner
        self._next = time.monotonic() + FIRST_S

    def look(self) -> None:
        """Delete what is due, if it is time. Raises LedgerError; the next look goes on."""
        if time.monotonic() < self._next:
            return
        self.clean(clock.now())
        self._next = time.monotonic() + EVERY_S

    def clean(self, now: datetime) -> None:
        """Delete what is over: finished tasks, expired keys; forget processes of long ago."""
        ledger = self._process.ledger
        for state, before in cutoffs(self._process.settings, now).items():
            delete = partial(delete_finished, state=state, before=before, now=now)
            if count := self._delete(delete):
                log.info("tasks.deleted", state=state.value, count=count, before=before.isoformat())
        if count := self._delete(partial(delete_expired_keys, now=now)):
            log.info("keys.deleted", count=count)
        if count := self._repeat(give_back):
            log.info("ledger.shrunk", pages=count)
        ledger.write(partial(sweep, before=now - KEEP_PROCESSES))
        ledger.write(partial(forget_deleted, before=now - KEEP_IDS))

    def _delete(self, delete: Callable[..., int]) -> int:
        """Delete batch by batch; returns how many there were."""
        return self._repeat(partial(delete, limit=BATCH))

    def _repeat(self, write: Callable[[Tx], int]) -> int:
        """Write, each time in a transaction of its own, until there is nothing left; returns the sum."""
        done = 0
        while not self._process.ended and (found := self._process.ledger.write(write)):
            done += found
            time.sleep(PAUSE_S)
        return done
