"""The promise of a response, held against real servers and workers that are killed (G1, G2, G3)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
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

    def api(self, app="dispatching:app", **environment):
        command = ("uvicorn", app, "--port", "0")
        program = self._start(*command, **environment)
        program.url = program.wait_for(r"running on (http://\S+)")[1]
        return program

    def worker(self, module="dispatching"):
        return self._start("dramatiq", module, "-p", "1", "-t", "4")

    def _start(self, *command, **environment):
        self._programs.append(Program(self.folder, *command, **environment))
        return self._programs[-1]

    def ran(self):
        file = self.folder / "ran"
        return file.read_text().split() if file.exists() else []

    def views(self):
        with self.ledger.read() as connection:
            return queries.page(connection, limit=500)[0]

    def tasks(self):
        """Return word, state and reason of each task."""
        return {view.arguments["word"]: (str(view.state), view.reason) for view in self.views()}

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


def test_a_composition_is_promised_as_a_whole_although_the_server_is_killed(place):
    api = place.api()
    place.worker()

    with httpx2.stream("POST", f"{api.url}/composed/w", timeout=PATIENCE_S) as response:
        next(response.iter_lines())
        states = {word: state for word, (state, _) in place.tasks().items()}
        assert states == {
            "w": "accepted",
            "w-then": "waiting",
            "w-beside": "accepted",
            "w-complete": "waiting",
        }
        api.kill()

    until(lambda: "w-complete" in place.ran())
    assert place.ran()[-1] == "w-complete"
    assert sorted(place.ran()) == ["w", "w-beside", "w-complete", "w-then"]
    assert place.ran().index("w") < place.ran().index("w-then")


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


def keyed(api, path, key, **request):
    headers = {"idempotency-key": key} | request.pop("headers", {})
    return httpx2.post(f"{api.url}{path}", headers=headers, timeout=PATIENCE_S, **request)


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/send-notification/ada@example.com?q=orders", {}),
        ("/v1/actors/write_log/tasks", {"json": {"args": {"message": "Hello"}}}),
        ("/files", {"files": {"file": ("names.txt", b"Ada\nGrace\n")}}),
    ],
    ids=["notification", "task", "file"],
)
def test_a_server_killed_between_commit_and_answer_gives_the_answer_when_it_is_asked_again(
    place, path, request_
):
    api = place.api("withheld:app")
    with ThreadPoolExecutor(1) as client:
        unanswered = client.submit(keyed, api, path, "k", headers={"x-withhold": "1"}, **request_)
        api.wait_for("withheld")
        api.kill()
        assert isinstance(unanswered.exception(), httpx2.TransportError)
    before = [view.id for view in place.views()]

    api = place.api("withheld:app")
    again = keyed(api, path, "k", **request_)
    place.worker("actors")

    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    body = again.json()
    assert before == [task["id"] for task in body.get("tasks", [body])][::-1]
    until(lambda: {str(view.state) for view in place.views()} == {"succeeded"})
    assert [(view.id, view.attempts) for view in place.views()] == [(id_, 1) for id_ in before]
    if path == "/files":
        assert httpx2.get(f"{api.url}{body['file']['url']}").json()["state"] == "processed"


def test_whatever_was_asked_of_a_server_that_is_killed_under_load_may_be_asked_again(place):
    told, keys = {}, [f"key-{number}" for number in range(300)]
    web = httpx2.Client(timeout=PATIENCE_S)

    def send(api, key):
        url, body = f"{api.url}/v1/actors/write_log/tasks", {"args": {"message": key}}
        with contextlib.suppress(httpx2.TransportError):
            answer = web.post(url, json=body, headers={"idempotency-key": key})
            told.setdefault(key, []).append(answer.json()["id"])

    with web, ThreadPoolExecutor(8) as clients:
        api = place.api("withheld:app")
        sent = [clients.submit(send, api, key) for key in keys]
        until(lambda: len(told) >= 100)
        api.kill()
        wait(sent)
        assert len(told) < len(keys)
        api = place.api("withheld:app")
        list(clients.map(send, [api] * len(keys), keys))
    place.worker("actors")

    assert told.keys() == set(keys)
    assert {key: len(set(ids)) for key, ids in told.items()} == dict.fromkeys(keys, 1)
    until(lambda: {str(view.state) for view in place.views()} == {"succeeded"})
    ran = {view.id: view.arguments["message"] for view in place.views()}
    assert ran == {ids[0]: key for key, ids in told.items()}


# --- bound to a session: its commit decides, not the response


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_committed_task_runs_although_the_server_is_killed_before_it_has_answered(place, kind):
    api = place.api("bound:app")
    with ThreadPoolExecutor(1) as client:
        unanswered = client.submit(httpx2.post, f"{api.url}/{kind}/held/word", timeout=PATIENCE_S)
        api.wait_for("holding")
        place.worker("bound")
        assert httpx2.post(f"{api.url}/{kind}/good/other").status_code == 200
        until(lambda: place.ran() == ["other"])
        assert place.tasks()["word"] == ("accepted", None)
        api.kill()
        assert isinstance(unanswered.exception(), httpx2.TransportError)

    until(lambda: place.tasks()["word"] == ("succeeded", None))
    assert place.ran() == ["other", "word"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_neither_order_nor_task_is_there_if_the_server_is_killed_before_the_commit(place, kind):
    api = place.api("bound:app")
    with ThreadPoolExecutor(1) as client:
        unanswered = client.submit(httpx2.post, f"{api.url}/{kind}/open/word", timeout=PATIENCE_S)
        api.wait_for("holding")
        api.kill()
        assert isinstance(unanswered.exception(), httpx2.TransportError)

    api = place.api("bound:app")
    place.worker("bound")
    assert httpx2.post(f"{api.url}/{kind}/good/marker").status_code == 200

    until(lambda: place.tasks() == {"marker": ("succeeded", None)})
    assert httpx2.get(f"{api.url}/orders").json() == ["marker"]
    assert place.ran() == ["marker"]


FATES = [
    (f"{kind}/{fate}", {"failed": 418}.get(fate, 200))
    for kind in ("sync", "async", "unbound")
    for fate in ("good", "failed", "undone")
    if (kind, fate) != ("unbound", "failed")
]
KEPT = ("sync/good", "sync/failed", "async/good", "async/failed")


def test_two_hundred_requests_at_once_bound_and_not_keep_orders_and_tasks_together(place):
    api = place.api("bound:app", POSTLUDE_WRITE_TIMEOUT="60s")
    place.worker("bound")
    requests = [(*FATES[n % len(FATES)], n) for n in range(200)]

    statuses = asyncio.run(_post_all(api.url, requests))

    orders = {str(n) for path, _, n in requests if path in KEPT}
    words = {f"{n}-{path.split('/')[1]}" for path, _, n in requests if path.startswith("unbound")}
    assert statuses == [status for _, status, _ in requests]
    assert set(httpx2.get(f"{api.url}/orders").json()) == orders
    until(lambda: len(place.ran()) >= len(orders | words))
    until(lambda: {state for state, _ in place.tasks().values()} == {"succeeded"})
    assert sorted(place.ran()) == sorted(orders | words)


async def _post_all(url, requests):
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        posts = [client.post(f"/{path}/{n}") for path, _, n in requests]
        return [response.status_code for response in await asyncio.gather(*posts)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_every_order_has_its_task_although_the_server_is_killed_under_load(place, kind):
    api = place.api("bound:app")
    told = []

    def send(number):
        with contextlib.suppress(httpx2.TransportError):
            url = f"{api.url}/{kind}/good/{number}"
            if httpx2.post(url, timeout=PATIENCE_S).status_code == 200:
                told.append(str(number))

    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(send, number) for number in range(400)]
        until(lambda: len(told) >= 60)
        api.kill()
        for future in sent:
            future.cancel()
    place.worker("bound")
    orders = httpx2.get(f"{place.api('bound:app').url}/orders").json()

    assert len(told) < 400
    assert set(told) <= set(orders)
    assert set(place.tasks()) == set(orders)
    until(lambda: {state for state, _ in place.tasks().values()} == {"succeeded"})
    assert set(place.ran()) == set(orders)
