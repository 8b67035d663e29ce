"""What a process has one of: made on first use, anew after a fork and after somebody declared it dead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from postlude import __version__, process
from postlude.errors import LedgerBusy, LedgerError, LedgerTooOld, SettingsError
from postlude.ledger import commit, migrate, sqlite
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import incarnations
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, bury
from postlude.policy.crash import Death
from postlude.settings import load, settings
from postlude.states import State
from postlude.worker.incarnation import hostname, is_gone, lock_path

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 20
FORK = """
import os, sys
from datetime import datetime, UTC
from functools import partial
from postlude import process
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept

def store(name):
    now = datetime.now(UTC)
    task = NewTask(name, "a", "q", "{}", "{}", 0, None, now)
    return process.current().ledger.write(partial(accept.enqueue, task=task, now=now))

def in_child(use):
    if os.fork() == 0:
        try:
            use()
        except Exception as error:
            print(type(error).__name__, error, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0

if sys.argv[1] == "open":
    store("before")
    mine = process.current().incarnation
in_child(lambda: store("by the child"))
in_child(lambda: process.open_as("worker"))
in_child(process.close)
if sys.argv[1] == "open":
    store("afterwards")
    assert process.current().incarnation is mine and not mine.dead.is_set()
process.close()
"""


BURIED = """
import os, time
import dramatiq
from datetime import datetime, UTC
from functools import partial
from postlude import process
from postlude.ledger.queries.actors import known
from postlude.ledger.queries.tasks import held_by
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, bury, claim
from postlude.policy.crash import Death
from postlude.worker import service

@dramatiq.actor(queue_name="q")
def a(): pass

def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)

def workers():
    with process.current().ledger.read() as connection:
        return [actor.workers for actor in known(connection)]

def held():
    with process.current().ledger.read() as connection:
        return held_by(connection, process.current().incarnation.id)

worker = dramatiq.Worker(dramatiq.get_broker(), worker_threads=1, worker_timeout=100)
worker.start()
now = datetime.now(UTC)
old = process.current()
assert workers() == [1]
old.ledger.write(partial(bury.bury, incarnation=old.incarnation.id, now=now, death=Death.STOPPED))
until(lambda: process.current() is not old and workers() == [1])
task = NewTask("lost", "another", "elsewhere", "{}", "{}", 0, None, now)
new = process.current()
new.ledger.write(partial(accept.enqueue, task=task, now=now))
ask = dict(queue="elsewhere", actors=["another"], token="t", now=now, limit=1)
new.ledger.write(partial(claim.claim, owner=new.incarnation.id, **ask))
assert held() == ["lost"]
until(lambda: held() == [])
service.stop()
os._exit(0)  # Dramatiq's own threads would wait for three seconds
"""


def until(condition):
    """Return what ``condition`` returns once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)
    return found


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder of the test's own that this process will open as a script, with a quick heart."""
    for name, value in (("DATA_DIR", str(tmp_path)), ("HEARTBEAT", "20ms"), ("LEASE", "1s")):
        monkeypatch.setenv(f"POSTLUDE_{name}", value)
    process.close()
    monkeypatch.setattr(process, "_kind", "script")
    monkeypatch.setattr(process, "_queues", ())
    settings.cache_clear()
    yield tmp_path
    process.close()
    settings.cache_clear()


@pytest.fixture
def home(folder):
    migrate.upgrade(load())
    return folder


@pytest.fixture
def other(home):
    """The ledger as another process has it open."""
    ledger = Ledger(load())
    yield ledger
    ledger.close()


def running(name: str) -> int:
    """Return how many threads of that name there are."""
    return [thread.name for thread in threading.enumerate()].count(name)


def lives(ledger) -> list[dict]:
    with ledger.read() as connection:
        query = "SELECT * FROM postlude_incarnations ORDER BY started_at, id"
        return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def test_nothing_is_opened_before_the_first_use(home):
    assert not (home / "run").exists()
    assert process._current is None


def test_all_threads_have_the_same_one(home):
    found = []
    go = threading.Barrier(8)

    def ask():
        go.wait()
        found.append((process.current(), process.current().incarnation))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_script_that_only_sends_leaves_no_trace_of_itself(home, other):
    process.current().ledger.write(lambda _tx: None)
    process.close()

    assert lives(other) == []


def test_a_life_on_record_says_who_it_is_and_when_it_left(other):
    life = process.open_as("worker", ["b", "a"])
    id_ = life.incarnation.id
    with other.read() as connection:
        (view,) = incarnations.alive(connection)
    process.close()

    assert (view.id, view.kind, view.queues) == (id_, "worker", ("a", "b"))
    assert (view.pid, view.host, view.version) == (os.getpid(), hostname(), __version__)
    (row,) = lives(other)
    assert row["end"] == "left"
    assert row["ended_at"] >= row["started_at"]


def test_the_heart_beats(other):
    id_ = process.current().incarnation.id

    until(lambda: lives(other)[0]["heartbeat"] >= 3)
    (row,) = lives(other)
    assert row["id"] == id_
    assert row["beat_at"] > row["started_at"]


def test_the_lock_file_is_there_for_as_long_as_the_life(home):
    life = process.current().incarnation
    path = lock_path(home / "run", life.id)
    there = path.exists()
    process.close()

    assert (there, path.exists()) == (True, False)


