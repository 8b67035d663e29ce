"""Workers that have run enough, or hold too much, make room for new ones; what they had is not lost."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import text

from postlude import process
from postlude.states import State

TASKS = {"POSTLUDE_WORKER_MAX_TASKS": "20"}
LEDGER = pytest.mark.parametrize("broker_url", ["ledger"], indirect=True)
"""What brings the tasks makes no difference here."""


def lives() -> list[tuple[str, str | None]]:
    """Return id and end of each worker so far, in the order of their births."""
    query = text(
        """SELECT id, "end" FROM postlude_incarnations WHERE kind = 'worker' ORDER BY started_at"""
    )
    with process.current().ledger.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


def successors(fleet, count: int = 2) -> list[tuple[str, str | None]]:
    """Return the lives once there are ``count``."""
    return fleet.until(lambda: len(found := lives()) >= count and found)


def test_after_its_tasks_a_worker_makes_room_for_a_new_one_and_every_task_runs_once(fleet, actors):
    worker = fleet.start(**TASKS)
    messages = [actors.jot.send(f"{n}") for n in range(45)]

    fleet.until(lambda: fleet.count("state = 'succeeded'") == 45)

    assert sorted(fleet.journal(), key=int) == [f"{n}" for n in range(45)]
    assert {len(fleet.attempts(m)) for m in messages} == {1}
    *former, (_, last) = successors(fleet)
    assert {end for _, end in former} == {"left"}
    assert last in {None, "left"}
    assert worker.poll() is None, "the master goes on"
    assert "exited unexpectedly" not in fleet.logs()
    assert "worker.recycling" in fleet.logs()


def test_what_runs_is_finished_and_what_was_claimed_ahead_goes_to_others(fleet, actors):
    fleet.start(threads=2, **TASKS)
    running = actors.hold.send("running")
    fleet.noted("running")
    jots = [actors.jot.send(f"{n}") for n in range(40)]

    fleet.until(lambda: "worker.recycling" in fleet.logs())
    fleet.start()
    fleet.until(lambda: fleet.count("state = 'succeeded'") == 40)
    alone = fleet.view(running)
    fleet.let_go("running")

    assert alone.state is State.RUNNING
    assert fleet.ended(running).state is State.SUCCEEDED
    assert [a.outcome for a in fleet.attempts(running)] == ["succeeded"]
    assert {len(fleet.attempts(m)) for m in jots} == {1}


def test_what_outlasts_the_drain_time_of_a_recycled_worker_is_handed_back(fleet, actors):
    fleet.start(threads=2, POSTLUDE_SHUTDOWN_TIMEOUT="300ms", **TASKS)
    message = actors.hold.send("long")
    fleet.noted("long")
    for n in range(20):
        actors.jot.send(f"{n}")

    (_, end), *_ = successors(fleet)
    fleet.until(lambda: fleet.journal().count("long") == 2)
    fleet.let_go("long")

    assert end == "left"
    assert fleet.ended(message).crashes == 0
    assert [a.outcome for a in fleet.attempts(message)] == ["interrupted", "succeeded"]


@LEDGER
def test_a_worker_that_holds_too_much_memory_is_replaced(fleet, actors):
    fleet.start(POSTLUDE_WORKER_MAX_RSS=f"{200 * 1024**2}")
    (first,) = lives()
    actors.hoard.send(50 * 1024**2)
    actors.hoard.send(150 * 1024**2)

    fleet.until(lambda: "worker.recycling" in fleet.logs())

    former, new, *_ = successors(fleet)
    assert former == (first[0], "left")
    message = actors.add.send(1)
    assert fleet.ended(message).state is State.SUCCEEDED
    fleet.until(lambda: "worker.ready" in fleet.logs())
    assert [life for life in lives() if life[1] is None] == [new]


@LEDGER
def test_a_memory_limit_that_no_worker_would_keep_is_told_and_replaces_nobody(fleet, actors):
    fleet.start(POSTLUDE_WORKER_MAX_RSS="1000000")
    messages = [actors.add.send(n) for n in range(20)]

    assert {fleet.ended(m).state for m in messages} == {State.SUCCEEDED}
    assert "worker.memory_limit_too_low" in fleet.logs()
    fleet.until(lambda: fleet.count("state = 'succeeded'") == 20)
    assert "worker.recycling" not in fleet.logs()


@LEDGER
def test_with_several_processes_of_one_command_nobody_is_replaced_and_that_is_told(fleet, actors):
    fleet.start("-p", "2", **TASKS)
    fleet.until(lambda: fleet.logs().count("worker.ready") == 2)
    messages = [actors.jot.send(f"{n}") for n in range(100)]

    assert {fleet.ended(m).state for m in messages} == {State.SUCCEEDED}
    assert [end for _, end in lives()] == [None, None]
    assert fleet.logs().count("worker.recycling_refused") == 2
    assert "dramatiq -p 1" in fleet.logs()


def test_a_request_to_stop_that_reaches_a_worker_on_its_way_out_waits_for_what_runs(fleet, actors):
    worker = fleet.start(threads=2, **TASKS)
    message = actors.hold.send("mail")
    fleet.noted("mail")
    for n in range(20):
        actors.jot.send(f"{n}")
    fleet.until(lambda: "Shutting down" in fleet.logs())

    fleet.kill(worker, signal.SIGTERM)
    fleet.until(lambda: "Sending signal 'SIGTERM'" in fleet.logs())
    fleet.let_go("mail")

    assert worker.wait(20) == 0, "and nothing was started in its place"
    assert fleet.view(message).state is State.SUCCEEDED
    assert [end for _, end in lives()] == ["left"]
