"""Deleting finished tasks and keys whose time is over, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.policy.retention import excess
from postlude.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

VERSION_AT = 14
"""Where a UUID's text has its version (RFC 9562)."""
DELETE = Statement(
    text("""
    DELETE FROM postlude_tasks
    WHERE seq IN (
        SELECT seq FROM postlude_tasks INDEXED BY postlude_tasks_finished
        WHERE state = :state AND finished_at IS NOT NULL AND finished_at < :before
            AND (waits_for IS NULL OR reason IS NOT 'upstream-failed')
        ORDER BY finished_at, seq LIMIT :limit)
    RETURNING id, followed, group_id""")
)
FREE = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_waiting SET waits_for = NULL
    WHERE waits_for = :upstream AND state = 'cancelled' AND reason = 'upstream-failed'""")
)
REMEMBER = Statement(
    text("""
    INSERT INTO postlude_deleted (id, deleted_at) VALUES (:id, :now)
    ON CONFLICT (id) DO NOTHING""")
)
KEYS_OF = Statement(
    text("""
    DELETE FROM postlude_keys INDEXED BY postlude_keys_task
    WHERE task = :task AND (expires_at IS NULL OR (:cancelled = 1 AND answer IS NULL))""")
)
EXPIRED_KEYS = Statement(
    text("""
    DELETE FROM postlude_keys
    WHERE (scope, key) IN (
        SELECT scope, key FROM postlude_keys INDEXED BY postlude_keys_expiry
        WHERE expires_at IS NOT NULL AND expires_at <= :now
        ORDER BY expires_at LIMIT :limit)""")
)
STEP = 100
"""Free pages given back at once: one to six milliseconds, the larger part for moving others there."""
_PAGES = Statement(text("PRAGMA page_count"))
_FREE = Statement(text("PRAGMA freelist_count"))
_SHRINK = Statement(text(f"PRAGMA incremental_vacuum({STEP})"))
_FORGET = Statement(text("DELETE FROM postlude_deleted WHERE deleted_at < :before"))


def delete_finished(tx: Tx, state: State, *, before: datetime, limit: int, now: datetime) -> int:
    """Delete up to ``limit`` tasks that ended in ``state`` before then, with attempts and keys.

    Ticks and schedules stay: they carry their own identity. An id that does not tell its age (only
    UUIDv7 does) is remembered, so that it can be said of it that it was. What was cancelled because
    the task before it had failed stays as long as that one: somebody may retry it. Such a row is not
    even in the index that is read here before the row that it ``waits_for`` goes, and cuts it loose.
    What a cancelled task had a key for, it had given back. Returns how many went.
    """
    gone = tx.rows(DELETE, state=state.value, before=to_micros(before), limit=limit)
    for task, followed, group in gone:
        for upstream in (task if followed else None, group):
            if upstream is not None:
                tx.run(FREE, upstream=upstream)
        tx.run(KEYS_OF, task=task, cancelled=int(state is State.CANCELLED))
        if task[VERSION_AT : VERSION_AT + 1] != "7":
            tx.run(REMEMBER, id=task, now=to_micros(now))
    return len(gone)


def delete_expired_keys(tx: Tx, *, limit: int, now: datetime) -> int:
    """Delete up to ``limit`` keys whose period is over: anybody may have them. Returns how many."""
    return tx.run(EXPIRED_KEYS, limit=limit, now=to_micros(now))


def give_back(tx: Tx) -> int:
    """Give up to ``STEP`` pages that nothing uses back to the file system; returns how many.

    0 while the free ones are what a steady load is about to use again. The file gets shorter when the
    log is written back into it.
    """
    free = _number(tx, _FREE)
    if excess(_number(tx, _PAGES), free) <= 0:
        return 0
    tx.rows(_SHRINK)
    return free - _number(tx, _FREE)


def forget_deleted(tx: Tx, *, before: datetime) -> int:
    """Forget the ids of tasks that were deleted before then: from then on they never were."""
    return tx.run(_FORGET, before=to_micros(before))


def _number(tx: Tx, pragma: Statement) -> int:
    return int(tx.rows(pragma)[0][0])
