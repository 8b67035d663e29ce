"""Analytics: events come in by ``record_events`` and are counted by the hour."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Annotated

import dramatiq
import structlog
from pydantic import Field

from actors.analytics import cached, store
from actors.analytics.event import Event, Instant, hour_of
from actors.cache import refresh_soon
from postlude import cron, every, set_progress
from postlude.ledger import clock
from postlude.process import current

log = structlog.get_logger()

MOST = 1000
"""Events in one task."""
CHUNK = 200
"""Events stored or deleted in one transaction: a few milliseconds, between which others write."""


@dramatiq.actor
def record_events(events: Annotated[Sequence[Event], Field(min_length=1, max_length=MOST)]) -> int:
    """Store ``events`` for the summary; returns how many of them were new.

    May run twice: yes. An id that is known already is not stored again; an event without one gets it
    when the task is added. Has the summary in the cache loaded anew afterwards.
    """
    ledger, new, rest = current().ledger, 0, iter(events)
    while chunk := list(islice(rest, CHUNK)):
        new += ledger.write(partial(store.record, events=chunk, now=clock.now()))
    if new:
        refresh_soon(cached.KEY, as_of=clock.now())
    return new


@cron("1 * * * *")
@dramatiq.actor(max_retries=3)
def roll_up_events(hour: Instant | None = None) -> int:
    """Count the events of the UTC hour that ``hour`` is in; returns how many hours were counted.

    Without one, as the schedule runs it: those of every hour that got events since it was counted,
    however late they came. May run twice, also at once: yes, an hour is counted anew every time.
    """
    ledger = current().ledger
    with ledger.read() as connection:
        hours = store.stale(connection) if hour is None else [hour_of(hour)]
    for done, each in enumerate(hours):
        set_progress({"done": done, "of": len(hours)})
        ledger.write(partial(store.roll_up, hour=each))
    return len(hours)


@every("1h", first="2m")
@dramatiq.actor(max_retries=3, time_limit=3_600_000)
def delete_old_events() -> int:
    """Delete events that were recorded too long ago (POSTLUDE_KEEP_EVENTS); their counts stay.

    May run twice, also at once: yes, what is deleted is deleted. Returns how many there were. The id
    of an event that is gone is forgotten: sent again, it counts again.
    """
    keep = current().settings.keep_events
    if keep == "never":
        return 0
    deleted, before = 0, clock.now() - keep
    write = partial(store.delete_old, before=before, limit=CHUNK)
    while found := current().ledger.write(write):
        deleted += found
    if deleted:
        log.info("events.deleted", count=deleted, before=before.isoformat())
    return deleted
