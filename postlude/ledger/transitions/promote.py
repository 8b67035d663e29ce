"""``scheduled`` → queued, when the time has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

PROMOTE = Statement(
    text("""
    UPDATE postlude_tasks SET state = 'queued', generation = generation + 1, published_at = NULL
    WHERE seq IN (
        SELECT seq FROM postlude_tasks INDEXED BY postlude_tasks_due
        WHERE state = 'scheduled' AND run_at <= :now ORDER BY run_at LIMIT :limit)
    RETURNING id, queue, generation""")
)


def promote(tx: Tx, *, now: datetime, limit: int) -> list[tuple[str, str, int]]:
    """Queue up to ``limit`` tasks that are due, oldest first; returns their (id, queue, generation).

    Any number of relays may do this at once: each task is promoted once.
    """
    return [
        (str(id_), str(queue), int(generation))
        for id_, queue, generation in tx.rows(PROMOTE, now=to_micros(now), limit=limit)
    ]
