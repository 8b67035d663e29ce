"""``@cron`` and ``@every``: a schedule written beside the actor that it runs.

They stand above ``@dramatiq.actor``, return the actor as it is and note the declaration. Nothing
happens until a scheduler boots and brings the ledger's rows in line with the notes.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from postlude.errors import BadSchedule
from postlude.policy.misfire import DEFAULT_WINDOW, Misfire
from postlude.schedules import spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from dramatiq import Actor

A = TypeVar("A", bound="Actor[Any, Any]")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One schedule as code declares it. ``trigger`` is JSON text, spelled the same every time."""

    id: str
    actor: Actor[Any, Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    trigger: str
    timezone: str
    misfire: Misfire
    misfire_window: timedelta


_declared: dict[str, Declaration] = {}


def cron(
    expression: str,
    *,
    timezone: str = "UTC",
    id: str | None = None,  # noqa: A002 - the name of the field
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    misfire: str = Misfire.LATEST,
    misfire_window: str | timedelta = DEFAULT_WINDOW,
) -> Callable[[A], A]:
    """Run the actor below whenever clocks in ``timezone`` match a crontab expression.

    Weekdays are cron's (0 and 7 are Sunday). A schedule is known by its ``id``, by default the
    actor's name; give others to have several. ``args`` and ``kwargs`` are what the actor gets.
    Fire times for which no scheduler was up are made up for as ``misfire`` says: "latest" runs
    once, "all" runs each, "skip" none; what is older than ``misfire_window`` is skipped. Raises
    BadSchedule that names the actor.
    """
    trigger = {"cron": expression}
    note = _Note(trigger, timezone, id, tuple(args), dict(kwargs or {}), misfire, misfire_window)
    return note.above


def every(
    interval: str | timedelta,
    *,
    first: str | timedelta | None = None,
    id: str | None = None,  # noqa: A002 - the name of the field
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    misfire: str = Misfire.LATEST,
    misfire_window: str | timedelta = DEFAULT_WINDOW,
) -> Callable[[A], A]:
    """Run the actor below at fixed intervals ("90s", "5m", "1d") of elapsed time.

    They count from the moment at which a scheduler first saw the declaration, and go on across
    restarts and deploys. The first run comes after one interval, or after ``first``. The rest is as
    with :func:`cron`.
    """
    trigger = {"every": interval} if first is None else {"every": interval, "first": first}
    note = _Note(trigger, "UTC", id, tuple(args), dict(kwargs or {}), misfire, misfire_window)
    return note.above


def declarations() -> tuple[Declaration, ...]:
    """Return what the modules imported so far have declared."""
    return tuple(_declared.values())


@dataclass(frozen=True, slots=True)
class _Note:
    """What a decorator was given, before the actor is known."""

    trigger: Mapping[str, Any]
    timezone: str
    id: str | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    misfire: str
    misfire_window: str | timedelta

    def above(self, actor: A) -> A:
        """Check everything, note the declaration and return ``actor`` as it is."""
        name = getattr(actor, "actor_name", None)
        if name is None:
            message = f"@cron and @every go above @dramatiq.actor, but got {actor!r}"
            raise BadSchedule(message)
        try:
            declaration = self._checked(actor)
            _remember(declaration)
        except (BadSchedule, TypeError) as error:
            message = f"the schedule of actor {name!r} ({self.trigger}) is wrong: {error}"
            raise BadSchedule(message) from None
        return actor

    def _checked(self, actor: Actor[Any, Any]) -> Declaration:
        inspect.signature(actor.fn).bind(*self.args, **self.kwargs)
        return Declaration(
            id=self.id or actor.actor_name,
            actor=actor,
            args=self.args,
            kwargs=self.kwargs,
            trigger=spec.write(self.trigger),
            timezone=spec.zone(self.timezone).key,
            misfire=spec.misfire(self.misfire),
            misfire_window=spec.duration(self.misfire_window),
        )


def _remember(declaration: Declaration) -> None:
    """Keep ``declaration``; a module that is imported anew replaces its own."""
    known = _declared.get(declaration.id)
    if known is not None:
        same_place = known.actor.actor_name == declaration.actor.actor_name
        if known.actor is declaration.actor or not same_place:
            message = (
                f"actor {known.actor.actor_name!r} has a schedule {declaration.id!r} already; "
                "give this one another name with id="
            )
            raise BadSchedule(message)
    _declared[declaration.id] = declaration
