"""Events over a real ledger: stored once, counted by the hour, deleted without being forgotten."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from actors import analytics, cache
from actors.analytics import delete_old_events, record_events, roll_up_events, store, tables
from actors.analytics.event import Event
from actors.analytics.summary import Window, hourly, totals
from actors.cache import store as cache_store
from postlude import process, testing
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.settings import load, settings

ROOT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
# A night in which clocks in Europe go back: 02:30 comes twice there, and once in UTC.
NIGHT = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
WINDOW = Window(NIGHT.replace(minute=0) - HOUR, NIGHT.replace(minute=0) + 3 * HOUR)
IN_TURN = """
import sys
from functools import partial
from actors.analytics import roll_up_events
from postlude import process
process.current()
print("ready", flush=True)
sys.stdin.readline()
print(sum(roll_up_events.fn() for _ in range(20)))
process.close()
"""


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A migrated ledger that no process has open: copying it is quicker than migrating anew."""
    chosen = load(data_dir=tmp_path_factory.mktemp("blank"))
    upgrade(chosen)
    return chosen.data_dir / "postlude.db"


@pytest.fixture
def ledger(tmp_path, monkeypatch, blank):
    """Be a process of its own; tasks that actors send run at once."""
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    process.close()
    shutil.copy(blank, tmp_path)
    with testing.inline():
        yield process.current().ledger
    process.close()
    settings.cache_clear()


def event(id_, name="a", at=NIGHT, **data):
    return Event(id=id_, name=name, at=at, data=data)


def counts(ledger, window=WINDOW, **options):
    with ledger.read() as connection:
        found = hourly(connection, window, limit=1000, **options)
    return [(count.hour.hour, count.name, count.count) for count in found]


def rows(ledger, query, **parameters):
    with ledger.read() as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]


def record_in_the_past(ledger, *events, age):
    ledger.write(partial(store.record, events=events, now=clock.now() - age))


# Tables


def test_the_migration_makes_exactly_the_tables_of_the_code(ledger):
    def ours(thing, name, kind, *_):
        table = thing if kind == "table" else thing.table
        return table.name in tables.metadata.tables

    with ledger.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_object": ours}
        )
        assert compare_metadata(context, tables.metadata) == []


@pytest.mark.parametrize(
    "statement", ["SELECT id FROM events WHERE recorded_at < 1 ORDER BY recorded_at, id LIMIT 9"]
)
def test_what_is_too_old_is_found_by_an_index(ledger, statement):
    plan = " ".join(row[3] for row in rows(ledger, f"EXPLAIN QUERY PLAN {statement}"))

    assert "events_recorded" in plan
    assert "TEMP B-TREE" not in plan


# Recording


def test_each_event_is_stored_as_it_was_sent(ledger):
    record_events([event("1", "order", amount=12.5, text="ü")])

    assert rows(ledger, "SELECT id, name, at, data FROM events") == [
        ("1", "order", clock.to_micros(NIGHT), '{"amount":12.5,"text":"ü"}')
    ]


def test_a_task_that_runs_twice_stores_nothing_twice(ledger):
    events = [event("1"), event("2", "b")]

    assert record_events(events) == 2
    assert record_events(events) == 0
    assert counts(ledger) == [(0, "a", 1), (0, "b", 1)]


def test_of_two_events_with_one_id_the_first_counts(ledger):
    record_events([event("1", "first"), event("1", "second", NIGHT + HOUR)])
    record_events([event("1", "third")])

    assert counts(ledger) == [(0, "first", 1)]
    assert rows(ledger, "SELECT count(*) FROM event_stale_hours") == [(1,)]


def test_many_are_stored_in_small_transactions(ledger, monkeypatch):
    monkeypatch.setattr(analytics, "CHUNK", 10)
    sizes = []
    write = store.record

    def noting(tx, events, *, now):
        sizes.append(len(events))
        return write(tx, events, now=now)

    monkeypatch.setattr(store, "record", noting)

    assert record_events([event(str(number)) for number in range(25)]) == 25
    assert sizes == [10, 10, 5]


def test_the_summary_in_the_cache_has_seen_what_was_just_stored(ledger):
    now = clock.now()
    record_events([event("1", "fresh", now)])

    entry = cache_store.current().get("analytics-summary", now)
    assert entry.value["counts"] == {"fresh": 1}
    assert cache.find("analytics-summary").fresh_for > entry.age(clock.now())


def test_a_rerun_that_stores_nothing_refreshes_nothing(ledger):
    with testing.inline() as tasks:
        record_events([event("1")])
        record_events([event("1")])

    assert [task.actor for task in tasks.ran] == ["refresh_cache"]


# Counting


def test_events_count_before_and_after_their_roll_up(ledger):
    record_events([event("1"), event("2"), event("3", "b", NIGHT + HOUR)])
    before = counts(ledger)

    assert roll_up_events() == 2

    assert counts(ledger) == before == [(0, "a", 2), (1, "b", 1)]
    assert rows(ledger, "SELECT count FROM event_rollups ORDER BY hour") == [(2,), (1,)]


