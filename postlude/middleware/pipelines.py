"""Pipelines: the ledger releases the next step with a task's outcome; here its result is kept for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postlude.middleware.base import TaskMiddleware

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery


class Pipelines(TaskMiddleware):
    """Dramatiq's options, without its message after the fact: all steps are tasks from the start."""

    options = frozenset({"pipe_ignore", "pipe_target"})

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Keep what the actor returned, if somebody waits for the task."""
        del broker
        if exception is None and task.task.followed:
            task.pass_on(result)
