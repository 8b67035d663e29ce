"""Taking back what a dead incarnation held or owed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

DEADLY = 3
"""Deaths that only one task can have caused before it is quarantined as ``crash-loop``."""

_END = Statement(
    text("""
    UPDATE postlude_incarnations SET ended_at = :now, "end" = :end
    WHERE id = :id AND ended_at IS NULL""")
)
_RECORD = Statement(
    text("""
    INSERT INTO postlude_attempts (
        task, number, worker, claimed_at, started_at, finished_at, outcome, error_type, error_message)
    SELECT seq, attempts + 1, owner, claimed_at, started_at, :now, :outcome, :error_type, :message
    FROM postlude_tasks INDEXED BY postlude_tasks_owner
    WHERE owner = :id AND state = 'running'
    ON CONFLICT (task, number) DO NOTHING""")
)
_QUARANTINE = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET state = 'failed', reason = 'crash-loop', crashes = crashes + 1, attempts = attempts + 1,
        token = NULL, owner = NULL, finished_at = :now
    WHERE owner = :id AND state = 'running' AND suspect = 1 AND crashes + 1 >= :deadly AND :proven = 1""")
)
_TAKE_BACK = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET state = 'queued', generation = generation + 1, published_at = NULL, token = NULL, owner = NULL,
        claimed_at = NULL, started_at = NULL, attempts = attempts + 1,
        crashes = crashes + suspect * :proven,
        suspect = CASE WHEN :proven = 1 THEN 1 ELSE suspect END
    WHERE owner = :id AND state = 'running'""")
)
_RELEASE = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET state = CASE WHEN run_at IS NULL OR run_at <= :now THEN 'queued' ELSE 'scheduled' END,
        generation = generation + 1, published_at = NULL, owner = NULL
    WHERE owner = :id AND state = 'accepted'""")
)
_ORPHANS = Statement(
    text("""
    SELECT DISTINCT owner FROM postlude_tasks INDEXED BY postlude_tasks_owner
    WHERE owner IS NOT NULL AND owner NOT IN (
        SELECT id FROM postlude_incarnations WHERE ended_at IS NULL)""")
)

_DIED = {
    "outcome": "worker-died",
    "error_type": "WorkerDied",
    "message": "the worker process died while it held this task",
}
_SILENT = {
    "outcome": "worker-silent",
    "error_type": "WorkerSilent",
    "message": "its worker's heartbeat stood still for the lease; it may still have run",
}
_STOPPED = {"outcome": "interrupted", "error_type": None, "message": None}


@dataclass(frozen=True, slots=True)
class Buried:
    """What the dead left behind: how many tasks were taken back, quarantined, released."""

    taken_back: int
    quarantined: int
    released: int


def bury(tx: Tx, incarnation: str, *, now: datetime, proven: bool) -> Buried | None:
    """Declare ``incarnation`` dead for good and take back all that it had.

    ``proven``: the kernel says that the process is gone, so one of the tasks in its hands may have
    killed it; they become suspects, which run alone. A task that was alone already is the culprit;
    its third time it is quarantined. Mere silence accuses nobody. None when it had ended already;
    of any number of reapers one gets the answer.
    """
    at = to_micros(now)
    if not tx.run(_END, id=incarnation, now=at, end="died" if proven else "silent"):
        return None
    tx.run(_RECORD, id=incarnation, now=at, **(_DIED if proven else _SILENT))
    quarantined = tx.run(_QUARANTINE, id=incarnation, now=at, deadly=DEADLY, proven=int(proven))
    taken_back = tx.run(_TAKE_BACK, id=incarnation, proven=int(proven))
    released = tx.run(_RELEASE, id=incarnation, now=at)
    return Buried(taken_back=taken_back, quarantined=quarantined, released=released)


def adopt(tx: Tx, *, now: datetime) -> int:
    """Take back what incarnations hold or owe that are not alive: they did not know of their end yet.

    A frozen process that wakes up can claim and accept in the moment before it learns that it was
    buried. Returns how many tasks were taken back or released.
    """
    at = to_micros(now)
    found = 0
    for (owner,) in tx.rows(_ORPHANS):
        tx.run(_RECORD, id=owner, now=at, **_SILENT)
        found += tx.run(_TAKE_BACK, id=owner, proven=0)
        found += tx.run(_RELEASE, id=owner, now=at)
    return found


def leave(tx: Tx, incarnation: str, *, now: datetime) -> bool:
    """Record that ``incarnation`` stopped on purpose, having handed back what it held."""
    at = to_micros(now)
    tx.run(_RECORD, id=incarnation, now=at, **_STOPPED)
    tx.run(_TAKE_BACK, id=incarnation, proven=0)
    tx.run(_RELEASE, id=incarnation, now=at)
    return bool(tx.run(_END, id=incarnation, now=at, end="left"))
