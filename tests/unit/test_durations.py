"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from postlude.durations import Duration, format_duration, parse_duration

TEN_YEARS = timedelta(days=3650)


class Model(BaseModel):
    span: Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("250ms", 0.25),
        ("5", 5),
        ("5s", 5),
        (" 5S ", 5),
        ("1.5m", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("3650d", 315_360_000),
        (30, 30),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
    ],
)
def test_what_people_write_is_understood(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "5 m",
        "-1s",
        "s",
        "1h30",
        "1y",
        "nan",
        "1e3",
        "5m!",
        "1,5s",
        None,
        True,
        "1" * 41,
    ],
)
def test_what_is_no_duration_is_refused_by_its_text_and_with_an_example(text):
    with pytest.raises(ValueError, match=r"is not a duration; write .*'5m'") as caught:
        parse_duration(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["3651d", "9" * 39 + "d", timedelta(days=-1), timedelta.max, 4e8, "87601h"]
)
def test_what_is_out_of_range_is_refused(text):
    with pytest.raises(ValueError, match="out of range; a duration lies between 0 and ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(milliseconds=1), "1ms"),
        (timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5), "1d2h3m4s5ms"),
    ],
)
def test_a_span_is_written_shortly(span, text):
    assert format_duration(span) == text


@given(st.integers(0, int(TEN_YEARS.total_seconds() * 1000)))
def test_what_was_written_is_read_back(milliseconds):
    span = timedelta(milliseconds=milliseconds)

    assert parse_duration(format_duration(span)) == span


def test_models_take_and_give_durations_as_text():
    model = Model.model_validate_json('{"span": "1h30m"}')

    assert model.span == timedelta(minutes=90)
    assert model.model_dump_json() == '{"span":"1h30m"}'


def test_a_fraction_of_a_millisecond_is_refused():
    with pytest.raises(ValueError, match="too fine; a duration is a whole number of milliseconds"):
        parse_duration("1.5ms")
