"""Deleting finished tasks whose retention is over, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.states import State

VERSION_AT = 14
"""Where a UUID's text has its version (RFC 9562)."""
DELETE = Statement(
    text("""
    DELETE FROM postlude_tasks
    WHERE seq IN (
        SELECT seq FROM postlude_tasks INDEXED BY postlude_tasks_finished
        WHERE state = :state AND finished_at IS NOT NULL AND finished_at < :before
        ORDER BY finished_at, seq LIMIT :limit)
    RETURNING id""")
)
REMEMBER = Statement(
    text("""
    INSERT INTO postlude_deleted (id, deleted_at) VALUES (:id, :now)
    ON CONFLICT (id) DO NOTHING""")
)
_FORGET = Statement(text("DELETE FROM postlude_deleted WHERE deleted_at < :before"))


def delete_finished(tx: Tx, state: State, *, before: datetime, limit: int, now: datetime) -> int:
    """Delete up to ``limit`` tasks that ended in ``state`` before then, with their attempts.

    Ticks and schedules stay: they carry their own identity. An id that does not tell its age (only
    UUIDv7 does) is remembered, so that it can be said of it that it was. Returns how many went.
    """
    gone = tx.rows(DELETE, state=state.value, before=to_micros(before), limit=limit)
    for (task,) in gone:
        if task[VERSION_AT : VERSION_AT + 1] != "7":
            tx.run(REMEMBER, id=task, now=to_micros(now))
    return len(gone)


def forget_deleted(tx: Tx, *, before: datetime) -> int:
    """Forget the ids of tasks that were deleted before then: from then on they never were."""
    return tx.run(_FORGET, before=to_micros(before))
