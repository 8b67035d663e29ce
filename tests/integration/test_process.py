"""What a process has one of: made on first use, anew after a fork and after somebody declared it dead."""

from __future__ import annotations

import json
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
from postlude.errors import LedgerTooOld, SettingsError
from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import incarnations
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, bury
from postlude.settings import load, settings
from postlude.states import State
from postlude.worker.incarnation import hostname, lock_path

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 20
FORK = """
import json, os, sys
from datetime import datetime, UTC
from functools import partial
from postlude import process
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept

def store(name):
    now = datetime.now(UTC)
    task = NewTask(name, "a", "q", "{}", "{}", 0, None, now)
    return process.current().ledger.write(partial(accept.enqueue, task=task, now=now))

store("before")
parent = process.current()
mine = parent.incarnation.id
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    try:
        store("by the child")
        own = process.current()
        facts = {"own": own is not parent, "life": own.incarnation.id, "ended": parent.ended}
        os.write(writer, json.dumps(facts).encode())
        process.close()
    finally:
        os._exit(0)
_, status = os.waitpid(child, 0)
store("afterwards")
same = process.current() is parent and parent.incarnation.id == mine and not parent.incarnation.dead.is_set()
print(json.dumps({"status": status, "mine": mine, "same": same, **json.loads(os.read(reader, 9999))}))
process.close()
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
    other.write(partial(bury.bury, incarnation=first.id, now=NOW, proven=False))
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
    first.leave()


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


def test_after_a_fork_the_child_has_its_own_and_the_parents_still_works(home, other):
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        cwd=ROOT,
        env=os.environ | {"POSTLUDE_HEARTBEAT": "5s", "POSTLUDE_LEASE": "30s"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    facts = json.loads(done.stdout)
    assert (facts["status"], facts["own"], facts["ended"], facts["same"]) == (0, True, True, True)
    assert [(row["id"], row["end"]) for row in lives(other)] == [
        (facts["mine"], "left"),
        (facts["life"], "left"),
    ]
    with other.read() as connection:
        stored = connection.exec_driver_sql("SELECT id FROM postlude_tasks ORDER BY seq").scalars()
        assert list(stored) == ["before", "by the child", "afterwards"]
