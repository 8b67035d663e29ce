"""Crontab expressions against a second, deliberately naive reading of crontab(5)."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postlude.errors import BadSchedule
from postlude.schedules.crontab import MACROS, parse
from postlude.schedules.trigger import WallClock

NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: number for number, name in enumerate(NAMES, start=1)}
DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # sets its clocks by half an hour
    "Africa/Casablanca",  # sets them four times a year
    "Asia/Kathmandu",
)
CHANGES = (  # clocks are set somewhere in ZONES
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2027, 3, 28, 1, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2027, 3, 14, 7, tzinfo=UTC),
    datetime(2027, 4, 3, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2026, 2, 15, 2, tzinfo=UTC),
    datetime(2026, 3, 22, 2, tzinfo=UTC),
)


def shows(expression: str, wall: datetime) -> bool:
    """Say whether cron would start a job at this wall-clock minute."""
    minute, hour, day, month, weekday = expression.split()
    days = [
        listed(day, wall.day, 1, 31, {}),
        listed(weekday, wall.isoweekday() % 7, 0, 7, DAYS)
        or listed(weekday, wall.isoweekday(), 0, 7, DAYS),
    ]
    return (
        listed(minute, wall.minute, 0, 59, {})
        and listed(hour, wall.hour, 0, 23, {})
        and listed(month, wall.month, 1, 12, MONTHS)
        and (all(days) if "*" in (day[0], weekday[0]) else any(days))
    )


def listed(field: str, value: int, low: int, high: int, names: dict[str, int]) -> bool:
    for part in field.split(","):
        span, _, step = part.partition("/")
        ends = [str(low), str(high)] if span == "*" else (span.split("-") * 2)[:2]
        first, last = (names[end] if end in names else int(end) for end in ends)
        if "-" not in span and span != "*":
            last = first
        if value in range(first, last + 1, int(step or 1)):
            return True
    return False


def field(low: int, high: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    values = st.integers(low, high)
    written = st.sampled_from(names) if names else values.map(str)
    spans = (
        st.tuples(values, values)
        .filter(lambda ends: ends[0] < ends[1])
        .map(lambda ends: f"{ends[0]}-{ends[1]}")
    )
    steps = st.integers(1, high)
    parts = st.one_of(
        values.map(str),
        written,
        spans,
        st.tuples(spans, steps).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )
    stars = st.one_of(st.just("*"), steps.map(lambda step: f"*/{step}"))
    return st.one_of(stars, st.lists(parts, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(
    field(0, 59), field(0, 23), field(1, 31), field(1, 12, tuple(MONTHS)), field(0, 7, tuple(DAYS))
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    days=field(1, 31),
    weekdays=field(0, 7, tuple(DAYS)),
    start=st.integers(0, 1500),
)
def test_days_are_those_of_cron(days, weekdays, start):
    expression = f"0 12 {days} * {weekdays}"
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=start)
    expected = [
        day
        for day in (noon + timedelta(days=number) for number in range(1, 100))
        if shows(expression, day)
    ]

    trigger = WallClock(parse(expression), ZoneInfo("UTC"))

    found = [noon]
    for _ in expected:
        found.append(trigger.after(found[-1]))
    assert found[1:] == expected


@settings(max_examples=50, deadline=None)
@given(
    minutes=field(0, 59),
    hours=field(0, 23),
    zone=st.sampled_from(ZONES),
    change=st.sampled_from(CHANGES),
    offset=st.integers(-30 * 60, 10 * 60),
)
def test_fire_times_around_a_change_of_clocks_are_those_of_cron(
    minutes, hours, zone, change, offset
):
    expression = f"{minutes} {hours} * * *"
    start = change + timedelta(minutes=offset)
    trigger = WallClock(parse(expression), ZoneInfo(zone))

    expected = [
        instant
        for instant in (start + timedelta(minutes=number) for number in range(1, 20 * 60))
        if fires(expression, instant, ZoneInfo(zone))
    ]

    found = [start]
    for _ in expected:
        found.append(trigger.after(found[-1]))
    assert found[1:] == expected


def fires(expression: str, instant: datetime, zone: ZoneInfo) -> bool:
    """Say whether the schedule fires in this minute, looking at what its clock shows and showed."""
    local = instant.astimezone(zone)
    wall = local.replace(tzinfo=None)
    hour = expression.split()[1]
    if hour.startswith("*") or all(listed(hour, each, 0, 23, {}) for each in range(24)):
        return shows(expression, wall)
    if local.fold == 0 and shows(expression, wall):
        return True
    before = (instant - timedelta(hours=3)).astimezone(zone).utcoffset()
    left_out = instant.replace(tzinfo=None) + before
    exists = left_out.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)
    return exists != left_out and shows(expression, left_out)


@given(expression=EXPRESSIONS)
@settings(max_examples=200, deadline=None)
def test_every_expression_is_read_or_refused_and_what_is_read_fires(expression):
    try:
        crontab = parse(expression)
    except BadSchedule as error:
        assert repr(expression) in str(error)  # noqa: PT017 - both outcomes are fine
        return
    start = datetime(2026, 1, 1, tzinfo=UTC)

    found = WallClock(crontab, ZoneInfo("UTC")).after(start)

    assert shows(expression.lower(), found.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 3 * * 0", "2026-11-01T03:00"),  # a Sunday
        ("0 3 * * 7", "2026-11-01T03:00"),
        ("0 3 * * SUN", "2026-11-01T03:00"),
        ("0 3 * * 1", "2026-11-02T03:00"),
        ("0 3 * * fri-7", "2026-10-30T03:00"),
        ("0 3 13 * 5", "2026-10-30T03:00"),  # the 13th or a Friday
        ("0 3 13 * *", "2026-11-13T03:00"),
        ("0 3 */2 * 5", "2026-11-13T03:00"),  # odd days that are Fridays: * is no restriction
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("@hourly", "2026-10-29T13:00"),
        ("@Weekly", "2026-11-01T00:00"),
        ("  5   4 *  jan mon ", "2027-01-04T04:05"),
    ],
)
def test_standard_cron_is_understood(expression, first):
    start = datetime(2026, 10, 29, 12, 0, tzinfo=UTC)

    found = WallClock(parse(expression), ZoneInfo("UTC")).after(start)

    assert found == datetime.fromisoformat(first).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "has 0 fields"),
        ("0 3 * *", "has 4 fields"),
        ("0 0 3 * * *", "has 6 fields"),
        ("60 * * * *", "minute '60' is not 0-59"),
        ("* 24 * * *", "hour '24' is not 0-23"),
        ("0 0 0 * *", "day of month '0' is not 1-31"),
        ("0 0 * 13 *", "month '13' is not 1-12 or jan-dec"),
        ("0 0 * * 8", "weekday '8' is not 0-7 or sun-sat"),
        ("0 0 * * foo", "weekday 'foo' is not"),
        ("0 0 * * fri-mon", "runs backwards"),
        ("*/0 * * * *", "step 0"),
        ("5/15 * * * *", "write 5-59/15"),
        ("0 0 L * *", "not standard cron"),
        ("0 0 ? * 1", "not standard cron"),
        ("0,, 0 * * *", "minute ''"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("@reboot", "has 1 fields"),
    ],
)
def test_what_is_not_standard_cron_is_refused_with_a_reason(expression, complaint):
    with pytest.raises(BadSchedule) as caught:
        parse(expression)

    assert complaint in str(caught.value)
    assert repr(expression) in str(caught.value)


def test_macros_are_expressions():
    assert all(parse(macro) == parse(expression) for macro, expression in MACROS.items())
