"""What a booting scheduler makes of the declarations it finds."""

import json
from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
import structlog
from sqlalchemy import text

from postlude.broker import PostludeBroker
from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.ledger import Ledger
from postlude.ledger.migrate import upgrade
from postlude.middleware.interrupts import Interrupts
from postlude.scheduler.sync import sync
from postlude.schedules import declare
from postlude.schedules.declare import cron, declarations, every
from postlude.settings import load

BOOT = datetime(2026, 11, 2, 12, 0, 0, 250_000, tzinfo=UTC)
ANCHOR = BOOT.replace(microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(tmp_path):
    settings = load(data_dir=tmp_path)
    upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


@pytest.fixture
def boot(ledger, monkeypatch):
    """Boot a scheduler whose code declares what ``code(make_actor)`` declares; returns its logs."""

    def boot(code=lambda _make_actor: None, *, at=BOOT, source="shop"):
        monkeypatch.setattr(declare, "_declared", {})
        broker = PostludeBroker([], Interrupts())

        def make_actor(name="tidy", **options):
            @dramatiq.actor(broker=broker, actor_name=name, **options)
            def actor(folder: str = "all", depth: int = 1) -> None:
                pass

            return actor

        code(make_actor)
        with structlog.testing.capture_logs() as logs:
            sync(ledger, declarations(), broker, at, source=source)
        return logs

    return boot


def row(ledger, id_="tidy"):
    with ledger.read() as connection:
        query = text("SELECT * FROM postlude_schedules WHERE id = :id")
        return connection.execute(query, {"id": id_}).mappings().one()


def change(ledger, statement, **parameters):
    connection = ledger.connect()
    connection._cursor.execute(statement, parameters)
    connection.close()


def events(logs):
    return [entry["event"] for entry in logs]


def test_a_new_declaration_becomes_a_row(ledger, boot):
    logs = boot(lambda make: every("1h", args=["tmp"])(make(queue_name="low", priority=7)))

    found = row(ledger)
    assert json.loads(found["arguments"])["folder"] == "tmp"
    assert json.loads(found["options"]) == {"queue": "low", "priority": 7}
    assert found["actor"] == "tidy"
    assert found["declared_by"] == "code:shop"
    assert from_micros(found["created_at"]) == ANCHOR
    assert from_micros(found["next_at"]) == ANCHOR + HOUR
    assert events(logs) == ["schedule.declared"]


def test_the_tasks_of_an_actor_that_is_unique_as_a_whole_are_unique(ledger, boot):
    boot(lambda make: every("1h")(make(unique_key="all", unique_for="10m")))

    assert json.loads(row(ledger)["options"]) == {
        "queue": "default",
        "priority": 0,
        "unique_key": "all",
        "unique_for": 600_000,
    }


def test_the_first_run_may_come_at_once(ledger, boot):
    boot(lambda make: every("1h", first="0s")(make()))

    assert from_micros(row(ledger)["next_at"]) == ANCHOR


def test_a_deploy_with_the_same_declaration_does_not_begin_the_interval_anew(ledger, boot):
    boot(lambda make: every("24h")(make()))
    before = dict(row(ledger))

    logs = boot(lambda make: every("1d")(make()), at=BOOT + 23 * HOUR)

    assert dict(row(ledger)) == before
    assert events(logs) == []


def test_a_changed_trigger_counts_from_the_same_anchor(ledger, boot):
    boot(lambda make: every("24h")(make()))
    incarnation = row(ledger)["incarnation"]

    logs = boot(lambda make: every("5h")(make()), at=BOOT + 7 * HOUR)

    assert from_micros(row(ledger)["next_at"]) == ANCHOR + 10 * HOUR
    assert row(ledger)["incarnation"] == incarnation
    assert [entry["change"] for entry in logs] == ["changed"]


def test_changed_arguments_do_not_move_the_next_run(ledger, boot):
    boot(lambda make: cron("0 15 * * *")(make()))

    boot(lambda make: cron("0 15 * * *", kwargs={"depth": 2})(make()), at=BOOT + HOUR)

    assert json.loads(row(ledger)["arguments"])["depth"] == 2
    assert from_micros(row(ledger)["next_at"]) == ANCHOR + 3 * HOUR


def test_a_fire_time_that_is_due_survives_a_changed_trigger(ledger, boot):
    boot(lambda make: cron("0 13 * * *")(make()))

    boot(lambda make: cron("0 20 * * *")(make()), at=BOOT + 2 * HOUR)

    assert from_micros(row(ledger)["next_at"]) == ANCHOR + HOUR


def test_a_declaration_that_vanishes_is_retired_and_its_row_stays(ledger, boot):
    boot(lambda make: every("1h")(make()))

    logs = boot(at=BOOT + HOUR)

    assert row(ledger)["next_at"] is None
    assert row(ledger)["broken"] == "no longer declared in code"
    assert events(logs) == ["schedule.retired"]
    assert events(boot(at=BOOT + HOUR)) == []


def test_two_applications_leave_each_others_schedules_alone(ledger, boot):
    boot(lambda make: every("1h")(make()), source="shop")

    logs = boot(lambda make: every("2h")(make("other")), source="blog")

    assert "schedule.retired" not in events(logs)
    assert row(ledger)["next_at"] is not None
    boot(lambda make: every("1h")(make()), source="shop")
    assert row(ledger, "other")["next_at"] is not None


def test_a_declaration_that_comes_back_goes_on_where_it_was(ledger, boot):
    boot(lambda make: every("1h")(make()))
    incarnation = row(ledger)["incarnation"]
    boot()

    boot(lambda make: every("1h")(make()), at=BOOT + 5 * HOUR)

    assert row(ledger)["broken"] is None
    assert row(ledger)["incarnation"] == incarnation
    assert from_micros(row(ledger)["next_at"]) == ANCHOR + 6 * HOUR


def test_schedules_that_were_not_made_by_code_are_left_alone(ledger, boot):
    boot(lambda make: every("1h")(make()))
    change(ledger, "UPDATE postlude_schedules SET declared_by = 'api'")
    before = dict(row(ledger))

    logs = boot(lambda make: every("2h")(make()))
    boot()

    assert dict(row(ledger)) == before
    assert events(logs) == ["schedule.refused"]


def test_a_pause_outlives_a_changed_declaration(ledger, boot):
    boot(lambda make: every("1h")(make()))
    change(ledger, "UPDATE postlude_schedules SET paused = 1")

    boot(lambda make: every("2h")(make()))

    assert row(ledger)["paused"] == 1


def test_arguments_that_do_not_fit_break_that_schedule_alone(ledger, boot):
    def code(make):
        every("1h", kwargs={"depth": "deep"})(make())
        every("1h")(make("other"))

    logs = boot(code)

    assert "depth" in row(ledger)["broken"]
    assert row(ledger, "other")["broken"] is None
    assert sorted(events(logs)) == ["schedule.broken", "schedule.declared"]


def test_a_broken_schedule_gets_another_chance_at_the_next_boot(ledger, boot):
    boot(lambda make: every("1h")(make()))
    change(ledger, "UPDATE postlude_schedules SET broken = 'some bug', declared_by = 'api'")

    boot()

    assert row(ledger)["broken"] is None


def test_an_actor_that_nobody_here_knows_is_a_warning_and_its_schedule_stays(ledger, boot):
    boot(lambda make: every("1h")(make()))
    change(ledger, "UPDATE postlude_schedules SET declared_by = 'api', actor = 'elsewhere'")

    logs = boot()

    assert [(entry["event"], entry["actor"]) for entry in logs] == [
        ("schedule.actor_unknown", "elsewhere")
    ]
    assert row(ledger)["next_at"] == to_micros(ANCHOR + HOUR)
