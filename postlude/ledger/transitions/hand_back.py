"""``running`` → queued, without a fault: the worker gives back what it has not started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import follow

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed

HAND_BACK = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'queued', generation = generation + 1, published_at = NULL,
        token = NULL, owner = NULL, claimed_at = NULL
    WHERE seq = :seq AND state = 'running' AND token = :token AND cancel_requested = 0""")
)
CANCEL = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'cancelled', reason = 'by-request', token = NULL, owner = NULL, cancel_requested = 0,
        finished_at = :now
    WHERE seq = :seq AND state = 'running' AND token = :token""")
)

FORGOTTEN = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'queued', generation = generation + 1, published_at = NULL,
        token = NULL, owner = NULL, claimed_at = NULL
    WHERE id = :id AND state = 'running' AND owner = :owner""")
)


def hand_back(tx: Tx, task: Claimed, *, now: datetime) -> bool:
    """Queue the task again for any worker; it counts as no attempt. False when no longer held.

    If somebody wants it cancelled, that is what becomes of it.
    """
    if tx.run(HAND_BACK, seq=task.seq, token=task.token):
        return True
    cancelled = tx.run(CANCEL, seq=task.seq, token=task.token, now=to_micros(now))
    if cancelled and task.followed:
        follow.ended(tx, [task.id], now=now)
    return bool(cancelled)


def forgotten(tx: Tx, task: str, *, owner: str) -> bool:
    """Queue a task again that its living owner does not know of: the reply to its claim was lost."""
    return bool(tx.run(FORGOTTEN, id=task, owner=owner))
