"""``time_limit``: an actor that runs for too long is interrupted, and its attempt fails in any case."""

from __future__ import annotations

import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq.middleware import TimeLimit as DramatiqTimeLimit
from dramatiq.middleware import TimeLimitExceeded

from postlude.middleware.base import TaskMiddleware

if TYPE_CHECKING:
    from datetime import timedelta

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
    One that has not ended after ``POSTLUDE_TIME_LIMIT_GRACE`` is given up: its attempt fails, and its
    worker leaves, since its thread will not come back. Tasks that run apart are killed instead.
    """

    options = frozenset({"time_limit"})
    stands_for = DramatiqTimeLimit

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._running: dict[int, tuple[int, float, Delivery]] = {}

    def after_process_boot(self, broker: Broker) -> None:
        """Start the thread that watches the deadlines of this worker."""
        threading.Thread(
            target=self._watch, args=(broker,), name="time-limits", daemon=True
        ).start()

    def started(self, broker: Broker, task: Delivery) -> None:
        """Let the actor's time begin; the last hook before it runs."""
        actor = broker.get_actor(task.actor_name)
        limit_ms = task.options.get("time_limit") or actor.options.get("time_limit", DEFAULT_MS)
        if task.apart is not None:
            task.apart.limit_s = limit_ms / 1000
            return
        task.leave = self._interrupts.leave
        visit = self._interrupts.enter(task.held)
        deadline = time.monotonic() + limit_ms / 1000
        self._running[threading.get_ident()] = (visit, deadline, task)

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Stop the time; the broker has seen to it that no interrupt comes any more."""
        del task, result
        self._running.pop(threading.get_ident(), None)
        if exception is not None and isinstance(exception.__cause__, TimeLimitExceeded):
            _stuck().look_at_event_loop(broker)

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Stop the time of a task that a later middleware has skipped."""
        del broker, task
        self._running.pop(threading.get_ident(), None)

    def _watch(self, broker: Broker) -> None:
        while True:
            time.sleep(LOOK_S)
            now = time.monotonic()
            for thread, (visit, deadline, task) in list(self._running.items()):
                if now < deadline:
                    continue
                if self._interrupts.strike(thread, TimeLimitExceeded, visit):
                    log.warning("task.time_limit_exceeded", thread=thread)
                elif now >= deadline + _grace_s() and self._interrupts.abandon(thread, visit):
                    _stuck().give_up(broker, task, thread)


def _grace_s() -> float:
    """Read it when it is needed: the modules that are loaded after this thread may set variables."""
    grace: timedelta = import_module("postlude.settings").settings().time_limit_grace
    return grace.total_seconds()


def _stuck() -> Any:
    return import_module("postlude.worker.stuck")
