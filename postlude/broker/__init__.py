"""The one door to the workers: Dramatiq's broker, over the ledger.

Every task, whoever sends it, is checked, encoded and stored in the ledger first. How it then reaches
a worker is the business of a delivery (:mod:`postlude.broker.registry`): the ledger itself, or
RabbitMQ. The class is light: nothing is opened, and SQLAlchemy not imported, before the first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import dramatiq
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import MiddlewareError

if TYPE_CHECKING:
    from dramatiq import Consumer, Message
    from dramatiq.middleware import Middleware

    from postlude.ledger.task import NewTask
    from postlude.middleware.interrupts import Interrupts


class HookFailed(MiddlewareError):
    """A ``before_process_message`` hook raised; the actor does not run. Stock Dramatiq only logs it."""


class PostludeBroker(dramatiq.Broker):
    """Dramatiq's broker over the ledger; safe to use from any thread, also after a fork."""

    def __init__(self, middleware: list[Middleware], interrupts: Interrupts) -> None:
        super().__init__(middleware)
        self._interrupts = interrupts
        self.queues: dict[str, None] = {}

    def declare_queue(self, queue_name: str) -> None:
        """Make a queue known to this process; it needs nothing in the ledger. May run again."""
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self.queues[queue_name] = None
        self.emit_after("declare_queue", queue_name)

    def prepare(
        self, message: Message[Any], *, delay: int | None = None, named: bool = False
    ) -> NewTask:
        """Check and encode ``message``; stores nothing.

        ``delay`` in milliseconds. ``named``: ``kwargs`` come from JSON, datetimes being strings.
        Raises BadArguments (a TypeError), BadOptions or UnknownActor.
        """
        return cast("NewTask", _module("intake").prepare(self, message, delay=delay, named=named))

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Accept ``message`` and let it run at once (or after ``delay`` ms); durable on return.

        Raises what :meth:`prepare` raises, and LedgerError: LedgerBusy when nothing was stored,
        AcceptUnknown when that is not known. Inside an ``after`` hook of a running task the message
        becomes part of that task's outcome instead: stored with it, or not at all.
        """
        return cast("Message[Any]", _module("intake").enqueue(self, message, delay=delay))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> Consumer:
        """Return a consumer of ``queue_name`` that waits up to ``timeout`` ms for each message."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        delivery = _module("registry").delivery()
        return cast("Consumer", delivery.consumer(self, queue_name, prefetch, timeout))

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``before`` hooks; one that breaks before an actor runs keeps it from running."""
        if signal != "process_message":
            super().emit_before(signal, *args, **kwargs)
            return
        for middleware in self.middleware:
            try:
                middleware.before_process_message(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception as error:
                message = f"{type(middleware).__name__}.before_process_message failed: {error}"
                raise HookFailed(message) from error

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``after`` hooks; what they enqueue for a task belongs to that task's outcome."""
        if signal not in {"process_message", "skip_message"} or not hasattr(args[0], "settling"):
            super().emit_after(signal, *args, **kwargs)
            return
        # Before any hook runs: one that an interrupt hits would take the worker thread with it.
        self._interrupts.leave()
        with args[0].settling():
            super().emit_after(signal, *args, **kwargs)

    def flush(self, queue_name: str) -> None:
        """Cancel every task that waits in ``queue_name``."""
        _module("intake").flush(queue_name)

    def flush_all(self) -> None:
        """Cancel every task that waits in a queue known to this process."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until nothing is queued, scheduled or running in ``queue_name``; for tests.

        Raises Dramatiq's QueueJoinTimeout after ``timeout`` ms.
        """
        _module("intake").join(queue_name, timeout=timeout)

    def close(self) -> None:
        """Close this process's ledger; the next use opens it again."""
        import_module("postlude.process").close()


def _module(name: str) -> Any:
    """Import the working half of this package on first use."""
    return import_module(f"postlude.broker.{name}")


def broker() -> PostludeBroker:
    """Return the process's broker; RuntimeError if somebody has set another one."""
    found = dramatiq.get_broker()
    if isinstance(found, PostludeBroker):
        return found
    message = (
        f"Dramatiq's broker is a {type(found).__name__}, not Postlude's; remove that "
        "dramatiq.set_broker() call, or import postlude after it"
    )
    raise RuntimeError(message)
