"""Tests of your own app, without a worker, a ledger or a migration.

    def test_signing_up_sends_a_mail(client):
        with postlude.testing.inline() as tasks:
            client.post("/users", json={"email": "ada@example.org"})
        assert tasks.ran[0].actor == "send_welcome"

The app has its ``postlude.install(app)`` as always. Tasks are checked and encoded as always, then
decoded and run in this process: those of a request after its response, those of ``send()`` at
once. Nothing touches a disk or a network. What only a worker has is left out: delays are noted,
not waited for; nothing is retried, interrupted or followed up; CurrentMessage is the only
middleware that works.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dramatiq import Message
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import CurrentMessage

from postlude import door
from postlude.broker import broker, intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from dramatiq import Actor

    from postlude.ledger.task import NewTask


@dataclass(slots=True)
class RanTask:
    """A task that was run: with which arguments, by name, and how it ended.

    ``delay`` is what a worker would have waited before it.
    """

    id: str
    actor: str
    queue: str
    arguments: dict[str, Any]
    delay: timedelta | None
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class InlineTasks:
    """What was run so far, in the order of their starts."""

    ran: list[RanTask] = field(default_factory=list)


@contextmanager
def inline(*, raise_errors: bool = True) -> Iterator[InlineTasks]:
    """Run the tasks of this process where they are added; yields what has run.

    An exception in a task is raised where the task ran: from ``client.post()`` or ``send()``, after
    the other tasks of the same request; with ``raise_errors=False`` it is only noted. Affects all
    threads; not to be used by several tests of one process at once.
    """
    tasks = InlineTasks()
    runner = _Runner(tasks, raise_errors=raise_errors)
    with door.use(runner):
        try:
            yield tasks
        finally:
            runner.close()


class _Runner:
    """The door to nowhere: it keeps what is accepted and runs what is released."""

    def __init__(self, tasks: InlineTasks, *, raise_errors: bool) -> None:
        self._tasks = tasks
        self._raise_errors = raise_errors
        self._accepted: dict[str, NewTask] = {}
        self._loop: EventLoopThread | None = None
        self._lock = threading.Lock()

    async def accept(self, tasks: Sequence[NewTask], *, started: bool) -> None:  # noqa: ARG002
        """Keep ``tasks`` until they are released."""
        self._accepted.update((task.id, task) for task in tasks)

    def release(self, ids: Sequence[str]) -> None:
        """Run all of them, then raise the first error, if errors are to be raised."""
        errors = [self._run(self._accepted.pop(id_)) for id_ in ids]
        self._raise(errors)

    def withdraw(self, ids: Sequence[str]) -> None:
        """Forget them."""
        for id_ in ids:
            del self._accepted[id_]

    def enqueue(self, task: NewTask) -> None:
        """Run ``task`` now."""
        self._raise([self._run(task)])

    def close(self) -> None:
        """Stop the loop that async actors ran in."""
        if self._loop is not None:
            set_event_loop_thread(None)
            self._loop.stop()

    def _raise(self, errors: Sequence[Exception | None]) -> None:
        for error in errors:
            if error is not None and self._raise_errors:
                raise error

    def _run(self, task: NewTask) -> Exception | None:
        actor = intake.find_actor(broker(), task.actor)
        args, kwargs = intake.signature(actor).decode(task.arguments)
        delay = None if task.run_at is None else task.run_at - task.created_at
        named = inspect.signature(actor.fn).bind(*args, **kwargs).arguments
        ran = RanTask(task.id, task.actor, task.queue, named, delay)
        self._tasks.ran.append(ran)
        if inspect.iscoroutinefunction(inspect.unwrap(actor.fn)):
            self._have_loop()
        message: Message[Any] = Message(
            task.queue, task.actor, args, kwargs, {}, message_id=task.id
        )
        try:
            ran.result = _apart(partial(_call, actor, message))
        except Exception as error:  # noqa: BLE001 # whatever the actor raises belongs to the test
            ran.error = error
        return ran.error

    def _have_loop(self) -> None:
        """Start the loop that Dramatiq runs async actors in, as its AsyncIO middleware would."""
        with self._lock:
            if get_event_loop_thread() is None:
                self._loop = EventLoopThread(logging.getLogger(__name__))
                self._loop.start(timeout=5)
                set_event_loop_thread(self._loop)


def _call(actor: Actor[..., Any], message: Message[Any]) -> Any:
    before = CurrentMessage.get_current_message()
    _set_current(message)
    try:
        return actor.fn(*message.args, **message.kwargs)
    finally:
        _set_current(before)


def _set_current(message: Message[Any] | None) -> None:
    CurrentMessage().before_process_message(broker(), message)


def _apart(call: Callable[[], Any]) -> Any:
    """Call where no event loop runs, as in a worker; blocks the loop if one runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, call).result()
