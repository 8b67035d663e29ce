"""How a message becomes a task: checked, encoded, stored. All senders come through here."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import structlog
from dramatiq import Message
from dramatiq.errors import ActorNotFound, QueueJoinTimeout
from uuid_utils import uuid7

from postlude import process
from postlude.arguments import Signature
from postlude.broker import composition, groups, unique
from postlude.broker.composition import ALONE
from postlude.broker.delivery import settling
from postlude.broker.options import check, encode
from postlude.door import stand_in
from postlude.errors import BadOptions, UnknownActor
from postlude.ledger import clock
from postlude.ledger.failure import printable
from postlude.ledger.queries.tasks import unfinished
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, cancel
from postlude.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dramatiq import Actor, Broker
    from dramatiq.composition import group, pipeline

    from postlude.broker import PostludeBroker
    from postlude.broker.composition import Membership, Place, Step
    from postlude.broker.delivery import Delivery
    from postlude.broker.groups import OpenGroup
    from postlude.ledger.statement import Tx

JOIN_LOOK_S = 0.02
CORRELATION_LIMIT = 200
"""Characters of a correlation id that are kept."""

_signatures: WeakKeyDictionary[Actor[..., Any], Signature] = WeakKeyDictionary()


def signature(actor: Actor[..., Any]) -> Signature:
    """Return the signature of ``actor``, read once per process."""
    found = _signatures.get(actor)
    if found is None:
        found = _signatures[actor] = Signature.of(actor.fn, actor.actor_name)
    return found


def prepare(
    broker: Broker,
    message: Message[Any],
    *,
    delay: int | None = None,
    named: bool = False,
    place: Place = ALONE,
) -> NewTask:
    """Check and encode ``message``; see :meth:`postlude.broker.PostludeBroker.prepare`."""
    actor = find_actor(broker, message.actor_name)
    broker.emit_before("enqueue", message, delay)
    now = clock.now()
    limit = settings().argument_limit
    pipe_into = None
    if named:
        arguments = signature(actor).encode_named(message.kwargs, limit=limit)
    elif place.piped:
        args, kwargs = message.args, message.kwargs
        arguments, pipe_into = signature(actor).encode_piped(args, kwargs, limit=limit)
    else:
        arguments = signature(actor).encode(message.args, message.kwargs, limit=limit)
    options = unique.complete(message.actor_name, dict(message.options), actor.options)
    if place.waits_for is not None:
        delay = None  # it counts from the release, which finds it among the options
    eta = options.pop("eta", None)
    if place is not ALONE:
        unique.refuse_tied(message.actor_name, options)
    check(message.actor_name, options, broker.actors)
    return NewTask(
        id=message.message_id,
        actor=message.actor_name,
        queue=message.queue_name,
        run_at=_run_at(message.actor_name, eta, delay, now),
        priority=options.get("priority", actor.priority),
        arguments=arguments,
        options=encode(message.actor_name, options),
        created_at=now,
        correlation_id=_correlation_id(),
        unique=unique.wanted(message.actor_name, options, now),
        waits_for=place.waits_for,
        followed=place.followed,
        group_id=place.group_id,
        pipe_into=pipe_into,
    )


def prepare_call(
    broker: PostludeBroker, actor: Actor[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> NewTask:
    """Check and encode a call without options; see :meth:`postlude.broker.PostludeBroker.prepare_call`.

    Most are like that, and then nobody looks at a message, nor are there options to look into: 4 µs
    of every request that adds a task.
    """
    id_ = str(uuid7())
    if "unique_key" in actor.options or broker.hooked("before_enqueue"):
        message: Message[Any] = Message(
            actor.queue_name, actor.actor_name, args, dict(kwargs), {}, message_id=id_
        )
        return prepare(broker, message)
    return NewTask(
        id=id_,
        actor=actor.actor_name,
        queue=actor.queue_name,
        arguments=signature(actor).encode(args, kwargs, limit=settings().argument_limit),
        options="{}",
        priority=actor.priority,
        run_at=None,
        created_at=clock.now(),
        correlation_id=_correlation_id(),
    )


def unfold(
    broker: Broker, work: pipeline | group | Message[Any], *, delay: int | None = None
) -> list[NewTask]:
    """Check and encode all of ``work``; see :meth:`postlude.broker.PostludeBroker.unfold`."""
    return _prepare_all(broker, composition.unfold(broker, work, delay=delay))


def enqueue(broker: Broker, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
    """Store ``message`` as a task that may run; see :meth:`postlude.broker.PostludeBroker.enqueue`."""
    running = settling()
    if running is not None and running.message_id == message.message_id:
        running.reschedule(delay)
        return message
    if composition.is_composed(message):
        return _enqueue_composed(broker, message, delay, running)
    if running is not None:
        message = message.copy(message_id=running.follow_up_id())
    task = prepare(broker, message, delay=delay)
    _take_in([task], running)
    broker.emit_after("enqueue", message, delay)
    return message


def enqueue_group(broker: PostludeBroker, work: group, *, delay: int | None = None) -> None:
    """Store a group; see :meth:`postlude.broker.PostludeBroker.enqueue_group`."""
    running = settling()
    steps = _renamed(composition.unfold(broker, work, delay=delay), running)
    for step in steps:
        if step.place.waits_for is None:
            broker.must_know(step.message.queue_name)
    if steps:
        _take_in(_prepare_all(broker, steps), running)
    for step in steps:
        broker.emit_after("enqueue", step.message, step.delay)


def store(tasks: Sequence[NewTask]) -> None:
    """Store ``tasks``, all or none, and let them run.

    Raises BadOptions for an id that is taken, and LedgerError.
    """
    ledger = process.current().ledger
    ledger.must_fit()
    ledger.write(partial(_store, tasks=tasks))


def find_actor(broker: Broker, name: str) -> Actor[..., Any]:
    """Return the actor called ``name``; UnknownActor names the ones that there are."""
    try:
        return broker.get_actor(name)
    except ActorNotFound:
        known = ", ".join(sorted(broker.get_declared_actors())) or "none"
        message = f"there is no actor {name!r}; known: {known}"
        raise UnknownActor(message) from None


def flush(queue_names: Iterable[str]) -> None:
    """Cancel every task that waits in one of these queues, and callbacks that this releases into them."""
    process.current().ledger.write(partial(_flush, queues=list(queue_names), now=clock.now()))


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


def _enqueue_composed(
    broker: Broker, message: Message[Any], delay: int | None, running: Delivery | None
) -> Message[Any]:
    """Store the pipeline that ``message`` starts; or its group, once the last member has come."""
    found = composition.membership(message)
    if found is None:
        steps = _renamed(composition.unfold(broker, message, delay=delay), running)
        tasks = _prepare_all(broker, steps)
        if running is not None:
            message = message.copy(message_id=steps[0].message.message_id)
    else:
        with groups.joining(found.group_id) as group:
            members = composition.member(broker, message, found.group_id, delay=delay)
            _join(broker, group, members, found, running)
        if group.missing:
            return message
        steps, tasks = group.steps, group.tasks
    _take_in(tasks, running)
    for step in steps:
        broker.emit_after("enqueue", step.message, step.delay)
    return message


def _join(
    broker: Broker,
    group: OpenGroup,
    members: list[Step],
    found: Membership,
    running: Delivery | None,
) -> None:
    """Check a member and add it to the group that it belongs to, after the last one the callbacks."""
    group.missing -= 1
    if not group.missing:
        members += composition.callbacks(broker, found)
        composition.check_once_each([*group.steps, *members])
    steps = _renamed(members, running, ahead=len(group.steps))
    group.add(steps, _prepare_all(broker, steps))


def _renamed(steps: list[Step], running: Delivery | None, *, ahead: int = 0) -> list[Step]:
    """Give what follows from a running task the ids that it has whenever the attempt is repeated."""
    if running is None:
        return steps
    ids = [running.follow_up_id(ahead + number) for number in range(len(steps))]
    return composition.renamed(steps, ids)


def _take_in(tasks: Sequence[NewTask], running: Delivery | None) -> None:
    """Store ``tasks``, all or none: now, or with the outcome of the task whose hooks are running."""
    if running is not None:
        running.follow_ups += tasks
    elif door := stand_in():
        door.enqueue(tasks)
    else:
        store(tasks)


def _flush(tx: Tx, queues: Sequence[str], now: datetime) -> None:
    while any(cancel.cancel_queue(tx, queue=queue, now=now) for queue in queues):
        pass  # until there is nothing left to cancel


def _store(tx: Tx, tasks: Iterable[NewTask]) -> None:
    for task in tasks:
        if not accept.enqueue(tx, task, now=task.created_at):
            message = (
                f"there is a task {task.id} already; send a message once, or build a new one "
                f"with {task.actor}.message(…)"
            )
            raise BadOptions(message)


def _prepare_all(broker: Broker, steps: Iterable[Step]) -> list[NewTask]:
    return [prepare(broker, step.message, delay=step.delay, place=step.place) for step in steps]


def _correlation_id() -> str | None:
    """Return what log lines carry as such, as text: actors, too, bind whatever they like there."""
    found = structlog.contextvars.get_contextvars().get("correlation_id")
    return None if found is None else printable(str(found))[:CORRELATION_LIMIT]


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
