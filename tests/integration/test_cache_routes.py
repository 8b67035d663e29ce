"""``/cache``: over a real ledger and a real Redis, tasks run inline."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from served import api

from actors.cache.loaders import loader
from api.routes import cache
from postlude import process, testing
from postlude.ledger import clock


@pytest.fixture(params=["in the ledger", "in Redis"])
def client(request, tmp_path, blank):
    """Every place that the cache can be kept in; readers see no difference."""
    variables = {}
    if request.param == "in Redis":
        variables["CACHE_URL"] = request.getfixturevalue("redis_server").url
    with api(tmp_path, blank, **variables) as client:
        yield client


@pytest.fixture
def door(client):
    """A client that is refused: nothing may have been stored."""
    yield client
    assert client.get("/v1/tasks").json()["items"] == []


@pytest.fixture
def tasks(client):
    with testing.inline(raise_errors=False) as tasks:
        yield tasks


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


def ran(tasks):
    return [task.actor for task in tasks.ran]


@pytest.fixture
def answers(client):
    """What the loader of "answer" returns, or raises, one time after the other."""
    left = []

    @loader("answer", fresh_for="1m")
    def load(connection, now):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return left


def later(monkeypatch, span):
    """Let the clock of the routes run ahead."""
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + span)


def test_the_first_reader_gets_nothing_and_sees_to_it_that_the_next_one_does(
    client, tasks, answers
):
    answers.append([1, 2])

    first, second = client.get("/cache/answer"), client.get("/cache/answer")

    assert first.status_code == 200
    assert "age" not in first.headers
    assert (first.json()["value"], first.json()["refreshed_at"]) == (None, None)
    assert first.json()["stale"] is True
    assert (second.json()["value"], second.json()["stale"]) == ([1, 2], False)
    assert datetime.fromisoformat(second.json()["refreshed_at"]) <= clock.now()
    assert second.headers["age"] == "0"
    assert ran(tasks) == ["refresh_cache"]


def test_a_stale_value_is_served_with_its_age_while_it_is_refreshed(
    client, tasks, answers, monkeypatch
):
    answers.extend(["old", "new"])
    client.post("/cache/answer/refresh")
    later(monkeypatch, timedelta(seconds=61))

    stale = client.get("/cache/answer")

    assert (stale.json()["value"], stale.json()["stale"]) == ("old", True)
    assert stale.headers["age"] == "61"
    assert ran(tasks) == ["refresh_cache", "refresh_cache"]
    assert client.get("/cache/answer").json()["value"] == "new"


def test_many_readers_of_a_stale_value_cause_one_task(client, tasks, answers, monkeypatch):
    answers.extend([ValueError("no"), ValueError("no"), "value"])

    for _ in range(5):
        assert client.get("/cache/answer").json()["stale"] is True
    assert ran(tasks) == ["refresh_cache"]

    later(monkeypatch, cache.PAUSE + timedelta(seconds=1))
    client.get("/cache/answer")
    assert ran(tasks) == ["refresh_cache", "refresh_cache"]


def test_a_failed_refresh_keeps_the_value_and_says_so(client, tasks, answers):
    answers.extend(["old", ValueError("the source is gone")])
    client.post("/cache/answer/refresh")
    client.post("/cache/answer/refresh")

    found = client.get("/cache/answer").json()

    assert (found["value"], found["stale"]) == ("old", False)
    assert found["error"] == "ValueError: the source is gone"
    assert found["failed_at"] > found["refreshed_at"]


def test_a_refresh_is_a_task_that_can_be_followed(client, tasks, answers):
    answers.append("value")

    response = client.post("/cache/answer/refresh")

    assert response.status_code == 202
    [task] = response.json()["tasks"]
    assert task["actor"] == "refresh_cache"
    assert response.headers["location"] == task["url"]
    assert tasks.ran[0].result == "loaded"


def test_who_has_the_value_already_gets_304(client, tasks, answers):
    answers.extend(["value", "other"])
    client.post("/cache/answer/refresh")
    etag = client.get("/cache/answer").headers["etag"]

    for tag in (etag, f'W/{etag}, "x"', f'"x", {etag}', "*"):
        same = client.get("/cache/answer", headers={"if-none-match": tag})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        assert same.headers["age"] == "0"

    client.post("/cache/answer/refresh")
    changed = client.get("/cache/answer", headers={"if-none-match": etag})
    assert (changed.status_code, changed.json()["value"]) == (200, "other")
    assert changed.headers["etag"] != etag


def test_a_304_refreshes_a_stale_value_too(client, tasks, answers, monkeypatch):
    answers.extend(["old", "new"])
    client.post("/cache/answer/refresh")
    later(monkeypatch, timedelta(seconds=61))

    assert client.get("/cache/answer", headers={"if-none-match": "*"}).status_code == 304

    assert client.get("/cache/answer").json()["value"] == "new"


@pytest.mark.parametrize("key", ["nope", "analytics-summary%00", "x" * 5000, "%FF"])
def test_an_unknown_key_is_404(door, key):
    found = problem(door.get(f"/cache/{key}"), 404, "unknown-cache-key")
    assert "analytics-summary, file-stats" in found["detail"]
    problem(door.post(f"/cache/{key}/refresh"), 404, "unknown-cache-key")


def test_a_ledger_that_cannot_be_written_serves_what_it_has_cached(tmp_path, blank, monkeypatch):
    with api(tmp_path, blank, WRITE_TIMEOUT="200ms") as client:
        with testing.inline():
            client.get("/cache/analytics-summary")
        later(monkeypatch, timedelta(hours=1))
        connection = process.current().ledger.connect()
        with connection.transaction():
            stale = client.get("/cache/analytics-summary")
            nothing = problem(client.get("/cache/file-stats"), 503, "ledger-busy")
        connection.close()

    assert (stale.status_code, stale.json()["stale"]) == (200, True)
    assert "nothing was stored" in nothing["detail"]


def test_a_cache_that_cannot_be_written_serves_what_it_has(tmp_path, blank, own_redis, monkeypatch):
    server = own_redis()
    with api(tmp_path, blank, CACHE_URL=server.url) as client, testing.inline() as tasks:
        client.post("/cache/file-stats/refresh")
        server.client.config_set("maxmemory", 1)
        later(monkeypatch, timedelta(hours=1))

        stale = client.get("/cache/file-stats")
        nothing = problem(client.get("/cache/analytics-summary"), 503, "cache-unavailable")

    assert (stale.status_code, stale.json()["stale"]) == (200, True)
    assert stale.json()["value"]["count"] == 0
    assert "maxmemory" in nothing["detail"]
    assert ran(tasks) == ["refresh_cache"]
