"""When schedules fire: days on which clocks are set, intervals that do not drift."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postlude.errors import BadSchedule
from postlude.schedules import spec
from postlude.schedules.trigger import build

BERLIN = ZoneInfo("Europe/Berlin")
ANCHOR = datetime(2026, 1, 1, 12, 0, 3, tzinfo=UTC)


def trigger(document, zone="UTC", anchor=ANCHOR):
    return build(spec.read(document), zone=spec.zone(zone), anchor=anchor)


def fire_times(expression, day, zone="Europe/Berlin"):
    """Return the local times, with their offset, at which it fires on that day."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found, times = trigger({"cron": expression}, zone).after(start - timedelta(seconds=1)), []
    while found.astimezone(ZoneInfo(zone)).date() == start.date():
        times.append(found.astimezone(ZoneInfo(zone)).strftime("%H:%M%z"))
        found = trigger({"cron": expression}, zone).after(found)
    return times


def test_a_fixed_hour_fires_once_when_clocks_are_set_back():
    assert fire_times("30 2 * * *", "2026-10-25") == ["02:30+0200"]


def test_a_fixed_hour_that_is_left_out_fires_once_when_it_would_have_come():
    assert fire_times("30 2 * * *", "2027-03-28") == ["03:30+0200"]


def test_minutes_of_a_fixed_hour_are_not_repeated_either():
    assert fire_times("*/20 2 * * *", "2026-10-25") == ["02:00+0200", "02:20+0200", "02:40+0200"]


def test_a_left_out_hour_and_the_one_after_it_share_their_instants():
    assert fire_times("0,30 2,3 * * *", "2027-03-28") == ["03:00+0200", "03:30+0200"]


def test_wildcard_hours_run_by_elapsed_time_when_clocks_are_set_back():
    times = fire_times("*/30 * * * *", "2026-10-25")

    assert len(times) == 50
    assert times[3:8] == ["01:30+0200", "02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]


def test_wildcard_hours_run_by_elapsed_time_when_clocks_are_set_forward():
    times = fire_times("*/30 * * * *", "2027-03-28")

    assert len(times) == 46
    assert times[3:5] == ["01:30+0100", "03:00+0200"]


def test_all_hours_written_out_are_a_wildcard():
    assert fire_times("*/30 0-23 * * *", "2026-10-25") == fire_times("*/30 * * * *", "2026-10-25")


def test_the_day_after_clocks_were_set_forward_is_not_left_out():
    assert fire_times("30 0 * * *", "2027-03-29") == ["00:30+0200"]


def test_a_change_of_half_an_hour_is_understood():
    times = fire_times("20,40 2 * * *", "2026-10-04", "Australia/Lord_Howe")

    assert times == ["02:40+1100", "02:50+1100"]


def test_an_interval_counts_elapsed_time_across_a_change_of_clocks():
    every = trigger({"every": "1d"}, "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=BERLIN))

    second = every.after(every.after(datetime(2026, 10, 24, 12, tzinfo=BERLIN)))

    assert second.astimezone(BERLIN) == datetime(2026, 10, 26, 11, tzinfo=BERLIN)


def test_an_interval_begins_one_interval_after_its_schedule_was_made():
    assert trigger({"every": "5m"}).after(ANCHOR) == ANCHOR + timedelta(minutes=5)


def test_an_interval_may_name_its_first_run():
    every = trigger({"every": "1m", "first": "5s"})

    assert every.after(ANCHOR) == ANCHOR + timedelta(seconds=5)
    assert every.after(ANCHOR + timedelta(seconds=5)) == ANCHOR + timedelta(seconds=65)


@given(
    interval=st.timedeltas(timedelta(seconds=1), timedelta(days=40)),
    steps=st.integers(0, 10**6),
    off=st.floats(0, 1, exclude_max=True),
)
def test_the_grid_of_an_interval_does_not_depend_on_where_one_looks_from(interval, steps, off):
    whole = timedelta(milliseconds=interval // timedelta(milliseconds=1))
    every = trigger({"every": whole})
    point = ANCHOR + whole + whole * min(steps, timedelta(days=10**5) // whole)

    assert every.after(point + whole * off - timedelta(microseconds=1)) in {point, point + whole}
    assert every.after(point) == point + whole
    assert every.latest(ANCHOR, point) == point


def test_a_single_time_fires_once():
    once = trigger({"at": "2027-01-01T09:00:00+01:00"})

    assert once.after(ANCHOR) == datetime(2027, 1, 1, 8, tzinfo=UTC)
    assert once.after(datetime(2027, 1, 1, 8, tzinfo=UTC)) is None


@pytest.mark.parametrize("expression", ["* * * * *", "*/7 3 * * *", "0 0 29 2 *", "0 12 1 * 1"])
def test_the_latest_fire_time_is_the_one_that_no_other_follows(expression):
    cron = trigger({"cron": expression}, "Europe/Berlin")
    until = datetime(2027, 5, 5, 5, 5, tzinfo=UTC)

    latest = cron.latest(datetime(2020, 1, 1, tzinfo=UTC), until)

    assert latest <= until < cron.after(latest)
    assert cron.latest(latest, until) is None
    assert cron.latest(latest - timedelta(microseconds=1), until) == latest


def test_apscheduler_gets_the_first_time_from_now_and_then_the_following_ones():
    cron = trigger({"cron": "0 * * * *"})
    full = datetime(2026, 5, 5, 5, tzinfo=UTC)

    assert cron.get_next_fire_time(None, full) == full
    assert cron.get_next_fire_time(full, full) == full + timedelta(hours=1)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"cron": 5},
        {"cron": "0 3 * * *", "every": "5m"},
        {"every": "5m", "timezone": "UTC"},
        {"every": "soon"},
        {"every": "10ms"},
        {"every": "5m", "first": "-1s"},
        {"at": "tomorrow"},
        {"at": "2027-01-01T09:00:00"},
        {"weekly": "mon"},
    ],
)
def test_what_is_no_trigger_is_refused(document):
    with pytest.raises(BadSchedule):
        spec.read(document)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"cron": " 0  3 * * *"}, '{"cron": "0 3 * * *"}'),
        ({"every": "300s"}, '{"every": "5m"}'),
        ({"every": timedelta(minutes=5), "first": "5m"}, '{"every": "5m"}'),
        ({"every": 60, "first": 5}, '{"every": "1m", "first": "5s"}'),
        ({"at": "2027-01-01T09:00:00+01:00"}, '{"at": "2027-01-01T08:00:00+00:00"}'),
    ],
)
def test_one_trigger_has_one_spelling_however_it_was_written(document, text):
    assert spec.write(document) == text


@pytest.mark.parametrize(
    "name", ["Europe/Atlantis", "", "../etc/passwd", "/etc/localtime", "Europe", None]
)
def test_an_unknown_time_zone_is_refused(name):
    with pytest.raises(BadSchedule, match="there is no time zone"):
        spec.zone(name)
