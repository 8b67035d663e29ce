"""Results: what an actor returned is a column of its task, stored with the outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout

from postlude import process
from postlude.ledger.queries.tasks import attempts, get
from postlude.states import State

if TYPE_CHECKING:
    from dramatiq import Message

DEFAULT_WAIT_MS = 10_000
LOOK_S = 1.0
"""A waiter is woken by every commit; it looks at least this often."""


def wait_for(message: Message[Any], *, block: bool, timeout: int | None) -> Any:
    """Return the result of the task that ``message`` became, waiting up to ``timeout`` ms for it.

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
                return look_up(message)
            except ResultMissing:
                if not block:
                    raise
            left = deadline - time.monotonic()
            if left <= 0:
                raise ResultTimeout(message)
            news.wait(min(left, LOOK_S))
    finally:
        owner.pulse.forget(news)


def look_up(message: Message[Any]) -> Any:
    """Return the result as it is now; raises ResultMissing or ResultFailure."""
    with process.current().ledger.read() as connection:
        view = get(connection, message.message_id)
        if view is None or view.finished_at is None:
            raise ResultMissing(message)
        if view.state is State.SUCCEEDED:
            return view.result
        tries = attempts(connection, view.id)
    error = tries[-1] if tries else None
    kind = (error and error.error_type) or str(view.reason)
    words = (error and error.error_message) or f"it was {view.state}"
    summary = f"actor raised {kind}: {words}"
    raise ResultFailure(summary, kind, words)
