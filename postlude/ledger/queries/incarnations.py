"""Reading which processes live, and which have fallen silent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from postlude.ledger.clock import from_micros
from postlude.ledger.schema import incarnations

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class IncarnationView:
    """One life of one process."""

    id: str
    kind: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    heartbeat: int
    started_at: datetime
    beat_at: datetime


def alive(connection: Connection) -> list[IncarnationView]:
    """Return the incarnations that have neither left nor been declared dead, oldest first."""
    query = (
        select(incarnations)
        .where(incarnations.c.ended_at.is_(None))
        .order_by(incarnations.c.started_at)
    )
    return [_view(row) for row in connection.execute(query)]


def left(connection: Connection, ids: Iterable[str]) -> list[str]:
    """Return which of ``ids`` have left on purpose, rather than been declared dead."""
    query = select(incarnations.c.id).where(
        incarnations.c.id.in_(list(ids)), incarnations.c.end == "left"
    )
    return list(connection.execute(query).scalars())


def _view(row: Row[Any]) -> IncarnationView:
    return IncarnationView(
        id=row.id,
        kind=row.kind,
        host=row.host,
        pid=row.pid,
        version=row.version,
        queues=tuple(json.loads(row.queues)),
        heartbeat=row.heartbeat,
        started_at=from_micros(row.started_at),
        beat_at=from_micros(row.beat_at),
    )
