"""News from the broker about a queued task: it has been published, and the broker has confirmed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

PUBLISHED = Statement(
    text("""
    UPDATE postlude_tasks SET published_at = :now
    WHERE id = :id AND generation = :generation AND state = 'queued'""")
)


def mark_published(tx: Tx, task: str, *, generation: int, now: datetime) -> bool:
    """Note that a message for this generation lies in the broker; late confirms change nothing."""
    return bool(tx.run(PUBLISHED, id=task, generation=generation, now=to_micros(now)))
