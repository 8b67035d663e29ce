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
from postlude.ledger.transitions.retain import delete_finished
from postlude.policy.retention import cutoffs
from postlude.process import current
from postlude.states import State

log = structlog.get_logger()

BATCH = 200
"""Tasks deleted in one transaction: a few milliseconds, between which others write."""
KEEP_PROCESSES = timedelta(days=7)
"""How long the ledger remembers a process that has ended."""


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

    Forgets processes that ended long ago, too. May run twice, also at once: yes, what is deleted is
    deleted. Interrupted, it goes on next time.
    """
    process, now = current(), datetime.now(UTC)
    for state, before in cutoffs(process.settings, now).items():
        deleted = _delete(process.ledger, state, before)
        if deleted:
            log.info("tasks.deleted", state=state.value, count=deleted, before=before.isoformat())
    process.ledger.write(partial(sweep, before=now - KEEP_PROCESSES))


def _delete(ledger: Ledger, state: State, before: datetime) -> int:
    """Delete them batch by batch, each in a transaction of its own; returns how many there were."""
    write = partial(delete_finished, state=state, before=before, limit=BATCH)
    deleted = 0
    while found := ledger.write(write):
        deleted += found
    return deleted
