"""Where a task is and what it waits for, in one sentence: why it is not running."""

from __future__ import annotations

from datetime import datetime

from postlude.ledger.queries.incarnations import IncarnationView
from postlude.ledger.queries.tasks import TaskView
from postlude.states import State

_FIXED = {
    State.ACCEPTED: "stored; waits for the response that promised it to go out",
    State.WAITING: "waits for the step before it in its pipeline",
    State.SUCCEEDED: "finished",
    State.FAILED: "failed for good",
    State.CANCELLED: "cancelled",
}


def describe(
    task: TaskView,
    *,
    workers: int,
    consumers: int,
    holder: IncarnationView | None,
    now: datetime,
) -> str:
    """Say where ``task`` is.

    ``workers`` is the number of live ones that know its actor, ``consumers`` of those that take from
    its queue. ``holder`` is the live incarnation that has the task in its hands; None when it has
    died and nobody has taken the task back yet.
    """
    if task.state in _FIXED:
        return _FIXED[task.state] + (f": {task.reason}" if task.reason else "")
    if task.state is State.RUNNING:
        return _in_hands(task, holder)
    if task.state is State.SCHEDULED and task.run_at and task.run_at > now:
        return _scheduled(task, task.run_at)
    if not workers:
        return f"no live worker knows actor {task.actor!r}; start one with: dramatiq actors"
    if not consumers:
        return f"no live worker takes from queue {task.queue!r}; leave out -Q, or add it there"
    return "waiting for a free worker" + _history(task)


def _in_hands(task: TaskView, holder: IncarnationView | None) -> str:
    if holder is None:
        return f"its worker {task.holder} is gone; it will be taken back and run again"
    worker = f"worker {holder.pid} on {holder.host}"
    if task.started_at is None:
        return f"held by {worker}, not started"
    return f"running on {worker} since {task.started_at.isoformat(timespec='seconds')}"


def _scheduled(task: TaskView, at: datetime) -> str:
    words = "to be tried again at" if task.retries else "scheduled for"
    return f"{words} {at.isoformat(timespec='seconds')}{_history(task)}"


def _history(task: TaskView) -> str:
    if not task.attempts:
        return ""
    return f"; {task.attempts} attempts so far" if task.attempts > 1 else "; 1 attempt so far"
