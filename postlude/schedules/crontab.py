"""Crontab expressions, read as cron reads them.

Five fields (minute, hour, day of month, month, weekday) of ``*``, numbers, names, ranges, lists
and steps; 0 and 7 are both Sunday. A day matches when the day of month *or* the weekday does, if
both are restricted; a field that starts with ``*`` is not. This is crontab(5), not APScheduler's
dialect, where 0 is Monday and both days must match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from postlude.errors import BadSchedule

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
_PART = re.compile(
    r"(?:(?P<all>\*)|(?P<first>[0-9]{1,2}|[a-z]{3})(?:-(?P<last>[0-9]{1,2}|[a-z]{3}))?)"
    r"(?:/(?P<step>[0-9]{1,2}))?"
)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, word: str) -> int:
        """Return the value that ``word`` stands for."""
        if word in self.names:
            return self.low + self.names.index(word)
        if word.isdigit() and self.low <= int(word) <= self.high:
            return int(word)
        known = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        message = f"{self.name} {word!r} is not {self.low}-{self.high}{known}"
        raise BadSchedule(message)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Crontab:
    """The minutes at which an expression matches. Weekdays count from 0 = Sunday to 6."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Day of month or weekday is enough; otherwise both must match."""
    fixed_hours: bool
    """Hours were named, so a clock that is set back must not make them happen twice."""


@lru_cache(maxsize=1024)
def parse(expression: str) -> Crontab:
    """Read ``expression``; raises BadSchedule that names the bad field, or says it never fires."""
    words = MACROS.get(expression.strip().lower(), expression.lower()).split()
    if len(words) != len(_FIELDS):
        message = (
            f"{expression!r} has {len(words)} fields, a crontab expression has five: minute, hour, "
            f"day of month, month, weekday (or is one of {', '.join(MACROS)})"
        )
        raise BadSchedule(message)
    try:
        minutes, hours, days, months, weekdays = map(_values, _FIELDS, words)
    except BadSchedule as error:
        message = f"{expression!r} is not a crontab expression: {error}"
        raise BadSchedule(message) from None
    crontab = Crontab(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not (words[2].startswith("*") or words[4].startswith("*")),
        fixed_hours=not words[1].startswith("*") and len(hours) < 24,  # noqa: PLR2004 - every hour
    )
    if not crontab.either_day and min(days) > max(_LONGEST[month] for month in months):
        message = f"{expression!r} never fires: no such month has a day {min(days)}"
        raise BadSchedule(message)
    return crontab


def _values(field: _Field, word: str) -> frozenset[int]:
    return frozenset().union(*(_part(field, part) for part in word.split(",")))


def _part(field: _Field, part: str) -> range:
    """Return the values that one element of a list stands for."""
    match = _PART.fullmatch(part)
    if not match:
        message = (
            f"{field.name} {part!r} is not *, a value, a range or one of them with /step "
            "(L, W, # and ? are not standard cron)"
        )
        raise BadSchedule(message)
    if match["all"]:
        first, last = field.low, field.high
    else:
        first = field.number(match["first"])
        last = field.number(match["last"]) if match["last"] else first
    step = int(match["step"] or 1)
    if match["step"] and first == last:
        message = (
            f"{field.name} {part!r} has a step but no range; write {first}-{field.high}/{step}"
        )
        raise BadSchedule(message)
    if first > last:
        message = f"{field.name} {part!r} runs backwards; write two ranges with a comma"
        raise BadSchedule(message)
    if not step:
        message = f"{field.name} {part!r} has the step 0; the smallest is 1"
        raise BadSchedule(message)
    return range(first, last + 1, step)
