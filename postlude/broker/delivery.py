"""A task in a worker thread's hands: Dramatiq's message proxy, and what becomes of the task.

Middleware decides by calling the methods here; the consumer then stores :meth:`Delivery.outcome`.
Whatever nobody has decided fails closed: it is tried again or failed, never taken for done.
"""

from __future__ import annotations

import json
import threading
import traceback
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Message
from dramatiq.broker import MessageProxy

from postlude.arguments.results import encode_result, jsonable
from postlude.errors import BadResult, PostludeError
from postlude.ledger import clock
from postlude.ledger.transitions.outcome import Failure, Outcome
from postlude.settings import settings
from postlude.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from postlude.ledger.task import Claimed, NewTask
    from postlude.worker.holdings import Held, Holdings

log = structlog.get_logger()

TRACEBACK_LIMIT = 30
LONGEST_DELAY_MS = 3650 * 86_400_000
"""Ten years; more is a slip of units, and dates end some time."""
TEXT_LIMIT = 16_000
"""Characters of a traceback that are kept: its end says most."""
_FOLLOW_UPS = uuid.UUID("0f0f5a5e-77f5-5c3b-8a51-2d9b6f0d1c11")

_current = threading.local()


def settling() -> Delivery | None:
    """Return the delivery whose ``after`` hooks this thread is running, None outside of them."""
    found: Delivery | None = getattr(_current, "delivery", None)
    return found


class Delivery(MessageProxy):
    """One claimed task on its way through the middleware; used by one worker thread at a time."""

    def __init__(self, message: Message[Any], held: Held, holdings: Holdings) -> None:
        super().__init__(message)
        self.held = held
        self.follow_ups: list[NewTask] = []
        self.result: str | None = None
        self.reason: Reason | None = None
        self.word: str | None = None
        self.failure: Failure | None = None
        self.progress_at = float("-inf")
        self._holdings = holdings
        self._delay = timedelta()

    @property
    def task(self) -> Claimed:
        """The claim that this delivery stands for."""
        return self.held.task

    def begin(self) -> bool:
        """Say that the actor is about to run; False if the task was handed back meanwhile."""
        return self._holdings.start(self.held)

    @contextmanager
    def settling(self) -> Iterator[None]:
        """Make what this thread enqueues part of this task's outcome."""
        before, _current.delivery = settling(), self
        try:
            yield
        finally:
            _current.delivery = before

    def follow_up_id(self) -> str:
        """Return the id of the next task that follows from this attempt: the same if it is repeated."""
        place = f"{self.task.id}/{self.task.attempt}/{len(self.follow_ups)}"
        return str(uuid.uuid5(_FOLLOW_UPS, place))

    def succeed(self) -> None:
        """Decide: the actor returned; ``result`` has what, as JSON text."""
        self.word = "succeeded"

    def skip(self) -> None:
        """Decide: a middleware skipped the actor, and that is all right."""
        self.word = "skipped"

    def interrupted(self) -> None:
        """Decide: the worker is shutting down; the task runs again and this costs it nothing."""
        self.word = "interrupted"

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
        if result is None:
            return
        try:
            self.result = encode_result(result, settings().result_limit)
        except BadResult as error:
            log.warning("task.result_dropped", error=str(error))
            self.failure = Failure(type(error).__qualname__, _printable(str(error)), traceback="")

    def as_json(self) -> dict[str, Any]:
        """Return the message as JSON values, as callbacks are given it."""
        plain: dict[str, Any] = jsonable(self._message.asdict())
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
        lines = traceback.format_exception(
            type(error), error, error.__traceback__, limit=TRACEBACK_LIMIT
        )
        self.failure = Failure(
            type=type(error).__qualname__,
            message=_printable(_words(error))[:TEXT_LIMIT],
            traceback=_printable("".join(lines))[-TEXT_LIMIT:],
        )

    def outcome(self) -> Outcome:
        """Return what becomes of the task, as of now; a task nobody decided on has failed."""
        now = clock.now()
        state, word, again = State.FAILED, "failed", 0
        if self.word in {"succeeded", "skipped"} and not self.failed:
            state, word = State.SUCCEEDED, self.word
        elif self.word == "interrupted":
            state, word = State.QUEUED, self.word
        elif self.word == "retried":
            state, word, again = State.SCHEDULED if self._delay else State.QUEUED, self.word, 1
        failed = state is State.FAILED
        if failed and self.failure is None and self.reason is None:
            self.failure = Failure("Undecided", "the worker's hooks did not run to their end", "")
        return Outcome(
            state,
            word,
            started_at=self.held.started_at,
            finished_at=now,
            reason=(self.reason or Reason.RETRIES_EXHAUSTED) if failed else None,
            run_at=now + self._delay if state is State.SCHEDULED else None,
            retries=self.task.retries + again,
            result=self.result if state is State.SUCCEEDED else None,
            failure=self.failure,
            follow_ups=tuple(self.follow_ups),
        )


def _words(error: BaseException) -> str:
    """Return what an exception says; its own code may be what is broken."""
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001 - somebody's __str__; the attempt's record must not fail
        return f"<{type(error).__name__} whose text cannot be had: {type(worse).__name__}>"


def _printable(text: str) -> str:
    """Make any text storable: databases refuse NUL, UTF-8 refuses lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def message_of(task: Claimed, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Message[Any]:
    """Return Dramatiq's message for a claimed task, arguments typed as the actor wants them."""
    options = json.loads(task.options)
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
    )


def refused(task: Claimed, error: PostludeError, reason: Reason) -> Outcome:
    """Return the outcome of a task that cannot even be handed to its actor."""
    failure = Failure(type=type(error).__qualname__, message=_printable(str(error)), traceback="")
    return Outcome(
        State.FAILED,
        "failed",
        started_at=None,
        finished_at=clock.now(),
        reason=reason,
        retries=task.retries,
        failure=failure,
    )
