"""The reaper against real processes: who is dead, who is only silent, and what becomes of their tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, claim, outcome
from postlude.ledger.transitions.outcome import Outcome
from postlude.settings import load
from postlude.states import State
from postlude.worker.incarnation import is_gone, lock_path
from postlude.worker.reaper import Reaper

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 30
LEASE = timedelta(milliseconds=300)
LONG = timedelta(hours=1)
LIFE = """
import sys
from datetime import datetime, UTC
from functools import partial
from postlude import process
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, claim

now = datetime.now(UTC)
life = process.open_as(sys.argv[1])
me = life.incarnation.id
if life.kind == "worker":
    take = partial(claim.claim, queue="q", actors=["a"], owner=me, token=me, now=now, limit=9)
    life.ledger.write(take)
else:
    task = NewTask("promised", "a", "q", "{}", "{}", 0, None, now)
    life.ledger.write(partial(accept.accept, task=task, owner=me))
print(me, flush=True)
sys.stdin.readline()
process.close()
"""


class Neighbour:
    """Another process with a life of its own in the same ledger."""

    def __init__(self, folder: Path, kind: str) -> None:
        variables = {"DATA_DIR": str(folder), "HEARTBEAT": "20ms", "LEASE": "1h"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LIFE, kind],
            cwd=ROOT,
            env=os.environ | {f"POSTLUDE_{name}": value for name, value in variables.items()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.id = self.process.stdout.readline().strip()
        assert self.id
        self.lock = lock_path(folder / "run", self.id)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(PATIENCE_S)

    def leave(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def ledger(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


@pytest.fixture
def neighbour(tmp_path, ledger):
    """Starts another process: a worker that holds every queued task, or an API that owes one."""
    started = []

    def start(kind: str = "worker") -> Neighbour:
        started.append(Neighbour(tmp_path, kind))
        return started[-1]

    yield start
    for each in started:
        each.end()


def reaper(ledger, tmp_path, lease: timedelta = LONG) -> Reaper:
    return Reaper(ledger, lease=lease, folder=tmp_path / "run")


def enqueue(ledger, *ids: str) -> None:
    for id_ in ids:
        task = NewTask(id_, "a", "q", "{}", "{}", 0, None, NOW)
        ledger.write(partial(accept.enqueue, task=task, now=NOW))


def view(ledger, id_: str):
    with ledger.read() as connection:
        return queries.get(connection, id_)


def life(ledger, id_: str) -> dict:
    with ledger.read() as connection:
        query = "SELECT * FROM postlude_incarnations WHERE id = ?"
        return dict(connection.exec_driver_sql(query, (id_,)).mappings().one())


def until(condition):
    """Return what ``condition`` returns once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return found


def take(ledger, *, suspects: bool):
    return ledger.write(
        partial(
            claim.claim,
            queue="q",
            actors=["a"],
            owner="successor",
            token="new",
            now=NOW,
            limit=9,
            suspects=suspects,
        )
    )


def test_the_kernel_proves_a_death_at_once_and_a_life_as_long_as_it_lasts(neighbour):
    worker = neighbour()
    alive = is_gone(worker.lock)
    worker.kill(signal.SIGSTOP)
    frozen = is_gone(worker.lock)
    worker.kill()

    assert (alive, frozen, is_gone(worker.lock)) == (False, False, True)


def test_a_lock_that_was_never_there_proves_nothing(tmp_path):
    assert is_gone(tmp_path / "nobody.lock") is False


def test_what_a_killed_worker_held_runs_again_as_suspect(ledger, tmp_path, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    held = view(ledger, "mail")
    worker.kill()

    assert reaper(ledger, tmp_path).look() == 1

    assert (held.state, held.holder) == (State.RUNNING, worker.id)
    assert (view(ledger, "mail").state, view(ledger, "mail").crashes) == (State.QUEUED, 0)
    assert take(ledger, suspects=False) == []
    assert [task.id for task in take(ledger, suspects=True)] == ["mail"]
    assert life(ledger, worker.id)["end"] == "died"
    assert not worker.lock.exists()


def test_of_reapers_that_look_at_once_one_buries_the_dead(ledger, tmp_path, neighbour):
    enqueue(ledger, "mail", "file")
    neighbour().kill()
    other = Ledger(load(data_dir=tmp_path))
    reapers = [reaper(each, tmp_path) for each in (ledger, other) * 3]
    go, buried = threading.Barrier(len(reapers)), []

    def look(each: Reaper) -> None:
        go.wait()
        buried.append(each.look())

    threads = [threading.Thread(target=look, args=(each,)) for each in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    assert sum(buried) == 1
    with ledger.read() as connection:
        for id_ in ("mail", "file"):
            assert [a.outcome for a in queries.attempts(connection, id_)] == ["worker-died"]
            assert queries.get(connection, id_).attempts == 1


def test_a_task_that_a_killed_api_has_accepted_is_released_and_runs(ledger, tmp_path, neighbour):
    api = neighbour("api")
    before = view(ledger, "promised").state
    early = reaper(ledger, tmp_path).look()
    api.kill()
    reaper(ledger, tmp_path).look()
    (held,) = take(ledger, suspects=False)
    done = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW)

    assert (before, early, held.id, held.attempt) == (State.ACCEPTED, 0, "promised", 1)
    assert ledger.write(partial(outcome.finish, task=held, outcome=done, worker="successor"))
    assert view(ledger, "promised").state is State.SUCCEEDED


def test_whoever_beats_is_left_alone_however_often_one_looks(ledger, tmp_path, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    looking = reaper(ledger, tmp_path, LEASE)
    looking.look()
    beats = life(ledger, worker.id)["heartbeat"]

    until(lambda: looking.look() or life(ledger, worker.id)["heartbeat"] > beats + 10)

    assert life(ledger, worker.id)["ended_at"] is None
    assert view(ledger, "mail").state is State.RUNNING


def test_whoever_is_silent_for_the_lease_is_dead_and_nobody_is_accused(ledger, tmp_path, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    worker.kill(signal.SIGSTOP)
    looking = reaper(ledger, tmp_path, LEASE)
    started = time.monotonic()

    until(looking.look)

    assert time.monotonic() - started >= LEASE.total_seconds()
    assert life(ledger, worker.id)["end"] == "silent"
    assert [(task.id, task.suspect) for task in take(ledger, suspects=False)] == [("mail", False)]


def test_whoever_wakes_up_buried_never_beats_again(ledger, tmp_path, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    worker.kill(signal.SIGSTOP)
    until(reaper(ledger, tmp_path, LEASE).look)
    dead = life(ledger, worker.id)
    worker.kill(signal.SIGCONT)
    worker.leave()

    assert life(ledger, worker.id) == dead
    assert view(ledger, "mail").state is State.QUEUED


def test_whoever_leaves_in_order_is_not_buried_and_nobody_is_accused(ledger, tmp_path, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    worker.leave()

    assert reaper(ledger, tmp_path).look() == 0
    assert life(ledger, worker.id)["end"] == "left"
    assert [(task.id, task.suspect) for task in take(ledger, suspects=False)] == [("mail", False)]
    assert not worker.lock.exists()
