"""Reading tasks: one by id, pages of them, how many there are."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.schema import attempts as attempts_table
from postlude.ledger.schema import deleted, tasks, ticks
from postlude.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row

    from postlude.settings import Settings

_OWNED = text("""
    SELECT id FROM postlude_tasks INDEXED BY postlude_tasks_owner
    WHERE owner = :owner AND state = :state""")
_CANCELLING = text("""
    SELECT id FROM postlude_tasks INDEXED BY postlude_tasks_owner
    WHERE owner = :owner AND state = 'running' AND cancel_requested = 1""")
_ABSENT = text("""
    SELECT value FROM json_each(:ids)
    WHERE NOT EXISTS (SELECT 1 FROM postlude_tasks WHERE id = value)""")
_DOOMED = text("""
    SELECT seq FROM postlude_tasks INDEXED BY postlude_tasks_owner
    WHERE owner = :owner AND state = 'running' AND suspect >= 2""").columns(tasks.c.seq)
_MISSING = text("""
    SELECT count(*) FROM postlude_tasks INDEXED BY postlude_tasks_members
    WHERE group_id = :group_id AND finished_at IS NULL""")
_ORPHAN = text("""
    SELECT 1 FROM postlude_tasks INDEXED BY postlude_tasks_owner
    WHERE owner IS NOT NULL AND owner NOT IN (
        SELECT id FROM postlude_incarnations WHERE ended_at IS NULL) LIMIT 1""")


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as people and programs see it.

    ``holder`` is the incarnation that has it in hand, ``waits_for`` the task or group that it waits, or
    has waited, for.
    """

    seq: int
    id: str
    actor: str
    queue: str
    state: State
    reason: Reason | None
    arguments: dict[str, Any]
    options: dict[str, Any]
    priority: int
    attempts: int
    retries: int
    crashes: int
    result: Any
    progress: Any
    holder: str | None
    cancel_requested: bool
    correlation_id: str | None
    created_at: datetime
    run_at: datetime | None
    claimed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duplicate_of: str | None = None
    waits_for: str | None = None
    group_id: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One run of a task.

    ``outcome``: succeeded, retried, failed, skipped, interrupted, cancelled, child-died, worker-died,
    worker-silent, or unfit: the worker's code could not run it, another's may. ``logs`` has what it
    logged, line by line: ``at``, ``level``, ``logger``, ``message``.
    """

    number: int
    worker: str
    claimed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str
    error_type: str | None
    error_message: str | None
    traceback: str | None
    fingerprint: str | None
    logs: list[dict[str, Any]]


def get(connection: Connection, task_id: str) -> TaskView | None:
    """Return the task with this id, None if there is none (any more)."""
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).one_or_none()
    return _task(row) if row else None


def attempts(connection: Connection, task_id: str) -> list[AttemptView]:
    """Return the attempts of a task, first one first."""
    query = (
        select(attempts_table)
        .join(tasks, tasks.c.seq == attempts_table.c.task)
        .where(tasks.c.id == task_id)
        .order_by(attempts_table.c.number)
    )
    return [_attempt(row) for row in connection.execute(query)]


def page(
    connection: Connection,
    *,
    state: State | None = None,
    actor: str | None = None,
    queue: str | None = None,
    limit: int = 50,
    before: int | None = None,
) -> tuple[list[TaskView], int | None]:
    """Return up to ``limit`` tasks, newest first, and the ``before`` of the next page, if any."""
    query = select(tasks).order_by(tasks.c.seq.desc()).limit(limit + 1)
    for column, wanted in ((tasks.c.state, state), (tasks.c.actor, actor), (tasks.c.queue, queue)):
        if wanted is not None:
            query = query.where(column == str(wanted))
    if before is not None:
        query = query.where(tasks.c.seq < before)
    views = [_task(row) for row in connection.execute(query)]
    more = len(views) > limit
    views = views[:limit]
    return views, views[-1].seq if more else None


def counts(connection: Connection) -> dict[State, int]:
    """Return how many tasks are in each state; reads the whole index of states."""
    query = select(tasks.c.state, func.count()).group_by(tasks.c.state)
    found = {State(state): int(count) for state, count in connection.execute(query)}
    return {state: found.get(state, 0) for state in State}


def unfinished(connection: Connection, queue: str) -> bool:
    """Say whether ``queue`` has a task that is queued, scheduled or running."""
    open_states = [State.QUEUED.value, State.SCHEDULED.value, State.RUNNING.value]
    query = select(tasks.c.seq).where(tasks.c.queue == queue, tasks.c.state.in_(open_states))
    return connection.execute(query.limit(1)).first() is not None


def missing(connection: Connection, group_id: str) -> int:
    """Return how many members of a group have not ended; reads those."""
    return int(connection.execute(_MISSING, {"group_id": group_id}).scalar_one())


def doomed(connection: Connection, owner: str) -> list[TaskView]:
    """Return the tasks that the death of ``owner``, which holds them, may put into quarantine."""
    query = select(tasks).where(tasks.c.seq.in_(_DOOMED))
    return [_task(row) for row in connection.execute(query, {"owner": owner})]


def accepted_by(connection: Connection, owner: str) -> list[str]:
    """Return the ids of the tasks that the incarnation ``owner`` has promised and not released."""
    return _owned(connection, owner, State.ACCEPTED)


def held_by(connection: Connection, owner: str) -> list[str]:
    """Return the ids of the tasks that the incarnation ``owner`` holds, as the ledger sees it."""
    return _owned(connection, owner, State.RUNNING)


def cancelling(connection: Connection, owner: str) -> list[str]:
    """Return the ids of the tasks in the hands of ``owner`` that somebody wants cancelled."""
    return list(connection.execute(_CANCELLING, {"owner": owner}).scalars())


def absent(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Return those of ``ids`` that no task has."""
    return list(connection.execute(_ABSENT, {"ids": json.dumps(ids)}).scalars())


