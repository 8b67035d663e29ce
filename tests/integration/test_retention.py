"""What is old enough goes, in small transactions, and nothing else does; what is there is reported."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import structlog
from sqlalchemy import text

from actors.maintenance import report_tasks
from postlude import process
from postlude.ledger.clock import now, to_micros
from postlude.ledger.key import Hold, UniqueKey
from postlude.ledger.migrate import upgrade
from postlude.ledger.statement import Statement
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, follow
from postlude.ledger.transitions.bury import bury
from postlude.ledger.transitions.incarnation import appear
from postlude.ledger.transitions.retain import delete_finished
from postlude.policy.crash import Death
from postlude.settings import settings
from postlude.states import State
from postlude.worker import retention
from postlude.worker.retention import Retention

DAY = timedelta(days=1)
FAIL = Statement(
    text("UPDATE postlude_tasks SET state = 'failed', finished_at = created_at WHERE id = :id")
)


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


def take_keys(ledger, *spans):
    """Store unique tasks that have their keys for so long from now on."""
    keys = [UniqueKey("s", f"{n}", Hold.PERIOD, now() + span) for n, span in enumerate(spans)]
    for unique in keys:
        new = NewTask(unique.key, "tidy", "default", "{}", "{}", 0, None, now(), unique=unique)
        ledger.write(partial(accept.enqueue, task=new, now=now()))


def clean():
    Retention(process.current()).clean(now())


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
        clean()

    assert left(ledger) == {"succeeded": 1, "failed": 1, "queued": 1}
    assert {
        entry["state"]: entry["count"] for entry in logs if entry["event"] == "tasks.deleted"
    } == {
        "succeeded": 1,
        "cancelled": 1,
    }


def test_many_go_in_small_transactions(ledger, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 10)
    add(ledger, State.SUCCEEDED, finished=8 * DAY, count=35)

    clean()

    assert left(ledger) == {}


def steps_of(ledger):
    """Return how many thousand steps of SQLite's machine one batch of the deletion takes."""
    steps = []
    connection = ledger.connect()
    connection._connection.set_progress_handler(lambda: steps.append(1), 1000)
    deleting = partial(
        delete_finished, state=State.CANCELLED, before=now() - 2 * DAY, limit=10, now=now()
    )
    with connection.transaction() as tx:
        assert deleting(tx) == 10
    connection.close()
    return len(steps)


def fail_pipelines(ledger, count):
    """Store pipelines of two steps, of which the first has failed long ago."""

    def write(tx):
        for _ in range(count):
            first, then = (
                NewTask(str(uuid.uuid4()), "tidy", "default", "{}", "{}", 0, None, now())
                for _ in range(2)
            )
            accept.enqueue(tx, replace(first, followed=True), now=now())
            accept.enqueue(tx, replace(then, waits_for=first.id), now=now())
            tx.run(FAIL, id=first.id)
            follow.ended(tx, [first.id], now=now() - 9 * DAY)

    ledger.write(write)


def test_a_thousand_failed_pipelines_do_not_slow_the_deletion_of_others(ledger):
    add(ledger, State.CANCELLED, finished=3 * DAY, count=20)
    alone = steps_of(ledger)
    fail_pipelines(ledger, 1000)

    assert steps_of(ledger) <= alone + 1
    assert left(ledger) == {"cancelled": 1000, "failed": 1000}


def test_expired_keys_go_in_small_transactions_and_the_others_stay(ledger, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    take_keys(ledger, -DAY, -DAY, -DAY, DAY)

    with structlog.testing.capture_logs() as logs:
        clean()

    with ledger.read() as connection:
        left = connection.execute(text("SELECT key FROM postlude_keys")).scalars().all()
    assert left == ["3"]
    assert [(entry["event"], entry["count"]) for entry in logs] == [("keys.deleted", 3)]


def test_a_second_run_finds_nothing_and_says_nothing(ledger):
    add(ledger, State.SUCCEEDED, finished=8 * DAY)
    clean()

    with structlog.testing.capture_logs() as logs:
        clean()

    assert logs == []


def test_processes_that_ended_long_ago_are_forgotten(ledger):
    def write(tx):
        for id_ in ("old", "new"):
            appear(tx, id_, kind="api", host="here", pid=1, version="1", queues=(), now=now())
        bury(tx, incarnation="old", now=now() - 8 * DAY, death=Death.PROVEN)
        bury(tx, incarnation="new", now=now() - 6 * DAY, death=Death.PROVEN)

    ledger.write(write)

    clean()

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
