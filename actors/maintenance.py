"""What keeps the ledger in order, by schedule: old tasks are deleted, and their number is reported.

An example of schedules, too: ``@cron`` and ``@every`` stand above ``@dramatiq.actor``.
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import dramatiq
import structlog

from postlude import every
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import tasks
from postlude.ledger.transitions.incarnation import sweep
from postlude.ledger.transitions.retain import delete_finished, forget_deleted
from postlude.policy.retention import cutoffs
from postlude.process import current
from postlude.states import State

log = structlog.get_logger()

BATCH = 200
"""Tasks deleted in one transaction: a few milliseconds, between which others write."""
KEEP_PROCESSES = timedelta(days=7)
"""How long the ledger remembers a process that has ended."""
KEEP_IDS = timedelta(days=90)
"""How long it remembers that a deleted task was, if its id does not tell."""


@every("1m", first="5s", misfire="skip")
@dramatiq.actor(max_retries=0)
def report_tasks() -> None:
    """Log how many tasks there are in each state. May run twice: yes, it changes nothing."""
    with current().ledger.read() as connection:
        found = tasks.counts(connection)
    log.info("tasks.report", **{state.value: count for state, count in found.items()})


@every("1h", first="1m")
@dramatiq.actor(time_limit=3_600_000)
def delete_old_tasks() -> None:
    """Delete finished tasks whose retention is over (POSTLUDE_KEEP_SUCCEEDED and the like).

    Forgets processes and deleted ids of long ago, too. May run twice, also at once: yes, what is deleted is
    deleted. Interrupted, it goes on next time.
    """
    process, now = current(), datetime.now(UTC)
    for state, before in cutoffs(process.settings, now).items():
        deleted = _delete(process.ledger, state, before, now)
        if deleted:
            log.info("tasks.deleted", state=state.value, count=deleted, before=before.isoformat())
    process.ledger.write(partial(sweep, before=now - KEEP_PROCESSES))
    process.ledger.write(partial(forget_deleted, before=now - KEEP_IDS))


def _delete(ledger: Ledger, state: State, before: datetime, now: datetime) -> int:
    """Delete them batch by batch, each in a transaction of its own; returns how many there were."""
    write = partial(delete_finished, state=state, before=before, limit=BATCH, now=now)
    deleted = 0
    while found := ledger.write(write):
        deleted += found
    return deleted
