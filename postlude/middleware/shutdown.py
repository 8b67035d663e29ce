"""``notify_shutdown``: actors that want to know are interrupted when their worker stops."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dramatiq.middleware import Shutdown as ShutdownInterrupt
from dramatiq.middleware import ShutdownNotifications

from postlude.middleware.base import TaskMiddleware

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

    from postlude.broker.delivery import Delivery
    from postlude.middleware.interrupts import Interrupts


class Shutdown(TaskMiddleware):
    """Raises Dramatiq's Shutdown inside actors with ``notify_shutdown=True`` when the worker stops.

    The interrupted task is handed back and runs again elsewhere; unlike stock Dramatiq's it has not
    used up a retry.
    """

    options = frozenset({"notify_shutdown"})
    stands_for = ShutdownNotifications

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._wanting: dict[int, Delivery] = {}

    def started(self, broker: Broker, task: Delivery) -> None:
        """Note a thread whose actor wants to know."""
        actor = broker.get_actor(task.actor_name)
        if task.options.get("notify_shutdown", actor.options.get("notify_shutdown")):
            self._wanting[threading.get_ident()] = task

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Forget it again."""
        del broker, task, result, exception
        self._wanting.pop(threading.get_ident(), None)

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Forget it again."""
        del broker, task
        self._wanting.pop(threading.get_ident(), None)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Interrupt them all."""
        del broker, worker
        for thread, task in list(self._wanting.items()):
            if task.apart is not None:
                task.apart.interrupt()
            else:
                self._interrupts.strike(thread, ShutdownInterrupt)
