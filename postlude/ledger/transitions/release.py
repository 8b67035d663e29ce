"""Making good on a promise, or taking it back: ``accepted`` → queued, scheduled or cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

RELEASE = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = CASE WHEN run_at IS NULL OR run_at <= :now THEN 'queued' ELSE 'scheduled' END,
        generation = generation + 1, published_at = NULL, owner = NULL
    WHERE id = :id AND state = 'accepted' AND owner = :owner""")
)
WITHDRAW = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'cancelled', reason = 'request-failed', owner = NULL, finished_at = :now
    WHERE id = :id AND state = 'accepted' AND owner = :owner""")
)


def release(tx: Tx, task: str, *, owner: str, now: datetime) -> bool:
    """Let the task run: its response is out. False when ``owner`` does not owe it (any more)."""
    return bool(tx.run(RELEASE, id=task, owner=owner, now=to_micros(now)))


def withdraw(tx: Tx, task: str, *, owner: str, now: datetime) -> bool:
    """Cancel the task: its request ended before a response. False when ``owner`` does not owe it."""
    return bool(tx.run(WITHDRAW, id=task, owner=owner, now=to_micros(now)))
