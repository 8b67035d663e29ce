"""Who pays for a dead worker: a task that kills it kills one, and then only children of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from postlude.states import Reason, State

LEDGER = pytest.mark.parametrize("broker_url", ["ledger"], indirect=True)
"""What brings the tasks makes no difference here."""


@pytest.fixture(scope="session")
def suspects(actors):
    import suspect_actors

    return suspect_actors


def noted(fleet, word: str) -> list[tuple[int, int]]:
    """Return the (process, parent) of each run that has noted ``word``."""
    found = [line.split() for line in fleet.journal()]
    return [(int(pid), int(parent)) for noted, pid, parent in found if noted == word]


def is_there(pid: int) -> bool:
    """Say whether a process runs; one that has ended may wait for somebody to ask after it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_children(fleet, word: str) -> list[bool]:
    """Say of each run that has noted ``word`` whether it was in a worker's child, not in the worker."""
    masters = {worker.pid for worker in fleet.workers}
    return [parent not in masters for _, parent in noted(fleet, word)]


def test_a_task_that_kills_its_worker_kills_no_other_and_innocents_go_unharmed(fleet, suspects):
    worker = fleet.start(module="suspect_actors")
    innocents = [suspects.linger.send("innocent") for _ in range(2)]
    fleet.until(lambda: len(noted(fleet, "innocent")) == 2)
    culprit = suspects.kill.send("dying")
    fleet.wait(worker)
    fleet.let_go("innocent")

    successor = fleet.start(module="suspect_actors")
    view = fleet.ended(culprit)

    assert (view.state, view.reason, view.crashes) == (State.FAILED, Reason.CRASH_LOOP, 3)
    assert [a.outcome for a in fleet.attempts(culprit)] == ["worker-died", *["child-died"] * 3]
    assert "killed by SIGKILL (9)" in fleet.attempts(culprit)[-1].error_message
    for innocent in innocents:
        ended = fleet.ended(innocent)
        assert (ended.state, ended.crashes) == (State.SUCCEEDED, 0)
    assert successor.poll() is None
    assert fleet.count("state = 'running'") == 0


def test_suspects_run_in_children_beside_each_other_and_beside_others(fleet, suspects):
    first = fleet.start(module="suspect_actors")
    messages = [suspects.linger.send("innocent") for _ in range(2)]
    fleet.until(lambda: len(noted(fleet, "innocent")) == 2)
    fleet.kill(first)
    fleet.start(module="suspect_actors")

    fleet.until(lambda: len(noted(fleet, "innocent")) == 4)
    bystander = suspects.linger.send("bystander")
    fleet.until(lambda: noted(fleet, "bystander"))
    children = noted(fleet, "innocent")[2:]
    ((worker, _),) = noted(fleet, "bystander")
    fleet.let_go("innocent")
    fleet.let_go("bystander")

    assert {parent for _, parent in children} == {worker}
    assert len({pid for pid, _ in children}) == 2
    assert {fleet.ended(m).state for m in [*messages, bystander]} == {State.SUCCEEDED}


def test_a_suspect_that_succeeds_or_fails_by_itself_is_one_no_more(fleet, suspects):
    first = fleet.start(module="suspect_actors")
    message = suspects.fail_later.send("doubtful")
    fleet.until(lambda: noted(fleet, "doubtful"))
    fleet.kill(first)
    fleet.let_go("doubtful")
    fleet.start(module="suspect_actors")

    view = fleet.ended(message)

    assert (view.state, view.reason) == (State.FAILED, Reason.RETRIES_EXHAUSTED)
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-died", "retried", "failed"]
    assert in_children(fleet, "doubtful") == [False, True, False]


def test_a_suspect_that_has_to_be_killed_at_its_limit_stays_one(fleet, suspects):
    first = fleet.start(module="suspect_actors")
    message = suspects.hang.send("hanging")
    fleet.until(lambda: noted(fleet, "hanging"))
    fleet.kill(first)
    fleet.start(module="suspect_actors")

    view = fleet.ended(message)

    assert (view.state, view.reason, view.crashes) == (State.FAILED, Reason.TIME_LIMIT, 0)
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-died", "retried", "failed"]
    assert in_children(fleet, "hanging") == [False, True, True]


def test_a_worker_that_is_killed_while_its_suspect_runs_accuses_nobody(fleet, suspects):
    message = suspects.linger.send("patient")
    for deaths in range(1, 3):
        worker = fleet.start(module="suspect_actors")
        fleet.until(lambda deaths=deaths: len(noted(fleet, "patient")) == deaths)
        fleet.kill(worker)
    child, _ = noted(fleet, "patient")[-1]
    fleet.until(lambda: not is_there(child))
    fleet.start(module="suspect_actors")
    fleet.let_go("patient")

    view = fleet.ended(message)
    assert (view.state, view.crashes) == (State.SUCCEEDED, 0)
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-died"] * 2 + ["succeeded"]


