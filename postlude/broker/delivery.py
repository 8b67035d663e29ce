"""A task in a worker thread's hands: Dramatiq's message proxy, and what becomes of the task.

Middleware decides by calling the methods here; the consumer then stores :meth:`Delivery.outcome`.
Whatever nobody has decided fails closed: it is tried again or failed, never taken for done.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pydantic_core
import structlog
from dramatiq import Message
from dramatiq.broker import MessageProxy

from postlude.arguments.results import encode_result, jsonable
from postlude.broker.options import LONGEST_DELAY_MS
from postlude.errors import BadResult
from postlude.isolation.raised import Elsewhere
from postlude.ledger import clock
from postlude.ledger.failure import Failure, failure_of, printable
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy.crash import Suspicion, is_deadly
from postlude.settings import settings
from postlude.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from postlude.isolation.run import Run
    from postlude.ledger.task import Claimed, NewTask
    from postlude.worker.holdings import Held, Holdings

log = structlog.get_logger()

_FOLLOW_UPS = uuid.UUID("0f0f5a5e-77f5-5c3b-8a51-2d9b6f0d1c11")

_current = threading.local()


def settling() -> Delivery | None:
    """Return the delivery whose ``after`` hooks this thread is running, None outside of them."""
    found: Delivery | None = getattr(_current, "delivery", None)
    return found


def follow_up_id(task: str, attempt: int, position: int) -> str:
    """Return the id of what follows from an attempt: the same if the attempt is repeated."""
    return str(uuid.uuid5(_FOLLOW_UPS, f"{task}/{attempt}/{position}"))


class _Settling:
    """What :meth:`Delivery.settling` returns; a generator would take a microsecond longer."""

    __slots__ = ("_before", "_delivery")

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def __enter__(self) -> None:
        self._before, _current.delivery = settling(), self._delivery

    def __exit__(self, *_: object) -> None:
        _current.delivery = self._before


class Delivery(MessageProxy):
    """One claimed task on its way through the middleware; used by one worker thread at a time."""

    result: str | None = None
    passed_on: str | None = None
    reason: Reason | None = None
    word: str | None = None
    failure: Failure | None = None
    logs: str | None = None
    expected = False
    progress_at = float("-inf")
    apart: Run | None = None
    leave: Callable[[], object] | None = None
    """Says that this thread is not inside the actor any more."""
    stays_suspect = False
    _delay = timedelta()
    _put_off: Outcome | None = None
    _deadly = False

    def __init__(self, message: Message[Any], held: Held, holdings: Holdings) -> None:
        super().__init__(message)
        # Hooks read these twenty times a task. Dramatiq's proxy would look for each of them here
        # first, fail, and then ask the message: 10 µs a task.
        self.queue_name = message.queue_name
        self.actor_name = message.actor_name
        self.args = message.args
        self.kwargs = message.kwargs
        self.options = message.options
        self.message_id = message.message_id
        self.message_timestamp = message.message_timestamp
        self.held = held
        self.task = held.task
        """The claim that this delivery stands for."""
        self.follow_ups: list[NewTask] = []
        self.suspicion = held.task.suspect
        self._holdings = holdings

    def stuff_exception(self, exception: BaseException) -> None:
        """Keep what was raised; from here on no interrupt strikes.

        Dramatiq does this first when an actor has raised, and logs at leisure before it calls a hook:
        an interrupt meanwhile would take the worker thread with it.
        """
        if self.leave is not None:
            self.leave()
        super().stuff_exception(exception)

    def begin(self) -> bool:
        """Say that the actor is about to run; False if the task was handed back meanwhile."""
        return self._holdings.start(self.held)

    def settling(self) -> AbstractContextManager[None]:
        """Make what this thread enqueues part of this task's outcome."""
        return _Settling(self)

    def follow_up_id(self, ahead: int = 0) -> str:
        """Return the id of the next task that follows from this attempt, or of one further ``ahead``."""
        return follow_up_id(self.task.id, self.task.attempt, len(self.follow_ups) + ahead)

    def succeed(self) -> None:
        """Decide: the actor returned; ``result`` has what, as JSON text."""
        self.word = "succeeded"

    def skip(self) -> None:
        """Decide: a middleware skipped the actor, and that is all right."""
        self.word = "skipped"

    def interrupted(self) -> None:
        """Decide: the worker is shutting down; the task runs again and this costs it nothing."""
        self.word = "interrupted"

    def cancelled(self) -> None:
        """Decide: somebody has cancelled the task, and its actor has given in."""
        self.word = "cancelled"

    def wait_for_another(self, put_off: Outcome) -> None:
        """Decide: this code cannot run the task, another version's may; ``put_off`` says when."""
        self.word, self._put_off = put_off.word, put_off

    def crashed(self) -> None:
        """Decide: it was the death of the child process that it ran in, and that is on its account."""
        self.word, self.suspicion = "child-died", int(Suspicion.ALONE)
        self._deadly = True

    def hung(self) -> None:
        """Note that it had to be killed as one that stops whatever it runs in; that counts as a death.

        The third one decides, before that the rules for its retries do.
        """
        self._deadly = True
        if is_deadly(self.task.crashes + 1):
            self.word = "child-died"

    def reschedule(self, delay: int | None) -> None:
        """Decide: try again after ``delay`` ms."""
        wanted_ms = min(max(0, delay or 0), LONGEST_DELAY_MS)
        self.word, self._delay = "retried", timedelta(milliseconds=wanted_ms)

    def give_up(self, reason: Reason) -> None:
        """Decide: the task has failed for good."""
        self.fail()
        self.word, self.reason = "failed", reason

    def keep_result(self, result: Any) -> None:
        """Keep what the actor returned for the outcome.

        One that has no JSON form is dropped, saying so: the work is done, and doing it again would
        not help.
        """
        if result is not None:
            self.result = self._encoded(result)

    def drop_result(self, error: BadResult) -> None:
        """Note that the actor has returned what cannot be stored."""
        log.warning("task.result_dropped", error=str(error))
        self.failure = Failure(type(error).__qualname__, printable(str(error)), traceback="")

    def report_progress(self, progress: str) -> None:
        """Store how far the task is, as JSON text; does not wait."""
        desk = import_module("postlude.broker.desk").current_desk()
        if desk is not None:
            desk.note_progress(self, progress)

    def pass_on(self, result: Any) -> None:
        """Keep what the actor returned for the step that waits for it, also where results are not kept.

        One that has no JSON form cannot be passed on: a step that wants it will fail.
        """
        if result is None or self.result is not None:
            self.passed_on = self.result or "null"
        elif self.failure is None:
            self.passed_on = self._encoded(result)

    def as_json(self, *, failed: bool = False) -> dict[str, Any]:
        """Return the message as JSON values, as callbacks are given it.

        Told of an attempt that has ``failed``, they find it counted among its ``retries``, as
        Dramatiq's do: after the last one there are more than ``max_retries``.
        """
        plain: dict[str, Any] = jsonable(self._message.asdict())
        plain["options"]["retries"] += failed
        return plain

    def plain(self, value: Any) -> Any:
        """Return ``value`` as the JSON value that another actor is given; None if it has no such form."""
        try:
            return jsonable(value)
        except BadResult as error:
            log.warning("task.news_dropped", error=str(error))
            return None

    def note_failure(self, error: BaseException) -> None:
        """Keep what the attempt raised, as text."""
        cause = error.__cause__
        elsewhere = str(cause) if isinstance(cause, Elsewhere) else None
        self.failure = failure_of(error, elsewhere=elsewhere)

    def _encoded(self, result: Any) -> str | None:
        try:
            return encode_result(result, settings().result_limit)
        except BadResult as error:
            self.drop_result(error)
            return None

    def outcome(self) -> Outcome:
        """Return what becomes of the task, as of now; a task nobody decided on has failed."""
        if self._put_off is not None:
            return replace(self._put_off, logs=self.logs, follow_ups=tuple(self.follow_ups))
        now = clock.now()
        state, word, again, reason = State.FAILED, "failed", 0, self.reason
        if (self.word == "succeeded" or self.word == "skipped") and not self.failed:  # noqa: PLR1714
            state, word = State.SUCCEEDED, self.word
        elif self.word == "interrupted":
            state, word = State.QUEUED, self.word
        elif self.word == "cancelled":
            state, word = State.CANCELLED, self.word
        elif self.word == "retried":
            state, word, again = State.SCHEDULED if self._delay else State.QUEUED, self.word, 1
        elif self.word == "child-died":
            word, reason = self.word, Reason.CRASH_LOOP
            state = State.FAILED if is_deadly(self.task.crashes + 1) else State.QUEUED
        failed = state is State.FAILED
        if failed and self.failure is None and reason is None:
            self.failure = Failure("Undecided", "the worker's hooks did not run to their end", "")
        return Outcome(
            state,
            word,
            started_at=self.held.started_at,
            finished_at=now,
            reason=self._reason(state, reason),
            run_at=now + self._delay if state is State.SCHEDULED else None,
            retries=self.task.retries + again,
            deadly=self._deadly,
            suspect=self.suspicion
            if self.stays_suspect or (state is State.QUEUED and not again)
            else 0,
            result=self.result if state is State.SUCCEEDED else None,
            passed_on=self.passed_on,
            failure=self.failure,
            logs=self.logs,
            follow_ups=tuple(self.follow_ups),
        )

    def _reason(self, state: State, found: Reason | None) -> Reason | None:
        if state is State.CANCELLED:
            return Reason.BY_REQUEST
        return (found or Reason.RETRIES_EXHAUSTED) if state is State.FAILED else None


