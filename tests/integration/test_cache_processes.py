"""The cache in Redis from end to end: an API, workers, and a Redis that comes and goes."""

from __future__ import annotations

import time

import pytest

TIMEOUT_S = 1.0
LOADER = """
import os, time
from pathlib import Path
from actors.cache.loaders import loader

folder = Path(os.environ["LOADER"])

@loader("slow", fresh_for="1h")
def load(connection, now):
    with (folder / "loads").open("a") as loads:
        loads.write("load\\n")
    deadline = time.monotonic() + 50
    while not (folder / "go").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return "value"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    (folder / "slow_loader.py").write_text(LOADER)
    return folder


@pytest.fixture(scope="module")
def installation(install, shared_redis, folder):
    """Two workers, a cache in Redis, and a loader that waits until it may go on."""
    return install(
        workers=2,
        POSTLUDE_CACHE_URL=f"{shared_redis.url}?socket_timeout={TIMEOUT_S}",
        POSTLUDE_ACTORS="slow_loader",
        PYTHONPATH=str(folder),
        LOADER=str(folder),
    )


@pytest.fixture
def client(installation, redis_server, folder):
    for leftover in ("go", "loads"):
        (folder / leftover).unlink(missing_ok=True)
    return installation.client


def loads(folder):
    path = folder / "loads"
    return path.read_text().count("load") if path.exists() else 0


def unavailable(response):
    assert (response.status_code, response.json()["code"]) == (503, "cache-unavailable")
    assert response.headers["retry-after"]
    assert "POSTLUDE_CACHE_URL" in response.json()["detail"]
    return True


def failed_once(client, accepted):
    """Return the task once it waits for another try."""
    task = client.get(accepted.headers["location"]).json()
    return task if task["state"] == "scheduled" and task["attempts"] else None


def test_a_refreshed_value_is_in_redis_for_every_reader(installation, client, redis_server):
    task = installation.outcome(client.post("/cache/file-stats/refresh"))

    assert (task["state"], task["result"]) == ("succeeded", "loaded")
    found = client.get("/cache/file-stats").json()
    assert (found["value"]["count"], found["stale"], found["error"]) == (0, False, None)
    assert redis_server.client.hget("postlude:cache:file-stats", "value").startswith("{")


def test_the_first_reader_has_the_value_loaded(installation, client):
    assert client.get("/cache/file-stats").json()["stale"]

    installation.until(lambda: client.get("/cache/file-stats").json()["value"])


def test_a_write_is_seen_in_the_cache(installation, client):
    event = {"name": "order"}
    installation.outcome(client.post("/events", json=event))

    def counts():
        return (client.get("/cache/analytics-summary").json()["value"] or {}).get("counts")

    assert installation.until(counts) == {"order": 1}


def test_two_workers_load_a_key_once_for_all_who_ask_meanwhile(installation, client, folder):
    first = client.post("/cache/slow/refresh")
    installation.until(lambda: loads(folder))
    others = [client.post("/cache/slow/refresh") for _ in range(6)]

    results = [installation.outcome(each)["result"] for each in others]

    assert results == ["under way"] * 6
    assert loads(folder) == 1
    assert client.get("/cache/slow").json()["refreshing"] is True
    (folder / "go").touch()
    assert installation.outcome(first)["result"] == "loaded"
    # The others asked later than that load began: one further load serves them all.
    installation.until(lambda: loads(folder) == 2)
    installation.until(lambda: client.get("/cache/slow").json()["refreshing"] is False)
    assert client.get("/cache/slow").json()["value"] == "value"


def test_an_outage_is_a_problem_of_one_route_and_delays_a_refresh(
    installation, client, redis_server
):
    installation.outcome(client.post("/cache/file-stats/refresh"))
    redis_server.stop()

    assert unavailable(client.get("/cache/file-stats"))
    accepted = client.post("/cache/file-stats/refresh")
    assert accepted.status_code == 202
    task = installation.until(lambda: failed_once(client, accepted))
    assert "CacheUnavailable" in str(task)
    assert client.get("/readyz").status_code == 200
    assert client.get("/v1/tasks").status_code == 200
    assert client.get("/cache/nope").status_code == 404

    redis_server.start()
    assert installation.outcome(accepted)["state"] == "succeeded"
    assert client.get("/cache/file-stats").json()["stale"] is False


def test_a_redis_that_hangs_holds_a_reader_up_for_its_timeout_only(client, redis_server):
    client.get("/cache/file-stats")
    redis_server.pause()

    for _ in range(3):
        began = time.monotonic()
        assert unavailable(client.get("/cache/file-stats"))
        assert time.monotonic() - began < 2 * TIMEOUT_S

    redis_server.resume()
    assert client.get("/cache/file-stats").status_code == 200


def test_what_redis_forgot_is_loaded_again(installation, client, redis_server):
    installation.outcome(client.post("/cache/file-stats/refresh"))
    redis_server.stop()
    redis_server.start()

    found = client.get("/cache/file-stats").json()

    assert (found["value"], found["refreshed_at"], found["stale"]) == (None, None, True)
    installation.until(lambda: client.get("/cache/file-stats").json()["value"])


def test_a_value_that_could_not_be_kept_is_loaded_again(installation, client, redis_server, folder):
    accepted = client.post("/cache/slow/refresh")
    installation.until(lambda: loads(folder))
    redis_server.stop()
    (folder / "go").touch()

    installation.until(lambda: failed_once(client, accepted))
    redis_server.start()

    assert installation.outcome(accepted)["result"] == "loaded"
    assert loads(folder) == 2
    assert client.get("/cache/slow").json()["value"] == "value"
