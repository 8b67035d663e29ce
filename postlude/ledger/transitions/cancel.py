"""Waiting tasks → cancelled, because somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

CANCEL_QUEUE = Statement(
    text("""
    UPDATE postlude_tasks SET state = 'cancelled', reason = 'by-request', finished_at = :now
    WHERE queue = :queue AND state IN ('queued', 'scheduled')""")
)


def cancel_queue(tx: Tx, *, queue: str, now: datetime) -> int:
    """Cancel every task that waits in ``queue``; running ones go on. Returns how many."""
    return tx.run(CANCEL_QUEUE, queue=queue, now=to_micros(now))
