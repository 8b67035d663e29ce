"""Keeps what an attempt logs, to be stored with its outcome and read beside its error.

Whatever reaches the root logger while a task runs, through the standard library or structlog, in
the actor's thread, on the event loop or in a thread that asyncio made for it. A thread that an actor
starts by hand has no context to tell it by (Python hands it none), so its lines are only logged.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from postlude.ledger.failure import printable
from postlude.middleware.base import TaskMiddleware

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

    from postlude.broker.delivery import Delivery

_OF_EVERY_LINE = frozenset({"task_id", "actor", "attempt", "level", "timestamp", "event"})
"""What structlog adds to each line and the attempt's record says anyway."""
_LINE_LIMIT = 8_000
"""Characters of one line that are kept."""

_current: ContextVar[LogLines | None] = ContextVar("postlude.log_lines", default=None)


class LogLines:
    """The newest lines that one attempt has logged, up to ``limit`` bytes of JSON.

    Any thread may add some: an append and a pop are atomic, so the worst that two of them do is to
    drop a line more than they had to.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: deque[str] = deque()
        self._size = 0
        self._dropped = 0

    def add(self, record: logging.LogRecord) -> None:
        """Keep ``record`` as a line; the oldest ones make room."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": printable(record.levelname.lower()),
            "logger": printable(record.name),
            "message": printable(_words(record))[:_LINE_LIMIT],
        }
        text = json.dumps(line, ensure_ascii=False)
        self._size += len(text.encode())  # what cannot be encoded must not be kept, either
        self._lines.append(text)
        while self._size > self._limit and len(self._lines) > 1:
            self._size -= len(self._lines.popleft().encode())
            self._dropped += 1

    def as_json(self) -> str | None:
        """Return the lines as a JSON list, None if there are none; the first one tells what is missing."""
        lines = list(self._lines)
        if self._dropped:
            first = json.loads(lines[0])
            note = f"{self._dropped} earlier lines are not kept (POSTLUDE_ATTEMPT_LOG_LIMIT)"
            gap = {**first, "level": "info", "logger": "postlude", "message": note}
            lines.insert(0, json.dumps(gap))
        return f"[{','.join(lines)}]" if lines else None


class LogCapture(TaskMiddleware):
    """Puts a handler on the root logger while the worker lives, and a collection around each attempt."""

    def __init__(self) -> None:
        self._handler = _Handler()
        self._limit = 0

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start to listen."""
        del broker, worker
        self._limit = import_module("postlude.settings").settings().attempt_log_limit
        if self._limit:
            logging.getLogger().addHandler(self._handler)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop listening."""
        del broker, worker
        logging.getLogger().removeHandler(self._handler)

    def started(self, broker: Broker, task: Delivery) -> None:
        """Collect from here on."""
        del broker, task
        if self._limit:
            _current.set(LogLines(self._limit))

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Hand the lines to the outcome."""
        del result, exception
        self.skipped(broker, task)

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Hand over what the hook that skipped the task has logged."""
        del broker
        lines = _current.get()
        _current.set(None)
        if lines is not None:
            task.logs = lines.as_json()


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        lines = _current.get()
        if lines is not None:
            try:
                lines.add(record)
            except Exception:  # noqa: BLE001 - logging's own rule: a line that cannot be kept is reported
                self.handleError(record)


def _words(record: logging.LogRecord) -> str:
    """Return a record's text; structlog passes its fields on in a dict, which others print last."""
    if isinstance(record.msg, dict):
        fields = [f"{name}={value!r}" for name, value in record.msg.items() if _tells(name)]
        words = " ".join([str(record.msg.get("event", "")), *fields])
        error = record.exc_info or record.msg.get("exc_info")
    else:
        words, error = record.getMessage(), record.exc_info
    if isinstance(error, tuple) and error[0] is not None:
        words += "\n" + logging.Formatter().formatException(error)
    elif isinstance(error, BaseException):
        words += "\n" + logging.Formatter().formatException(
            (type(error), error, error.__traceback__)
        )
    return words


def _tells(name: object) -> bool:
    return str(name) not in _OF_EVERY_LINE and not str(name).startswith(("_", "exc_info"))
