"""The life of a worker process: it opens the ledger, tells what it can run, and leaves in order."""

from __future__ import annotations

import signal
from importlib import import_module
from typing import TYPE_CHECKING

from dramatiq.middleware import Middleware, MiddlewareError

from postlude.errors import PostludeError

if TYPE_CHECKING:
    from dramatiq import Broker, Worker


class CannotWork(MiddlewareError):
    """Says that this process cannot work: the ledger does not open, or an actor cannot be called by JSON."""


class WorkerLife(Middleware):
    """Connects Dramatiq's worker to the process that it lives in."""

    def after_process_boot(self, broker: Broker) -> None:
        """See to it that a request to stop counts once, however often it is delivered, and at once."""
        del broker
        signals, service = (import_module(f"postlude.worker.{n}") for n in ("signals", "service"))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signals.take_once(number, service.drain)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open everything before the first consumer starts. Raises CannotWork, which ends the process."""
        try:
            import_module("postlude.worker.service").start(broker, worker)
        except PostludeError as error:
            raise CannotWork(str(error)) from error

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """First thing: claim nothing any more, hand back what was not started."""
        del broker, worker
        import_module("postlude.worker.service").drain()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Last thing: leave the ledger."""
        del broker, worker
        import_module("postlude.worker.service").stop()
