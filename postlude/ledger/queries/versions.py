"""Reading which versions of an actor the workers have, and which of them a task did not fit.

A version is the fingerprint of the schema of the actor's arguments.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import from_micros, to_micros

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from postlude.ledger.task import Claimed

_WORKERS = text("""
    SELECT a.fingerprint, i.ended_at, i.queues
    FROM postlude_actors a JOIN postlude_incarnations i ON i.id = a.incarnation
    WHERE a.name = :actor AND i.kind = 'worker'""")
_REFUSALS = text("""
    SELECT fingerprint, finished_at FROM postlude_attempts
    WHERE task = :seq AND outcome = 'unfit' AND finished_at >= :since ORDER BY number""")


@dataclass(frozen=True, slots=True)
class Versions:
    """What is known of a task's actor.

    ``live``: the versions of workers that take from its queue now; ``known_until``: when there last was
    one with any version, None if none is remembered. ``refused``: the versions that this task did not
    fit, in so many ``refusals`` since ``refused_since``.
    """

    live: frozenset[str]
    known_until: datetime | None
    refused: frozenset[str]
    refusals: int
    refused_since: datetime


def find(connection: Connection, task: Claimed, *, now: datetime) -> Versions:
    """Return the versions of the actor of ``task``; refusals from before a requested retry do not count."""
    workers = [
        (row.fingerprint, row.ended_at)
        for row in connection.execute(_WORKERS, {"actor": task.actor})
        if task.queue in json.loads(row.queues)
    ]
    since = {"seq": task.seq, "since": to_micros(task.created_at)}
    refusals = connection.execute(_REFUSALS, since).all()
    at = to_micros(now)
    return Versions(
        live=frozenset(version for version, ended_at in workers if ended_at is None),
        known_until=from_micros(max((ended_at or at for _, ended_at in workers), default=None)),
        refused=frozenset(row.fingerprint for row in refusals if row.fingerprint),
        refusals=len(refusals),
        refused_since=from_micros(refusals[0].finished_at) if refusals else now,
    )
