"""Reading which actors the workers can run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from postlude.ledger.schema import actors, incarnations

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class ActorView:
    """An actor that some worker knows, or knew. ``workers`` counts the live ones that can run it."""

    name: str
    queue: str
    schema: dict[str, Any]
    options: dict[str, Any]
    workers: int


def known(connection: Connection) -> list[ActorView]:
    """Return every actor on record by name; the newest incarnation's word about it counts."""
    query = (
        select(actors, incarnations.c.ended_at)
        .join(incarnations, incarnations.c.id == actors.c.incarnation)
        .order_by(actors.c.name, incarnations.c.started_at)
    )
    found: dict[str, ActorView] = {}
    for row in connection.execute(query):
        before = found[row.name].workers if row.name in found else 0
        found[row.name] = ActorView(
            name=row.name,
            queue=row.queue,
            schema=json.loads(row.schema),
            options=json.loads(row.options),
            workers=before + (row.ended_at is None),
        )
    return list(found.values())
