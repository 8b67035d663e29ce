"""What happened how often: from the roll-ups and, for stale hours, from the events themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from sqlalchemy import func, select, union_all

from actors.analytics.event import following, hour_of
from actors.analytics.tables import events, rollups, stale_hours
from postlude.ledger.clock import from_micros, to_micros

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Subquery

DAY = timedelta(days=1)
LONGEST = 31 * DAY


@dataclass(frozen=True, slots=True)
class Window:
    """Whole hours of UTC, from ``since`` until just before ``until``."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None, *, now: datetime) -> Self:
        """Return the hours that have a part between the two; by default the last 24 of them.

        Raises ValueError when there are none, or more than 31 days of them.
        """
        last = following(hour_of(now)) if until is None else _rounded_up(until)
        first = last - DAY if since is None else hour_of(since)
        if first >= last:
            message = f"ends at {last.isoformat()}, which is not after {first.isoformat()}"
            raise ValueError(message)
        if last - first > LONGEST:
            message = f"is longer than {LONGEST.days} days; ask for less at a time"
            raise ValueError(message)
        return cls(first, last)


@dataclass(frozen=True, slots=True)
class Count:
    """How many events of one name there were in one hour."""

    hour: datetime
    name: str
    count: int


def hourly(
    connection: Connection, window: Window, *, name: str | None = None, limit: int
) -> list[Count]:
    """Return the counts in ``window``, of all names or one, by hour and name; ``limit`` at most."""
    counts = _counts(window, name)
    query = select(counts).order_by(counts.c.hour, counts.c.name).limit(limit)
    return [Count(from_micros(hour), name, n) for hour, name, n in connection.execute(query)]


def totals(connection: Connection, window: Window, *, limit: int) -> dict[str, int]:
    """Return the counts of all of ``window`` by name, the most frequent first; ``limit`` at most."""
    counts = _counts(window, None)
    total = func.sum(counts.c.count)
    query = (
        select(counts.c.name, total)
        .group_by(counts.c.name)
        .order_by(total.desc(), counts.c.name)
        .limit(limit)
    )
    return {name: int(n) for name, n in connection.execute(query)}


def _counts(window: Window, name: str | None) -> Subquery:
    """Return hour, name and count as one query sees them, and so without an event between two."""
    since, until = to_micros(window.since), to_micros(window.until)

    def wanted(
        hour: ColumnElement[int], column: ColumnElement[str]
    ) -> tuple[ColumnElement[bool], ...]:
        within = (hour >= since, hour < until)
        return within if name is None else (*within, column == name)

    stale = select(stale_hours.c.hour).where(
        stale_hours.c.hour >= since, stale_hours.c.hour < until
    )
    rolled_up = select(rollups.c.hour, rollups.c.name, rollups.c.count).where(
        *wanted(rollups.c.hour, rollups.c.name), rollups.c.hour.not_in(stale)
    )
    fresh = (
        select(events.c.hour, events.c.name, func.count().label("count"))
        .where(*wanted(events.c.hour, events.c.name), events.c.hour.in_(stale))
        .group_by(events.c.hour, events.c.name)
    )
    archived = select(rollups.c.hour, rollups.c.name, rollups.c.archived.label("count")).where(
        *wanted(rollups.c.hour, rollups.c.name),
        rollups.c.hour.in_(stale),
        rollups.c.archived > 0,
    )
    tail = union_all(fresh, archived).subquery()
    counted = select(tail.c.hour, tail.c.name, func.sum(tail.c.count).label("count")).group_by(
        tail.c.hour, tail.c.name
    )
    return union_all(rolled_up, counted).subquery()


def _rounded_up(at: datetime) -> datetime:
    hour = hour_of(at)
    return hour if hour == at else following(hour)
