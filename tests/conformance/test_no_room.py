"""The ledger has room for a claim, but not for how the task ended: that is kept until it is stored."""

from __future__ import annotations

from datetime import timedelta

import pytest

from postlude.states import State

SIZE = 200_000
LEDGER = pytest.mark.parametrize("broker_url", ["ledger"], indirect=True)
"""What brings the tasks makes no difference here."""


@pytest.fixture
def cramped(fleet):
    """Starts a worker whose ledger has room for about 50 kB."""
    return lambda **more: fleet.start(module="cramped_actors", threads=2, FLEET_PAGES="12", **more)


def test_it_is_stored_without_what_takes_the_room_and_the_task_has_run_once(fleet, actors, cramped):
    cramped()
    message = actors.swell.send("mail", SIZE)

    view = fleet.ended(message)
    (attempt,) = fleet.attempts(message)

    assert (view.state, view.result, view.crashes) == (State.SUCCEEDED, None, 0)
    assert fleet.journal() == ["mail"]
    assert attempt.outcome == "succeeded"
    assert attempt.error_type == "NoRoom"
    assert "no room for its result (200002 bytes)" in attempt.error_message
    assert "POSTLUDE" not in attempt.error_message
    (line,) = attempt.logs
    assert line["level"] == "warning"
    assert "no room" in line["message"]
    assert "its logs" in line["message"]


def test_while_it_is_kept_nothing_is_claimed(fleet, actors, cramped):
    cramped()
    message = actors.swell.send("mail", SIZE)
    fleet.until(lambda: "task.outcome_kept" in fleet.logs())
    later = actors.jot.send("later")

    kept, other = fleet.ended(message), fleet.ended(later)

    assert other.claimed_at - kept.finished_at > timedelta(seconds=4)
    assert fleet.journal() == ["mail", "later"]


@LEDGER
def test_a_try_that_fails_loses_its_logs_but_not_its_error(fleet, actors, cramped):
    cramped()
    message = actors.swell.send_with_options(
        args=("mail", SIZE), kwargs={"fail": True}, max_retries=1
    )

    view = fleet.ended(message)

    assert (view.state, fleet.journal()) == (State.FAILED, ["mail", "mail"])
    for attempt in fleet.attempts(message):
        assert (attempt.error_type, attempt.error_message) == ("Retry", "swollen")
        assert attempt.traceback is None or attempt.traceback == ""
        (line,) = attempt.logs
        assert "no room for its logs" in line["message"]
        assert "its traceback" in line["message"]


def test_a_worker_that_is_stopped_stores_it_before_it_leaves(fleet, actors, cramped):
    worker = cramped()
    message = actors.swell.send("mail", SIZE)
    fleet.until(lambda: "task.outcome_kept" in fleet.logs())

    assert fleet.stop(worker) == 0

    view = fleet.view(message)
    assert (view.state, view.attempts) == (State.SUCCEEDED, 1)


@LEDGER
def test_what_fits_beside_it_is_stored_as_it_is(fleet, actors, cramped):
    cramped()
    big, small = actors.swell.send("mail", SIZE), actors.add.send(1)

    assert small.get_result(block=True, timeout=20_000) == 3
    assert fleet.ended(big).state is State.SUCCEEDED
