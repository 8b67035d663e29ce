"""The one door to the workers: Dramatiq's broker, over the ledger.

Every task, whoever sends it, is checked, encoded and stored in the ledger first. How it then reaches
a worker is the business of a delivery (:mod:`postlude.broker.registry`): the ledger itself, or
RabbitMQ. The class is light: nothing is opened, and SQLAlchemy not imported, before the first use.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import dramatiq
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import MiddlewareError

from postlude.broker.hooks import Hooks
from postlude.isolation import options as isolation
from postlude.isolation.home import note_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dramatiq import Actor, Consumer, Message
    from dramatiq.composition import group, pipeline
    from dramatiq.middleware import Middleware

    from postlude.ledger.task import NewTask
    from postlude.middleware.interrupts import Interrupts


class HookFailed(MiddlewareError):
    """A ``before_process_message`` hook raised; the actor does not run. Stock Dramatiq only logs it."""


class PostludeBroker(dramatiq.Broker):
    """Dramatiq's broker over the ledger; safe to use from any thread, also after a fork."""

    def __init__(self, middleware: list[Middleware], interrupts: Interrupts) -> None:
        self._hooks = Hooks()
        super().__init__(middleware)
        self.actor_options |= {"unique_key", "unique_for"}  # read where a task is taken in
        self.interrupts = interrupts
        self.queues: dict[str, None] = {}
        self.actor_options |= isolation.OPTIONS

    def declare_actor(self, actor: Actor[..., Any]) -> None:
        """Take in an actor; raises BadOptions when its isolation makes no sense."""
        isolation.check(actor.actor_name, actor.options)
        note_home(actor)
        super().declare_actor(actor)

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        """Add as Dramatiq does; of its own classes, the ones that stand in for them are meant.

        Raises ValueError when there is none to put it ``before`` or ``after``.
        """
        places = {getattr(ours, "stands_for", None): type(ours) for ours in self.middleware}
        super().add_middleware(
            middleware,
            before=places.get(before, before) if before else None,
            after=places.get(after, after) if after else None,
        )

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

    def prepare_call(
        self, actor: Actor[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> NewTask:
        """Check and encode a call of ``actor``, which is of this broker, as a message without options.

        Stores nothing. Raises what :meth:`prepare` raises.
        """
        return cast("NewTask", _module("intake").prepare_call(self, actor, args, kwargs))

    def unfold(
        self, work: pipeline | group | Message[Any], *, delay: int | None = None
    ) -> list[NewTask]:
        """Check and encode a pipeline's steps, or a group's members and then its callbacks, in order.

        Stores nothing; whoever stores them does so in one transaction. Raises what :meth:`prepare`
        raises, BadArguments also for a step that cannot take the result of the one before it.
        """
        return cast("list[NewTask]", _module("intake").unfold(self, work, delay=delay))

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Accept ``message`` and let it run at once (or after ``delay`` ms); durable on return.

        Raises what :meth:`prepare` raises, QueueNotFound for a queue that is not declared, and
        LedgerError: LedgerBusy when nothing was stored, AcceptUnknown when that is not known. Inside
        an ``after`` hook of a running task the message becomes part of that task's outcome instead:
        stored with it, or not at all. With the start of a pipeline all its steps are stored; a group
        that has callbacks with the last of its members.
        """
        self.must_know(message.queue_name)
        return cast("Message[Any]", _module("intake").enqueue(self, message, delay=delay))

    def enqueue_group(self, work: group, *, delay: int | None = None) -> None:
        """Accept a group without callbacks as :meth:`enqueue` does a message: as a whole, or not at all.

        ``group.run()`` calls this. Raises what :meth:`enqueue` raises, for the first member that is refused.
        """
        _module("intake").enqueue_group(self, work, delay=delay)

    def must_know(self, queue_name: str) -> None:
        """Raise QueueNotFound for a queue that no actor known here has and nobody has declared."""
        if queue_name not in self.queues:
            known = ", ".join(sorted(self.queues)) or "none"
            message = f"there is no queue {queue_name!r}; known, from the actors declared: {known}"
            raise QueueNotFound(message)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30000) -> Consumer:
        """Return a consumer of ``queue_name`` that waits up to ``timeout`` ms for each message.

        Raises QueueNotFound for a queue that is not declared.
        """
        self.must_know(queue_name)
        delivery = _module("registry").delivery()
        return cast("Consumer", delivery.consumer(self, queue_name, prefetch, timeout))

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``before`` hooks; one that breaks before an actor runs keeps it from running."""
        name = f"before_{signal}"
        for middleware in self._hooks.of(self.middleware, name):
            try:
                getattr(middleware, name)(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception as error:
                if signal == "process_message":
                    message = f"{type(middleware).__name__}.{name} failed: {error}"
                    raise HookFailed(message) from error
                self.logger.critical("%s of %r broke", name, middleware, exc_info=True)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Run the ``after`` hooks; what they enqueue for a task belongs to that task's outcome.

        One that breaks is logged, as by Dramatiq, whatever it raises: SystemExit would otherwise take
        the worker thread along, and leave the task without an outcome.
        """
        name = f"after_{signal}"
        if signal not in {"process_message", "skip_message"} or not hasattr(args[0], "settling"):
            self._run_after(name, Exception, *args, **kwargs)
        # Before any hook runs: one that an interrupt hits would take the worker thread with it.
        elif self.interrupts.leave():
            with args[0].settling():
                self._run_after(name, BaseException, *args, **kwargs)

    def hooked(self, name: str) -> bool:
        """Say whether any middleware has something to do at the hook ``name``."""
        return bool(self._hooks.of(self.middleware, name))

    def _run_after(
        self, name: str, tolerated: type[BaseException], /, *args: Any, **kwargs: Any
    ) -> None:
        for middleware in self._hooks.of(self.middleware, name):
            try:
                getattr(middleware, name)(self, *args, **kwargs)
            except tolerated:
                self.logger.critical("%s of %r broke", name, middleware, exc_info=True)

    def flush(self, queue_name: str) -> None:
        """Cancel every task that waits in ``queue_name``; QueueNotFound if that is not declared."""
        self.must_know(queue_name)
        _module("intake").flush([queue_name])

    def flush_all(self) -> None:
        """Cancel every task that waits in a queue known to this process."""
        _module("intake").flush(self.queues)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until nothing is queued, scheduled or running in ``queue_name``; for tests.

        Raises Dramatiq's QueueJoinTimeout after ``timeout`` ms, and QueueNotFound.
        """
        self.must_know(queue_name)
        _module("intake").join(queue_name, timeout=timeout)

    def close(self) -> None:
        """Close this process's ledger; the next use opens it again."""
        import_module("postlude.process").close()


@cache
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
