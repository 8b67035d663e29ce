"""What somebody may do to a task from outside: cancel it, or have it tried again now."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from postlude.broker import unique
from postlude.errors import NotRetryable, TaskFinished, UnknownTask
from postlude.ledger import clock
from postlude.ledger.queries import tasks
from postlude.ledger.transitions import cancel as cancelling
from postlude.ledger.transitions import retry as retrying
from postlude.states import FINAL, Reason, State

if TYPE_CHECKING:
    from postlude.ledger.ledger import Ledger
    from postlude.ledger.queries.tasks import TaskView


def cancel(ledger: Ledger, task_id: str) -> State:
    """Cancel a task; ``running`` when its worker has been asked and will do it within a second or so.

    May be asked again. Raises UnknownTask, TaskFinished when it has succeeded or failed.
    """
    ledger.must_fit()
    state = ledger.write(partial(cancelling.cancel, task=task_id, now=clock.now()))
    if state is None:
        raise _unknown(task_id)
    if state in FINAL and state is not State.CANCELLED:
        message = f"task {task_id} has {state} already; what is finished stays finished"
        raise TaskFinished(message)
    return state


def retry(ledger: Ledger, task_id: str) -> State:
    """Have a task run now that failed, was cancelled, or waits for its time: as if it were new.

    Returns ``queued``; a worker may have it a moment later. Raises UnknownTask, or NotRetryable that
    says why not.
    """
    ledger.must_fit()
    now = clock.now()
    view = _look(ledger, task_id)
    key = unique.wanted(view.actor, view.options, now)
    if ledger.write(partial(retrying.retry, task=task_id, now=now, unique=key)):
        return State.QUEUED
    view = _look(ledger, task_id)
    message = f"task {task_id} cannot be retried: {_obstacle(view)}"
    raise NotRetryable(message)


def _look(ledger: Ledger, task_id: str) -> TaskView:
    with ledger.read() as connection:
        view = tasks.get(connection, task_id)
    if view is None:
        raise _unknown(task_id)
    return view


def _obstacle(view: TaskView) -> str:
    if view.state is State.SUCCEEDED:
        return "it has succeeded; add a new task to do it once more"
    if view.state in FINAL and not view.attempts:
        return _never_ran(view)
    if view.state in {State.FAILED, State.SCHEDULED, State.CANCELLED}:
        return f"another task has its unique key {view.options.get('unique_key')!r}"
    return f"it is {view.state} and will run by itself"


def _never_ran(view: TaskView) -> str:
    """Say why a task that ended before it was its turn cannot have it now."""
    if view.reason is Reason.REQUEST_FAILED:
        return "the request that had added it failed, and was told that it never runs"
    if view.waits_for:
        return f"it was {view.state} before its turn; run the whole anew, or retry {view.waits_for}"
    if view.reason is Reason.UPSTREAM_FAILED:
        return "the task before it had failed, and has been deleted; run the whole anew"
    if view.options.get("unique_key") is not None and view.reason is not Reason.DUPLICATE:
        return f"another task has its unique key {view.options['unique_key']!r}"
    if view.reason is Reason.BY_REQUEST:
        return "it was cancelled before its response was out; make the request anew"
    return f"it was {view.state} as {view.reason}"


def _unknown(task_id: str) -> UnknownTask:
    message = f"there is no task {task_id!r}: it never was, or its retention is over"
    return UnknownTask(message)
