"""What may be handed to ``add_task`` as a durable task, and the message it stands for."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from dramatiq import Actor, Message
from dramatiq.composition import group, pipeline
from uuid_utils import uuid7

from postlude.broker import broker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from postlude.ledger.task import NewTask


def durable(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewTask | None:
    """Return the task that ``add_task(func, *args, **kwargs)`` means; None for a plain function.

    An actor, its ``send`` or ``send_with_options``, a partial of these, or a message is a task.
    Raises BadArguments if the arguments do not fit, TypeError for a pipeline or a group, ValueError
    for a foreign actor.
    """
    if isinstance(func, Actor):
        return with_options(func, args=args, kwargs=kwargs)
    if isinstance(func, Message):
        return broker().prepare(func)
    if isinstance(func, pipeline | group):
        _refuse_composition(func)
    if isinstance(func, partial):
        return durable(func.func, (*func.args, *args), {**func.keywords, **kwargs})
    generic = getattr(func, "__actor__", None)  # where a GenericActor has its actor
    if isinstance(generic, Actor):
        return with_options(generic, args=args, kwargs=kwargs)
    return _sent(func, args, kwargs)


def _sent(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewTask | None:
    actor = getattr(func, "__self__", None)
    if not isinstance(actor, Actor):
        return None
    match getattr(func, "__name__", ""):
        case "send":
            return with_options(actor, args=args, kwargs=kwargs)
        case "send_with_options":
            return with_options(actor, *args, **kwargs)
    return None


def with_options(
    actor: Actor[..., Any],
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    delay: timedelta | int | None = None,
    **options: Any,
) -> NewTask:
    """Return the task for ``actor``, checked and encoded; nothing is stored.

    ``delay`` counts milliseconds if it is a number. Raises as :func:`durable` does, BadOptions too.
    """
    ours = broker()
    if actor.broker is not ours:
        _refuse_foreign(actor)
    if isinstance(delay, timedelta):
        delay = delay // timedelta(milliseconds=1)
    return ours.prepare(_message(actor, tuple(args), dict(kwargs or {}), options), delay=delay)


def _message(
    actor: Actor[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
) -> Message[Any]:
    """Return the actor's message with an id that sorts by time; the usual case by the short way."""
    id_ = str(uuid7())
    if type(actor) is Actor and not options:
        return Message(actor.queue_name, actor.actor_name, args, kwargs, {}, message_id=id_)
    message = actor.message_with_options(args=args, kwargs=kwargs, **options)
    return message.copy(message_id=id_)


def _refuse_composition(func: pipeline | group) -> NoReturn:
    kind = type(func).__name__
    message = (
        f"a {kind} cannot be added to a response yet, that comes later; add its actors one by one,"
        f" or call {kind}.run() where it need not wait for the response"
    )
    raise TypeError(message)


def _refuse_foreign(actor: Actor[..., Any]) -> NoReturn:
    other = type(actor.broker)
    message = (
        f"actor {actor.actor_name!r} is bound to another broker"
        f" ({other.__module__}.{other.__qualname__}), so Postlude cannot keep its tasks; import"
        " postlude before the module that declares it, and call no dramatiq.set_broker()"
    )
    raise ValueError(message)
