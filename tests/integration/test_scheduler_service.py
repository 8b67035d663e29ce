"""The scheduler's loop over a real ledger: one tick and at most one task for each fire time."""

import json
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
import structlog
from sqlalchemy import text

from postlude.ledger.clock import from_micros, now, to_micros
from postlude.ledger.ledger import Ledger
from postlude.ledger.migrate import upgrade
from postlude.ledger.transitions.schedule import NewSchedule, declare
from postlude.ledger.transitions.tick import Firing, Tick, record, task_id
from postlude.scheduler.service import Service
from postlude.schedules import spec
from postlude.schedules.trigger import build
from postlude.settings import load

SECOND = timedelta(seconds=1)


@pytest.fixture
def settings(tmp_path):
    settings = load(data_dir=tmp_path, write_timeout="300ms")
    upgrade(settings)
    return settings


@pytest.fixture
def ledger(settings):
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


@contextmanager
def scheduling(ledger):
    service = Service(ledger)
    service.start()
    try:
        yield service
    finally:
        assert service.stop(timedelta(seconds=10))


def add(ledger, id_="tidy", *, since=None, **changes):
    """Declare a schedule as code would have done at ``since``: a few seconds ago."""
    trigger = changes.pop("trigger", {"every": "1s"})
    columns = {
        "actor": "tidy",
        "arguments": '{"folder": "tmp"}',
        "options": json.dumps({"queue": "low", "priority": 7, "max_retries": 3}),
        "trigger": json.dumps(trigger),
        "timezone": "UTC",
        "misfire": "latest",
        "misfire_window": timedelta(days=1),
        "broken": None,
        "first_fire": lambda anchor, at: build(
            spec.read(trigger), zone=spec.zone("UTC"), anchor=anchor
        ).get_next_fire_time(None, at),
    } | changes
    ledger.write(
        partial(
            declare,
            schedule=NewSchedule(id=id_, **columns),
            source="shop",
            now=since or now() - 3 * SECOND,
        )
    )


def rows(ledger, statement, **parameters):
    with ledger.read() as connection:
        return connection.execute(text(statement), parameters).mappings().all()


def row(ledger, id_="tidy"):
    (found,) = rows(ledger, "SELECT * FROM postlude_schedules WHERE id = :id", id=id_)
    return found


def ticks(ledger, id_="tidy"):
    return rows(
        ledger,
        "SELECT * FROM postlude_ticks WHERE schedule = :id ORDER BY scheduled_for",
        id=id_,
    )


def tasks(ledger):
    return rows(ledger, "SELECT * FROM postlude_tasks ORDER BY seq")


