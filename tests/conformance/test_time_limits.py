"""A time limit holds for whoever cannot be interrupted, too: the task fails, and its worker is replaced."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from postlude.states import Reason, State

GRACE = {"POSTLUDE_TIME_LIMIT_GRACE": "300ms"}


@pytest.fixture(scope="session")
def stuck(actors):
    import stuck_actors

    return stuck_actors


def replaced(fleet, times: int = 1) -> None:
    """Return when the fleet's only worker has been replaced."""
    fleet.until(lambda: fleet.logged("worker.ready") == times + 1)


def test_it_fails_the_others_finish_and_a_new_worker_takes_over(fleet, actors, stuck):
    master = fleet.start(module="stuck_actors", **GRACE)
    beside = actors.hold.send("beside")
    fleet.noted("beside")
    message = stuck.stuck.send("asleep")

    view = fleet.ended(message)
    waiting = actors.jot.send("waiting")
    fleet.until(lambda: fleet.logged("worker.leaving"))
    claimed = fleet.view(waiting).state
    fleet.let_go("beside")
    replaced(fleet)

    (attempt,) = fleet.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert attempt.finished_at - attempt.started_at < timedelta(seconds=5)
    assert attempt.error_type == "TimeLimitExceeded"
    assert "did not stop within 0.3 s after its limit" in attempt.error_message
    assert "time.sleep(seconds)" in attempt.traceback
    assert claimed is State.QUEUED
    assert fleet.ended(waiting).state is State.SUCCEEDED
    assert (fleet.ended(beside).state, fleet.ended(beside).attempts) == (State.SUCCEEDED, 1)
    assert master.poll() is None, "it is replaced under the same master"
    assert fleet.stop(master) == 0


def test_it_is_retried_as_after_any_failure(fleet, stuck):
    fleet.start(module="stuck_actors", **GRACE)
    message = stuck.stuck_until_told.send("asleep")
    fleet.until(lambda: fleet.attempts(message))
    fleet.let_go("asleep")

    view = fleet.ended(message)

    assert (view.state, view.result, view.retries) == (State.SUCCEEDED, "asleep", 1)
    assert [a.outcome for a in fleet.attempts(message)] == ["retried", "succeeded"]


def test_one_that_comes_back_after_all_changes_nothing(fleet, actors, stuck):
    fleet.start(module="stuck_actors", **GRACE)
    beside = actors.hold.send("beside")
    fleet.noted("beside")
    message = stuck.stuck.send_with_options(args=("asleep", 2))
    view = fleet.ended(message)
    fleet.until(lambda: fleet.logged("Failed to process message stuck("))
    fleet.let_go("beside")

    assert fleet.ended(beside).state is State.SUCCEEDED
    assert fleet.view(message) == view
    assert [a.outcome for a in fleet.attempts(message)] == ["failed"]
    assert "asleep came back" not in fleet.journal(), "the interrupt has reached it at last"
    assert fleet.logged("task.failed") == 1, "no hook has run again"


def test_all_workers_of_a_master_drain_and_are_replaced(fleet, actors, stuck):
    fleet.start("-p", "2", module="stuck_actors", threads=1, **GRACE)
    fleet.until(lambda: fleet.logged("worker.ready") == 2)
    beside = actors.hold.send("beside")
    fleet.noted("beside")
    message = stuck.stuck.send("asleep")
    fleet.ended(message)
    fleet.until(lambda: fleet.logged("SIGHUP"))
    fleet.let_go("beside")

    fleet.until(lambda: fleet.logged("worker.ready") == 4)

    assert (fleet.ended(beside).state, fleet.ended(beside).attempts) == (State.SUCCEEDED, 1)


def test_a_worker_that_is_told_to_stop_while_it_leaves_does_not_come_back(fleet, actors, stuck):
    master = fleet.start(module="stuck_actors", **GRACE)
    actors.hold.send("beside")
    fleet.noted("beside")
    stuck.stuck.send("asleep")
    fleet.until(lambda: fleet.logged("worker.leaving"))

    master.send_signal(signal.SIGTERM)
    fleet.until(lambda: fleet.logged("Shutting down"))
    fleet.let_go("beside")

    assert master.wait(20) == 0
    assert fleet.logged("worker.ready") == 1


@pytest.mark.parametrize("grace", ["300ms", "1500ms"])
def test_a_coroutine_that_holds_up_the_event_loop_costs_its_worker(fleet, actors, stuck, grace):
    fleet.start(module="stuck_actors", POSTLUDE_TIME_LIMIT_GRACE=grace)
    message = stuck.stuck_async.send("asleep")

    view = fleet.ended(message)
    replaced(fleet)

    assert (view.state, view.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert actors.add_async.send(1, 2).get_result(block=True, timeout=20_000) == 3


def test_one_that_stops_within_the_grace_costs_nothing_more(fleet, actors, stuck):
    fleet.start(module="stuck_actors")
    message = stuck.tidy.send("tidy")
    fleet.until(lambda: fleet.logged("task.time_limit_exceeded"))
    fleet.beats(5)
    fleet.let_go("tidy")

    view = fleet.ended(message)

    assert (view.state, view.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert fleet.journal() == ["tidy tidied"]
    assert actors.add.send(1).get_result(block=True, timeout=10_000) == 3
    assert fleet.logged("worker.leaving") == 0
