"""Where a task is and what it waits for, in one sentence: why it is not running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlude.ledger.queries import actors, incarnations, tasks
from postlude.ledger.queries.tasks import TaskView
from postlude.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from postlude.ledger.queries.incarnations import IncarnationView
    from postlude.ledger.queries.tasks import AttemptView

_FIXED = {
    State.ACCEPTED: "stored; waits for the response that promised it to go out",
    State.SUCCEEDED: "finished",
    State.FAILED: "failed for good",
    State.CANCELLED: "cancelled",
}
_UPSTREAM = {Reason.UPSTREAM_FAILED, Reason.UPSTREAM_SKIPPED}
_LONGEST = 300
"""Characters of an error that a place repeats."""


def find(
    connection: Connection, task: TaskView, attempts: Sequence[AttemptView], now: datetime
) -> str:
    """Read what the place of ``task``, which has had these ``attempts``, depends on, and say it."""
    workers = sum(a.workers for a in actors.known(connection) if a.name == task.actor)
    alive = {incarnation.id: incarnation for incarnation in incarnations.alive(connection)}
    return describe(
        task,
        workers=workers,
        consumers=sum(task.queue in incarnation.queues for incarnation in alive.values()),
        holder=alive.get(task.holder) if task.holder else None,
        now=now,
        upstream=_upstream(connection, task),
        last=attempts[-1] if attempts else None,
    )


def _upstream(connection: Connection, task: TaskView) -> TaskView | int | None:
    """Return the task that this one waits for, or of how many members of a group it does."""
    if task.state is not State.WAITING or task.waits_for is None:
        return None
    return tasks.get(connection, task.waits_for) or tasks.missing(connection, task.waits_for)


def describe(
    task: TaskView,
    *,
    workers: int,
    consumers: int,
    holder: IncarnationView | None,
    now: datetime,
    upstream: TaskView | int | None = None,
    last: AttemptView | None = None,
) -> str:
    """Say where ``task`` is.

    ``workers`` is the number of live ones that know its actor, ``consumers`` of those that take from
    its queue. ``holder`` is the live incarnation that has the task in its hands; None when it has
    died and nobody has taken the task back yet. ``upstream`` is the task that it waits for, or how many
    members of the group that it waits for have not ended; None when it waits for neither. ``last`` is its
    last attempt.
    """
    if task.state in _FIXED:
        return _FIXED[task.state] + _why(task)
    if task.state is State.WAITING:
        return _waiting(task, upstream)
    if task.state is State.RUNNING:
        return _in_hands(task, holder)
    if task.state is State.SCHEDULED and task.run_at and task.run_at > now:
        return _scheduled(task, task.run_at, last)
    return _ready(task, workers, consumers) + _misfit(last)


def _why(task: TaskView) -> str:
    if not task.reason:
        return ""
    if task.reason is Reason.DUPLICATE:
        return f": task {task.duplicate_of} had its unique key when it was added"
    never_ran = task.reason is Reason.BAD_ARGUMENTS and not task.attempts
    if task.waits_for and (never_ran or task.reason in _UPSTREAM):
        return f": {task.reason}; see task {task.waits_for}"
    return f": {task.reason}"


def _ready(task: TaskView, workers: int, consumers: int) -> str:
    if not workers:
        return f"no live worker knows actor {task.actor!r}; start one with: dramatiq actors"
    if not consumers:
        return f"no live worker takes from queue {task.queue!r}; leave out -Q, or add it there"
    return "waiting for a free worker" + _history(task)


def _waiting(task: TaskView, upstream: TaskView | int | None) -> str:
    if isinstance(upstream, TaskView):
        return (
            f"waits for task {upstream.id} ({upstream.actor}, {upstream.state}), the step before it in"
            " its pipeline"
        )
    missing = "1 task has" if upstream == 1 else f"{upstream or 0} tasks have"
    return f"waits for group {task.waits_for}, of which {missing} not ended"


def _in_hands(task: TaskView, holder: IncarnationView | None) -> str:
    if holder is None:
        return f"its worker {task.holder} is gone; it will be taken back and run again"
    worker = f"worker {holder.pid} on {holder.host}"
    if task.cancel_requested:
        return f"cancelling: {worker} has been asked to stop it"
    if task.started_at is None:
        return f"held by {worker}, not started"
    return f"running on {worker} since {task.started_at.isoformat(timespec='seconds')}"


def _scheduled(task: TaskView, at: datetime, last: AttemptView | None) -> str:
    when = at.isoformat(timespec="seconds")
    if misfit := _misfit(last):
        return f"waits for a worker with another version of the code, to be asked at {when}{misfit}"
    words = "to be tried again at" if task.retries else "scheduled for"
    return f"{words} {when}{_history(task)}"


def _misfit(last: AttemptView | None) -> str:
    """Say why the worker that had it last could not run it, if that is how it ended."""
    if last is None or last.outcome != "unfit":
        return ""
    why = f"{last.error_type}: {last.error_message}"
    return f"; the last one's could not run it ({why[:_LONGEST]})"


def _history(task: TaskView) -> str:
    if not task.attempts:
        return ""
    return f"; {task.attempts} attempts so far" if task.attempts > 1 else "; 1 attempt so far"
