"""What these tests share: a ledger, a worker, an impatient ledger, and the README's tables."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dramatiq
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import postlude
from postlude import process
from postlude.ledger import clock, migrate
from postlude.ledger.queries import tasks as queries
from postlude.ledger.transitions.cancel import cancel_queue
from postlude.settings import load, settings
from postlude.states import State

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
QUEUE = "fidelity-kept"


@dramatiq.actor(actor_name="fidelity-keep", queue_name=QUEUE)
def _keep(x: int = 0, y: int = 0) -> None:
    """Stays where it is: the worker of these tests does not serve its queue."""


@pytest.fixture
def keep():
    return _keep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data folder of a ledger for all tests of a module."""
    folder = tmp_path_factory.mktemp("fidelity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTLUDE_DATA_DIR", str(folder))
        patch.syspath_prepend(str(HERE))
        _begin_anew()
        migrate.upgrade(load())
        yield folder
        _begin_anew()


def _begin_anew():
    process.close()
    settings.cache_clear()


class Ledger:
    """The ledger of this process, as a test looks at it."""

    def write(self, transition, **arguments):
        return process.current().ledger.write(partial(transition, **arguments))

    def read(self):
        return process.current().ledger.read()

    def view(self, task_id):
        with self.read() as connection:
            return queries.get(connection, task_id)

    def outcomes(self, task_id):
        return [attempt.outcome for attempt in self.attempts(task_id)]

    def attempts(self, task_id):
        with self.read() as connection:
            return queries.attempts(connection, task_id)

    def ended(self, message):
        """Return the task once it is in a final state."""
        return until(lambda: (found := self.view(message.message_id)).finished_at and found)

    def released(self, task_id):
        """Return the task's state once its release is stored, for which no response waits."""
        until(lambda: self.view(task_id).state is not State.ACCEPTED)
        return self.view(task_id).state

    @contextmanager
    def locked(self):
        """Hold the write lock while nobody waits for longer than a quarter of a second."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POSTLUDE_WRITE_TIMEOUT", "250ms")
            _begin_anew()
            connection = process.open_as("api").ledger.connect()
            try:
                with connection.transaction():
                    yield
            finally:
                connection.close()
        _begin_anew()


@pytest.fixture
def ledger(folder):
    process.open_as("api")
    ledger = Ledger()
    yield ledger
    ledger.write(cancel_queue, queue=QUEUE, now=clock.now())


@pytest.fixture(scope="module")
def actors(folder):
    import fidelity_actors

    return fidelity_actors


@pytest.fixture(scope="module")
def start(folder, actors):
    """Starts a worker for a queue of ``actors`` and returns when it is ready."""
    workers = []

    def start(queue=actors.STOPPING, **variables):
        log = folder / f"worker{len(workers)}.log"
        program = str(Path(sys.executable).with_name("dramatiq"))
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [program, "fidelity_actors", "-p", "1", "-t", "2", "-Q", queue],
                env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}", **variables},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker.log = log
        workers.append(worker)
        until(lambda: "worker.ready" in log.read_text() or worker.poll() is not None)
        assert worker.poll() is None, log.read_text()
        return worker

    yield start
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(10)


@pytest.fixture(scope="module")
def worker(start):
    return start("default")


@pytest.fixture
def post():
    """Posts to an app of one endpoint; returns its response."""

    def post(endpoint, *, installed=True, strict=False):
        app = FastAPI()
        if installed:
            postlude.install(app)
        app.post("/")(endpoint)
        return TestClient(app, raise_server_exceptions=strict).post("/")

    return post


def until(condition, seconds=20):
    """Return what ``condition`` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


@pytest.fixture(name="until")
def until_fixture():
    return until


@pytest.fixture
def lines():
    """Returns the first cell of each line of one of the README's tables of differences."""

    def lines(title):
        table = (ROOT / "README.md").read_text().partition(f"\n| {title}")[2]
        body = table.partition("|---|---|\n")[2].partition("\n\n")[0]
        return [re.split(r" \| |\| ", line)[1] for line in body.splitlines()]

    return lines
