"""News about a running task that do not move it: it was started, it got further."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed

STARTED = Statement(
    text("""
    UPDATE postlude_tasks SET started_at = coalesce(started_at, :at)
    WHERE seq = :seq AND state = 'running' AND token = :token""")
)
PROGRESS = Statement(
    text("""
    UPDATE postlude_tasks SET progress = :progress
    WHERE seq = :seq AND state = 'running' AND token = :token""")
)


def mark_started(tx: Tx, task: Claimed, *, at: datetime) -> bool:
    """Say that the actor was entered; the first time counts. False when the task is no longer held.

    Only tasks that run for a while, and suspects, get this mark of their own; for the others the
    outcome carries the time, since a write for every start would cost threefold.
    """
    return bool(tx.run(STARTED, seq=task.seq, token=task.token, at=to_micros(at)))


def mark_progress(tx: Tx, task: Claimed, *, progress: str) -> bool:
    """Store how far the task is, as JSON text; the latest wins."""
    return bool(tx.run(PROGRESS, seq=task.seq, token=task.token, progress=progress))
