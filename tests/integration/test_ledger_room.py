"""The ledger's files do not grow without bound, and what keeps them small keeps nobody waiting."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import timedelta

import pytest
import structlog
import uuid_utils

from postlude import process
from postlude.ledger import sqlite
from postlude.ledger.clock import now
from postlude.ledger.migrate import upgrade
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, claim, outcome
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy import retention as policy
from postlude.settings import settings
from postlude.states import State
from postlude.worker import upkeep
from postlude.worker.retention import Retention
from postlude.worker.upkeep import Upkeep

WEEK = timedelta(days=8)
ARGUMENTS = '{"text": "%s"}' % ("x" * 2000)
SPARE = 128
MEGABYTE = 1024**2


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Be a process of its own: its settings, its ledger."""
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(policy, "SPARE", SPARE)
    settings.cache_clear()
    process.close()
    upgrade(settings())
    yield process.current().ledger
    process.close()
    settings.cache_clear()


def run(ledger, count):
    """Store, claim and finish so many tasks."""

    def write(tx):
        at = now()
        for _ in range(count):
            task = NewTask(str(uuid_utils.uuid7()), "a", "q", ARGUMENTS, "{}", 0, None, at)
            accept.enqueue(tx, task, now=at)
        taken = claim.claim(tx, queue="q", actors=["a"], owner="w", token="t", now=at, limit=count)
        done = Outcome(State.SUCCEEDED, "succeeded", started_at=at, finished_at=at, result="null")
        assert all(outcome.finish(tx, task, done, worker="w") for task in taken)

    ledger.write(write)


def clean():
    Retention(process.current()).clean(now() + WEEK)


def pages(ledger):
    with ledger.read() as connection:
        return connection.exec_driver_sql("PRAGMA page_count").scalar_one()


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
    return answer


def test_under_a_steady_load_with_retention_the_files_stay_as_they_are(ledger):
    sizes = []
    for _ in range(12):
        run(ledger, 300)
        clean()
        sizes.append(pages(ledger))

    assert sizes[-1] <= sizes[2] * 1.1
    assert ledger.log_size() <= sqlite.LOG_KEPT


def test_a_file_that_was_once_large_gives_its_room_back(ledger, tmp_path):
    run(ledger, 2000)
    large = pages(ledger)

    with structlog.testing.capture_logs() as logs:
        clean()

    assert large > 1000
    assert pages(ledger) < SPARE + 100
    assert [entry["pages"] > 800 for entry in logs if entry["event"] == "ledger.shrunk"] == [True]
    process.close()
    assert (tmp_path / "postlude.db").stat().st_size < MEGABYTE


def test_what_a_steady_load_uses_again_is_kept(ledger):
    run(ledger, 60)
    before = pages(ledger)

    clean()

    assert pages(ledger) == before


def test_deleting_and_giving_back_are_short_transactions(ledger, monkeypatch):
    """Claims get in between: none takes longer than a few milliseconds of a processor."""
    run(ledger, 3000)
    took, plain = [], ledger.write

    def measured(write):
        def timed(tx):
            began = time.thread_time()
            found = write(tx)
            took.append((time.thread_time() - began, found))
            return found

        return plain(timed)

    monkeypatch.setattr(ledger, "write", measured)
    clean()

    assert len(took) > 15
    assert max(found for _, found in took) <= 200
    assert max(seconds for seconds, _ in took) < 0.1


@pytest.fixture
def log_most(monkeypatch):
    monkeypatch.setattr(upkeep, "LOG_MOST", MEGABYTE)


def test_a_log_that_many_readers_keep_from_starting_anew_is_emptied(ledger, log_most):
    over = threading.Event()

    def read():
        while not over.is_set():
            pages(ledger)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    run(ledger, 500)
    try:
        assert ledger.log_size() > MEGABYTE
        until(lambda: Upkeep(ledger).look() or ledger.log_size() < MEGABYTE)
    finally:
        over.set()
        for reader in readers:
            reader.join()
    run(ledger, 1)


def test_a_reader_that_does_not_end_is_named_once_and_keeps_nobody_waiting(ledger, log_most):
    chore = Upkeep(ledger)
    with closing(ledger.connect()) as reader, structlog.testing.capture_logs() as logs:
        reader._cursor.execute("BEGIN")
        reader._cursor.execute("SELECT count(*) FROM postlude_tasks").fetchall()
        run(ledger, 500)
        grown = ledger.log_size()
        for _ in range(2 * upkeep.TRIES):
            chore.look()
            run(ledger, 1)
        assert ledger.log_size() >= grown
        reader.rollback()
        chore.look()

    assert [entry["event"] for entry in logs] == ["ledger.log_grows"]
    assert ledger.log_size() == 0


def test_a_log_of_ordinary_size_is_left_alone(ledger):
    run(ledger, 500)
    before = ledger.log_size()

    Upkeep(ledger).look()

    assert ledger.log_size() == before > 0
