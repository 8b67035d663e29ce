"""The life of a process as the ledger sees it: it appears, its heart beats, it tells what it can run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from postlude.ledger.statement import Tx

APPEAR = Statement(
    text("""
    INSERT INTO postlude_incarnations (
        id, kind, host, pid, version, queues, heartbeat, started_at, beat_at)
    VALUES (:id, :kind, :host, :pid, :version, :queues, 0, :now, :now)
    ON CONFLICT (id) DO NOTHING""")
)
BEAT = Statement(
    text("""
    UPDATE postlude_incarnations SET heartbeat = heartbeat + 1, beat_at = :now
    WHERE id = :id AND ended_at IS NULL
    RETURNING (SELECT compatible_from FROM postlude_meta WHERE id = 1)""")
)
_KNOWS = Statement(
    text("""
    INSERT INTO postlude_actors (name, fingerprint, incarnation, queue, options, schema)
    VALUES (:name, :fingerprint, :incarnation, :queue, :options, :schema)
    ON CONFLICT (name, fingerprint, incarnation) DO NOTHING""")
)
_FORGET = Statement(
    text("""
    DELETE FROM postlude_actors WHERE incarnation IN (
        SELECT id FROM postlude_incarnations WHERE ended_at IS NOT NULL AND ended_at < :before)""")
)
_SWEEP = Statement(
    text("DELETE FROM postlude_incarnations WHERE ended_at IS NOT NULL AND ended_at < :before")
)


@dataclass(frozen=True, slots=True)
class KnownActor:
    """An actor that a process can run, and what its arguments look like."""

    name: str
    fingerprint: str
    queue: str
    options: dict[str, Any]
    schema: dict[str, Any]


def appear(
    tx: Tx,
    incarnation: str,
    *,
    kind: str,
    host: str,
    pid: int,
    version: str,
    queues: Iterable[str],
    now: datetime,
) -> None:
    """Register an incarnation. May be replayed."""
    tx.run(
        APPEAR,
        id=incarnation,
        kind=kind,
        host=host,
        pid=pid,
        version=version,
        queues=json.dumps(sorted(queues)),
        now=to_micros(now),
    )


def beat(tx: Tx, incarnation: str, *, now: datetime) -> int | None:
    """Raise the heartbeat; returns the oldest version of the code that may work here as of now.

    None when somebody has declared this incarnation dead: that is final.
    """
    rows = tx.rows(BEAT, id=incarnation, now=to_micros(now))
    return int(rows[0][0]) if rows else None


def know(tx: Tx, incarnation: str, actors: Iterable[KnownActor]) -> None:
    """Record which actors ``incarnation`` can run. May be replayed."""
    for actor in actors:
        tx.run(
            _KNOWS,
            name=actor.name,
            fingerprint=actor.fingerprint,
            incarnation=incarnation,
            queue=actor.queue,
            options=json.dumps(actor.options, default=str),
            schema=json.dumps(actor.schema),
        )


def sweep(tx: Tx, *, before: datetime) -> int:
    """Forget incarnations that ended before then, and what they knew; returns how many."""
    at = to_micros(before)
    tx.run(_FORGET, before=at)
    return tx.run(_SWEEP, before=at)
