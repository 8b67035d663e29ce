"""Results: what an actor returned is a column of its task, stored with the outcome."""

from __future__ import annotations

import time
from typing import Any

from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout

from postlude import process
from postlude.errors import UnknownTask
from postlude.ledger.queries.tasks import attempts, get
from postlude.states import Reason, State

DEFAULT_WAIT_MS = 10_000
LOOK_S = 1.0
"""A waiter is woken by every commit; it looks at least this often."""


def state_of(task_id: str) -> State:
    """Return where a task is now; raises UnknownTask for an id that is not in the ledger."""
    with process.current().ledger.read() as connection:
        view = get(connection, task_id)
    if view is None:
        message = f"there is no task {task_id}: it never was, or its retention is over"
        raise UnknownTask(message)
    return view.state


def wait_for(task_id: str, *, block: bool, timeout: int | None) -> Any:
    """Return the result of a task, waiting up to ``timeout`` ms for it.

    Raises Dramatiq's ResultMissing (not ended, or no such task), ResultTimeout, or ResultFailure
    when the task failed or was cancelled.
    """
    deadline = time.monotonic() + (DEFAULT_WAIT_MS if timeout is None else timeout) / 1000
    owner = process.current()
    news = owner.pulse.listen()
    try:
        while True:
            news.clear()
            try:
                return look_up(task_id)
            except ResultMissing:
                if not block:
                    raise
            left = deadline - time.monotonic()
            if left <= 0:
                raise ResultTimeout(task_id)
            news.wait(min(left, LOOK_S))
    finally:
        owner.pulse.forget(news)


def look_up(task_id: str) -> Any:
    """Return the result as it is now; raises ResultMissing or ResultFailure.

    That of a duplicate is the one of the task that has its key, for as long as there is that task.
    """
    with process.current().ledger.read() as connection:
        view = get(connection, task_id)
        if view is not None and view.duplicate_of and view.reason is Reason.DUPLICATE:
            view = get(connection, view.duplicate_of) or view
        if view is None or view.finished_at is None:
            raise ResultMissing(task_id)
        if view.state is State.SUCCEEDED:
            return view.result
        tries = attempts(connection, view.id)
    error = tries[-1] if tries else None
    kind = (error and error.error_type) or str(view.reason)
    words = (error and error.error_message) or f"it was {view.state}"
    summary = f"actor raised {kind}: {words}"
    raise ResultFailure(summary, kind, words)
