"""How a message becomes a task: checked, encoded, stored. All senders come through here."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import structlog
from dramatiq.errors import ActorNotFound, QueueJoinTimeout

from postlude import process
from postlude.arguments import Signature
from postlude.broker.delivery import settling
from postlude.broker.options import check, encode
from postlude.door import stand_in
from postlude.errors import BadOptions, UnknownActor
from postlude.ledger import clock
from postlude.ledger.queries.tasks import unfinished
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, cancel
from postlude.settings import settings

if TYPE_CHECKING:
    from dramatiq import Actor, Broker, Message

    from postlude.ledger.statement import Tx

JOIN_LOOK_S = 0.02

_signatures: WeakKeyDictionary[Actor[..., Any], Signature] = WeakKeyDictionary()


def signature(actor: Actor[..., Any]) -> Signature:
    """Return the signature of ``actor``, read once per process."""
    found = _signatures.get(actor)
    if found is None:
        found = _signatures[actor] = Signature.of(actor.fn, actor.actor_name)
    return found


def prepare(
    broker: Broker, message: Message[Any], *, delay: int | None = None, named: bool = False
) -> NewTask:
    """Check and encode ``message``; see :meth:`postlude.broker.PostludeBroker.prepare`."""
    actor = find_actor(broker, message.actor_name)
    broker.emit_before("enqueue", message, delay)
    now = clock.now()
    limit = settings().argument_limit
    if named:
        arguments = signature(actor).encode_named(message.kwargs, limit=limit)
    else:
        arguments = signature(actor).encode(message.args, message.kwargs, limit=limit)
    options = dict(message.options)
    eta = options.pop("eta", None)
    check(message.actor_name, options, broker.get_declared_actors())
    return NewTask(
        id=message.message_id,
        actor=message.actor_name,
        queue=message.queue_name,
        run_at=_run_at(message.actor_name, eta, delay, now),
        priority=options.get("priority", actor.priority),
        arguments=arguments,
        options=encode(message.actor_name, options),
        created_at=now,
        correlation_id=structlog.contextvars.get_contextvars().get("correlation_id"),
    )


def enqueue(broker: Broker, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
    """Store ``message`` as a task that may run; see :meth:`postlude.broker.PostludeBroker.enqueue`."""
    running = settling()
    if running is not None and running.message_id == message.message_id:
        running.reschedule(delay)
        return message
    if running is not None:
        message = message.copy(message_id=running.follow_up_id())
    task = prepare(broker, message, delay=delay)
    if running is not None:
        running.follow_ups.append(task)
    elif door := stand_in():
        door.enqueue(task)
    else:
        process.current().ledger.write(partial(_store, task=task))
    broker.emit_after("enqueue", message, delay)
    return message


def find_actor(broker: Broker, name: str) -> Actor[..., Any]:
    """Return the actor called ``name``; UnknownActor names the ones that there are."""
    try:
        return broker.get_actor(name)
    except ActorNotFound:
        known = ", ".join(sorted(broker.get_declared_actors())) or "none"
        message = f"there is no actor {name!r}; known: {known}"
        raise UnknownActor(message) from None


def flush(queue_name: str) -> None:
    """Cancel every task that waits in ``queue_name``."""
    process.current().ledger.write(partial(cancel.cancel_queue, queue=queue_name, now=clock.now()))


def join(queue_name: str, *, timeout: int | None = None) -> None:
    """Wait until ``queue_name`` has nothing unfinished; ``timeout`` in milliseconds."""
    deadline = None if timeout is None else time.monotonic() + timeout / 1000
    ledger = process.current().ledger
    while True:
        with ledger.read() as connection:
            if not unfinished(connection, queue_name):
                return
        if deadline is not None and time.monotonic() > deadline:
            raise QueueJoinTimeout(queue_name)
        time.sleep(JOIN_LOOK_S)


def _store(tx: Tx, task: NewTask) -> None:
    if not accept.enqueue(tx, task, now=task.created_at):
        message = (
            f"there is a task {task.id} already; send a message once, or build a new one "
            f"with {task.actor}.message(…)"
        )
        raise BadOptions(message)


def _run_at(actor: str, eta: Any, delay: Any, now: datetime) -> datetime | None:
    """Return when to run a task that has an ``eta`` or a ``delay`` in ms; None: as soon as it can."""
    try:
        if isinstance(delay, bool) or isinstance(eta, bool):
            raise TypeError  # noqa: TRY301 - the same answer as for any other nonsense
        if delay is not None:
            return now + timedelta(milliseconds=delay) if delay > 0 else None
        return None if eta is None else clock.from_micros(int(eta * 1000))
    except (OverflowError, TypeError, ValueError):
        message = f"{actor}: a delay of {delay if eta is None else eta!r} ms makes no sense"
        raise BadOptions(message) from None
