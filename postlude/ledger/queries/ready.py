"""Small questions that a worker asks before it takes the write lock.

``INDEXED BY``: without statistics SQLite prefers the index of all states, and reads every scheduled
row to find the first one that is due.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import from_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from postlude.ledger.engine import BareConnection

READY = Statement(
    text("""
    SELECT 1 FROM postlude_tasks INDEXED BY postlude_tasks_ready
    WHERE state = 'queued' AND queue = :queue AND suspect = 0
        AND actor IN (SELECT value FROM json_each(:actors)) LIMIT 1""")
)
SUSPICION = Statement(
    text("""
    SELECT suspect FROM postlude_tasks INDEXED BY postlude_tasks_ready
    WHERE state = 'queued' AND queue = :queue AND suspect > 0
        AND actor IN (SELECT value FROM json_each(:actors)) ORDER BY suspect LIMIT 1""")
)
_UNPUBLISHED = text("""
    SELECT id, queue, generation FROM postlude_tasks INDEXED BY postlude_tasks_ready
    WHERE state = 'queued' AND published_at IS NULL AND suspect = 0
    ORDER BY queue, suspect, priority, seq LIMIT :limit""")
DUE = Statement(
    text("""
    SELECT min(run_at) FROM postlude_tasks INDEXED BY postlude_tasks_due
    WHERE state = 'scheduled'""")
)


def has_ready(reader: BareConnection, queue: str, actors: Iterable[str]) -> bool:
    """Say whether a task of ``actors`` waits in ``queue``, other than suspects.

    Reads one index entry, unless tasks of other actors stand before it.
    """
    return bool(reader.rows(READY, queue=queue, actors=json.dumps(sorted(actors))))


def suspicion(reader: BareConnection, queue: str, actors: Iterable[str]) -> int:
    """Return how far the least suspected suspect is suspected that waits in ``queue``; 0: there is none."""
    found = reader.rows(SUSPICION, queue=queue, actors=json.dumps(sorted(actors)))
    return int(found[0][0]) if found else 0


def next_due(reader: BareConnection) -> datetime | None:
    """Return when the next scheduled task is due; reads one index entry."""
    micros: int | None = reader.rows(DUE)[0][0]
    return from_micros(micros)


def unpublished(connection: Connection, limit: int) -> list[tuple[str, str, int]]:
    """Return queued tasks that no message stands for yet: (id, queue, generation), best first.

    Suspects are left out: workers take them from the ledger.
    """
    rows = connection.execute(_UNPUBLISHED, {"limit": limit})
    return [(row.id, row.queue, row.generation) for row in rows]
