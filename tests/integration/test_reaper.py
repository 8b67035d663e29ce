"""The reaper against real processes: who is dead, who is only silent, and what becomes of their tasks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import incarnations
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, bury, claim, incarnation, outcome
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy.crash import Death
from postlude.process import Process
from postlude.settings import load
from postlude.states import State
from postlude.worker.incarnation import hostname, is_gone, lock_path
from postlude.worker.reaper import Reaper

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 30
LEASE = "300ms"
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
elif life.kind == "desk":
    import dramatiq
    import postlude
    from postlude.broker import broker
    from postlude.broker.desk import open_desk

    dramatiq.actor(lambda: None, actor_name="a", queue_name="q")
    desk = open_desk(4)
    take = partial(claim.claim, queue="q", actors=["a"], owner=me, token=me, now=now, limit=9)
    first, *_ = desk.claim(broker(), take)
    first.begin()
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

    def freeze(self, ledger: Ledger) -> None:
        """Stop it when it cannot have the write lock, which it would keep."""
        ledger.write(lambda _tx: self._stop())

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)  # all of its threads

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
def observer(tmp_path, ledger):
    """Makes a reaper of a life of its own."""
    lives = []

    def make(lease: str = "1h") -> Reaper:
        own = load(data_dir=tmp_path, heartbeat="20ms", lease=lease)
        lives.append(Process(own, "scheduler"))
        return Reaper(lives[-1])

    yield make
    for life in lives:
        life.close()


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


def take(ledger, *, suspects: int = 0, owner: str = "successor"):
    return ledger.write(
        partial(
            claim.claim,
            queue="q",
            actors=["a"],
            owner=owner,
            token=owner,
            now=NOW,
            limit=9,
            suspects=suspects,
        )
    )


def appear(ledger, id_: str) -> None:
    """Put somebody there who says to be this very process."""
    ledger.write(
        partial(
            incarnation.appear,
            incarnation=id_,
            kind="worker",
            host=hostname(),
            pid=os.getpid(),
            version="1",
            queues=[],
            now=NOW,
        )
    )


def test_the_kernel_proves_a_death_at_once_and_a_life_as_long_as_it_lasts(ledger, neighbour):
    worker = neighbour()
    alive = is_gone(worker.lock)
    worker.freeze(ledger)
    frozen = is_gone(worker.lock)
    worker.kill()

    assert (alive, frozen, is_gone(worker.lock)) == (False, False, True)


def test_a_lock_that_was_never_there_proves_nothing(tmp_path):
    assert is_gone(tmp_path / "nobody.lock") is False


def test_where_the_kernel_cannot_be_asked_it_proves_nothing(tmp_path):
    assert is_gone(tmp_path) is False


def test_what_a_killed_worker_held_runs_again_as_suspect(ledger, observer, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    held = view(ledger, "mail")
    worker.kill()

    assert observer().look() == 1

    assert (held.state, held.holder) == (State.RUNNING, worker.id)
    assert (view(ledger, "mail").state, view(ledger, "mail").crashes) == (State.QUEUED, 0)
    assert take(ledger, suspects=False) == []
    assert [task.id for task in take(ledger, suspects=True)] == ["mail"]
    assert life(ledger, worker.id)["end"] == "died"
    assert not worker.lock.exists()


def test_of_what_a_killed_worker_held_what_it_had_begun_is_suspect(ledger, observer, neighbour):
    enqueue(ledger, "begun", "held", "held too")
    worker = neighbour("desk")
    before = [view(ledger, id_).state for id_ in ("begun", "held", "held too")]
    worker.kill()
    observer().look()

    assert before == [State.RUNNING] * 3
    assert [task.id for task in take(ledger, suspects=True)] == ["begun"]
    assert [task.id for task in take(ledger)] == ["held", "held too"]


def test_a_worker_that_hangs_makes_suspects_of_what_it_had_begun(
    ledger, observer, neighbour, monkeypatch
):
    enqueue(ledger, "begun", "held")
    worker = neighbour("desk")
    worker.freeze(ledger)  # as silent as one whose thread keeps the interpreter's lock
    monkeypatch.setattr("postlude.worker.reaper.is_stopped", lambda _pid: False)
    until(observer(LEASE).look)

    assert life(ledger, worker.id)["end"] == "silent"
    assert [task.id for task in take(ledger, suspects=True)] == ["begun"]
    assert [task.id for task in take(ledger)] == ["held"]


def test_who_is_held_by_one_dead_worker_after_the_other_is_suspect_unbegun(ledger):
    """Something may kill a worker before it can write down that it has begun."""
    enqueue(ledger, "deadly")
    for number, suspicion in enumerate([0, 0, 0, 1, 2]):
        worker = f"worker {number}"
        appear(ledger, worker)
        taken = take(ledger, owner=worker, suspects=suspicion)
        assert [(task.id, task.suspect) for task in taken] == [("deadly", suspicion)]
        end = partial(bury.bury, incarnation=worker, now=NOW, death=Death.PROVEN, begun=())
        ledger.write(end)


def test_of_reapers_that_look_at_once_one_buries_the_dead(ledger, observer, neighbour):
    enqueue(ledger, "mail", "file")
    neighbour().kill()
    reapers = [observer() for _ in range(4)]
    go, buried = threading.Barrier(len(reapers)), []

    def look(each: Reaper) -> None:
        go.wait()
        buried.append(each.look())

    threads = [threading.Thread(target=look, args=(each,)) for each in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(buried) == 1
    with ledger.read() as connection:
        for id_ in ("mail", "file"):
            assert [a.outcome for a in queries.attempts(connection, id_)] == ["worker-died"]
            assert queries.get(connection, id_).attempts == 1


def test_a_task_that_a_killed_api_has_accepted_is_released_and_runs(ledger, observer, neighbour):
    api = neighbour("api")
    before = view(ledger, "promised").state
    early = observer().look()
    api.kill()
    observer().look()
    (held,) = take(ledger, suspects=False)
    done = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW)

    assert (before, early, held.id, held.attempt) == (State.ACCEPTED, 0, "promised", 1)
    assert ledger.write(partial(outcome.finish, task=held, outcome=done, worker="successor"))
    assert view(ledger, "promised").state is State.SUCCEEDED


def test_whoever_beats_is_left_alone_however_often_one_looks(ledger, observer, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    looking = observer(LEASE)
    looking.look()
    beats = life(ledger, worker.id)["heartbeat"]

    until(lambda: looking.look() or life(ledger, worker.id)["heartbeat"] > beats + 10)

    assert life(ledger, worker.id)["ended_at"] is None
    assert view(ledger, "mail").state is State.RUNNING


def test_whoever_is_silent_for_the_lease_is_dead_and_nobody_is_accused(ledger, observer, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    worker.freeze(ledger)
    looking = observer(LEASE)
    started = time.monotonic()

    until(looking.look)

    assert time.monotonic() - started >= 0.3
    assert life(ledger, worker.id)["end"] == "silent"
    assert [(task.id, task.suspect) for task in take(ledger, suspects=False)] == [("mail", False)]


def test_whoever_wakes_up_buried_never_beats_again(ledger, observer, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    worker.freeze(ledger)
    until(observer(LEASE).look)
    dead = life(ledger, worker.id)
    worker.kill(signal.SIGCONT)
    worker.leave()

    assert life(ledger, worker.id) == dead
    assert view(ledger, "mail").state is State.QUEUED


def test_whoever_leaves_in_order_is_not_buried_and_nobody_is_accused(ledger, observer, neighbour):
    enqueue(ledger, "mail")
    worker = neighbour()
    worker.leave()

    assert observer().look() == 0
    assert life(ledger, worker.id)["end"] == "left"
    assert [(task.id, task.suspect) for task in take(ledger, suspects=False)] == [("mail", False)]
    assert not worker.lock.exists()


def test_a_former_life_with_our_pid_is_dead(ledger, observer, tmp_path):
    """A container that was killed and started again has the same host name and the same pids."""
    looking = observer()
    appear(ledger, "former")
    lock_path(tmp_path / "run", "former").touch()
    enqueue(ledger, "mail")
    take(ledger, owner="former")

    assert looking.look() == 1
    assert view(ledger, "mail").state is State.QUEUED


def test_a_process_with_a_new_host_name_does_not_bury_itself(ledger, observer, monkeypatch):
    looking, other = observer(), observer()
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")

    assert (looking.look(), other.look()) == (0, 0)
    with ledger.read() as connection:
        assert len(incarnations.alive(connection)) == 2


@pytest.mark.parametrize("state", [State.RUNNING, State.ACCEPTED])
def test_what_the_buried_took_before_they_knew_is_taken_back(ledger, observer, state):
    """A frozen process that wakes up goes on for up to a heartbeat."""
    looking = observer()
    appear(ledger, "late")
    ledger.write(partial(bury.bury, incarnation="late", now=NOW, death=Death.STOPPED))
    if state is State.RUNNING:
        enqueue(ledger, "mail")
        take(ledger, owner="late")
    else:
        task = NewTask("mail", "a", "q", "{}", "{}", 0, None, NOW)
        ledger.write(partial(accept.accept, task=task, owner="late"))
    before = view(ledger, "mail").state
    looking.look()

    assert (before, view(ledger, "mail").state) == (state, State.QUEUED)
    assert [task.id for task in take(ledger)] == ["mail"]


def test_what_the_living_hold_and_owe_is_left_alone(ledger, observer, neighbour):
    enqueue(ledger, "mail")
    neighbour("worker")
    neighbour("api")
    looking = observer()

    assert (looking.look(), looking.look()) == (0, 0)
    states = (view(ledger, "mail").state, view(ledger, "promised").state)
    assert states == (State.RUNNING, State.ACCEPTED)
