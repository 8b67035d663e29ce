"""Reading schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, select

from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.schema import schedules

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_LIVE = and_(schedules.c.paused == 0, schedules.c.broken.is_(None))


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule whose ``next_at`` has come. Documents are JSON text as stored."""

    id: str
    incarnation: str
    actor: str
    arguments: str
    options: str
    trigger: str
    timezone: str
    misfire: str
    misfire_window: timedelta
    created_at: datetime
    next_at: datetime


def due(connection: Connection, *, now: datetime, limit: int) -> list[DueSchedule]:
    """Return up to ``limit`` schedules that should have fired, the latest ones last.

    Others may be looking at the same ones: recording a tick settles who takes it.
    """
    columns = schedules.c
    rows = connection.execute(
        select(
            columns.id,
            columns.incarnation,
            columns.actor,
            columns.arguments,
            columns.options,
            columns.trigger,
            columns.timezone,
            columns.misfire,
            columns.misfire_window,
            columns.created_at,
            columns.next_at,
        )
        .where(_LIVE, columns.next_at <= to_micros(now))
        .order_by(columns.next_at, columns.id)
        .limit(limit)
    )
    return [
        DueSchedule(
            *row[:8],
            misfire_window=timedelta(microseconds=row.misfire_window),
            created_at=from_micros(row.created_at),
            next_at=from_micros(row.next_at),
        )
        for row in rows
    ]


def next_at(connection: Connection) -> datetime | None:
    """Return when the next schedule fires, None if none will."""
    found: int | None = connection.scalar(select(func.min(schedules.c.next_at)).where(_LIVE))
    return from_micros(found)


def actors(connection: Connection) -> dict[str, str]:
    """Return the actor of every schedule that will fire."""
    rows = connection.execute(
        select(schedules.c.id, schedules.c.actor).where(_LIVE, schedules.c.next_at.is_not(None))
    )
    return {row.id: row.actor for row in rows}
