"""``max_age``: a task that waited too long is not worth running any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.common import current_millis
from dramatiq.middleware import AgeLimit as DramatiqAgeLimit
from dramatiq.middleware import SkipMessage

from postlude.middleware.base import TaskMiddleware
from postlude.states import Reason

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.broker.delivery import Delivery


class AgeLimit(TaskMiddleware):
    """Fails tasks older than ``max_age`` milliseconds as ``expired``; no limit by default."""

    options = frozenset({"max_age"})
    stands_for = DramatiqAgeLimit

    def started(self, broker: Broker, task: Delivery) -> None:
        """Raise SkipMessage for a task that is too old, having failed it."""
        actor = broker.get_actor(task.actor_name)
        limit = task.options.get("max_age") or actor.options.get("max_age")
        if limit and current_millis() - task.message_timestamp >= limit:
            task.give_up(Reason.EXPIRED)
            message = f"task {task.message_id} is older than its max_age of {limit} ms"
            raise SkipMessage(message)
