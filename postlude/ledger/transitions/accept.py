"""Storing a new task: promised by a response (``accepted``), or to run at once (``queued``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import NewTask

INSERT = Statement(
    text("""
    INSERT INTO postlude_tasks (
        id, actor, queue, arguments, options, priority, run_at, created_at, correlation_id,
        state, generation, owner, attempts, retries, crashes, suspect, cancel_requested)
    VALUES (
        :id, :actor, :queue, :arguments, :options, :priority, :run_at, :created_at, :correlation_id,
        :state, :generation, :owner, 0, 0, 0, 0, 0)
    ON CONFLICT (id) DO NOTHING""")
)
SAME = Statement(text("SELECT 1 FROM postlude_tasks WHERE id = :id AND created_at = :created_at"))


def accept(tx: Tx, task: NewTask, *, owner: str) -> bool:
    """Store ``task`` for the incarnation ``owner``, which releases it once the response is out.

    May be replayed. Returns False when another task has this id.
    """
    return _insert(tx, task, state=State.ACCEPTED, owner=owner)


def enqueue(tx: Tx, task: NewTask, *, now: datetime) -> bool:
    """Store ``task`` accepted and released at once: ``queued``, or ``scheduled`` if it has to wait.

    May be replayed. Returns False when another task has this id.
    """
    waits = task.run_at is not None and task.run_at > now
    return _insert(tx, task, state=State.SCHEDULED if waits else State.QUEUED, owner=None)


def _insert(tx: Tx, task: NewTask, *, state: State, owner: str | None) -> bool:
    generation = int(state is State.QUEUED)
    inserted = tx.run(
        INSERT, **task.columns(), state=state.value, generation=generation, owner=owner
    )
    if inserted:
        return True
    created_at = to_micros(task.created_at)
    return bool(tx.rows(SAME, id=task.id, created_at=created_at))
