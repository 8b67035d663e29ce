"""What may be handed to ``add_task`` as durable work, and the messages it stands for."""

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

    from dramatiq import Broker

    from postlude.ledger.task import NewTask


def durable(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NewTask | None:
    """Return the task that ``add_task(func, *args, **kwargs)`` means; None for a plain function.

    An actor, its ``send`` or ``send_with_options``, a partial of these, or a message is a task.
    Raises BadArguments if the arguments do not fit, ValueError for a foreign actor.
    """
    if isinstance(func, Actor):
        return with_options(func, args=args, kwargs=kwargs)
    if isinstance(func, Message):
        return broker().prepare(func)
    if isinstance(func, partial):
        return durable(func.func, (*func.args, *args), {**func.keywords, **kwargs})
    generic = getattr(func, "__actor__", None)  # where a GenericActor has its actor
    if isinstance(generic, Actor):
        return with_options(generic, args=args, kwargs=kwargs)
    return _sent(func, args, kwargs)


def composed(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[NewTask] | None:
    """Return the tasks that ``add_task`` of a pipeline or group means, in order; None for others.

    Its ``run``, or a partial of that, means the same. Raises what :func:`durable` raises, and
    BadOptions for what cannot be run as a whole.
    """
    if isinstance(func, partial):
        return composed(func.func, (*func.args, *args), {**func.keywords, **kwargs})
    is_run = getattr(func, "__name__", "") == "run"
    work = getattr(func, "__self__", None) if is_run else func
    if not isinstance(work, pipeline | group):
        return None
    return _unfolded(work, *args, **kwargs)


def _unfolded(work: pipeline | group, *, delay: timedelta | int | None = None) -> list[NewTask]:
    ours = broker()
    if work.broker is not ours:
        _refuse_foreign(f"this {type(work).__name__}", work.broker)
    return ours.unfold(work, delay=_milliseconds(delay))


def _milliseconds(delay: timedelta | int | None) -> int | None:
    return delay // timedelta(milliseconds=1) if isinstance(delay, timedelta) else delay


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
        _refuse_foreign(f"actor {actor.actor_name!r}", actor.broker)
    if delay is None and not options and type(actor) is Actor:
        return ours.prepare_call(actor, tuple(args), kwargs or {})
    message = actor.message_with_options(args=tuple(args), kwargs=dict(kwargs or {}), **options)
    return ours.prepare(message.copy(message_id=str(uuid7())), delay=_milliseconds(delay))


def _refuse_foreign(what: str, broker: Broker) -> NoReturn:
    other = type(broker)
    message = (
        f"{what} is bound to another broker"
        f" ({other.__module__}.{other.__qualname__}), so Postlude cannot keep its tasks; import"
        " postlude before the module that declares it, and call no dramatiq.set_broker()"
    )
    raise ValueError(message)
