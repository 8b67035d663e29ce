"""When a schedule fires: pure functions of its trigger, its time zone and its anchor.

APScheduler's cron trigger finds the matching wall-clock times; what those mean as instants is
decided here, because its own answer fires twice when the clock is set back, and can leave out the
day after it is set forward (3.11.3: ``30 0 * * *`` in Berlin skips 2027-03-29). Two schedulers that
compute the next fire time from the same row get the same one: that is what makes ticks unique.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from postlude.schedules.crontab import Crontab
from postlude.schedules.spec import Every

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from postlude.schedules.spec import At

_TICK = timedelta(microseconds=1)
_REACH = timedelta(hours=3)
"""Clocks are set by less than this; only countries that moved across the date line did more."""


class Trigger(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """The fire times of one schedule, as aware UTC datetimes."""

    @abstractmethod
    def after(self, instant: datetime) -> datetime | None:
        """Return the first fire time later than ``instant``, None if there is none."""

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last fire time in (after, until], without walking through all of them."""
        span = timedelta(minutes=1)
        start = max(after, until - span)
        found = self._within(start, until)
        while found is None and start > after:
            span *= 4
            start = max(after, until - span)
            found = self._within(start, until)
        later = found
        while later is not None:
            found, later = later, self._within(later, until)
        return found

    def _within(self, after: datetime, until: datetime) -> datetime | None:
        found = self.after(after)
        return found if found is not None and found <= until else None

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Answer APScheduler: the one after ``previous``; without it, the first from ``now`` on."""
        return self.after(previous if previous is not None else now - _TICK)


class Interval(Trigger):
    """Fires on a grid from ``start``; integer arithmetic, so that the grid never drifts."""

    def __init__(self, start: datetime, interval: timedelta) -> None:
        self._start, self._interval = start, interval

    def after(self, instant: datetime) -> datetime:
        """Return the next point of the grid."""
        if instant < self._start:
            return self._start
        return self._start + self._interval * ((instant - self._start) // self._interval + 1)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last point of the grid in (after, until]."""
        if until < self._start:
            return None
        found = self._start + self._interval * ((until - self._start) // self._interval)
        return found if found > after else None


class Once(Trigger):
    """Fires at one instant."""

    def __init__(self, instant: datetime) -> None:
        self._instant = instant

    def after(self, instant: datetime) -> datetime | None:
        """Return the instant while it lies ahead."""
        return self._instant if self._instant > instant else None


class WallClock(Trigger):
    """Fires when clocks in ``zone`` show a matching time.

    When they are set back, an expression with fixed hours fires the first time that they show it,
    and one with wildcard hours both times. When they are set forward, a fixed hour that is left out
    fires at the instant at which it would have come; a wildcard hour left out does not exist.
    """

    def __init__(self, crontab: Crontab, zone: ZoneInfo) -> None:
        self._walls = _wall_times(crontab)
        self._once = crontab.fixed_hours
        self._zone = zone
        self._last = (datetime.max.replace(tzinfo=UTC),) * 2  # many schedules ask the same at once

    def after(self, instant: datetime) -> datetime:
        """Return the next instant at which the clock shows a matching time."""
        asked, answer = self._last
        if asked != instant:
            answer = self._search(instant.astimezone(UTC))
            self._last = (instant, answer)
        return answer

    def _search(self, instant: datetime) -> datetime:
        found = self._at(self._next_wall(self._wall(instant)))
        nearby = (instant - _REACH, instant, found, found + _REACH)
        offsets = {self._wall(moment) - moment.replace(tzinfo=None) for moment in nearby}
        if len(offsets) == 1:
            return found
        return self._around_change(instant, max(offsets) - min(offsets))

    def _around_change(self, instant: datetime, shift: timedelta) -> datetime:
        """Find the earliest where wall-clock order and order in time differ by up to ``shift``."""
        wall = self._next_wall(self._wall(instant) - shift)
        found: list[datetime] = []
        while not found or wall <= self._wall(min(found)) + shift:
            found += [each for each in self._instants(wall) if each > instant]
            wall = self._next_wall(wall)
        return min(found)

    def _instants(self, wall: datetime) -> set[datetime]:
        """Return the instants at which the schedule fires because of ``wall``: none, one or two."""
        if self._once:
            return {self._at(wall)}
        both = {self._at(wall, fold=0), self._at(wall, fold=1)}
        return {instant for instant in both if self._wall(instant) == wall}

    def _next_wall(self, wall: datetime) -> datetime:
        start = wall.replace(tzinfo=UTC) + _TICK
        found: datetime = self._walls.get_next_fire_time(None, start)
        return found.replace(tzinfo=None)

    def _wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None)

    def _at(self, wall: datetime, *, fold: int = 0) -> datetime:
        return wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)


def build(spec: Crontab | Every | At, *, zone: ZoneInfo, anchor: datetime) -> Trigger:
    """Return the trigger that ``spec`` describes.

    ``anchor`` is when the schedule was made: intervals count from there, so neither a restart nor a
    deploy begins them anew.
    """
    if isinstance(spec, Crontab):
        return _wall_clock(spec, zone)
    if isinstance(spec, Every):
        return Interval(anchor.astimezone(UTC) + spec.first, spec.interval)
    return Once(spec.instant)


@lru_cache(maxsize=1024)
def _wall_clock(crontab: Crontab, zone: ZoneInfo) -> WallClock:
    """Return one trigger for all schedules with this expression: making it costs 100 µs."""
    return WallClock(crontab, zone)


def _wall_times(crontab: Crontab) -> BaseTrigger:
    """Return APScheduler's trigger over wall-clock times, labelled UTC to have no gaps."""
    if not crontab.either_day:
        return _cron_trigger(crontab, days=crontab.days, weekdays=crontab.weekdays)
    every_day, every_weekday = frozenset(range(1, 32)), frozenset(range(7))
    return OrTrigger(
        [
            _cron_trigger(crontab, days=crontab.days, weekdays=every_weekday),
            _cron_trigger(crontab, days=every_day, weekdays=crontab.weekdays),
        ]
    )


def _cron_trigger(
    crontab: Crontab, *, days: frozenset[int], weekdays: frozenset[int]
) -> CronTrigger:
    from_monday = frozenset((day - 1) % 7 for day in weekdays)
    return CronTrigger(
        minute=_listed(crontab.minutes, 60),
        hour=_listed(crontab.hours, 24),
        day=_listed(days, 31),
        month=_listed(crontab.months, 12),
        day_of_week=_listed(from_monday, 7),
        timezone=UTC,
    )


def _listed(values: frozenset[int], size: int) -> str:
    return "*" if len(values) == size else ",".join(map(str, sorted(values)))
