"""Retries that cannot be lost: the next try is a field of the task's outcome, not a second message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.errors import Retry
from dramatiq.middleware import Retries as DramatiqRetries
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from postlude.middleware.base import TaskMiddleware
from postlude.middleware.cancelled import Cancelled
from postlude.policy.retry import Again, Dead, RetryRules, after_failure
from postlude.states import Reason

if TYPE_CHECKING:
    from dramatiq import Actor, Broker

    from postlude.broker.delivery import Delivery

log = structlog.get_logger()


class Retries(TaskMiddleware):
    """Dramatiq's options with Dramatiq's meaning."""

    options = frozenset(
        {
            "max_retries",
            "min_backoff",
            "max_backoff",
            "retry_when",
            "throws",
            "on_retry_exhausted",
        }
    )
    stands_for = DramatiqRetries

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Decide what follows a failure."""
        del result
        if (
            exception is None
            or isinstance(exception, Shutdown | Cancelled)
            or task.word is not None
        ):
            return
        actor = broker.get_actor(task.actor_name)
        match _decide(actor, task, exception):
            case Again(delay_ms):
                log.info("task.retrying", delay_s=delay_ms / 1000, error=type(exception).__name__)
                task.reschedule(delay_ms)
            case Dead(exhausted):
                # Of a coroutine that did not end when it was interrupted, only the cause tells.
                limit = isinstance(exception, TimeLimitExceeded) or isinstance(
                    exception.__cause__, TimeLimitExceeded
                )
                task.give_up(Reason.TIME_LIMIT if limit else Reason.RETRIES_EXHAUSTED)
                task.expected = not exhausted
                if exhausted:
                    _tell(broker, actor, task)


def _decide(actor: Actor[..., Any], task: Delivery, error: BaseException) -> Again | Dead:
    rules = RetryRules.of(actor.options, task.options)
    wanted = error.delay if isinstance(error, Retry) else None
    try:
        return after_failure(rules, error, retries=task.task.retries, wanted_ms=wanted)
    except Exception:
        log.exception("task.retry_when_failed")
        return Dead(exhausted=True)


def _tell(broker: Broker, actor: Actor[..., Any], task: Delivery) -> None:
    """Send what ``on_retry_exhausted`` names; part of this task's outcome."""
    name = task.options.get("on_retry_exhausted") or actor.options.get("on_retry_exhausted")
    if name:
        rules = RetryRules.of(actor.options, task.options)
        counts = {"retries": task.task.retries, "max_retries": rules.max_retries}
        broker.get_actor(name).send(task.as_json(failed=True), counts)
