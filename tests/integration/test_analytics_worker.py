"""Events and cache from end to end: over HTTP into the ledger, and a worker in its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SERVE = """
import asyncio, uvicorn
from api import create_app
config = uvicorn.Config(create_app(), port=0, log_config=None, access_log=False)
server = uvicorn.Server(config)

async def main():
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

asyncio.run(main())
"""


@contextmanager
def running(*arguments, environment, stdout=subprocess.DEVNULL):
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an API process, beside which runs a worker process."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
    environment = inherited | {"POSTLUDE_DATA_DIR": str(tmp_path_factory.mktemp("data"))}
    migrate = [sys.executable, "-m", "postlude.cli", "migrate"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True, capture_output=True)
    worker = ["-m", "dramatiq", "actors", "--processes", "1", "--threads", "2"]
    with (
        running("-c", SERVE, environment=environment, stdout=subprocess.PIPE) as api,
        running(*worker, environment=environment),
        httpx2.Client(base_url=f"http://127.0.0.1:{api.stdout.readline().strip()}") as client,
    ):
        yield client


def until(look):
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def outcome(client, response):
    """Wait until the task that was added by a request has ended; returns it."""
    assert response.status_code == 202, response.text

    def look():
        task = client.get(response.headers["location"]).json()
        return task if task["finished_at"] else None

    return until(look)


def test_events_that_were_posted_are_counted_and_reach_the_cache(client):
    events = [{"name": "order", "id": "1"}, {"name": "order", "id": "2"}, {"name": "view"}]

    task = outcome(client, client.post("/events", json=events))
    again = outcome(client, client.post("/events", json=events[:2]))

    assert (task["state"], task["result"]) == ("succeeded", 3)
    assert (again["state"], again["result"]) == ("succeeded", 0)
    items = client.get("/analytics/summary").json()["items"]
    assert {item["name"]: item["count"] for item in items} == {"order": 2, "view": 1}
    counts = {"order": 2, "view": 1}
    cached = "/cache/analytics-summary"
    until(lambda: (client.get(cached).json()["value"] or {}).get("counts") == counts)


def test_an_hour_is_rolled_up_over_http_too(client):
    at = "2026-10-25T02:30:00+02:00"
    outcome(client, client.post("/events", json={"name": "late", "at": at}))
    window = {"since": at, "until": "2026-10-25T02:00:00Z"}
    before = client.get("/analytics/summary", params=window).json()

    add = client.post("/v1/actors/roll_up_events/tasks", json={"args": {"hour": at}})
    assert outcome(client, add)["state"] == "succeeded"

    assert client.get("/analytics/summary", params=window).json() == before
    assert [item["hour"] for item in before["items"]] == ["2026-10-25T00:00:00Z"]


def test_a_refresh_that_was_asked_for_is_done_by_the_worker(client):
    task = outcome(client, client.post("/cache/file-stats/refresh"))

    assert (task["state"], task["result"]) == ("succeeded", "loaded")
    found = client.get("/cache/file-stats").json()
    assert (found["value"]["count"], found["stale"], found["error"]) == (0, False, None)
