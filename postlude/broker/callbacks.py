"""``on_failure`` for tasks that fail where no middleware sees it: quarantined, or refused by the desk.

Whoever ends such a task stores the callback in the same transaction. It is built from what the row
says, and from what the actor is declared with if this process knows that actor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Message
from dramatiq.errors import ActorNotFound
from dramatiq.middleware import MiddlewareError

from postlude.arguments.results import jsonable
from postlude.broker.delivery import follow_up_id
from postlude.broker.intake import find_actor, prepare
from postlude.errors import PostludeError
from postlude.ledger.failure import Failure

if TYPE_CHECKING:
    from dramatiq import Broker

    from postlude.ledger.queries.tasks import TaskView
    from postlude.ledger.task import NewTask

log = structlog.get_logger()

DIED = Failure("WorkerDied", "its worker died of it, again and again; it is in quarantine", "")


def on_death(broker: Broker, task: TaskView) -> NewTask | None:
    """Return what :func:`on_failure` does, for a task whose worker has died once too often of it."""
    message: Message[Any] = Message(
        queue_name=task.queue,
        actor_name=task.actor,
        args=(),
        kwargs=task.arguments,
        options={**task.options, "retries": task.retries},
        message_id=task.id,
        message_timestamp=int(task.created_at.timestamp() * 1000),
    )
    return on_failure(broker, message, DIED, attempt=task.attempts + 1)


def on_failure(
    broker: Broker, message: Message[Any], failure: Failure, *, attempt: int
) -> NewTask | None:
    """Return the task that tells of the ``failure`` of ``message``, if it or its actor names one.

    The same whoever makes it. One that cannot be made is logged and left out: the end of the task
    must not depend on it.
    """
    try:
        name = message.options.get("on_failure") or _declared(broker, message.actor_name)
        if not name:
            return None
        news = {"type": failure.type, "message": failure.message}
        callback = find_actor(broker, name).message(jsonable(message.asdict()), news)
        id_ = follow_up_id(message.message_id, attempt, 0)
        return prepare(broker, callback.copy(message_id=id_))
    except (PostludeError, MiddlewareError) as error:
        log.error("task.not_told", task_id=message.message_id, error=str(error))  # noqa: TRY400
        return None


def _declared(broker: Broker, actor: str) -> Any:
    try:
        return broker.get_actor(actor).options.get("on_failure")
    except ActorNotFound:
        return None
