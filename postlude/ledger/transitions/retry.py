"""``failed``, ``cancelled`` or ``scheduled`` → queued, because somebody asks: as if it were new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import follow, key

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.key import UniqueKey
    from postlude.ledger.statement import Tx

FIT = """
    (state IN ('failed', 'scheduled') OR (state = 'cancelled' AND reason = 'by-request'))
    AND (generation > 0 OR (waits_for IS NULL AND run_at IS NOT NULL))"""
"""What was never released still lacks what it waited for: a response, or the result of a step."""
IS_FIT = Statement(text(f"SELECT 1 FROM postlude_tasks WHERE id = :id AND {FIT}"))  # noqa: S608 - ours
RETRY = Statement(
    text(f"""
    UPDATE postlude_tasks
    SET state = 'queued', reason = NULL, run_at = NULL, renewed_at = :now,
        generation = generation + 1, published_at = NULL,
        retries = 0, crashes = 0, suspect = 0, cancel_requested = 0,
        result = NULL, progress = NULL, claimed_at = NULL, started_at = NULL, finished_at = NULL
    WHERE id = :id AND {FIT} AND renewed_at IS NOT :now
    RETURNING followed""")  # noqa: S608 - ours
)
SAME = Statement(text("SELECT 1 FROM postlude_tasks WHERE id = :id AND renewed_at = :now"))


def retry(tx: Tx, task: str, *, now: datetime, unique: UniqueKey | None = None) -> bool:
    """Queue ``task`` again, with all its retries, its whole crash budget and its ``max_age`` anew.

    Its attempts stay on record and are counted on; the steps wait again that were cancelled with it.
    A task in back-off, or delayed, runs now. One whose request had failed stays cancelled: its sender
    was told that it never runs. ``unique`` is the key that it wants for itself again. False when
    another task has that, or when it is in no state for this; of two who ask at once, one is told so.
    May be replayed.
    """
    at = to_micros(now)
    if unique and tx.rows(IS_FIT, id=task) and not key.claim(tx, unique, task=task, now=now):
        return False
    for (followed,) in tx.rows(RETRY, id=task, now=at):
        if followed:
            follow.revive(tx, task)
        return True
    return bool(tx.rows(SAME, id=task, now=at))
