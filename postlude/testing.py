"""Tests of your own app, without a worker, a ledger or a migration.

    def test_signing_up_sends_a_mail(client):
        with postlude.testing.inline() as tasks:
            client.post("/users", json={"email": "ada@example.org"})
        assert tasks.ran[0].actor == "send_welcome"

The app has its ``postlude.install(app)`` as always. Tasks are checked and encoded as always, then
decoded and run in this process: those of a request after its response, those of ``send()`` at
once; the steps of a pipeline and the callbacks of a group follow in their order. Nothing touches a
disk or a network. What only a worker has is left out: delays are noted, not waited for; nothing is
retried or interrupted; no key makes a task a duplicate or a request a repetition; CurrentMessage is
the only middleware that works, so ``on_success`` and the like are not told.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from dramatiq import Message
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import CurrentMessage

from postlude import door
from postlude.arguments.results import encode_result
from postlude.broker import broker, intake
from postlude.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dramatiq import Actor
    from sqlalchemy import Connection

    from postlude.ledger.key import Answer
    from postlude.ledger.task import NewTask


@dataclass(slots=True)
class RanTask:
    """A task that was run: with which arguments, by name, and how it ended.

    ``delay`` is what a worker would have waited before it. A step whose pipeline failed before its
    turn was not run.
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
        self._waiting = _Waiting()
        self._loop: EventLoopThread | None = None
        self._lock = threading.Lock()

    async def accept(
        self,
        tasks: Sequence[NewTask],
        *,
        started: bool,  # noqa: ARG002
        answer: Answer | None = None,  # noqa: ARG002
    ) -> None:
        """Keep ``tasks`` until they are released."""
        self._accepted.update((task.id, task) for task in self._waiting.add(tasks))

    def release(self, ids: Sequence[str]) -> None:
        """Run all of them, then raise the first error, if errors are to be raised."""
        self._run_all([self._accepted.pop(id_) for id_ in ids if id_ in self._accepted])

    def withdraw(self, ids: Sequence[str]) -> None:
        """Forget them; what waits for them waits for ever."""
        for id_ in ids:
            self._accepted.pop(id_, None)

    def accept_within(self, tasks: Sequence[NewTask], lend: Callable[[], Connection]) -> None:  # noqa: ARG002
        """Keep ``tasks`` until their session has committed; it may be one of any database."""
        self._accepted.update((task.id, task) for task in self._waiting.add(tasks))

    def doubt(self, ids: Sequence[str]) -> None:
        """Forget them: here nothing can be committed in spite of an error."""
        self.withdraw(ids)

    async def missing(self, ids: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Return nothing: what the session says counts."""
        return []

    def enqueue(self, tasks: Sequence[NewTask]) -> None:
        """Run ``tasks`` now."""
        self._run_all(self._waiting.add(tasks))

    def close(self) -> None:
        """Stop the loop that async actors ran in."""
        if self._loop is not None:
            set_event_loop_thread(None)
            self._loop.stop()

    def _run_all(self, tasks: Iterable[NewTask]) -> None:
        """Run ``tasks``, and what follows from each before the next, then raise the first error."""
        errors: list[Exception] = []
        ready = deque(tasks)
        while ready:
            task = ready.popleft()
            try:
                released = self._waiting.succeeded(task, self._run(task))
            except Exception as error:  # noqa: BLE001 # whatever an actor raises belongs to the test
                errors.append(error)
                released = self._waiting.ended(task)
            ready.extendleft(reversed(released))
        if errors and self._raise_errors:
            raise errors[0]

    def _run(self, task: NewTask) -> Any:
        """Run one task, noting how; returns its result, or raises its error."""
        given = json.loads(task.arguments)
        ran = RanTask(task.id, task.actor, task.queue, given, _delay(task))
        self._tasks.ran.append(ran)
        try:
            actor = intake.find_actor(broker(), task.actor)
            args, kwargs = intake.signature(actor).decode(task.arguments)
            ran.arguments = inspect.signature(actor.fn).bind(*args, **kwargs).arguments
            if inspect.iscoroutinefunction(inspect.unwrap(actor.fn)):
                self._have_loop()
            message: Message[Any] = Message(
                task.queue, task.actor, args, kwargs, {}, message_id=task.id
            )
            ran.result = _apart(partial(_call, actor, message))
        except Exception as error:
            ran.error = error
            raise
        return ran.result

    def _have_loop(self) -> None:
        """Start the loop that Dramatiq runs async actors in, as its AsyncIO middleware would."""
        with self._lock:
            if get_event_loop_thread() is None:
                self._loop = EventLoopThread(logging.getLogger(__name__))
                self._loop.start(timeout=5)
                set_event_loop_thread(self._loop)


class _Waiting:
    """What waits for the end of a task, or of a group's last member."""

    def __init__(self) -> None:
        self._steps: dict[str, list[NewTask]] = {}
        self._members: dict[str, set[str]] = {}

    def add(self, tasks: Iterable[NewTask]) -> list[NewTask]:
        """Note those of ``tasks`` that wait, and who is in a group; returns those that need not wait."""
        ready = []
        for task in tasks:
            if task.group_id is not None:
                self._members.setdefault(task.group_id, set()).add(task.id)
            if task.waits_for is None:
                ready.append(task)
            else:
                steps = self._steps.setdefault(task.waits_for, [])
                steps += (
                    [] if task in steps else [task]
                )  # a session may store what it has lost again
        return ready

    def succeeded(self, task: NewTask, result: Any) -> list[NewTask]:
        """Return what ``task`` releases; raises BadResult if it cannot pass on its result."""
        released = [_piped(step, result) for step in self._steps.get(task.id, ())]
        self._steps.pop(task.id, None)
        return released + self._completed([task])

    def ended(self, task: NewTask) -> list[NewTask]:
        """Drop what is downstream of ``task``, which failed; returns what is released all the same."""
        gone = [task]
        for each in gone:
            gone += self._steps.pop(each.id, ())
        return self._completed(gone)

    def _completed(self, tasks: Iterable[NewTask]) -> list[NewTask]:
        released: list[NewTask] = []
        for task in tasks:
            if task.group_id is not None:
                members = self._members[task.group_id]
                members.discard(task.id)
                released += () if members else self._steps.pop(task.group_id, ())
        return released


def _piped(step: NewTask, result: Any) -> NewTask:
    """Return ``step`` with the result that it takes among its arguments, as the ledger puts it there."""
    if step.pipe_into is None:
        return step
    passed_on = json.loads(encode_result(result, settings().result_limit))
    named = json.loads(step.arguments)
    if step.pipe_into in named:
        named[step.pipe_into].append(passed_on)
    else:
        named[step.pipe_into] = passed_on
    return replace(step, arguments=json.dumps(named))


def _delay(task: NewTask) -> timedelta | None:
    if task.waits_for is not None:
        ms = json.loads(task.options).get("delay")
        return timedelta(milliseconds=ms) if ms else None
    return None if task.run_at is None else task.run_at - task.created_at


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
