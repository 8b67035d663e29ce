"""``time_limit``: an actor that runs for too long is interrupted, and its attempt fails."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.middleware import TimeLimitExceeded

from postlude.middleware.base import TaskMiddleware

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery
    from postlude.middleware.interrupts import Interrupts

log = structlog.get_logger()

DEFAULT_MS = 600_000
"""Dramatiq's default, ten minutes."""
LOOK_S = 0.1


class TimeLimit(TaskMiddleware):
    """Raises Dramatiq's TimeLimitExceeded inside actors that overrun; milliseconds, inf for none.

    It strikes at the actor's next bytecode: a C call or a sleep is only interrupted when it returns.
    """

    options = frozenset({"time_limit"})

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._deadlines: dict[int, tuple[int, float]] = {}

    def after_process_boot(self, broker: Broker) -> None:
        """Start the thread that watches the deadlines of this worker."""
        del broker
        threading.Thread(target=self._watch, name="time-limits", daemon=True).start()

    def started(self, broker: Broker, task: Delivery) -> None:
        """Let the actor's time begin; the last hook before it runs."""
        actor = broker.get_actor(task.actor_name)
        limit = task.options.get("time_limit") or actor.options.get("time_limit", DEFAULT_MS)
        visit = self._interrupts.enter()
        self._deadlines[threading.get_ident()] = (visit, time.monotonic() + limit / 1000)

    def ended(
        self, broker: Broker, task: Delivery, result: Any, error: BaseException | None
    ) -> None:
        """Stop the time; the broker has seen to it that no interrupt comes any more."""
        del broker, task, result, error
        self._deadlines.pop(threading.get_ident(), None)

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Stop the time of a task that a later middleware has skipped."""
        del broker, task
        self._deadlines.pop(threading.get_ident(), None)

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            now = time.monotonic()
            for thread, (visit, deadline) in list(self._deadlines.items()):
                if now >= deadline and self._interrupts.strike(thread, TimeLimitExceeded, visit):
                    log.warning("task.time_limit_exceeded", thread=thread)
