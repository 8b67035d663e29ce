"""``/events``, ``/analytics/summary`` and ``/cache``: over a real ledger, tasks run inline."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import structlog
from fastapi.testclient import TestClient

from actors.cache import loaders
from actors.cache.loaders import loader
from api import create_app
from api.routes import cache
from postlude import testing
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.settings import load, settings

SENDER, VIEWER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    """A migrated ledger that no process has open: copying it is quicker than migrating anew."""
    chosen = load(data_dir=tmp_path_factory.mktemp("blank"))
    upgrade(chosen)
    return chosen.data_dir / "postlude.db"


@contextmanager
def api(folder, ledger, **variables):
    """Serve the application from ``folder``, to a client on this machine."""
    shutil.copy(ledger, folder)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    local = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 4711)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DATA_DIR": str(folder), "LOG_LEVEL": "error", **variables}.items():
            patch.setenv(f"POSTLUDE_{name}", value)
        patch.setattr(loaders, "_loaders", dict(loaders._loaders))
        settings.cache_clear()
        try:
            with TestClient(create_app(), **local) as client:
                yield client
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            structlog.reset_defaults()
            settings.cache_clear()


@pytest.fixture
def client(tmp_path, blank):
    with api(tmp_path, blank) as client:
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


# Events


def test_an_event_is_accepted_stored_and_counted(client, tasks):
    response = client.post("/events", json={"name": "order", "id": "1", "data": {"n": 1}})

    assert response.status_code == 202
    [task] = response.json()["tasks"]
    assert (task["actor"], task["state"]) == ("record_events", "accepted")
    assert response.headers["location"] == task["url"] == f"/v1/tasks/{task['id']}"
    [count] = client.get("/analytics/summary").json()["items"]
    assert (count["name"], count["count"]) == ("order", 1)


def test_several_events_are_one_task_and_the_same_ones_again_are_harmless(client, tasks):
    body = [{"name": "a", "id": "1"}, {"name": "b", "id": "2"}, {"name": "a"}]

    assert len(client.post("/events", json=body).json()["tasks"]) == 1
    client.post("/events", json=body[:2])

    items = client.get("/analytics/summary").json()["items"]
    assert {item["name"]: item["count"] for item in items} == {"a": 2, "b": 1}


def test_many_large_events_are_several_tasks(client, tasks):
    events = [{"name": "ü" * 200, "data": {"x": "y" * 1000}} for _ in range(600)]

    response = client.post("/events", json=events)

    added = response.json()["tasks"]
    assert len(added) > 1
    assert response.headers["location"] == added[-1]["url"]
    assert sum(task.result for task in tasks.ran if task.actor == "record_events") == 600


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "a", "at": "yesterday"}, "/at"),
        ({"name": "a", "at": "2026-01-01T00:00:00"}, "/at"),
        ([{"name": "a"}, {"name": ""}], "/1/name"),
        ({"name": "a", "data": {"x": "y" * 5000}}, "/data"),
        ({"name": "a", "data": []}, "/data"),
        ({"name": "a", "surprise": 1}, "/surprise"),
        ([], ""),
        ([{"name": "a"}] * 1001, ""),
        ("text", ""),
        (5, ""),
        (None, ""),
    ],
)
def test_what_is_no_event_is_refused_where_it_is_wrong(door, body, pointer):
    found = problem(door.post("/events", json=body), 422, "validation")

    assert (found["errors"][0]["in"], found["errors"][0]["pointer"]) == ("body", pointer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"name": "a\\u0000"}',
        b'{"name": "\\ud800"}',
        b'{"name": "a", "data": {"x": NaN}}',
        b'{"name": "a", "data": {"x": 1e999}}',
    ],
)
def test_what_is_no_json_is_refused(door, body):
    response = door.post("/events", content=body, headers={"content-type": "application/json"})

    assert response.status_code in {400, 422}
    assert response.headers["content-type"] == "application/problem+json"


def test_data_that_is_nested_too_deeply_is_refused(door):
    deep = json.loads('{"x":' * 100 + "1" + "}" * 100)

    problem(door.post("/events", json={"name": "a", "data": deep}), 422, "bad-arguments")


def test_a_body_over_the_limit_is_refused(door):
    body = b'{"name": "' + b"x" * 2_000_000 + b'"}'

    response = door.post("/events", content=body, headers={"content-type": "application/json"})
    problem(response, 413, "payload-too-large")


# Summary


def test_the_summary_has_the_window_that_was_asked_for(client, tasks):
    at = ["2026-03-01T10:59:59.999999Z", "2026-03-01T11:00:00Z", "2026-03-01T12:30:00+00:00"]
    client.post("/events", json=[{"name": "a", "at": each} for each in at])

    window = {"since": "2026-03-01T12:15:00+01:00", "until": "2026-03-01T12:00:00Z"}
    found = client.get("/analytics/summary", params=window).json()

    assert found == {
        "since": "2026-03-01T11:00:00Z",
        "until": "2026-03-01T12:00:00Z",
        "items": [{"hour": "2026-03-01T11:00:00Z", "name": "a", "count": 1}],
        "complete": True,
    }


def test_a_summary_that_is_cut_says_so(client, tasks):
    client.post("/events", json=[{"name": name} for name in "cab"])

    found = client.get("/analytics/summary?limit=2").json()

    assert [item["name"] for item in found["items"]] == ["a", "b"]
    assert found["complete"] is False
    assert len(client.get("/analytics/summary?name=c").json()["items"]) == 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("since=yesterday", "/since"),
        ("since=2026-01-01T00:00:00", "/since"),
        ("until=9999-12-31T23:59:59Z", "/until"),
        ("since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", ""),
        ("since=2025-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", ""),
        ("limit=0", "/limit"),
        ("limit=10001", "/limit"),
        ("name=%00", "/name"),
        ("surprise=1", "/surprise"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(door, query, pointer):
    found = problem(door.get(f"/analytics/summary?{query}"), 422, "validation")

    assert (found["errors"][0]["in"], found["errors"][0]["pointer"]) == ("query", pointer)


# Cache


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


def test_events_refresh_the_summary_in_the_cache(client, tasks):
    client.get("/cache/analytics-summary")
    client.post("/events", json=[{"name": "a"}, {"name": "a"}, {"name": "b"}])

    found = client.get("/cache/analytics-summary").json()

    assert found["value"]["counts"] == {"a": 2, "b": 1}


@pytest.mark.parametrize("key", ["nope", "analytics-summary%00", "x" * 5000, "%FF"])
def test_an_unknown_key_is_404(door, key):
    found = problem(door.get(f"/cache/{key}"), 404, "unknown-cache-key")
    assert "analytics-summary, file-stats" in found["detail"]
    problem(door.post(f"/cache/{key}/refresh"), 404, "unknown-cache-key")


def test_a_key_for_senders_may_record_and_refresh_and_one_for_viewers_may_look(tmp_path, blank):
    keys = f"sender:{SENDER},viewer:{VIEWER}"
    with api(tmp_path, blank, API_KEYS=keys) as client, testing.inline():

        def status(method, path, secret, **body):
            headers = {"x-api-key": secret}
            return client.request(method, path, headers=headers, **body).status_code

        assert status("POST", "/events", SENDER, json={"name": "a"}) == 202
        assert status("POST", "/events", VIEWER, json={"name": "a"}) == 403
        assert status("POST", "/cache/file-stats/refresh", SENDER) == 202
        assert status("POST", "/cache/file-stats/refresh", VIEWER) == 403
        assert status("GET", "/cache/file-stats", VIEWER) == 200
        assert status("GET", "/analytics/summary", VIEWER) == 200
