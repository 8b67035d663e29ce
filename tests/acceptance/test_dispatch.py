"""The promise of a response, held against real servers and workers that are killed (G1, G2, G3)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import tasks as queries
from postlude.settings import load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_S = 30


class Program:
    """A process of its own, whose output can be waited for."""

    def __init__(self, folder, *command, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={
                **os.environ,
                "POSTLUDE_DATA_DIR": str(folder / "var"),
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()

    def wait_for(self, pattern):
        def found():
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self._more:
            assert self._more.wait_for(found, PATIENCE_S), f"no {pattern!r} in {self.lines}"
        return found()

    def kill(self):
        """Kill it and all that it has started, as if the machine had lost power for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.process.stdout.close()


class Place:
    """A folder with a ledger, and the processes that share it."""

    def __init__(self, folder):
        self.folder = folder
        self.settings = load(data_dir=folder / "var")
        migrate.upgrade(self.settings)
        self.ledger = Ledger(self.settings)
        self._programs = []

    def api(self, **environment):
        command = ("uvicorn", "dispatching:app", "--port", "0")
        program = self._start(*command, **environment)
        program.url = program.wait_for(r"running on (http://\S+)")[1]
        return program

    def worker(self):
        return self._start("dramatiq", "dispatching", "-p", "1", "-t", "4")

    def _start(self, *command, **environment):
        self._programs.append(Program(self.folder, *command, **environment))
        return self._programs[-1]

    def ran(self):
        file = self.folder / "ran"
        return file.read_text().split() if file.exists() else []

    def tasks(self):
        """Return word, state and reason of each task."""
        with self.ledger.read() as connection:
            views, _ = queries.page(connection, limit=500)
        return {view.arguments["word"]: (str(view.state), view.reason) for view in views}

    def close(self):
        for program in self._programs:
            program.kill()
        self.ledger.close()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.close()


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_task_waits_for_the_end_of_its_response_and_runs_although_the_server_is_killed(place):
    api = place.api()
    place.worker()

    with httpx2.stream("POST", f"{api.url}/stream/promised", timeout=PATIENCE_S) as response:
        next(response.iter_lines())
        assert httpx2.post(f"{api.url}/good/other").status_code == 200
        until(lambda: place.ran() == ["other"])
        assert place.tasks()["promised"] == ("accepted", None)
        api.kill()

    until(lambda: "promised" in place.ran())
    assert place.ran() == ["other", "promised"]


def test_a_task_whose_request_was_not_answered_or_failed_never_runs(place):
    api = place.api()
    with ThreadPoolExecutor(1) as client:
        unanswered = client.submit(httpx2.post, f"{api.url}/hold/unanswered", timeout=PATIENCE_S)
        api.wait_for("holding")
        assert httpx2.post(f"{api.url}/bad/failed").status_code == 418
        api.kill()
        assert isinstance(unanswered.exception(), httpx2.TransportError)

    api = place.api()
    place.worker()
    assert httpx2.post(f"{api.url}/good/marker").status_code == 200

    until(lambda: place.tasks() == {"marker": ("succeeded", None)})
    assert place.ran() == ["marker"]


def test_every_task_that_a_client_was_told_of_runs_although_the_server_is_killed_under_load(place):
    api = place.api()
    told = []

    def send(number):
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.post(f"{api.url}/good/{number}", timeout=PATIENCE_S).status_code == 200:
                told.append(str(number))

    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(send, number) for number in range(400)]
        until(lambda: len(told) >= 100)
        api.kill()
        for future in sent:
            future.cancel()
    place.worker()

    assert len(told) < 400
    until(lambda: set(told) <= set(place.ran()))
    until(lambda: {state for state, _ in place.tasks().values()} == {"succeeded"})


def test_a_request_that_meets_a_locked_ledger_is_told_so_and_its_task_never_runs(place):
    api = place.api(POSTLUDE_WRITE_TIMEOUT="300ms")
    place.worker()
    assert httpx2.post(f"{api.url}/good/first").status_code == 200
    until(lambda: place.ran() == ["first"])

    with contextlib.closing(place.ledger.connect()) as connection, connection.transaction():
        response = httpx2.post(f"{api.url}/good/refused", timeout=PATIENCE_S)
    assert httpx2.post(f"{api.url}/good/last").status_code == 200

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert response.headers["content-type"] == "application/problem+json"
    until(lambda: place.ran() == ["first", "last"])
    assert set(place.tasks()) == {"first", "last"}
