"""How events are stored, counted and deleted: each function is one short, replayable write.

An hour is *stale* from the first event that its roll-up does not count until the next roll-up. That
mark is set and removed in the transactions of the events and of the roll-up themselves, so what
roll-ups say about all other hours is exact, however late an event arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import to_json
from sqlalchemy import select, text

from actors.analytics.event import hour_of
from actors.analytics.tables import stale_hours
from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from actors.analytics.event import Event
    from postlude.ledger.statement import Tx

_RECORD = Statement(
    text("""
    INSERT INTO events (id, name, at, hour, data, recorded_at)
    VALUES (:id, :name, :at, :hour, :data, :now)
    ON CONFLICT (id) DO NOTHING""")
)
_MARK = Statement(
    text("INSERT INTO event_stale_hours (hour) VALUES (:hour) ON CONFLICT (hour) DO NOTHING")
)
_UNMARK = Statement(text("DELETE FROM event_stale_hours WHERE hour = :hour"))
_ROLL_UP = Statement(
    text("""
    INSERT INTO event_rollups (hour, name, count, archived)
    SELECT hour, name, count(*), 0 FROM events WHERE hour = :hour GROUP BY hour, name
    ON CONFLICT (hour, name) DO UPDATE SET count = event_rollups.archived + excluded.count""")
)
_OLD = """
    SELECT id FROM events
    WHERE recorded_at < :before AND hour NOT IN (SELECT hour FROM event_stale_hours)
    ORDER BY recorded_at, id LIMIT :limit"""
_ARCHIVE = Statement(
    text(f"""
    UPDATE event_rollups SET archived = archived + gone.number
    FROM (
        SELECT hour, name, count(*) AS number FROM events
        WHERE id IN ({_OLD}) GROUP BY hour, name) AS gone
    WHERE event_rollups.hour = gone.hour AND event_rollups.name = gone.name""")  # noqa: S608 - ours
)
_DELETE = Statement(text(f"DELETE FROM events WHERE id IN ({_OLD})"))  # noqa: S608 - ours


def record(tx: Tx, events: Iterable[Event], *, now: datetime) -> int:
    """Store the events whose ids are new; returns how many those are."""
    new = 0
    for event in events:
        hour = to_micros(hour_of(event.at))
        stored = tx.run(
            _RECORD,
            id=event.id,
            name=event.name,
            at=to_micros(event.at),
            hour=hour,
            data=to_json(event.data).decode(),
            now=to_micros(now),
        )
        if stored:
            tx.run(_MARK, hour=hour)
        new += stored
    return new


def roll_up(tx: Tx, *, hour: datetime) -> int:
    """Count the events of ``hour`` anew, by name; returns how many names it has.

    The mark goes first: where writers do not exclude each other, an event that is stored meanwhile
    waits for this transaction to set it again.
    """
    tx.run(_UNMARK, hour=to_micros(hour))
    return tx.run(_ROLL_UP, hour=to_micros(hour))


def delete_old(tx: Tx, *, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` events that were recorded before then; their roll-ups keep the counts.

    Events of a stale hour stay until it has been rolled up. Returns how many went.
    """
    parameters = {"before": to_micros(before), "limit": limit}
    tx.run(_ARCHIVE, **parameters)
    return tx.run(_DELETE, **parameters)


def stale(connection: Connection) -> list[datetime]:
    """Return the hours whose roll-up is out of date, oldest first."""
    found = connection.execute(select(stale_hours.c.hour).order_by(stale_hours.c.hour))
    return [from_micros(hour) for hour in found.scalars()]
