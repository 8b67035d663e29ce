"""Triggers as people write and the ledger stores them: a small JSON object, one of three kinds.

``{"cron": "0 3 * * *"}``, ``{"every": "5m"}`` (optionally ``"first": "10s"``) or
``{"at": "2027-01-01T09:00:00+01:00"}``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from postlude.durations import format_duration, parse_duration
from postlude.errors import BadSchedule
from postlude.policy.misfire import Misfire
from postlude.schedules import crontab
from postlude.schedules.crontab import Crontab

if TYPE_CHECKING:
    from collections.abc import Mapping

SHORTEST = timedelta(seconds=1)
"""The smallest interval: schedulers look for new work once a second."""


@dataclass(frozen=True, slots=True)
class Every:
    """At fixed intervals of elapsed time, the first one ``first`` after the schedule was made."""

    interval: timedelta
    first: timedelta


@dataclass(frozen=True, slots=True)
class At:
    """Once."""

    instant: datetime


def read(trigger: Mapping[str, Any]) -> Crontab | Every | At:
    """Check ``trigger`` and return what it says; raises BadSchedule for anything else."""
    match dict(trigger):
        case {"cron": str(expression), **rest} if not rest:
            return crontab.parse(expression)
        case {"every": interval, **rest} if not rest.keys() - {"first"}:
            return _every(interval, rest.get("first", interval))
        case {"at": str(instant), **rest} if not rest:
            return At(_instant(instant))
    message = (
        f'{dict(trigger)!r} is not a trigger; write {{"cron": "0 3 * * *"}}, {{"every": "5m"}} or '
        '{"at": "2027-01-01T09:00:00+01:00"}'
    )
    raise BadSchedule(message)


def write(trigger: Mapping[str, Any]) -> str:
    """Check ``trigger`` and return it as JSON text that is the same however it was spelled."""
    found = read(trigger)
    if isinstance(found, Crontab):
        return json.dumps({"cron": " ".join(trigger["cron"].split())})
    if isinstance(found, At):
        return json.dumps({"at": found.instant.isoformat()})
    document = {"every": format_duration(found.interval)}
    if found.first != found.interval:
        document["first"] = format_duration(found.first)
    return json.dumps(document)


def zone(name: str) -> ZoneInfo:
    """Return the time zone of that name; raises BadSchedule when there is none."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError, TypeError):
        message = f"there is no time zone {name!r}; write a name such as Europe/Berlin or UTC"
        raise BadSchedule(message) from None


def misfire(policy: str) -> Misfire:
    """Return the misfire policy of that name; raises BadSchedule when there is none."""
    try:
        return Misfire(policy)
    except ValueError:
        message = f"there is no misfire policy {policy!r}; known: {', '.join(Misfire)}"
        raise BadSchedule(message) from None


def duration(text: str | float | timedelta) -> timedelta:
    """Return the span that ``text`` names; raises BadSchedule when it names none."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadSchedule(str(error)) from None


def _every(interval: Any, first: Any) -> Every:
    every = Every(duration(interval), duration(first))
    if every.interval < SHORTEST:
        message = f"the interval {interval!r} is too short; the shortest is 1s"
        raise BadSchedule(message)
    return every


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        message = f"{text!r} is not a time with its offset; write 2027-01-01T09:00:00+01:00"
        raise BadSchedule(message)
    return instant.astimezone(UTC)
