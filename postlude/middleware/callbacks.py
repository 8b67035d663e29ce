"""``on_success`` and ``on_failure``: the name of an actor that is told, as part of the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dramatiq.middleware import Shutdown

from postlude.middleware.base import TaskMiddleware

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery


class Callbacks(TaskMiddleware):
    """Dramatiq's callbacks; like there, ``on_failure`` is told of every failed attempt.

    The callback is stored in the same transaction as the outcome that it tells of: a crash between
    the two neither loses nor doubles it.
    """

    options = frozenset({"on_failure", "on_success"})

    def ended(
        self, broker: Broker, task: Delivery, result: Any, error: BaseException | None
    ) -> None:
        """Send the callback that fits."""
        if isinstance(error, Shutdown):
            return
        option = "on_success" if error is None else "on_failure"
        actor = broker.get_actor(task.actor_name)
        name = task.options.get(option) or actor.options.get(option)
        if not name:
            return
        news = {"type": type(error).__name__, "message": str(error)} if error else result
        broker.get_actor(name).send(task.as_json(), task.plain(news))