def has_orphan(connection: Connection) -> bool:
    """Say whether an incarnation that is not alive holds or owes a task; reads those in hand."""
    return connection.execute(_ORPHAN).first() is not None


def _owned(connection: Connection, owner: str, state: State) -> list[str]:
    found = connection.execute(_OWNED, {"owner": owner, "state": state.value})
    return list(found.scalars())


def was_deleted(connection: Connection, task_id: str, settings: Settings, now: datetime) -> bool:
    """Say whether an id that is not in the ledger was once, and went when its retention was over.

    An id that we made carries its time (UUIDv7): older than the shortest retention, it may have been
    deleted; a younger one never existed. A tick's id is on record, others are remembered for a while.
    """
    try:
        parsed = uuid.UUID(task_id)
    except ValueError:
        return False
    if str(parsed) != task_id:
        return False
    if parsed.version == 7:  # noqa: PLR2004 - UUIDv7, RFC 9562: 48 bits of milliseconds first
        kept = (settings.keep_succeeded, settings.keep_cancelled, settings.keep_failed)
        spans = [span for span in kept if isinstance(span, timedelta)]
        return bool(spans) and (parsed.int >> 80) * 1000 < to_micros(now - min(spans))
    tick = select(ticks.c.task).where(ticks.c.task == task_id)
    remembered = select(deleted.c.id).where(deleted.c.id == task_id)
    return connection.execute(tick.union_all(remembered).limit(1)).first() is not None


def _task(row: Row[Any]) -> TaskView:
    return TaskView(
        seq=row.seq,
        id=row.id,
        actor=row.actor,
        queue=row.queue,
        state=State(row.state),
        reason=Reason(row.reason) if row.reason else None,
        arguments=json.loads(row.arguments),
        options=json.loads(row.options),
        priority=row.priority,
        attempts=row.attempts,
        retries=row.retries,
        crashes=row.crashes,
        result=_document(row.result),
        progress=_document(row.progress),
        holder=row.owner if row.state == State.RUNNING else None,
        cancel_requested=bool(row.cancel_requested),
        correlation_id=row.correlation_id,
        created_at=from_micros(row.created_at),
        run_at=from_micros(row.run_at),
        claimed_at=from_micros(row.claimed_at),
        started_at=from_micros(row.started_at),
        finished_at=from_micros(row.finished_at),
        duplicate_of=row.duplicate_of,
        waits_for=row.waits_for,
        group_id=row.group_id,
    )


def _attempt(row: Row[Any]) -> AttemptView:
    return AttemptView(
        number=row.number,
        worker=row.worker,
        claimed_at=from_micros(row.claimed_at),
        started_at=from_micros(row.started_at),
        finished_at=from_micros(row.finished_at),
        outcome=row.outcome,
        error_type=row.error_type,
        error_message=row.error_message,
        traceback=row.traceback,
        fingerprint=row.fingerprint,
        logs=_document(row.logs) or [],
    )


def _document(text: str | None) -> Any:
    return None if text is None else json.loads(text)