def message_of(task: Claimed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Message[Any]:
    """Return Dramatiq's message for a claimed task, arguments typed as the actor wants them."""
    options = pydantic_core.from_json(task.options)
    options["retries"] = task.retries
    return Message(
        queue_name=task.queue,
        actor_name=task.actor,
        args=args,
        kwargs=kwargs,
        options=options,
        message_id=task.id,
        message_timestamp=int(task.created_at.timestamp() * 1000),
    )


def cut_short(task: Claimed, started_at: datetime | None) -> Outcome:
    """Return the outcome of a task whose worker may not wait for it any longer: it runs again."""
    return Outcome(
        State.QUEUED,
        "interrupted",
        started_at=started_at,
        finished_at=clock.now(),
        retries=task.retries,
        suspect=task.suspect,
    )


def cancelled(task: Claimed, started_at: datetime | None) -> Outcome:
    """Return the outcome of a task that is cancelled before its actor has started, or left."""
    return Outcome(
        State.CANCELLED,
        "cancelled",
        started_at=started_at,
        finished_at=clock.now(),
        reason=Reason.BY_REQUEST,
        retries=task.retries,
    )


def refused(task: Claimed, error: BaseException, reason: Reason) -> Outcome:
    """Return the outcome of a task that cannot even be handed to its actor."""
    failure = Failure(type=type(error).__qualname__, message=printable(str(error)), traceback="")
    return Outcome(
        State.FAILED,
        "failed",
        started_at=None,
        finished_at=clock.now(),
        reason=reason,
        retries=task.retries,
        failure=failure,
    )


def put_off(task: Claimed, error: BaseException, version: str | None, wait: timedelta) -> Outcome:
    """Return the outcome of a task that another ``version`` of its actor than ours may fit, later."""
    now = clock.now()
    return Outcome(
        State.SCHEDULED,
        "unfit",
        started_at=None,
        finished_at=now,
        run_at=now + wait,
        retries=task.retries,
        suspect=int(task.suspect),
        failure=Failure(type(error).__qualname__, printable(str(error)), "", fingerprint=version),
    )
