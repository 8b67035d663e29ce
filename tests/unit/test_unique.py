"""Which key a task has to itself, and until when: from the options of its message and its actor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from postlude.broker.options import check
from postlude.broker.unique import complete, wanted
from postlude.errors import BadOptions
from postlude.ledger.key import Hold, UniqueKey

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SCOPE = "actor:mail"


def key_of(given, declared=()):
    options = complete("mail", dict(given), dict(declared))
    check("mail", options, {"mail"})
    return wanted("mail", options, NOW)


@pytest.mark.parametrize(
    ("given", "declared"),
    [
        ({}, {}),
        ({"unique_key": None}, {}),
        ({"unique_key": None}, {"unique_key": "all"}),
        ({}, {"unique_for": "queued"}),
        ({"unique_key": None, "unique_for": None}, {"unique_for": 1}),
    ],
)
def test_without_a_key_nothing_is_unique(given, declared):
    assert key_of(given, declared) is None


@pytest.mark.parametrize(
    ("given", "declared", "held"),
    [
        ({"unique_key": "k"}, {}, Hold.UNFINISHED),
        ({"unique_key": "k", "unique_for": None}, {"unique_for": None}, Hold.UNFINISHED),
        (
            {"unique_key": "k", "unique_for": "unfinished"},
            {"unique_for": "queued"},
            Hold.UNFINISHED,
        ),
        ({"unique_key": "k", "unique_for": "queued"}, {}, Hold.QUEUED),
        ({"unique_key": "k"}, {"unique_for": "queued"}, Hold.QUEUED),
        ({"unique_key": "k"}, {"unique_key": "all", "unique_for": "queued"}, Hold.QUEUED),
        ({}, {"unique_key": "k"}, Hold.UNFINISHED),
    ],
)
def test_a_message_says_it_or_its_actor_does(given, declared, held):
    assert key_of(given, declared) == UniqueKey(SCOPE, "k", held)


@pytest.mark.parametrize(
    "span", [90_000, timedelta(seconds=90), "90s", "1m30s", "1.5m", "1M30S", "90000ms"]
)
def test_a_period_begins_when_the_task_is_added(span):
    expires_at = NOW + timedelta(seconds=90)

    assert key_of({"unique_key": "k", "unique_for": span}) == UniqueKey(
        SCOPE, "k", Hold.PERIOD, expires_at
    )


def test_what_is_stored_says_it_all_in_milliseconds():
    given = {"unique_key": "k", "max_retries": 3}

    assert complete("mail", given, {"unique_for": "10m"}) == given | {"unique_for": 600_000}


@pytest.mark.parametrize(
    "key", ["k", "x" * 200, " ", "é", "\N{PILE OF POO}" * 200, "order:4711/a b", "\n"]
)
def test_any_short_text_is_a_key(key):
    assert key_of({"unique_key": key}) == UniqueKey(SCOPE, key, Hold.UNFINISHED)


@pytest.mark.parametrize(
    "key", ["", "x" * 201, "a\0b", "\ud800", "a\udfff", b"k", 7, True, ["k"], 1.5]
)
def test_nothing_else_is_one(key):
    with pytest.raises(BadOptions, match="mail: unique_key must be a text of 1 to 200 characters"):
        key_of({"unique_key": key})


@pytest.mark.parametrize(
    "held",
    [
        *(0, -1, 1.5, True, 3651 * 86_400_000, 10**30),
        *(timedelta(), timedelta(microseconds=999), timedelta(-1), timedelta.max),
        *("", "running", "period", "10", "soon", "0s", "4000d", "10 minutes", "m", "UNFINISHED"),
        *([], {}, b"queued"),
    ],
    ids=repr,
)
def test_a_span_that_makes_no_sense_is_refused_wherever_it_stands(held):
    for given, declared in (
        ({"unique_key": "k", "unique_for": held}, {}),
        ({"unique_key": "k"}, {"unique_for": held}),
    ):
        with pytest.raises(BadOptions, match="mail: unique_for must be 'unfinished', 'queued' or"):
            key_of(given, declared)


def test_a_span_without_a_key_is_refused():
    with pytest.raises(BadOptions, match="mail: unique_for needs a unique_key"):
        key_of({"unique_for": "queued"})
