"""What becomes of fire times that nobody was there for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from postlude.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_TIME = timedelta(seconds=10)
"""A fire time is not missed until it is this late: a restart or a slow disk is no misfire."""
DEFAULT_WINDOW = timedelta(days=1)
"""A nightly schedule that an outage delayed still runs in the morning."""
LISTED = 100
"""So many skipped fire times get a record each; beyond it one record stands for all of them."""
AT_ONCE = 500
"""Most missed fire times that one pass makes up for; the others follow in the next pass."""
_TICK = timedelta(microseconds=1)


class Misfire(StrEnum):
    """What to do with missed fire times; a fire time older than the window is always skipped."""

    SKIP = "skip"
    LATEST = "latest"
    """Run once for all of them, unless the schedule is on time again anyway."""
    ALL = "all"


class FireTimes(Protocol):
    """The fire times of a schedule."""

    def after(self, instant: datetime) -> datetime | None:
        """Return the first one later than ``instant``."""

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last one in (after, until]."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A fire time that gets a record but no task, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass does with a schedule that is due; ``last`` is the last time it deals with."""

    run: tuple[datetime, ...]
    skipped: tuple[Skipped, ...]
    last: datetime


def plan(
    times: FireTimes, *, first: datetime, now: datetime, policy: Misfire, window: timedelta
) -> Plan:
    """Decide about the fire times from ``first``, which is due and not dealt with, up to ``now``.

    Each of them is run, skipped with a record, summed up in one record, or later than the plan's
    ``last``. The cost does not depend on how many were missed.
    """
    on_time = now - ON_TIME
    if first >= on_time:
        run = tuple(_fire_times(times, first, first, now))
        return Plan(run, (), run[-1])
    fresh = tuple(_fire_times(times, first, on_time, now))
    end = times.latest(first, on_time - _TICK) or first
    late: tuple[datetime, ...] = ()
    if policy is Misfire.ALL:
        late = tuple(islice(_fire_times(times, first, now - window, end), AT_ONCE))
    elif policy is Misfire.LATEST and not fresh and now - end <= window:
        late = (end,)
    if len(late) == AT_ONCE:
        fresh = ()
    skipped = _skipped(times, first, late[0] - _TICK if late else end, policy, window)
    return Plan(late + fresh, skipped, (fresh or late or (end,))[-1])


def _fire_times(
    times: FireTimes, first: datetime, start: datetime, end: datetime
) -> Iterator[datetime]:
    """Yield the fire times in [start, end]; ``first`` is one even if the trigger has changed."""
    at = first if start <= first else times.after(start - _TICK)
    while at is not None and at <= end:
        yield at
        at = times.after(at)


def _skipped(
    times: FireTimes, first: datetime, end: datetime, policy: Misfire, window: timedelta
) -> tuple[Skipped, ...]:
    """Return the records for the fire times in [first, end]."""
    reason = f"missed; misfire policy {policy.value} within {format_duration(window)}"
    listed = tuple(islice(_fire_times(times, first, first, end), LISTED + 1))
    if len(listed) <= LISTED:
        return tuple(Skipped(at, reason) for at in listed)
    until = times.latest(first, end)
    return (
        Skipped(first, f"{reason}; stands for every fire time until {until:%Y-%m-%dT%H:%M:%SZ}"),
    )
