"""``running`` → queued, without a fault: the worker gives back what it has not started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed

HAND_BACK = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'queued', generation = generation + 1, published_at = NULL,
        token = NULL, owner = NULL, claimed_at = NULL
    WHERE seq = :seq AND state = 'running' AND token = :token""")
)

FORGOTTEN = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'queued', generation = generation + 1, published_at = NULL,
        token = NULL, owner = NULL, claimed_at = NULL
    WHERE id = :id AND state = 'running' AND owner = :owner""")
)


def hand_back(tx: Tx, task: Claimed) -> bool:
    """Queue the task again for any worker; it counts as no attempt. False when no longer held."""
    return bool(tx.run(HAND_BACK, seq=task.seq, token=task.token))


def forgotten(tx: Tx, task: str, *, owner: str) -> bool:
    """Queue a task again that its living owner does not know of: the reply to its claim was lost."""
    return bool(tx.run(FORGOTTEN, id=task, owner=owner))
