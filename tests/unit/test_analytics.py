"""Events at the door, how they are divided into tasks, and which hours a summary covers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from actors.analytics import MOST, record_events, roll_up_events
from actors.analytics.event import DATA_LIMIT, Event, batches, hour_of
from actors.analytics.summary import Window
from postlude.arguments import Signature
from postlude.errors import BadArguments

NOW = datetime(2026, 3, 29, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def signature():
    return Signature.of(record_events.fn, "record_events")


def decoded(signature, text):
    _, kwargs = signature.decode(text)
    return kwargs["events"]


# At the door


def test_what_is_left_out_is_filled_in_at_the_door_so_that_a_rerun_sees_the_same(signature):
    text = signature.encode(([{"name": "a"}, {"name": "a"}],), {})

    first, second = decoded(signature, text), decoded(signature, text)

    assert first == second
    assert first[0].id != first[1].id
    assert first[0].at.tzinfo is not None


def test_events_come_through_json_as_they_were(signature):
    event = Event(id="ü", name="n", at=NOW, data={"a": [1, 1.5, None, "x"], "b": {"c": True}})

    assert decoded(signature, signature.encode(([event],), {})) == [event]


def test_an_instant_is_kept_in_utc():
    event = Event.model_validate({"name": "a", "at": "2026-03-29T03:30:00+02:00"})

    assert event.at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert event.at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("pointer", "event"),
    [
        ("/events/0/name", {}),
        ("/events/0/name", {"name": ""}),
        ("/events/0/name", {"name": "x" * 201}),
        ("/events/0/name", {"name": 5}),
        ("/events/0/name", {"name": "x\0"}),
        ("/events/0/name", {"name": "\ud800"}),
        ("/events/0/id", {"name": "a", "id": ""}),
        ("/events/0/id", {"name": "a", "id": "x" * 101}),
        ("/events/0/at", {"name": "a", "at": "2026-01-01T00:00:00"}),
        ("/events/0/at", {"name": "a", "at": "0001-01-01T00:00:00+14:00"}),
        ("/events/0/at", {"name": "a", "at": "9999-12-31T23:59:59Z"}),
        ("/events/0/at", {"name": "a", "at": 1e300}),
        ("/events/0/at", {"name": "a", "at": 1_700_000_000}),
        ("/events/0/at", {"name": "a", "at": "1700000000.5"}),
        ("/events/0/data", {"name": "a", "data": [1]}),
        ("/events/0/data", {"name": "a", "data": {"x": "y" * DATA_LIMIT}}),
        ("/events/0/data", {"name": "a", "data": {"x": "\ud800"}}),
        ("/events/0/data/x", {"name": "a", "data": {"x": float("nan")}}),
        ("/events/0/data/x", {"name": "a", "data": {"x": "\0"}}),
        ("/events/0/nmae", {"name": "a", "nmae": "b"}),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(signature, pointer, event):
    with pytest.raises(BadArguments) as caught:
        signature.encode(([event],), {})

    assert [error["pointer"] for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize("events", [[], [{"name": "a"}] * (MOST + 1), "abc", {"name": "a"}, None])
def test_none_and_too_many_are_refused(signature, events):
    with pytest.raises(BadArguments, match="'events'"):
        signature.encode((events,), {})


def test_data_may_not_be_nested_without_end():
    data = {}
    data["again"] = data

    with pytest.raises(ValidationError):
        Event(name="a", data=data)


def test_the_hour_of_a_roll_up_may_be_left_out_and_needs_an_offset():
    signature = Signature.of(roll_up_events.fn, "roll_up_events")

    assert signature.encode((), {}) == "{}"
    with pytest.raises(BadArguments, match="timezone"):
        signature.encode_named({"hour": "2026-01-01T00:00:00"})


# Batches


def test_a_batch_ends_at_its_number():
    events = [Event(name=str(number)) for number in range(5)]

    parts = list(batches(events, most=2, limit=10_000))

    assert [[event.name for event in part] for part in parts] == [["0", "1"], ["2", "3"], ["4"]]


def test_a_batch_fits_the_arguments_of_a_task(signature):
    events = [Event(name="ü" * 150, data={"x": "\n" * 300}) for _ in range(50)]

    parts = list(batches(events, most=1000, limit=4000 - len('{"events":[]}')))

    assert len(parts) > 1
    assert [event for part in parts for event in part] == events
    for part in parts:
        signature.encode((part,), {}, limit=4000)


def test_what_is_too_large_alone_is_alone():
    small, large = Event(name="a"), Event(name="b", data={"x": "y" * 1000})

    assert list(batches([small, large, small], most=9, limit=500)) == [[small], [large], [small]]


# Hours


def test_hours_are_those_of_utc_also_where_offsets_have_halves():
    india = timezone(timedelta(hours=5, minutes=30))

    assert hour_of(datetime(2026, 1, 1, 0, 15, tzinfo=india)) == datetime(
        2025, 12, 31, 18, tzinfo=UTC
    )


def test_the_night_in_which_clocks_change_has_as_many_hours_as_any():
    window = Window.of(datetime(2026, 3, 28, 23, tzinfo=UTC), NOW, now=NOW)

    assert window.until - window.since == 11 * HOUR


def test_by_default_a_window_is_the_last_24_hours():
    window = Window.of(None, None, now=NOW)

    assert window == Window(
        NOW.replace(hour=10, minute=0) - 24 * HOUR, NOW.replace(hour=10, minute=0)
    )


def test_a_window_has_whole_hours():
    window = Window.of(NOW, NOW + HOUR, now=NOW)

    assert window == Window(NOW.replace(minute=0), NOW.replace(hour=11, minute=0))


def test_an_end_on_the_hour_is_that_hour():
    hour = NOW.replace(minute=0)

    assert Window.of(hour - HOUR, hour, now=NOW).until == hour


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        (NOW, NOW - HOUR, "not after"),
        (NOW.replace(minute=0), NOW.replace(minute=0), "not after"),
        (NOW + 5 * HOUR, None, "not after"),
        (NOW - timedelta(days=32), NOW, "longer than 31 days"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(since, until, words):
    with pytest.raises(ValueError, match=words):
        Window.of(since, until, now=NOW)
