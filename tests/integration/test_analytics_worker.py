"""Events and cache from end to end: over HTTP into the ledger, and a worker in its own process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def installation(install):
    return install()


@pytest.fixture
def client(installation):
    return installation.client


def test_events_that_were_posted_are_counted_and_reach_the_cache(installation, client):
    events = [{"name": "order", "id": "1"}, {"name": "order", "id": "2"}, {"name": "view"}]

    task = installation.outcome(client.post("/events", json=events))
    again = installation.outcome(client.post("/events", json=events[:2]))

    assert (task["state"], task["result"]) == ("succeeded", 3)
    assert (again["state"], again["result"]) == ("succeeded", 0)
    items = client.get("/analytics/summary").json()["items"]
    assert {item["name"]: item["count"] for item in items} == {"order": 2, "view": 1}
    counts = {"order": 2, "view": 1}
    cached = "/cache/analytics-summary"
    installation.until(lambda: (client.get(cached).json()["value"] or {}).get("counts") == counts)


def test_an_hour_is_rolled_up_over_http_too(installation, client):
    at = "2026-10-25T02:30:00+02:00"
    installation.outcome(client.post("/events", json={"name": "late", "at": at}))
    window = {"since": at, "until": "2026-10-25T02:00:00Z"}
    before = client.get("/analytics/summary", params=window).json()

    add = client.post("/v1/actors/roll_up_events/tasks", json={"args": {"hour": at}})
    assert installation.outcome(add)["state"] == "succeeded"

    assert client.get("/analytics/summary", params=window).json() == before
    assert [item["hour"] for item in before["items"]] == ["2026-10-25T00:00:00Z"]


def test_a_refresh_that_was_asked_for_is_done_by_the_worker(installation, client):
    task = installation.outcome(client.post("/cache/file-stats/refresh"))

    assert (task["state"], task["result"]) == ("succeeded", "loaded")
    found = client.get("/cache/file-stats").json()
    assert (found["value"]["count"], found["stale"], found["error"]) == (0, False, None)
