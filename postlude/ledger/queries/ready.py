"""Small questions that a worker asks before it takes the write lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import from_micros

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_READY = text("SELECT 1 FROM postlude_tasks WHERE state = 'queued' AND queue = :queue LIMIT 1")
_SUSPECT = text("""
    SELECT 1 FROM postlude_tasks
    WHERE state = 'queued' AND queue = :queue AND suspect = 1 LIMIT 1""")
_UNPUBLISHED = text("""
    SELECT id, queue, generation FROM postlude_tasks
    WHERE state = 'queued' AND published_at IS NULL AND suspect = 0
    ORDER BY priority, seq LIMIT :limit""")
_DUE = text("SELECT min(run_at) FROM postlude_tasks WHERE state = 'scheduled'")


def has_ready(connection: Connection, queue: str) -> bool:
    """Say whether a task waits in ``queue``; reads one index entry."""
    return connection.execute(_READY, {"queue": queue}).first() is not None


def has_suspect(connection: Connection, queue: str) -> bool:
    """Say whether a task that has to run alone waits in ``queue``; reads one index entry."""
    return connection.execute(_SUSPECT, {"queue": queue}).first() is not None


def next_due(connection: Connection) -> datetime | None:
    """Return when the next scheduled task is due; reads one index entry."""
    micros: int | None = connection.execute(_DUE).scalar_one()
    return from_micros(micros)


def unpublished(connection: Connection, limit: int) -> list[tuple[str, str, int]]:
    """Return queued tasks that no message stands for yet: (id, queue, generation), best first.

    Suspects are left out: a worker that has nothing else in hand takes them from the ledger.
    """
    rows = connection.execute(_UNPUBLISHED, {"limit": limit})
    return [(row.id, row.queue, row.generation) for row in rows]