def test_a_late_event_counts_at_once_and_in_the_next_roll_up(ledger):
    record_events([event("1")])
    roll_up_events()

    record_events([event("late"), event("later", "b")])

    assert counts(ledger) == [(0, "a", 2), (0, "b", 1)]
    assert roll_up_events() == 1
    assert rows(ledger, "SELECT name, count FROM event_rollups ORDER BY name") == [
        ("a", 2),
        ("b", 1),
    ]


def test_a_roll_up_that_runs_twice_counts_nothing_twice(ledger):
    record_events([event("1")])

    assert [roll_up_events(NIGHT), roll_up_events(NIGHT), roll_up_events()] == [1, 1, 0]
    assert counts(ledger) == [(0, "a", 1)]


def test_only_the_hour_that_was_asked_for_is_rolled_up(ledger):
    record_events([event("1"), event("2", at=NIGHT + HOUR)])

    roll_up_events(NIGHT + HOUR)

    assert rows(ledger, "SELECT hour FROM event_stale_hours") == [
        (clock.to_micros(NIGHT.replace(minute=0)),)
    ]


def test_the_hour_that_a_clock_shows_twice_is_two_hours(ledger):
    twice = ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"]
    record_events([Event.model_validate({"name": "a", "at": at}) for at in twice])

    roll_up_events()

    assert counts(ledger) == [(0, "a", 1), (1, "a", 1)]


def test_the_edges_of_hour_and_window_are_where_they_should_be(ledger):
    start, tick = WINDOW.since, timedelta(microseconds=1)
    record_events([event(str(at), at=at) for at in (start - tick, start, WINDOW.until - tick)])
    record_events([event("after", at=WINDOW.until)])

    assert counts(ledger) == [(23, "a", 1), (2, "a", 1)]
    roll_up_events()
    assert counts(ledger) == [(23, "a", 1), (2, "a", 1)]


def test_one_name_can_be_counted_alone_and_totals_leave_hours_out(ledger):
    record_events([event("1"), event("2", at=NIGHT + HOUR), event("3", "b")])
    roll_up_events(NIGHT)

    assert counts(ledger, name="a") == [(0, "a", 1), (1, "a", 1)]
    with ledger.read() as connection:
        assert totals(connection, WINDOW, limit=9) == {"a": 2, "b": 1}
        assert totals(connection, WINDOW, limit=1) == {"a": 2}


def test_two_processes_may_roll_up_while_events_come_in(ledger):
    command = [sys.executable, "-c", IN_TURN]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    for number in range(40):
        ledger.write(partial(store.record, events=[event(str(number))], now=clock.now()))

    assert [other.communicate(timeout=60) and other.returncode for other in others] == [0, 0]
    roll_up_events()
    assert counts(ledger) == [(0, "a", 40)]


# Deleting


def test_old_events_go_and_their_counts_stay(ledger):
    record_in_the_past(ledger, event("1"), event("2"), age=31 * DAY)
    record_in_the_past(ledger, event("3"), age=29 * DAY)
    roll_up_events()

    with structlog.testing.capture_logs() as logs:
        assert delete_old_events() == 2

    assert [entry["count"] for entry in logs if entry["event"] == "events.deleted"] == [2]
    assert rows(ledger, "SELECT id FROM events") == [("3",)]
    assert counts(ledger) == [(0, "a", 3)]


def test_an_event_that_comes_after_the_others_were_deleted_is_added_to_them(ledger):
    record_in_the_past(ledger, event("1"), event("2", "b"), age=31 * DAY)
    roll_up_events()
    delete_old_events()

    record_events([event("late")])
    assert counts(ledger) == [(0, "a", 2), (0, "b", 1)]
    roll_up_events()
    assert counts(ledger) == [(0, "a", 2), (0, "b", 1)]


def test_what_no_roll_up_has_counted_is_not_deleted(ledger):
    record_in_the_past(ledger, event("1"), age=31 * DAY)

    assert delete_old_events() == 0
    roll_up_events()
    assert delete_old_events() == 1
    assert counts(ledger) == [(0, "a", 1)]


def test_it_is_the_age_in_the_ledger_that_counts_not_that_of_the_event(ledger):
    record_events([event("1", at=datetime(1999, 12, 31, 23, tzinfo=UTC))])
    roll_up_events()

    assert delete_old_events() == 0


def test_many_go_in_small_transactions(ledger, monkeypatch):
    monkeypatch.setattr(analytics, "CHUNK", 4)
    record_in_the_past(ledger, *[event(str(number)) for number in range(10)], age=31 * DAY)
    roll_up_events()

    assert delete_old_events() == 10
    assert counts(ledger) == [(0, "a", 10)]


def test_events_can_be_kept_for_ever(ledger, monkeypatch):
    record_in_the_past(ledger, event("1"), age=9999 * DAY)
    roll_up_events()
    process.close()
    monkeypatch.setenv("POSTLUDE_KEEP_EVENTS", "never")
    settings.cache_clear()

    assert delete_old_events() == 0
