"""The keys of the cache, and what stands behind them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import actors  # noqa: F401 - declares them all
from actors.cache import refresh_cache
from actors.cache.contract import Entry
from actors.cache.errors import CacheUnavailable
from actors.cache.loaders import UnknownKey, find
from postlude.arguments import Signature
from postlude.errors import BadArguments
from postlude.schedules.declare import declarations

NOW = datetime(2026, 3, 29, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("key", "fresh_for"),
    [("analytics-summary", timedelta(minutes=1)), ("file-stats", timedelta(minutes=5))],
)
def test_each_key_has_a_loader_and_a_schedule_that_keeps_it_fresh(key, fresh_for):
    assert find(key).fresh_for == fresh_for
    (schedule,) = [each for each in declarations() if each.args == (key,)]
    assert schedule.actor is refresh_cache
    assert f'"{fresh_for.seconds // 60}m"' in schedule.trigger


@pytest.mark.parametrize("key", ["", "nope", "file-stats ", "x" * 10_000, "\0"])
def test_an_unknown_key_is_refused_and_the_known_ones_are_named(key):
    with pytest.raises(UnknownKey, match="known: analytics-summary, file-stats") as caught:
        find(key)

    assert len(str(caught.value)) < 500


def test_a_task_with_an_unknown_key_is_not_added():
    signature = Signature.of(refresh_cache.fn, "refresh_cache")

    with pytest.raises(BadArguments, match="known: analytics-summary, file-stats"):
        signature.encode(("nope",), {})


def test_an_outage_of_the_cache_is_waited_for_longer_than_a_loader_that_fails():
    again = refresh_cache.options["retry_when"]

    assert [again(tries, ValueError()) for tries in (2, 3)] == [True, False]
    assert [again(tries, CacheUnavailable()) for tries in (29, 30)] == [True, False]


def test_an_age_is_never_negative():
    assert Entry(as_of=NOW).age(NOW - SECOND) == timedelta(0)
    assert Entry(as_of=NOW).age(NOW + SECOND) == SECOND
    assert Entry().age(NOW) is None


def test_readers_ask_at_most_once_in_a_while():
    assert Entry().may_ask(NOW, SECOND)
    assert not Entry(asked_at=NOW).may_ask(NOW + SECOND, SECOND)
    assert Entry(asked_at=NOW).may_ask(NOW + 2 * SECOND, SECOND)
    assert Entry(asked_at=NOW).may_ask(NOW - SECOND, SECOND), "the clock was set back"
