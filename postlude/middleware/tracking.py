"""Follows a task from its start to its outcome, and fails closed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.middleware import Shutdown, SkipMessage

from postlude.middleware.base import TaskMiddleware
from postlude.middleware.cancelled import Cancelled
from postlude.states import Reason

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery

log = structlog.get_logger()


class HandedBack(SkipMessage):
    """The task was given back to the queue before this thread got to it."""


class Tracking(TaskMiddleware):
    """Starts an attempt if the task is still ours; notes how it ended when all hooks have run."""

    def started(self, broker: Broker, task: Delivery) -> None:
        """Start the attempt; a suspect's start is in the ledger before it can kill anybody.

        Raises HandedBack when the task is no longer in this worker's hands.
        """
        del broker
        if not task.begin():
            raise HandedBack(task.message_id)
        if task.task.suspect and not _desk().commit_start(task):
            task.interrupted()
            raise HandedBack(task.message_id)
        structlog.contextvars.bind_contextvars(
            task_id=task.message_id, actor=task.actor_name, attempt=task.task.attempt
        )

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Note the outcome; a failure that nobody has decided on is final, not lost."""
        del broker, result
        if exception is not None:
            task.note_failure(exception)
        if task.word is None:
            _decide(task, exception)
        self._log(task)

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Note a skipped task: done, unless the middleware that skipped it has failed it."""
        del broker
        if not task.failed and task.word is None:
            task.skip()
        self._log(task)

    def _log(self, task: Delivery) -> None:
        if task.word == "failed":
            # What the actor's ``throws`` names is no cause for alarm, in Dramatiq neither.
            tell = log.info if task.expected else log.warning
            tell("task.failed", reason=task.reason)
        structlog.contextvars.clear_contextvars()  # what the actor has bound ends with its task, too


def _decide(task: Delivery, error: BaseException | None) -> None:
    if isinstance(error, Shutdown):
        task.interrupted()
    elif isinstance(error, Cancelled):
        task.cancelled()
    elif error is not None:
        task.give_up(Reason.RETRIES_EXHAUSTED)
    elif not task.failed:
        task.succeed()


def _desk() -> Any:
    return import_module("postlude.broker.desk").desk()