def test_whoever_has_outlived_three_workers_runs_with_nothing_beside_it(fleet, suspects):
    message = suspects.linger.send("unlucky")
    for deaths in range(1, 4):
        worker = fleet.start(module="suspect_actors")
        fleet.until(lambda deaths=deaths: len(noted(fleet, "unlucky")) == deaths)
        fleet.kill(worker)
    fleet.start(module="suspect_actors")
    fleet.until(lambda: len(noted(fleet, "unlucky")) == 4)
    bystander = suspects.jot.send("bystander")
    fleet.beats(6)
    fleet.let_go("unlucky")

    unlucky = fleet.ended(message)
    assert unlucky.state is State.SUCCEEDED
    assert fleet.ended(bystander).started_at >= unlucky.finished_at


def test_what_cannot_run_in_a_child_runs_alone_and_its_workers_pay(fleet, suspects):
    first = fleet.start(module="suspect_actors")
    message = suspects.only_here.send("rooted")
    fleet.wait(first)
    for _ in range(3):
        fleet.wait(fleet.start(module="suspect_actors"))
    fleet.start(module="suspect_actors")

    view = fleet.ended(message)
    attempts = fleet.attempts(message)
    assert (view.state, view.reason, view.crashes) == (State.FAILED, Reason.CRASH_LOOP, 3)
    assert [a.outcome for a in attempts] == ["worker-died", "interrupted", *["worker-died"] * 3]
    assert attempts[1].error_type == "NotInAChild"
    assert "importing suspect_actors does not declare it" in attempts[1].error_message


def test_a_suspect_that_a_deploy_interrupts_stays_one(fleet, suspects):
    first = fleet.start(module="suspect_actors")
    message = suspects.linger.send("doubtful")
    fleet.until(lambda: noted(fleet, "doubtful"))
    fleet.kill(first)
    second = fleet.start(module="suspect_actors", POSTLUDE_SHUTDOWN_TIMEOUT="300ms")
    fleet.until(lambda: len(noted(fleet, "doubtful")) == 2)
    assert fleet.stop(second) == 0
    fleet.let_go("doubtful")
    fleet.start(module="suspect_actors")

    assert fleet.ended(message).state is State.SUCCEEDED
    assert [a.outcome for a in fleet.attempts(message)] == [
        "worker-died",
        "interrupted",
        "succeeded",
    ]
    assert in_children(fleet, "doubtful") == [False, True, True]


def test_two_workers_share_the_suspects_and_run_each_once(fleet, suspects):
    first = fleet.start(module="suspect_actors")
    messages = [suspects.linger.send(f"s{n}") for n in range(4)]
    fleet.until(lambda: len(fleet.journal()) == 4)
    fleet.kill(first, signal.SIGKILL)
    for n in range(4):
        fleet.let_go(f"s{n}")
    fleet.start(module="suspect_actors")
    fleet.start(module="suspect_actors")

    assert {fleet.ended(m).state for m in messages} == {State.SUCCEEDED}
    assert sorted(line.split()[0] for line in fleet.journal()) == sorted(
        [f"s{n}" for n in range(4)] * 2
    )


@LEDGER
def test_a_task_that_stops_its_workers_heart_stops_no_other_and_innocents_go_unharmed(
    fleet, suspects
):
    hung = fleet.start(module="suspect_actors")
    innocents = [suspects.linger.send("innocent") for _ in range(2)]
    fleet.until(lambda: len(noted(fleet, "innocent")) == 2)
    culprit = suspects.seize.send("seizing")
    fleet.until(lambda: noted(fleet, "seizing"))
    fleet.let_go("innocent")

    successor = fleet.start(module="suspect_actors")
    view = fleet.ended(culprit)

    attempts = fleet.attempts(culprit)
    assert (view.state, view.reason, view.crashes) == (State.FAILED, Reason.CRASH_LOOP, 3)
    assert [a.outcome for a in attempts] == ["worker-silent", "retried", "retried", "child-died"]
    assert "held the interpreter's lock" in attempts[-1].error_message
    assert "in seize" in attempts[-1].traceback
    assert in_children(fleet, "seizing") == [False, True, True, True]
    for innocent in innocents:
        ended = fleet.ended(innocent)
        assert (ended.state, ended.crashes) == (State.SUCCEEDED, 0)
    assert (hung.poll(), successor.poll()) == (None, None)
    assert fleet.logged("reaper.buried") == 1


@LEDGER
def test_a_task_that_holds_the_interpreter_for_longer_than_the_lease_succeeds_apart(
    fleet, suspects
):
    fleet.start(module="suspect_actors")
    fleet.start(module="suspect_actors")
    message = suspects.seize_for_a_while.send("slow", 4)

    view = fleet.ended(message)

    assert (view.state, view.result, view.crashes) == (State.SUCCEEDED, "slow", 0)
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-silent", "succeeded"]
    assert in_children(fleet, "slow") == [False, True]


@LEDGER
def test_whoever_was_in_the_hands_of_a_worker_that_was_stopped_is_no_suspect(fleet, suspects):
    stopped = fleet.start(module="suspect_actors")
    message = suspects.linger.send("innocent")
    fleet.until(lambda: noted(fleet, "innocent"))
    fleet.kill(stopped, signal.SIGSTOP)
    fleet.start(module="suspect_actors")
    fleet.until(lambda: len(noted(fleet, "innocent")) == 2)
    fleet.let_go("innocent")

    assert fleet.ended(message).state is State.SUCCEEDED
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-silent", "succeeded"]
    assert in_children(fleet, "innocent") == [False, False]
    assert "being stopped" in fleet.logs()
