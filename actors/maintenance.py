"""What reports how the ledger fares, by schedule.

An example of schedules, too: ``@cron`` and ``@every`` stand above ``@dramatiq.actor``.
"""

import dramatiq
import structlog

from postlude import every
from postlude.ledger.queries import tasks
from postlude.process import current

log = structlog.get_logger()


@every("1m", first="5s", misfire="skip")
@dramatiq.actor(max_retries=0)
def report_tasks() -> None:
    """Log how many tasks there are in each state. May run twice: yes, it changes nothing."""
    with current().ledger.read() as connection:
        found = tasks.counts(connection)
    log.info("tasks.report", **{state.value: count for state, count in found.items()})
