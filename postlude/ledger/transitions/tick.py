"""A schedule fires: its tick is recorded, its task queued and its next time set, all or nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions.accept import enqueue

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import NewTask

ADVANCE = Statement(
    text("""
    UPDATE postlude_schedules SET next_at = :next_at, last_at = :last_at
    WHERE id = :id AND incarnation = :incarnation AND next_at = :claimed AND paused = 0""")
)
RECORD = Statement(
    text("""
    INSERT INTO postlude_ticks (
        schedule, incarnation, scheduled_for, ticked_at, task, outcome, reason)
    VALUES (:schedule, :incarnation, :scheduled_for, :ticked_at, :task, :outcome, :reason)
    ON CONFLICT (schedule, incarnation, scheduled_for) DO NOTHING""")
)


@dataclass(frozen=True, slots=True)
class Tick:
    """One fire time: the task that it makes, or the reason why it makes none."""

    scheduled_for: datetime
    task: NewTask | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Firing:
    """All ticks of one schedule in one pass; ``claimed`` is the ``next_at`` that it has read."""

    schedule: str
    incarnation: str
    claimed: datetime
    next_at: datetime | None
    ticks: tuple[Tick, ...]


def task_id(incarnation: str, scheduled_for: datetime) -> str:
    """Return the id of the one task that this fire time can ever make."""
    return str(uuid.uuid5(uuid.UUID(incarnation), str(to_micros(scheduled_for))))


def record(tx: Tx, firings: Iterable[Firing], *, now: datetime) -> list[tuple[Firing, Tick]]:
    """Record ``firings`` and queue their tasks; returns the ticks that were new.

    Any number of schedulers may record the same ones at once: the first to advance a schedule takes
    its ticks, the others change nothing. A fire time that has its tick already, because the clock
    or the trigger was set back, makes no second task. May be replayed.
    """
    return [
        (firing, tick)
        for firing in firings
        if _advance(tx, firing)
        for tick in firing.ticks
        if _record(tx, firing, tick, now)
    ]


def _advance(tx: Tx, firing: Firing) -> bool:
    return bool(
        tx.run(
            ADVANCE,
            id=firing.schedule,
            incarnation=firing.incarnation,
            claimed=to_micros(firing.claimed),
            next_at=to_micros(firing.next_at),
            last_at=to_micros(firing.ticks[-1].scheduled_for),
        )
    )


def _record(tx: Tx, firing: Firing, tick: Tick, now: datetime) -> bool:
    """Insert the tick and, only if it is new, its task."""
    inserted = tx.run(
        RECORD,
        schedule=firing.schedule,
        incarnation=firing.incarnation,
        scheduled_for=to_micros(tick.scheduled_for),
        ticked_at=to_micros(now),
        task=tick.task.id if tick.task else None,
        outcome="queued" if tick.task else "skipped",
        reason=tick.reason,
    )
    if inserted and tick.task:
        enqueue(tx, tick.task, now=now)
    return bool(inserted)