def test_what_is_still_owed_is_released_on_leaving(other):
    life = process.current()
    task = NewTask("t", "a", "q", "{}", "{}", 0, None, NOW)
    life.ledger.write(partial(accept.accept, task=task, owner=life.incarnation.id))
    process.close()

    with other.read() as connection:
        assert queries.get(connection, "t").state is State.QUEUED


def test_whoever_asks_after_the_end_gets_a_new_one(home):
    first = process.current()
    process.close()
    second = process.current()

    assert second is not first
    assert (first.ended, second.ended) == (True, False)
    assert second.ledger.write(lambda _tx: "stored") == "stored"


def test_whoever_asks_after_a_process_has_left_gets_none(home, monkeypatch):
    monkeypatch.setattr(process, "_left", False)  # and is put back after the test
    first = process.current()
    process.leave()

    with pytest.raises(LedgerError, match="this process is leaving"):
        process.current()
    with pytest.raises(LedgerBusy, match="closing"):
        first.ledger.write(lambda _tx: "too late")


def test_a_process_that_says_late_what_it_is_begins_anew_as_that(other):
    script = process.current()
    first = script.incarnation.id
    worker = process.open_as("worker")
    second = worker.incarnation.id

    assert (worker.kind, worker is process.current(), script.ended) == ("worker", True, True)
    assert process.open_as("worker") is worker
    assert [(row["id"], row["kind"], row["end"]) for row in lives(other)] == [
        (first, "script", "left"),
        (second, "worker", None),
    ]


def test_whoever_was_buried_never_beats_again_and_begins_a_new_life(other):
    old = process.current()
    first = old.incarnation
    other.write(partial(bury.bury, incarnation=first.id, now=NOW, death=Death.STOPPED))
    new = until(lambda: (found := process.current()) is not old and found)

    assert first.dead.is_set()
    assert old.ended
    assert new.incarnation.id != first.id
    assert new.ledger.write(lambda _tx: "stored") == "stored"
    beats = lives(other)[0]["heartbeat"]
    until(lambda: lives(other)[1]["heartbeat"] >= 3)
    dead, alive = lives(other)
    assert (dead["id"], dead["end"], dead["heartbeat"]) == (first.id, "silent", beats)
    assert (alive["id"], alive["end"]) == (new.incarnation.id, None)


def test_whoever_was_buried_is_told_and_leaves_nothing_open(other):
    told = threading.Event()
    old = process.current()
    old.after_burial(told.set)
    old.pulse.listen()
    life = old.incarnation
    other.write(partial(bury.bury, incarnation=life.id, now=NOW, death=Death.STOPPED))

    assert told.wait(PATIENCE_S)
    until(lambda: not lock_path(old.settings.data_dir / "run", life.id).exists())
    until(lambda: running("ledger-writer") == 1)
    assert (running("pulse"), running("heart")) == (0, 0)
    with pytest.raises(LedgerBusy, match="closing"):
        old.ledger.submit(lambda _tx: None)


def test_a_worker_that_was_buried_works_on_with_all_that_a_worker_does(home, other):
    """It tells again what it can run, and finds again what it lost."""
    subprocess.run([sys.executable, "-c", BURIED], cwd=ROOT, timeout=60, check=True)

    dead, alive = lives(other)
    assert (dead["end"], alive["end"], alive["kind"]) == ("silent", "left", "worker")
    with other.read() as connection:
        assert queries.get(connection, "lost").state is State.QUEUED


def test_leaving_while_the_ledger_is_locked_closes_all_the_same(other, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(commit, "GIVE_UP_S", 0.1)
    life = process.current()
    path = lock_path(life.settings.data_dir / "run", life.incarnation.id)
    lock = other.connect()
    with lock.transaction():
        process.close()
        process.close()
    lock.close()

    assert (life.ended, path.exists(), is_gone(path)) == (True, False, False)
    assert (running("ledger-writer"), running("heart")) == (1, 0)
    assert [row["end"] for row in lives(other)] == [None]


def test_a_database_that_was_not_migrated_is_refused_and_may_be_migrated_then(folder):
    with pytest.raises(LedgerTooOld, match="postlude migrate"):
        process.current()
    migrate.upgrade(load())

    assert process.current().ledger.write(lambda _tx: "stored") == "stored"


def test_a_bad_setting_opens_nothing(home, monkeypatch):
    monkeypatch.setenv("POSTLUDE_WORKERS", "none")

    with pytest.raises(SettingsError, match="POSTLUDE_WORKERS"):
        process.current()
    assert process._current is None


def fork(parent: str) -> list[str]:
    """Run FORK and return what its children said."""
    done = subprocess.run(
        [sys.executable, "-c", FORK, parent],
        cwd=ROOT,
        env=os.environ | {"POSTLUDE_HEARTBEAT": "20ms"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def stored(ledger) -> list[str]:
    with ledger.read() as connection:
        found = connection.exec_driver_sql("SELECT id FROM postlude_tasks ORDER BY seq")
        return list(found.scalars())


def test_a_forked_child_may_not_use_its_parents_ledger_and_the_parents_goes_on(home, other):
    """SQLite keeps its locks in memory that a child inherits without the locks: rows were lost."""
    said = fork("open")

    assert len(said) == 2
    for line in said:
        assert line.startswith("LedgerError this process was forked from one that has the ledger")
        assert "'spawn'" in line
    assert stored(other) == ["before", "afterwards"]
    assert [row["end"] for row in lives(other)] == ["left"]


def test_a_child_that_is_forked_before_the_ledger_is_opened_has_its_own(home, other):
    assert fork("not open") == []
    assert stored(other) == ["by the child"]
