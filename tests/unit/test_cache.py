"""The keys of the cache, what stands behind them, and which cache there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import actors  # noqa: F401 - declares them all
from actors.cache import refresh_cache, store
from actors.cache.loaders import UnknownKey, find
from actors.cache.store import Entry
from postlude.arguments import Signature
from postlude.errors import BadArguments, SettingsError
from postlude.schedules.declare import declarations
from postlude.settings import load

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


@pytest.mark.parametrize("url", ["redis://localhost:6379/0", "nonsense"])
def test_another_cache_is_refused_by_the_name_of_its_setting(url):
    with pytest.raises(SettingsError, match="POSTLUDE_CACHE_URL"):
        store.check(load(cache_url=url))


def test_the_cache_in_the_ledger_needs_no_setting():
    store.check(load(cache_url=""))


def test_an_age_is_never_negative():
    assert Entry(as_of=NOW).age(NOW - SECOND) == timedelta(0)
    assert Entry(as_of=NOW).age(NOW + SECOND) == SECOND
    assert Entry().age(NOW) is None


def test_readers_ask_at_most_once_in_a_while():
    assert Entry().may_ask(NOW, SECOND)
    assert not Entry(asked_at=NOW).may_ask(NOW + SECOND, SECOND)
    assert Entry(asked_at=NOW).may_ask(NOW + 2 * SECOND, SECOND)
    assert Entry(asked_at=NOW).may_ask(NOW - SECOND, SECOND), "the clock was set back"
