"""Pipelines and groups as Dramatiq builds them, unfolded into messages that know their places.

Dramatiq nests each step of a pipeline in the options of the one before it, and writes the callbacks of
a group into the options of every member. Here each message stands for itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from dramatiq import Message
from dramatiq.composition import group, pipeline
from dramatiq.errors import ActorNotFound
from uuid_utils import uuid7

from postlude.broker.options import COMPOSITION
from postlude.errors import BadOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dramatiq import Broker

_TARGET, _GROUP, _CALLBACKS = COMPOSITION


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task stands: what it waits for and who waits for it, as its columns will say.

    ``piped``: it takes the result of what it waits for.
    """

    waits_for: str | None = None
    followed: bool = False
    group_id: str | None = None
    piped: bool = False


ALONE = Place()


@dataclass(frozen=True, slots=True)
class Step:
    """A message and its place; ``delay``, in ms, counts from when it is added, or else released."""

    message: Message[Any]
    place: Place
    delay: Any = None


@dataclass(frozen=True, slots=True)
class Membership:
    """The group that a message is in, or the last one of the pipeline that it starts."""

    group_id: str
    callbacks: tuple[Mapping[str, Any], ...]


def is_composed(message: Message[Any]) -> bool:
    """Say whether ``message`` starts a pipeline or belongs to a group; costs next to nothing."""
    return not message.options.keys().isdisjoint(COMPOSITION)


def unfold(
    broker: Broker, work: pipeline | group | Message[Any], *, delay: Any = None
) -> list[Step]:
    """Return all steps of ``work`` in order: those of a pipeline; members, then callbacks of a group.

    Raises BadOptions for what cannot be run as a whole.
    """
    if isinstance(work, Message):
        return _chain(broker, work, delay=delay)
    if isinstance(work, pipeline):
        return _chain(broker, _first(work), delay=_delay_of(work, delay))
    if work.completion_callbacks:
        return _group(broker, work, delay)
    steps = [step for child in work.children for step in unfold(broker, child, delay=delay)]
    check_once_each(steps)
    return steps


def membership(message: Message[Any]) -> Membership | None:
    """Return which group ``message`` belongs to, None if to none."""
    options = _links(message)[-1].options
    group_id = options.get(_GROUP)
    return Membership(group_id, tuple(options.get(_CALLBACKS) or ())) if group_id else None


def member(broker: Broker, message: Message[Any], group_id: str, *, delay: Any) -> list[Step]:
    """Return the steps by which ``message`` is a member of its group: the last one counts."""
    return _chain(broker, message, delay=delay, group_id=group_id)


def callbacks(broker: Broker, found: Membership) -> list[Step]:
    """Return what runs when a group is complete."""
    place = Place(waits_for=found.group_id)
    return [
        step for data in found.callbacks for step in _chain(broker, _message(data), place=place)
    ]


def renamed(steps: Sequence[Step], ids: Sequence[str]) -> list[Step]:
    """Return ``steps`` under other ids, one for each; a group that they wait for keeps its own."""
    new = {step.message.message_id: id_ for step, id_ in zip(steps, ids, strict=True)}
    return [
        Step(
            step.message.copy(message_id=id_),
            replace(
                step.place, waits_for=new.get(step.place.waits_for or "", step.place.waits_for)
            ),
            step.delay,
        )
        for step, id_ in zip(steps, ids, strict=True)
    ]


def check_once_each(steps: Iterable[Step]) -> None:
    """Raise BadOptions if a message is there twice: a message is one task."""
    seen: set[str] = set()
    for step in steps:
        if step.message.message_id in seen:
            _refuse_twice(step.message.message_id)
        seen.add(step.message.message_id)


def _group(broker: Broker, work: group, delay: Any) -> list[Step]:
    if not work.children:
        message = "a group without a member is never complete, so it cannot have callbacks"
        raise BadOptions(message)
    found = Membership(str(uuid7()), tuple(work.completion_callbacks))
    steps: list[Step] = []
    for child in work.children:
        if isinstance(child, group):
            message = "a group with callbacks cannot hold a group, as in Dramatiq; add its messages"
            raise BadOptions(message)
        own = _delay_of(child, delay) if isinstance(child, pipeline) else delay
        first = _first(child) if isinstance(child, pipeline) else child
        steps += member(broker, first, found.group_id, delay=own)
    steps += callbacks(broker, found)
    check_once_each(steps)
    return steps


def _chain(
    broker: Broker,
    first: Message[Any],
    *,
    delay: Any = None,
    group_id: str | None = None,
    place: Place = ALONE,
) -> list[Step]:
    """Return the steps that begin with ``first`` at ``place``; the last one is the group's member."""
    links = _links(first)
    steps: list[Step] = []
    for number, link in enumerate(links):
        last = number == len(links) - 1
        _check_group(link, group_id)
        if number:
            before = links[number - 1]
            place = Place(before.message_id, piped=_is_piped(broker, before, link))
            delay = link.options.get("delay")
        place = replace(
            place, followed=not last or group_id is not None, group_id=group_id if last else None
        )
        steps.append(Step(_apart(link), place, delay))
    return steps


def _links(first: Message[Any]) -> list[Message[Any]]:
    """Return the messages of the pipeline that ``first`` starts."""
    links, seen = [first], {first.message_id}
    while (target := links[-1].options.get(_TARGET)) is not None:
        following = _message(target)
        if following.message_id in seen:
            _refuse_twice(following.message_id)
        seen.add(following.message_id)
        links.append(following)
    return links


def _is_piped(broker: Broker, before: Message[Any], message: Message[Any]) -> bool:
    """Say whether ``message`` takes the result of the one before it, by Dramatiq's rule.

    An option of the message decides, or one that the actor *before* it was declared with.
    """
    try:
        declared = broker.get_actor(before.actor_name).options.get("pipe_ignore")
    except ActorNotFound:
        declared = None  # about to be refused by name
    return not (message.options.get("pipe_ignore") or declared)


def _apart(message: Message[Any]) -> Message[Any]:
    """Return ``message`` without what ties it to others."""
    options = {name: value for name, value in message.options.items() if name not in COMPOSITION}
    return replace(message, options=options)


def _message(data: Any) -> Message[Any]:
    try:
        return Message(**data)
    except TypeError:
        message = (
            f"{_TARGET} and {_CALLBACKS} hold messages as Dramatiq writes them, not {data!r:.80}"
        )
        raise BadOptions(message) from None


def _first(work: pipeline) -> Message[Any]:
    if not work.messages:
        message = "a pipeline without a message cannot be run"
        raise BadOptions(message)
    return work.messages[0]


def _delay_of(work: pipeline, delay: Any) -> Any:
    """Return the longer one of two delays, as Dramatiq's ``pipeline.run`` does."""
    own = _first(work).options.get("delay")
    return max(delay or 0, own if isinstance(own, int | float) else 0) or None


def _check_group(message: Message[Any], group_id: str | None) -> None:
    if message.options.get(_GROUP) in {None, group_id} and (
        group_id is not None or not message.options.get(_CALLBACKS)
    ):
        return
    words = (
        f"{message.actor_name}: {_GROUP} and {_CALLBACKS} are set by group.run(), for messages that it"
        " enqueues itself; run or add the group as a whole"
    )
    raise BadOptions(words)


def _refuse_twice(id_: str) -> NoReturn:
    message = (
        f"message {id_} is in there twice, and a message is one task; build another one with"
        " actor.message(…)"
    )
    raise BadOptions(message)
