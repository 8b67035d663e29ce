"""Making good on a promise, or taking it back: ``accepted`` → queued, scheduled or cancelled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import follow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from postlude.ledger.statement import Tx

RELEASE = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = CASE WHEN run_at IS NULL OR run_at <= :now THEN 'queued' ELSE 'scheduled' END,
        generation = generation + 1, published_at = NULL, owner = NULL
    WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'accepted' AND owner = :owner""")
)
WITHDRAW = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = 'cancelled', reason = 'request-failed', owner = NULL, finished_at = :now
    WHERE id = :id AND state = 'accepted' AND owner = :owner
    RETURNING followed""")
)


def release(tx: Tx, task: str, *, owner: str, now: datetime) -> bool:
    """Let the task run: its response is out. False when ``owner`` does not owe it (any more)."""
    return bool(release_all(tx, [task], owner=owner, now=now))


def release_all(tx: Tx, tasks: Sequence[str], *, owner: str, now: datetime) -> int:
    """Let these run, all by one statement, which leaves the interpreter's lock to others meanwhile.

    Returns how many ``owner`` owed.
    """
    return tx.run(RELEASE, ids=json.dumps(tasks), owner=owner, now=to_micros(now))


def withdraw(tx: Tx, task: str, *, owner: str, now: datetime) -> bool:
    """Cancel the task and what waits for it: its request ended before a response.

    False when ``owner`` does not owe it.
    """
    gone = tx.rows(WITHDRAW, id=task, owner=owner, now=to_micros(now))
    if gone and gone[0][0]:
        follow.withdrawn(tx, task, now=now)
    return bool(gone)


def withdraw_all(tx: Tx, tasks: Sequence[str], *, owner: str, now: datetime) -> None:
    """Cancel these, as :func:`withdraw` does."""
    for task in tasks:
        withdraw(tx, task, owner=owner, now=now)
