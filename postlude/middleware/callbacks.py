"""``on_success`` and ``on_failure``: the name of an actor that is told, as part of the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dramatiq.middleware import Callbacks as DramatiqCallbacks
from dramatiq.middleware import Shutdown, SkipMessage

from postlude.ledger.failure import printable, words_of
from postlude.middleware.base import TaskMiddleware
from postlude.middleware.cancelled import Cancelled

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery


class Callbacks(TaskMiddleware):
    """Dramatiq's callbacks; like there, ``on_failure`` is told of every failed attempt.

    The callback is stored in the same transaction as the outcome that it tells of: a crash between
    the two neither loses nor doubles it. Unlike there, ``on_failure`` is also told of a task that has
    failed without being run; where no hook runs, :mod:`postlude.broker.callbacks` does that.
    """

    options = frozenset({"on_failure", "on_success"})
    stands_for = DramatiqCallbacks

    def ended(
        self,
        broker: Broker,
        task: Delivery,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Send the callback that fits."""
        if exception is None:
            _tell(broker, task, "on_success", result)
        elif not isinstance(exception, Shutdown | Cancelled):
            words = printable(
                words_of(exception)
            )  # a callback that says nothing else is better than none
            news = {"type": printable(type(exception).__name__), "message": words}
            _tell(broker, task, "on_failure", news, failed=True)

    def skipped(self, broker: Broker, task: Delivery) -> None:
        """Tell of a task that a middleware has failed before it ran, as one that is too old."""
        if task.failed:
            words = f"it was not run: {task.reason or 'a middleware has failed it'}"
            _tell(broker, task, "on_failure", {"type": SkipMessage.__name__, "message": words})


def _tell(broker: Broker, task: Delivery, option: str, news: Any, *, failed: bool = False) -> None:
    name = task.options.get(option) or broker.get_actor(task.actor_name).options.get(option)
    if name:
        broker.get_actor(name).send(task.as_json(failed=failed), task.plain(news))
