"""Cancel and retry over HTTP and from the command line, over a real ledger without a worker."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import structlog
import uuid_utils
from fastapi.testclient import TestClient
from sqlalchemy import text

from api import create_app
from postlude import process
from postlude.broker.delivery import put_off
from postlude.errors import BadArguments
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.ledger.statement import Statement
from postlude.ledger.transitions.claim import claim
from postlude.ledger.transitions.outcome import finish
from postlude.settings import load, settings

ROOT = Path(__file__).parents[2]
UNKNOWN = str(uuid_utils.uuid7())
ADD = "/v1/actors/send_notification/tasks"
ARGS = {"email": "ada@example.com", "message": "Hello"}
END = Statement(
    text("""
    UPDATE postlude_tasks SET state = :state, reason = :reason, finished_at = 1 WHERE id = :id""")
)


@contextmanager
def api(folder, **variables):
    """Serve the application from ``folder``, to a client on this machine."""
    local = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 4711)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DATA_DIR": str(folder), "LOG_LEVEL": "error", **variables}.items():
            patch.setenv(f"POSTLUDE_{name}", value)
        settings.cache_clear()
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            with TestClient(create_app(), **local) as client:
                yield client
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            structlog.reset_defaults()
            settings.cache_clear()


def followed(client, url):
    """Look at a task once its release, which no response waits for, has been stored."""
    deadline = time.monotonic() + 10
    while (task := client.get(url).json())["state"] == "accepted":
        assert time.monotonic() < deadline, task
    return task


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    return response.json()


@pytest.fixture
def client(tmp_path):
    upgrade(load(data_dir=tmp_path))
    with api(tmp_path) as client:
        yield client


@pytest.fixture
def delayed(client):
    """A task that waits for an hour."""
    added = client.post(ADD, json={"args": ARGS, "options": {"delay": "1h"}}).json()
    return followed(client, added["url"])


def end(task, state, reason=None):
    write = partial(lambda tx: tx.run(END, id=task["id"], state=state, reason=reason))
    process.current().ledger.write(write)


def postlude(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "postlude.cli", "tasks", *arguments],
        cwd=ROOT,
        env=os.environ | {"POSTLUDE_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_task_that_waits_is_cancelled(client, delayed):
    answer = client.post(f"{delayed['url']}/cancel")

    assert answer.status_code == 200
    task = answer.json()
    assert (task["state"], task["reason"]) == ("cancelled", "by-request")
    assert task["finished_at"]
    assert client.post(f"{delayed['url']}/cancel").json() == task


def test_a_task_that_waits_for_its_time_runs_now(client, delayed):
    task = client.post(f"{delayed['url']}/retry").json()

    assert (task["state"], task["run_at"]) == ("queued", None)


def test_a_failed_task_is_queued_again(client, delayed):
    end(delayed, "failed", "crash-loop")

    task = client.post(f"{delayed['url']}/retry").json()

    assert (task["state"], task["reason"], task["finished_at"]) == ("queued", None, None)
    assert task["crashes"] == 0


def test_a_task_that_no_worker_could_run_says_what_it_waits_for(client, tmp_path):
    task = client.post(ADD, json={"args": ARGS}).json()
    assert followed(client, task["url"])["state"] == "queued"
    now = clock.now()
    ledger = process.current().ledger
    one = {"queue": "default", "actors": ["send_notification"], "owner": "w", "token": "t"}
    (held,) = ledger.write(partial(claim, **one, now=now, limit=1))
    error = BadArguments("unexpected argument 'shout'")
    outcome = put_off(held, error, "f" * 16, timedelta(hours=1))
    assert ledger.write(partial(finish, task=held, outcome=outcome, worker="w"))

    over_http = client.get(task["url"]).json()["place"]
    in_the_terminal = postlude(tmp_path, "show", task["id"]).stdout

    assert over_http.startswith("waits for a worker with another version of the code, to be asked")
    assert over_http.endswith("could not run it (BadArguments: unexpected argument 'shout')")
    assert f"place             {over_http}\n" in in_the_terminal


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_what_has_ended_is_not_cancelled(client, delayed, state):
    end(delayed, state)

    found = problem(client.post(f"{delayed['url']}/cancel"), 409, "task-finished")

    assert state in found["detail"]


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("succeeded", None, "has succeeded"),
        ("queued", None, "is queued"),
        ("cancelled", "request-failed", "told that it never runs"),
    ],
)
def test_what_cannot_be_retried_says_why(client, delayed, state, reason, words):
    end(delayed, state, reason)

    found = problem(client.post(f"{delayed['url']}/retry"), 409, "not-retryable")

    assert words in found["detail"]
    assert client.get(delayed["url"]).json()["state"] == state


def test_a_retry_takes_the_unique_key_again_or_says_who_has_it(client):
    options = {"delay": "1h", "unique_key": "report", "unique_for": "unfinished"}
    first = client.post(ADD, json={"args": ARGS, "options": options}).json()
    first = followed(client, first["url"])
    end(first, "failed")
    second = followed(
        client, client.post(ADD, json={"args": ARGS, "options": options}).json()["url"]
    )

    found = problem(client.post(f"{first['url']}/retry"), 409, "not-retryable")
    assert "another task has its unique key 'report'" in found["detail"]
    end(second, "failed")
    assert client.post(f"{first['url']}/retry").json()["state"] == "queued"

    third = client.post(ADD, json={"args": ARGS, "options": options}).json()
    third = followed(client, third["url"])
    assert (third["state"], third["duplicate_of"]) == ("cancelled", first["id"])


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_an_unknown_task_is_404(client, verb):
    problem(client.post(f"/v1/tasks/{UNKNOWN}/{verb}"), 404, "unknown-task")
    problem(client.post(f"/v1/tasks/{'x' * 99}/{verb}"), 404, "unknown-task")
    assert client.get(f"/v1/tasks/{UNKNOWN}/{verb}").status_code == 405


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_only_an_operator_may(tmp_path, verb):
    upgrade(load(data_dir=tmp_path))
    keys = "sender:0123456789abcdef,operator:fedcba9876543210"
    with api(tmp_path, API_KEYS=keys) as client:
        url = f"/v1/tasks/{UNKNOWN}/{verb}"
        problem(client.post(url, headers={"x-api-key": "0123456789abcdef"}), 403, "forbidden")
        problem(client.post(url, headers={"x-api-key": "fedcba9876543210"}), 404, "unknown-task")


def test_the_command_line_has_the_same_verbs(client, delayed, tmp_path):
    listed = postlude(tmp_path, "list", "--state", "scheduled")
    assert listed.stdout.split()[:2] == [delayed["id"], "scheduled"]

    done = postlude(tmp_path, "cancel", delayed["id"], UNKNOWN)
    assert (done.returncode, done.stdout.split()) == (1, [delayed["id"], "cancelled"])
    assert UNKNOWN in done.stderr

    shown = postlude(tmp_path, "show", delayed["id"])
    assert "by-request" in shown.stdout
    assert postlude(tmp_path, "retry", delayed["id"]).stdout.split() == [delayed["id"], "queued"]
    assert client.get(delayed["url"]).json()["state"] == "queued"


def test_the_command_line_names_what_it_does_not_know(client, tmp_path):
    wrong = postlude(tmp_path, "list", "--state", "lost")

    assert wrong.returncode == 2
    assert "there is no state 'lost'" in wrong.stderr
    missing = postlude(tmp_path, "show", UNKNOWN)
    assert missing.returncode == 1
    assert missing.stderr.startswith(f"postlude: there is no task '{UNKNOWN}'")