def until(condition, seconds=10):
    """Wait for ``condition`` and return what it answers."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return answer


def named(logs, event):
    return [entry for entry in logs if entry["event"] == event]


def change(ledger, statement, **parameters):
    connection = ledger.connect()
    connection._cursor.execute(statement, parameters)
    connection.close()


def test_a_tick_queues_one_task_under_an_id_of_its_own(ledger):
    add(ledger)

    with scheduling(ledger):
        tick = until(lambda: ticks(ledger))[0]

    task = tasks(ledger)[0]
    assert tick["outcome"] == "queued"
    assert tick["task"] == task["id"]
    assert task["id"] == task_id(row(ledger)["incarnation"], from_micros(tick["scheduled_for"]))
    assert (task["state"], task["actor"], task["queue"]) == ("queued", "tidy", "low")
    assert task["priority"] == 7
    assert json.loads(task["arguments"]) == {"folder": "tmp"}
    assert json.loads(task["options"]) == {"max_retries": 3}
    assert task["run_at"] is None


def test_a_tick_whose_unique_key_is_taken_makes_a_duplicate(ledger):
    options = {"queue": "low", "priority": 0, "unique_key": "all", "unique_for": "unfinished"}
    add(ledger, options=json.dumps(options), misfire="all")

    with scheduling(ledger):
        until(lambda: len(ticks(ledger)) >= 2)

    first, second, *_ = tasks(ledger)
    assert (first["state"], first["duplicate_of"]) == ("queued", None)
    assert (second["reason"], second["duplicate_of"]) == ("duplicate", first["id"])
    assert [tick["task"] for tick in ticks(ledger)][:2] == [first["id"], second["id"]]


def test_a_tick_is_punctual(ledger):
    add(ledger, since=now())

    with scheduling(ledger):
        tick = until(lambda: ticks(ledger))[0]

    assert tick["ticked_at"] - tick["scheduled_for"] < 500_000


def test_a_clock_that_is_set_back_within_a_pass_does_not_stop_the_loop(ledger, monkeypatch):
    """APScheduler reads the clock once more after we have told it when to look again."""

    class SetBack(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", SetBack)
    add(ledger)

    with scheduling(ledger):
        until(lambda: len(ticks(ledger)) >= 6)


def test_two_schedulers_share_the_ticks(settings, ledger):
    for number in range(5):
        add(ledger, f"tidy-{number}")
    other = Ledger(settings)

    with scheduling(ledger), scheduling(other):
        until(lambda: len(ticks(ledger, "tidy-4")) >= 4)
    other.close()

    found = rows(ledger, "SELECT task FROM postlude_ticks")
    assert sorted(each["task"] for each in found) == sorted(task["id"] for task in tasks(ledger))
    for number in range(5):
        times = [tick["scheduled_for"] for tick in ticks(ledger, f"tidy-{number}")]
        assert {b - a for a, b in pairwise(times)} == {1_000_000}


def test_the_first_to_record_a_pass_takes_it(ledger):
    add(ledger)
    found = row(ledger)
    at = from_micros(found["next_at"])
    firing = Firing("tidy", found["incarnation"], at, at + SECOND, (Tick(at, None, "a test"),))

    first = ledger.write(partial(record, firings=[firing], now=now()))
    second = ledger.write(partial(record, firings=[firing], now=now()))

    assert first == [(firing, firing.ticks[0])]
    assert second == []
    assert len(ticks(ledger)) == 1


def test_a_pass_that_comes_too_late_sets_nothing_back(ledger):
    add(ledger)
    found = row(ledger)
    at = from_micros(found["next_at"])
    stale = Firing("tidy", found["incarnation"], at, at + SECOND, (Tick(at, None, "a test"),))
    with scheduling(ledger):
        until(lambda: len(ticks(ledger)) >= 2)
    before = row(ledger)["next_at"]

    assert ledger.write(partial(record, firings=[stale], now=now())) == []

    assert row(ledger)["next_at"] == before


def test_a_fire_time_that_comes_round_again_makes_no_task_after_all(ledger):
    add(ledger)
    found = row(ledger)
    at = from_micros(found["next_at"])
    skipped = Firing("tidy", found["incarnation"], at, at, (Tick(at, None, "a test"),))
    ledger.write(partial(record, firings=[skipped], now=now()))

    with scheduling(ledger):
        until(lambda: row(ledger)["next_at"] > to_micros(now()))

    first, *others = ticks(ledger)
    assert (first["outcome"], first["reason"]) == ("skipped", "a test")
    assert [tick["task"] for tick in others] == [task["id"] for task in tasks(ledger)]


def test_missed_fire_times_run_once_and_are_recorded(ledger):
    add(ledger, since=now() - timedelta(minutes=5, seconds=30), trigger={"every": "1m"})

    with scheduling(ledger):
        until(lambda: row(ledger)["next_at"] > to_micros(now()))

    found = ticks(ledger)
    assert [tick["outcome"] for tick in found] == ["skipped"] * 4 + ["queued"]
    assert all("misfire policy latest" in tick["reason"] for tick in found[:4])
    assert [task["id"] for task in tasks(ledger)] == [found[-1]["task"]]


def test_a_year_of_missed_seconds_leaves_one_record(ledger):
    add(ledger, since=now() - timedelta(days=365), misfire="skip")

    with scheduling(ledger):
        until(lambda: row(ledger)["next_at"] > to_micros(now()))

    assert [tick["outcome"] for tick in ticks(ledger)].count("skipped") == 1


def test_a_single_time_fires_once_and_its_row_stays(ledger):
    add(ledger, trigger={"at": (datetime.now(UTC) + SECOND / 10).isoformat()})

    with scheduling(ledger):
        until(lambda: ticks(ledger))
    with scheduling(ledger):
        add(ledger, "other")
        until(lambda: ticks(ledger, "other"))

    assert len(ticks(ledger)) == 1
    assert row(ledger)["next_at"] is None


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ('"trigger"', "{nonsense", "JSONDecodeError"),
        ('"trigger"', '{"cron": "0 3 * *"}', "has 4 fields"),
        ("timezone", "Europe/Atlantis", "no time zone"),
        ("misfire", "forget", "no misfire policy"),
        ("options", "{}", "tick could not be made"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_kept_and_stops_no_other(
    ledger, column, value, complaint
):
    add(ledger, "bad")
    add(ledger, "good")
    change(ledger, f"UPDATE postlude_schedules SET {column} = :value WHERE id = 'bad'", value=value)

    with scheduling(ledger):
        until(lambda: len(ticks(ledger, "good")) >= 2)

    assert complaint in row(ledger, "bad")["broken"]
    assert row(ledger, "bad")["next_at"] is not None
    assert ticks(ledger, "bad") == []


def test_a_paused_schedule_does_not_fire(ledger):
    add(ledger, "paused")
    add(ledger, "other")
    change(ledger, "UPDATE postlude_schedules SET paused = 1 WHERE id = 'paused'")

    with scheduling(ledger):
        until(lambda: len(ticks(ledger, "other")) >= 2)

    assert ticks(ledger, "paused") == []


def test_a_schedule_that_somebody_adds_is_noticed(settings, ledger):
    other = Ledger(settings)
    with scheduling(ledger):
        add(other)
        until(lambda: ticks(ledger), seconds=3)
    other.close()


def test_a_locked_ledger_delays_ticks_and_loses_none(ledger):
    add(ledger)
    with structlog.testing.capture_logs() as logs, scheduling(ledger):
        until(lambda: ticks(ledger))
        with closing(ledger.connect()) as blocker:
            blocker.begin()
            abandoned = until(lambda: named(logs, "scheduler.pass_abandoned"))
        until(lambda: named(logs, "scheduler.recovered"))
        last = to_micros(now())
        until(lambda: ticks(ledger)[-1]["scheduled_for"] > last)

    times = [tick["scheduled_for"] for tick in ticks(ledger)]
    assert {b - a for a, b in pairwise(times)} == {1_000_000}
    assert len(tasks(ledger)) == len(times)
    assert "the ledger did not confirm" in abandoned[0]["error"]


def test_no_error_ends_the_loop(ledger):
    add(ledger)
    with structlog.testing.capture_logs() as logs, scheduling(ledger) as service:
        change(ledger, "ALTER TABLE postlude_schedules RENAME TO elsewhere")
        until(lambda: named(logs, "scheduler.pass_abandoned"))
        change(ledger, "ALTER TABLE elsewhere RENAME TO postlude_schedules")
        until(lambda: ticks(ledger))

        assert service.alive
