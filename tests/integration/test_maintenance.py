"""The actors that keep the ledger in order."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
import structlog
from sqlalchemy import text

from actors import maintenance
from actors.maintenance import delete_old_tasks, report_tasks
from postlude import process
from postlude.ledger.clock import now, to_micros
from postlude.ledger.migrate import upgrade
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept
from postlude.ledger.transitions.bury import bury
from postlude.ledger.transitions.incarnation import appear
from postlude.settings import settings
from postlude.states import State

DAY = timedelta(days=1)


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Be a process of its own: its settings, its ledger."""
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("POSTLUDE_KEEP_CANCELLED", "2d")
    settings.cache_clear()
    process.close()
    upgrade(settings())
    yield process.current().ledger
    process.close()
    settings.cache_clear()


def add(ledger, state=State.QUEUED, *, finished=None, count=1):
    """Store tasks that ended in ``state`` that long ago."""

    def write(tx):
        for _ in range(count):
            task = NewTask(str(uuid.uuid4()), "tidy", "default", "{}", "{}", 0, None, now())
            accept.enqueue(tx, task, now=now())

    ledger.write(write)
    if finished is not None:
        connection = ledger.connect()
        connection._cursor.execute(
            "UPDATE postlude_tasks SET state = :state, finished_at = :at WHERE state = 'queued'",
            {"state": state.value, "at": to_micros(now() - finished)},
        )
        connection.close()


def left(ledger):
    with ledger.read() as connection:
        query = text("SELECT state, count(*) FROM postlude_tasks GROUP BY state")
        return {row[0]: row[1] for row in connection.execute(query)}


def test_old_tasks_go_and_the_others_stay(ledger):
    add(ledger, State.SUCCEEDED, finished=8 * DAY)
    add(ledger, State.SUCCEEDED, finished=6 * DAY)
    add(ledger, State.CANCELLED, finished=3 * DAY)
    add(ledger, State.FAILED, finished=900 * DAY)
    add(ledger)

    with structlog.testing.capture_logs() as logs:
        delete_old_tasks()

    assert left(ledger) == {"succeeded": 1, "failed": 1, "queued": 1}
    assert {
        entry["state"]: entry["count"] for entry in logs if entry["event"] == "tasks.deleted"
    } == {
        "succeeded": 1,
        "cancelled": 1,
    }


def test_many_go_in_small_transactions(ledger, monkeypatch):
    monkeypatch.setattr(maintenance, "BATCH", 10)
    add(ledger, State.SUCCEEDED, finished=8 * DAY, count=35)

    delete_old_tasks()

    assert left(ledger) == {}


def test_a_second_run_finds_nothing_and_says_nothing(ledger):
    add(ledger, State.SUCCEEDED, finished=8 * DAY)
    delete_old_tasks()

    with structlog.testing.capture_logs() as logs:
        delete_old_tasks()

    assert logs == []


def test_processes_that_ended_long_ago_are_forgotten(ledger):
    def write(tx):
        for id_ in ("old", "new"):
            appear(tx, id_, kind="api", host="here", pid=1, version="1", queues=(), now=now())
        bury(tx, incarnation="old", now=now() - 8 * DAY, proven=True)
        bury(tx, incarnation="new", now=now() - 6 * DAY, proven=True)

    ledger.write(write)

    delete_old_tasks()

    with ledger.read() as connection:
        query = text("SELECT id FROM postlude_incarnations")
        assert connection.execute(query).scalars().all() == ["new"]


def test_the_report_counts_the_tasks_in_each_state(ledger):
    add(ledger, count=2)
    add(ledger, State.FAILED, finished=DAY)
    add(ledger)

    with structlog.testing.capture_logs() as logs:
        report_tasks()

    (report,) = logs
    assert report["event"] == "tasks.report"
    assert (report["queued"], report["failed"], report["running"]) == (1, 3, 0)
