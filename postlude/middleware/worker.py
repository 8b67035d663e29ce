"""The life of a worker process: it opens the ledger, tells what it can run, and leaves in order."""

from __future__ import annotations

import gc
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from dramatiq.middleware import Middleware, MiddlewareError

from postlude.errors import LedgerTooNew, PostludeError

if TYPE_CHECKING:
    from dramatiq import Broker, Worker


COULD_NOT_CONNECT = 3
"""Dramatiq's exit code for a broker that cannot be reached."""


class CannotWork(MiddlewareError):
    """Says that this process cannot work: the ledger does not open, or an actor cannot be called by JSON."""


class WorkerLife(Middleware):
    """Connects Dramatiq's worker to the process that it lives in."""

    def __init__(self) -> None:
        self._is_program = False

    def after_process_boot(self, broker: Broker) -> None:
        """See to it that a request to stop counts once, however often it is delivered, and at once."""
        del broker
        self._is_program = True
        signals, service = (import_module(f"postlude.worker.{n}") for n in ("signals", "service"))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signals.take_once(number, service.drain)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open everything before the first consumer starts. Raises CannotWork when that fails.

        The program ``dramatiq`` says so in one line and ends.
        """
        try:
            import_module("postlude.worker.service").start(broker, worker)
        except PostludeError as error:
            if isinstance(error, LedgerTooNew):
                import_module("postlude.worker.outgrown").refuse(error)
            if self._is_program:
                _leave(error)
            raise CannotWork(str(error)) from error

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Claim the first tasks."""
        del broker
        if self._is_program:
            # What is loaded by now stays. Looked through again and again for garbage, while tasks
            # come and go by the hundred, it cost 7 to 12 µs of the 77 for an empty task.
            gc.collect()
            gc.freeze()
        import_module("postlude.worker.service").begin(worker)

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """First thing: claim nothing any more, hand back what was not started."""
        del broker, worker
        import_module("postlude.worker.service").drain()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Last thing: leave the ledger. Ends the process with a code that says so if it is outgrown."""
        del broker, worker
        import_module("postlude.worker.service").stop()
        import_module("postlude.worker.outgrown").end()


def _leave(error: PostludeError) -> NoReturn:
    """Tell a person, and end. Past Dramatiq's pipe: it drops what a worker says that ends at once."""
    if sys.__stderr__:
        sys.__stderr__.write(f"dramatiq: {error}\n")
        sys.__stderr__.flush()
    raise SystemExit(COULD_NOT_CONNECT)
