"""A real disk on which a claim still fits, and what comes after it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RESULT = 1_000_000


@pytest.fixture
def nearly_full(site, disk, tmp_path):
    """An API and a worker on a small disk; call it for a task that is about to end there."""
    folder = tmp_path / "tree"
    folder.mkdir()
    site = site(
        PYTHONPATH=str(HERE),
        TREE_FOLDER=str(folder),
        POSTLUDE_ACTORS="tree_actors",
        POSTLUDE_RESULT_LIMIT="2000000",
        POSTLUDE_SHUTDOWN_TIMEOUT="1m",
    )
    small = disk(site.data, 8000)
    site.migrate()
    site.start_api()
    site.worker = site.start_worker()

    def end_with(*, room):
        body = {"args": {"word": "mail", "size": RESULT}}
        url = site.web.post("/v1/actors/tree-swell/tasks", json=body).headers["location"]
        site.until((folder / "journal").exists)
        leave(small, room)
        (folder / "mail").touch()
        return site, small, url

    yield end_with
    assert (folder / "journal").read_text() == "mail\n", "it has run once"


def leave(small, room):
    """Fill the disk up to ``room`` bytes."""
    small.fill()
    filler = small.folder / "filler"
    os.truncate(filler, filler.stat().st_size - room)


def test_a_result_without_room_is_left_out_and_that_is_noted(nearly_full):
    site, _, url = nearly_full(room=300_000)

    task = site.ended(url)

    assert (task["state"], task["result"], task["crashes"]) == ("succeeded", None, 0)
    (attempt,) = task["attempts"]
    assert (attempt["outcome"], attempt["error_type"]) == ("succeeded", "NoRoom")
    assert f"no room for its result ({RESULT + 2} bytes)" in attempt["error_message"]


def test_with_room_in_time_nothing_is_left_out(nearly_full):
    site, small, url = nearly_full(room=300_000)

    site.until(lambda: site.told("task.outcome_kept"))
    small.make_room()

    task = site.ended(url)
    assert (task["state"], len(task["result"])) == ("succeeded", RESULT)
    assert [a["error_type"] for a in task["attempts"]] == [None]


def test_without_any_room_it_is_kept_for_as_long_as_it_takes(nearly_full):
    site, small, url = nearly_full(room=0)

    site.until(lambda: site.told("ledger.write_failed") > 30)
    assert site.task(url)["state"] == "running"
    small.make_room()

    task = site.ended(url)
    assert (task["state"], len(task["result"])) == ("succeeded", RESULT)
    assert len(task["attempts"]) == 1


def test_a_worker_that_is_asked_to_stop_waits_for_room(nearly_full):
    site, small, url = nearly_full(room=0)
    site.until(lambda: site.told("task.outcome_kept"))

    site.worker.terminate()
    site.until(lambda: site.told("Shutting down"))
    failed = site.told("ledger.write_failed")
    site.until(lambda: site.told("ledger.write_failed") > failed + 60)
    assert site.worker.poll() is None
    small.make_room()

    assert site.worker.wait(30) == 0
    task = site.task(url)
    assert (task["state"], len(task["attempts"])) == ("succeeded", 1)


def test_a_suspect_whose_start_finds_no_room_is_handed_back_and_its_worker_lives(
    site, disk, tmp_path
):
    folder = tmp_path / "starved"
    folder.mkdir()
    site = site(PYTHONPATH=str(HERE), STARVED_FOLDER=str(folder), POSTLUDE_ACTORS="starved_actors")
    small = disk(site.data, 8000)
    site.migrate()
    site.start_api()
    first = site.start_worker()
    url = site.web.post("/v1/actors/starved-linger/tasks", json={}).headers["location"]
    site.until((folder / "journal").exists)
    site.kill(first)
    second = site.start_worker()
    site.until(lambda: site.told("task.outcome_kept"))
    assert site.task(url)["state"] == "running"
    assert second.poll() is None
    small.make_room()
    (folder / "go").touch()

    task = site.ended(url)

    assert (task["state"], task["crashes"]) == ("succeeded", 0)
    outcomes = [attempt["outcome"] for attempt in task["attempts"]]
    assert outcomes == ["worker-died", "interrupted", "succeeded"]
    assert (folder / "journal").read_text() == "run\n" * 2
    assert second.poll() is None
