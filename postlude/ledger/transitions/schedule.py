"""How schedules come and change: declared in code, retired with it, set aside when broken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import uuid_utils
from sqlalchemy import text

from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from datetime import datetime

    from postlude.ledger.statement import Tx

CODE = "code:"
"""What ``declared_by`` begins with, before the source, if it was code."""
FIND = Statement(
    text("""
    SELECT declared_by, next_at, created_at, actor, arguments, options, "trigger", timezone,
        misfire, misfire_window, broken
    FROM postlude_schedules WHERE id = :id""")
)
ADD = Statement(
    text("""
    INSERT INTO postlude_schedules (
        id, incarnation, actor, arguments, options, "trigger", timezone, misfire, misfire_window,
        overlap, jitter, declared_by, next_at, paused, broken, created_at, updated_at)
    VALUES (
        :id, :incarnation, :actor, :arguments, :options, :trigger, :timezone, :misfire,
        :misfire_window, 'allow', 0, :source, :next_at, 0, :broken, :created_at, :created_at)
    ON CONFLICT (id) DO NOTHING""")
)
CHANGE = Statement(
    text("""
    UPDATE postlude_schedules
    SET actor = :actor, arguments = :arguments, options = :options, "trigger" = :trigger,
        timezone = :timezone, misfire = :misfire, misfire_window = :misfire_window,
        broken = :broken, next_at = :next_at, declared_by = :source, updated_at = :now
    WHERE id = :id AND declared_by LIKE 'code:%'""")
)
DECLARED = Statement(
    text("SELECT id FROM postlude_schedules WHERE declared_by = :source AND next_at IS NOT NULL")
)
RETIRE = Statement(
    text("""
    UPDATE postlude_schedules SET next_at = NULL, broken = :reason, updated_at = :now
    WHERE id = :id AND declared_by = :source""")
)
BREAK = Statement(
    text("""
    UPDATE postlude_schedules SET broken = :reason, updated_at = :now
    WHERE id = :id AND incarnation = :incarnation AND broken IS NULL""")
)
RETRY = Statement(
    text("""
    UPDATE postlude_schedules SET broken = NULL
    WHERE next_at IS NOT NULL AND broken IS NOT NULL""")
)


class Change(StrEnum):
    """What a declaration did to the row."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    """The id belongs to a schedule that was not made by code."""


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule that was checked and encoded.

    ``options`` is a JSON object of message options, with the ``queue`` and the ``priority`` of its
    tasks. ``first_fire(anchor, since)`` is its first fire time from ``since`` on if it was made at
    ``anchor``.
    """

    id: str
    actor: str
    arguments: str
    options: str
    trigger: str
    timezone: str
    misfire: str
    misfire_window: timedelta
    broken: str | None
    first_fire: Callable[[datetime, datetime], datetime | None]

    def columns(self) -> dict[str, str | int | None]:
        """Return what a declaration decides about the row."""
        return {
            "actor": self.actor,
            "arguments": self.arguments,
            "options": self.options,
            "trigger": self.trigger,
            "timezone": self.timezone,
            "misfire": self.misfire,
            "misfire_window": self.misfire_window // timedelta(microseconds=1),
            "broken": self.broken,
        }


def declare(tx: Tx, schedule: NewSchedule, *, source: str, now: datetime) -> Change:
    """Bring the row in line with what code declares. May be replayed, and by several at once.

    ``source`` names the application whose code it is. A row that fits already is left alone: a deploy
    does not begin its interval anew. A changed trigger counts from the same anchor as before; a fire
    time that is due already is still dealt with. A pause stays.
    """
    found = tx.rows(FIND, id=schedule.id)
    columns = schedule.columns()
    if not found:
        anchor = now.replace(microsecond=0)
        tx.run(
            ADD,
            **columns,
            id=schedule.id,
            source=CODE + source,
            incarnation=str(uuid_utils.uuid7()),
            next_at=to_micros(schedule.first_fire(anchor, anchor)),
            created_at=to_micros(anchor),
        )
        return Change.ADDED
    declared_by, next_at, created_at, *row = found[0]
    if not declared_by.startswith(CODE):
        return Change.REFUSED
    source = CODE + source
    if (declared_by, *row) == (source, *columns.values()) and next_at is not None:
        return Change.UNCHANGED
    if next_at is None or next_at > to_micros(now):
        next_at = to_micros(schedule.first_fire(from_micros(created_at), now))
    tx.run(CHANGE, **columns, id=schedule.id, source=source, next_at=next_at, now=to_micros(now))
    return Change.CHANGED


def retire(tx: Tx, *, declared: Container[str], source: str, now: datetime) -> list[str]:
    """Stop the schedules that this ``source`` has made and no longer declares; returns their ids.

    Their rows and ticks stay, and a declaration that comes back goes on with them.
    """
    source = CODE + source
    gone = [str(row[0]) for row in tx.rows(DECLARED, source=source) if row[0] not in declared]
    for id_ in gone:
        tx.run(
            RETIRE, id=id_, source=source, reason="no longer declared in code", now=to_micros(now)
        )
    return gone


def set_aside(tx: Tx, id_: str, incarnation: str, *, reason: str, now: datetime) -> bool:
    """Keep a schedule that cannot fire from being tried again; False if it was already."""
    return bool(tx.run(BREAK, id=id_, incarnation=incarnation, reason=reason, now=to_micros(now)))


def try_again(tx: Tx) -> int:
    """Give broken schedules another chance, as after a deploy; returns how many there are."""
    return tx.run(RETRY)
