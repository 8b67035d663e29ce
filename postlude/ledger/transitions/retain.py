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

DELETE = Statement(
    text("""
    DELETE FROM postlude_tasks
    WHERE seq IN (
        SELECT seq FROM postlude_tasks
        WHERE state = :state AND finished_at < :before ORDER BY finished_at LIMIT :limit)""")
)


def delete_finished(tx: Tx, state: State, *, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` tasks that ended in ``state`` before then, with their attempts.

    Ticks and schedules stay: they carry their own identity. Returns how many went.
    """
    return tx.run(DELETE, state=state.value, before=to_micros(before), limit=limit)
