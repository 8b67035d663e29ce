"""Small questions that a worker asks before it takes the write lock.

``INDEXED BY``: without statistics SQLite prefers the index of all states, and reads every scheduled
row to find the first one that is due.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import from_micros

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

_READY = text("""
    SELECT 1 FROM postlude_tasks INDEXED BY postlude_tasks_ready
    WHERE state = 'queued' AND queue = :queue AND suspect = :suspect
        AND actor IN (SELECT value FROM json_each(:actors)) LIMIT 1""")
_UNPUBLISHED = text("""
    SELECT id, queue, generation FROM postlude_tasks INDEXED BY postlude_tasks_ready
    WHERE state = 'queued' AND published_at IS NULL AND suspect = 0
    ORDER BY queue, suspect, priority, seq LIMIT :limit""")
_DUE = text("""
    SELECT min(run_at) FROM postlude_tasks INDEXED BY postlude_tasks_due
    WHERE state = 'scheduled'""")


def has_ready(
    connection: Connection, queue: str, actors: Iterable[str], *, suspect: bool = False
) -> bool:
    """Say whether a task of ``actors`` waits in ``queue``, or one that has to run alone (``suspect``).

    Reads one index entry, unless tasks of other actors stand before it.
    """
    names = json.dumps(sorted(actors))
    row = {"queue": queue, "actors": names, "suspect": int(suspect)}
    return connection.execute(_READY, row).first() is not None


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
