"""What an actor meets in a child: its message, the door for what it sends, the log. All lead to the line."""

from __future__ import annotations

import io
import json
import queue
import threading
from typing import TYPE_CHECKING, Any, Self

from dramatiq import Message
from dramatiq.broker import MessageProxy

from postlude.isolation.raised import rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from postlude.isolation.line import Line
    from postlude.ledger.key import Answer
    from postlude.ledger.task import NewTask


class TaskMessage(MessageProxy):
    """The current message; it knows the way that progress takes."""

    def __init__(self, message: Message[Any], line: Line) -> None:
        super().__init__(message)
        self.progress_at = float("-inf")
        self._line = line

    @classmethod
    def of(
        cls, line: Line, actor: str, args: Any, kwargs: dict[str, Any], order: dict[str, Any]
    ) -> Self:
        """Return the message of a task whose arguments have been decoded."""
        message: Message[Any] = Message(
            queue_name=order["queue"],
            actor_name=actor,
            args=args,
            kwargs=kwargs,
            options=order["options"],
            message_id=order["id"],
            message_timestamp=order["timestamp"],
        )
        return cls(message, line)

    def report_progress(self, progress: str) -> None:
        """Send how far the task is, as JSON text, to the worker; does not wait."""
        self._line.say(say="progress", task=self.message_id, progress=progress)


class LineDoor:
    """Takes what actors send to the worker, which stores it. Any thread may call it."""

    def __init__(self, line: Line) -> None:
        self.answers: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._line = line
        self._lock = threading.Lock()
        self._asked = 0

    def enqueue(self, tasks: Sequence[NewTask]) -> None:
        """Return when the worker has stored ``tasks``; raises what it raised."""
        from postlude.isolation.sent import pack  # noqa: PLC0415 # most actors send nothing

        with self._lock:
            self._asked += 1
            self._line.say(say="send", tasks=pack(tasks), number=self._asked)
            answered = 0
            while answered != self._asked:  # an interrupt may have kept somebody from his answer
                answered, error = self.answers.get()
        if error is not None:
            raise rebuild(error)

    async def accept(
        self,
        tasks: Sequence[NewTask],  # noqa: ARG002
        *,
        started: bool,  # noqa: ARG002
        answer: Answer | None = None,  # noqa: ARG002
    ) -> None:
        """Raise RuntimeError: there are no requests here."""
        raise _no_request()

    def release(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        """Raise RuntimeError: there are no requests here."""
        raise _no_request()

    def withdraw(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        """Raise RuntimeError: there are no requests here."""
        raise _no_request()

    def accept_within(self, tasks: Sequence[NewTask], lend: Callable[[], Connection]) -> None:  # noqa: ARG002
        """Raise RuntimeError: there are no requests here."""
        raise _no_request()

    def doubt(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        """Raise RuntimeError: there are no requests here."""
        raise _no_request()

    async def missing(self, ids: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Raise RuntimeError: there are no requests here."""
        raise _no_request()


class LineLog(io.StringIO):
    """The stream that a log handler writes its lines of JSON to."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def write(self, text: str) -> int:
        """Send one line; called with whole lines by a single handler."""
        self._line.say(say="log", line=json.loads(text))
        return len(text)


def _no_request() -> RuntimeError:
    return RuntimeError("BackgroundTasks belong to a request; in an actor call send() instead")
