"""Taking back what a dead incarnation held or owed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import follow
from postlude.ledger.transitions.accept import enqueue
from postlude.policy.crash import DEADLY, OFTEN, TOO_OFTEN, Death

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import NewTask

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
_CANCEL = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET state = 'cancelled', reason = 'by-request', attempts = attempts + 1, cancel_requested = 0,
        token = NULL, owner = NULL, finished_at = :now
    WHERE owner = :id AND state = 'running' AND cancel_requested = 1
    RETURNING id, followed""")
)
# The numbers that ``suspect`` is compared with are those of postlude.policy.crash.Suspicion.
_ACCUSE = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner SET crashes = crashes + 1
    WHERE owner = :id AND state = 'running' AND suspect = 3 AND started_at IS NOT NULL""")
)
_QUARANTINE = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET state = 'failed', reason = 'crash-loop', attempts = attempts + 1,
        token = NULL, owner = NULL, finished_at = :now
    WHERE owner = :id AND state = 'running' AND suspect >= 2 AND (crashes >= :deadly OR :too_often <= (
        SELECT count(*) FROM postlude_attempts WHERE task = seq AND outcome = 'worker-died'))
    RETURNING id, followed""")
)
_SUSPECT = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET suspect = CASE WHEN (:begun IS NULL OR suspect = 1) AND :often <= (
        SELECT count(*) FROM postlude_attempts WHERE task = seq AND outcome = 'worker-died')
        THEN 2 ELSE 1 END
    WHERE owner = :id AND state = 'running' AND suspect < 2
        AND (:begun IS NULL OR seq IN (SELECT value FROM json_each(:begun)) OR :often <= (
            SELECT count(*) FROM postlude_attempts WHERE task = seq AND outcome = 'worker-died'))""")
)
_TAKE_BACK = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_owner
    SET state = 'queued', generation = generation + 1, published_at = NULL, token = NULL, owner = NULL,
        claimed_at = NULL, started_at = NULL, attempts = attempts + 1
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
_NONE: Mapping[str, NewTask] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Buried:
    """What the dead left behind: how many tasks were taken back, suspected, quarantined, released."""

    taken_back: int
    suspected: int
    quarantined: int
    released: int


def bury(
    tx: Tx,
    incarnation: str,
    *,
    now: datetime,
    death: Death,
    begun: Collection[int] | None = None,
    callbacks: Mapping[str, NewTask] = _NONE,
) -> Buried | None:
    """Declare ``incarnation`` dead for good and take back all that it had.

    If one of the tasks in its hands may be to blame for that ``death``, those that it had ``begun`` (by
    ``seq``; None: nobody knows, so all of them) become suspects, which run in children of their own; so
    does one that OFTEN dead workers had merely claimed. One that was running in such a child is not to
    blame for its worker; one that was running alone in the worker itself is, and its third time it is
    quarantined. A process that somebody has stopped accuses nobody. ``callbacks`` has, by task, what is
    to be queued if that one is quarantined. None when it had ended already; of any number of reapers one
    gets the answer.
    """
    at = to_micros(now)
    gone = death is Death.PROVEN
    if not tx.run(_END, id=incarnation, now=at, end="died" if gone else "silent"):
        return None
    tx.run(_RECORD, id=incarnation, now=at, **(_DIED if gone else _SILENT))
    _cancel(tx, incarnation, now)
    guilty = _judge(tx, incarnation, at) if death.accuses else []
    suspected = 0
    if death.suspects:
        known = None if begun is None else json.dumps(sorted(begun))
        suspected = tx.run(_SUSPECT, id=incarnation, often=OFTEN, begun=known)
    for task, _ in guilty:
        if task in callbacks:
            enqueue(tx, callbacks[task], now=now)
    follow.ended(tx, [task for task, followed in guilty if followed], now=now)
    taken_back = tx.run(_TAKE_BACK, id=incarnation)
    released = tx.run(_RELEASE, id=incarnation, now=at)
    return Buried(
        taken_back=taken_back, suspected=suspected, quarantined=len(guilty), released=released
    )


def adopt(tx: Tx, *, now: datetime) -> int:
    """Take back what incarnations hold or owe that are not alive: they did not know of their end yet.

    A frozen process that wakes up can claim and accept in the moment before it learns that it was
    buried. Returns how many tasks were taken back or released.
    """
    at = to_micros(now)
    found = 0
    for (owner,) in tx.rows(_ORPHANS):
        tx.run(_RECORD, id=owner, now=at, **_SILENT)
        found += _cancel(tx, owner, now)
        found += tx.run(_TAKE_BACK, id=owner)
        found += tx.run(_RELEASE, id=owner, now=at)
    return found


def leave(tx: Tx, incarnation: str, *, now: datetime) -> bool:
    """Record that ``incarnation`` stopped on purpose, having handed back what it held."""
    at = to_micros(now)
    tx.run(_RECORD, id=incarnation, now=at, **_STOPPED)
    _cancel(tx, incarnation, now)
    tx.run(_TAKE_BACK, id=incarnation)
    tx.run(_RELEASE, id=incarnation, now=at)
    return bool(tx.run(_END, id=incarnation, now=at, end="left"))


def _cancel(tx: Tx, incarnation: str, now: datetime) -> int:
    """Cancel what somebody wants cancelled of all that it held; returns how many tasks that were."""
    cancelled = tx.rows(_CANCEL, id=incarnation, now=to_micros(now))
    follow.ended(tx, [task for task, followed in cancelled if followed], now=now)
    return len(cancelled)


def _judge(tx: Tx, incarnation: str, at: int) -> list[tuple[str, int]]:
    """Count the death against who was alone in there, and quarantine whoever has had too many.

    Returns those, each with whether somebody waits for it.
    """
    tx.run(_ACCUSE, id=incarnation)
    limits = {"deadly": DEADLY, "too_often": TOO_OFTEN}
    guilty = tx.rows(_QUARANTINE, id=incarnation, now=at, **limits)
    return [(str(id_), int(followed)) for id_, followed in guilty]
