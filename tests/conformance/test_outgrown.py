"""Workers whose ledger is migrated under them by a version that they cannot work with."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from postlude import process
from postlude.ledger.statement import Statement
from postlude.policy.restart import OUTGROWN
from postlude.states import State

GROW = Statement(text("UPDATE postlude_meta SET version = 99, compatible_from = 99"))
COMPATIBLE = Statement(text("UPDATE postlude_meta SET version = 99"))
LEDGER = pytest.mark.parametrize("broker_url", ["ledger"], indirect=True)
"""What brings the tasks makes no difference here."""


def run(statement: Statement) -> None:
    process.current().ledger.write(lambda tx: tx.run(statement))


def test_a_worker_finishes_what_runs_leaves_the_rest_and_says_why_it_ends(fleet, actors):
    worker = fleet.start(threads=1)
    running = actors.hold.send("running")
    fleet.noted("running")

    run(GROW)
    fleet.until(lambda: "Shutting down" in fleet.logs())
    waiting = actors.jot.send("waiting")
    fleet.let_go("running")

    assert worker.wait(20) == OUTGROWN
    assert "ledger.outgrown" in fleet.logs()
    assert fleet.view(running).state is State.SUCCEEDED
    view = fleet.view(waiting)
    assert (view.state, view.attempts) == (State.QUEUED, 0)
    assert "reaper.buried" not in fleet.logs()


@LEDGER
def test_what_outlasts_its_time_is_handed_back(fleet, actors):
    worker = fleet.start(POSTLUDE_SHUTDOWN_TIMEOUT="300ms")
    message = actors.hold.send("long")
    fleet.noted("long")

    run(GROW)

    assert worker.wait(20) == OUTGROWN
    assert [a.outcome for a in fleet.attempts(message)] == ["interrupted"]


@LEDGER
def test_several_processes_of_one_command_leave_together(fleet, actors):
    worker = fleet.start("-p", "2")
    fleet.until(lambda: fleet.logs().count("worker.ready") == 2)

    run(GROW)

    assert worker.wait(30) == OUTGROWN
    assert "exited unexpectedly" not in fleet.logs()


@LEDGER
def test_a_task_that_sends_another_in_the_meantime_is_tried_again_by_newer_code(fleet, actors):
    worker = fleet.start()
    message = actors.hold_and_send.send("held")
    fleet.noted("held")

    run(GROW)
    fleet.until(lambda: "Shutting down" in fleet.logs())
    fleet.let_go("held")

    assert worker.wait(20) == OUTGROWN
    (attempt,) = fleet.attempts(message)
    assert (attempt.outcome, attempt.error_type) == ("retried", "LedgerTooNew")
    assert fleet.count("actor = 'jot'") == 0


def test_a_newer_ledger_that_is_compatible_is_worked_on(fleet, actors):
    fleet.start()

    run(COMPATIBLE)
    before = fleet.until(beats)
    fleet.until(lambda: beats() > before + 2)

    assert actors.add.send(1).get_result(block=True, timeout=20_000) == 3
    assert "ledger.outgrown" not in fleet.logs()


def beats() -> int:
    query = text("SELECT sum(heartbeat) FROM postlude_incarnations WHERE ended_at IS NULL")
    with process.current().ledger.read() as connection:
        return connection.execute(query).scalar_one()
