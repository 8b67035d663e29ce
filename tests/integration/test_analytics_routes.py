"""``/events`` and ``/analytics/summary``: over a real ledger, tasks run inline."""

from __future__ import annotations

import json

import pytest
from served import api

from postlude import testing

SENDER, VIEWER = "0123456789abcdef", "fedcba9876543210"


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
        ({"name": "a", "at": 0}, "/at"),
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
        ("until=0.5", "/until"),
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


def test_events_refresh_the_summary_in_the_cache(client, tasks):
    client.get("/cache/analytics-summary")
    client.post("/events", json=[{"name": "a"}, {"name": "a"}, {"name": "b"}])

    found = client.get("/cache/analytics-summary").json()

    assert found["value"]["counts"] == {"a": 2, "b": 1}


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
