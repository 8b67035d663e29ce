"""Taking keys, in the transaction that stores what takes them: of any number who try, one gets it.

Whether a key is free is found out when somebody asks for it, from the row of the task that has it. So
a task that ends need not give its key back, and costs nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.key import KeptAnswer
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.key import Answer, UniqueKey
    from postlude.ledger.statement import Tx

TAKE = Statement(
    text("""
    INSERT INTO postlude_keys (scope, key, task, held, expires_at)
    VALUES (:scope, :key, :task, :held, :expires_at)
    ON CONFLICT (scope, key) DO UPDATE
    SET task = excluded.task, held = excluded.held, expires_at = excluded.expires_at
    WHERE postlude_keys.expires_at <= :now OR postlude_keys.task = excluded.task OR coalesce((
        SELECT CASE postlude_keys.held
            WHEN 'unfinished' THEN state IN ('succeeded', 'failed', 'cancelled')
            WHEN 'queued' THEN attempts > 0
                OR state NOT IN ('accepted', 'waiting', 'scheduled', 'queued')
            ELSE state = 'cancelled' END
        FROM postlude_tasks INDEXED BY postlude_tasks_id WHERE id = postlude_keys.task
    ), postlude_keys.expires_at IS NULL)""")
)
DUPLICATE = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'cancelled', reason = 'duplicate', owner = NULL, finished_at = :now,
        duplicate_of = (SELECT task FROM postlude_keys WHERE scope = :scope AND key = :key)
    WHERE id = :task AND state IN ('accepted', 'queued', 'scheduled')""")
)
KEEP = Statement(
    text("""
    INSERT INTO postlude_keys (scope, key, task, held, expires_at, fingerprint, answer)
    VALUES (:scope, :key, :task, 'period', :expires_at, :fingerprint, :answer)
    ON CONFLICT (scope, key) DO UPDATE
    SET task = excluded.task, expires_at = excluded.expires_at,
        fingerprint = excluded.fingerprint, answer = excluded.answer
    WHERE postlude_keys.expires_at <= :now OR postlude_keys.task = excluded.task""")
)
KEPT = Statement(
    text("SELECT fingerprint, answer FROM postlude_keys WHERE scope = :scope AND key = :key")
)


def take(tx: Tx, unique: UniqueKey, *, task: str, now: datetime) -> bool:
    """Give the key to ``task``, which this transaction has just stored, or cancel it as a duplicate.

    ``now`` is when the task was added. Returns whether the task has the key.
    """
    taken = claim(tx, unique, task=task, now=now)
    if not taken:
        tx.run(DUPLICATE, task=task, scope=unique.scope, key=unique.key, now=to_micros(now))
    return taken


def claim(tx: Tx, unique: UniqueKey, *, task: str, now: datetime) -> bool:
    """Give the key to ``task`` if it is free or has it already; returns whether it has it now."""
    return bool(
        tx.run(
            TAKE,
            scope=unique.scope,
            key=unique.key,
            task=task,
            held=unique.held.value,
            expires_at=to_micros(unique.expires_at),
            now=to_micros(now),
        )
    )


def keep(tx: Tx, answer: Answer, *, task: str) -> KeptAnswer | None:
    """Store the answer of a request, of whose tasks ``task`` is the first.

    Returns None, also when it is replayed; or the answer that another request with this key got
    before, whatever that was: then this one's tasks must not be stored.
    """
    kept = tx.run(
        KEEP,
        scope=answer.scope,
        key=answer.key,
        task=task,
        expires_at=to_micros(answer.expires_at),
        fingerprint=answer.fingerprint,
        answer=answer.text,
        now=to_micros(answer.answered_at),
    )
    if kept:
        return None
    ((fingerprint, found),) = tx.rows(KEPT, scope=answer.scope, key=answer.key)
    return KeptAnswer(fingerprint, found)
