"""What an actor with ``isolation="process"`` may expect, and what its worker may, whatever it does."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postlude import TaskHandle, interventions, process
from postlude.states import Reason, State

WAIT = {"block": True, "timeout": 20_000}
AT = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def broker_url() -> str:
    """Where a task comes from makes no difference to how it runs."""
    return ""


@pytest.fixture(scope="session")
def apart(actors):
    import isolated_actors

    return isolated_actors


@pytest.fixture(scope="module")
def crew_module() -> str:
    return "isolated_actors"


def pid_of(fleet, word: str) -> int:
    """Return the process that has noted ``word`` and its number."""
    return int(
        fleet.until(lambda: [n for n in fleet.journal() if n.startswith(word)])[0].split()[1]
    )


def is_there(pid: int) -> bool:
    """Say whether a process runs; one that has ended may wait for somebody to ask after it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- what works as in a thread


def test_it_runs_in_a_process_of_its_own_that_is_kept_for_the_next(crew, apart):
    kind, child, worker = apart.apart.send(AT, pids=True).get_result(**WAIT)
    again = apart.apart.send(AT, pids=True).get_result(**WAIT)

    assert kind == "datetime"
    assert child != worker
    assert again == [kind, child, worker]


def test_an_async_actor_runs_apart(crew, apart):
    assert apart.apart_async.send(1).get_result(**WAIT) == 2


def test_progress_and_the_current_message_are_there(crew, apart):
    message = apart.apart_progress.send("half way")
    crew.noted("half way")

    view = crew.until(lambda: (v := crew.view(message)).progress and v.started_at and v)
    crew.let_go("half way")

    assert (view.state, view.progress) == (State.RUNNING, {"done": 1, "of": 2})
    assert message.get_result(**WAIT) == message.message_id


def test_what_it_sends_is_stored_by_its_worker(crew, apart):
    sent = apart.apart_send.send("child").get_result(**WAIT)

    crew.noted("child")
    assert crew.count(f"id = '{sent}' AND actor = 'jot'") == 1


def test_what_cannot_be_sent_is_refused_where_it_is_sent(crew, apart):
    assert "already; send a message once" in apart.apart_send_twice.send().get_result(**WAIT)


def test_what_it_has_forked_cannot_speak_in_its_name(crew, apart):
    assert apart.apart_fork.send().get_result(**WAIT) == 7
    assert apart.apart_send.send("child").get_result(**WAIT)
    assert crew.count("actor = 'jot' AND arguments LIKE '%fork%'") == 0


def test_what_it_logs_is_in_the_workers_log_under_its_id(crew, apart):
    message = apart.apart_log.send()
    crew.ended(message)

    lines = [line for line in crew.logs().splitlines() if message.message_id in line]
    assert any('"event": "from.structlog"' in line and '"colour": "red"' in line for line in lines)
    assert any('"event": "from logging"' in line and '"logger": "shop"' in line for line in lines)
    crew.until(lambda: "from print" in crew.logs())


def test_its_exceptions_keep_class_words_and_place(crew, apart):
    message = apart.apart_rejected.send()

    view = crew.ended(message)
    (attempt,) = crew.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.RETRIES_EXHAUSTED)
    assert (attempt.error_type, attempt.error_message) == ("Rejected", "too heavy (7)")
    assert 'raise Rejected(7, why="too heavy")' in attempt.traceback
    assert "dramatiq/worker.py" not in attempt.traceback, "where it was waited for tells nothing"


def test_it_can_ask_to_be_retried_at_a_time(crew, apart):
    message = apart.apart_retry.send(400)

    crew.ended(message)
    first, second = crew.attempts(message)
    assert (first.outcome, second.outcome) == ("retried", "failed")
    assert second.started_at - first.finished_at >= timedelta(milliseconds=400)


def test_retry_when_is_given_the_exception_with_its_attributes(crew, apart):
    assert crew.ended(apart.apart_retry_when.send()).attempts == 2


def test_a_result_without_a_form_in_json_is_dropped(crew, apart):
    view = crew.ended(message := apart.apart_nothing.send())

    assert (view.state, view.result) == (State.SUCCEEDED, None)
    assert crew.attempts(message)[0].error_type == "BadResult"


def test_somebody_elses_function_is_found_where_it_is_made_an_actor(crew, apart):
    assert apart.apart_of_others.send("a b").get_result(**WAIT) == "'a b'"


def test_bad_arguments_of_what_it_sends_are_an_error_of_its_own(crew, apart):
    view = crew.ended(message := apart.apart_sends_badly.send())

    assert (view.state, view.reason) == (State.FAILED, Reason.RETRIES_EXHAUSTED)
    assert crew.attempts(message)[0].error_type == "BadArguments"


def test_arguments_that_do_not_fit_are_final(crew, apart):
    from functools import partial

    from postlude import process
    from postlude.ledger.task import NewTask
    from postlude.ledger.transitions import accept

    message = apart.apart.message(AT)
    bad = NewTask(
        message.message_id,
        "apart",
        apart.QUEUE,
        '{"at": "never"}',
        "{}",
        0,
        None,
        datetime.now(UTC),
    )
    process.current().ledger.write(partial(accept.enqueue, task=bad, now=bad.created_at))

    view = crew.ended(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert "at" in crew.attempts(message)[0].error_message


# --- what kills it


def test_a_segfault_is_a_failed_attempt_that_names_the_signal_and_the_place(crew, apart):
    _, before, worker = apart.apart.send(AT, pids=True).get_result(**WAIT)
    message = apart.apart_segfault.send()

    view = crew.ended(message)
    attempts = crew.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.RETRIES_EXHAUSTED)
    assert [a.outcome for a in attempts] == ["retried", "failed"]
    assert {a.error_type for a in attempts} == {"ChildDied"}
    assert "killed by SIGSEGV (11)" in attempts[0].error_message
    assert "in apart_segfault" in attempts[0].traceback
    _, after, still = apart.apart.send(AT, pids=True).get_result(**WAIT)
    assert (still, after == before) == (worker, False)


@pytest.mark.parametrize(
    ("actor", "argument", "words"),
    [
        ("apart_exit", 0, "exited with code 0 in the middle of it"),
        ("apart_exit", 3, "exited with code 3"),
        ("apart_kill", 9, "killed by SIGKILL (9), perhaps for want of memory"),
        ("apart_kill", 6, "killed by SIGABRT (6)"),
        ("apart_kill_group", None, "killed by SIGKILL (9)"),
    ],
)
def test_however_the_child_ends_its_task_has_failed_and_its_worker_goes_on(
    crew, apart, actor, argument, words
):
    message = getattr(apart, actor).send(*([] if argument is None else [argument]))

    view = crew.ended(message)
    assert (view.state, view.crashes) == (State.FAILED, 0)
    assert words in crew.attempts(message)[0].error_message
    assert crew.workers[0].poll() is None


def test_more_memory_than_its_limit_is_not_to_be_had(crew, apart):
    assert apart.apart_hog.send(10).get_result(**WAIT) == 10 * 1024 * 1024
    before = apart.apart.send(AT, pids=True).get_result(**WAIT)

    crew.ended(message := apart.apart_hog.send(500))
    after = apart.apart.send(AT, pids=True).get_result(**WAIT)
    assert (after[2], after[1] == before[1]) == (before[2], False), "it is not used any more"
    assert crew.attempts(message)[0].error_type == "MemoryError"
    assert "bytearray(megabytes" in crew.attempts(message)[0].traceback
    assert apart.apart_hog.send(10).get_result(**WAIT) == 10 * 1024 * 1024


def test_the_limit_of_one_actor_is_not_that_of_the_next(crew, apart):
    apart.apart_hog.send(10).get_result(**WAIT)

    assert apart.apart_unlimited.send(500).get_result(**WAIT) == 500 * 1024 * 1024


@pytest.mark.parametrize("actor", ["apart_loop", "apart_loop_in_c", "apart_sleep", "apart_stopped"])
def test_it_is_killed_at_its_time_limit_wherever_it_is(crew, apart, actor):
    message = getattr(apart, actor).send()

    view = crew.ended(message)
    (attempt,) = crew.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert attempt.error_type == "TimeLimitExceeded"
    assert attempt.error_message == "killed at its limit of 0.5 s"
    assert actor == "apart_stopped" or f"in {actor}" in attempt.traceback
    # It includes the start of a new child, when the last one has just been killed.
    assert attempt.finished_at - attempt.started_at < timedelta(seconds=15)


def test_what_it_has_started_is_killed_with_it(crew, apart):
    message = apart.apart_with_others.send("others")
    child = pid_of(crew, "others")
    crew.until(lambda: len(members(child)) == 2)
    crew.let_go("others")

    assert crew.ended(message).state is State.FAILED
    crew.until(lambda: members(child) == [])


def members(group: int) -> list[int]:
    """Return the processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return [pid for pid in found if is_there(pid)]


# --- what it has of its worker, and how they part


def test_it_has_no_file_of_its_workers(crew, apart):
    found = apart.apart_files.send().get_result(**WAIT)

    assert [name for name in found if ".lock" in name or "postlude.db" in name] == []
    assert not apart.apart_loaded.send().get_result(**WAIT), "it has no use for a database"


def test_a_request_to_stop_that_reaches_it_is_its_workers_business(crew, apart):
    message = apart.apart_hold.send("signals")
    child = pid_of(crew, "signals")

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(child, number)
    crew.let_go("signals")

    assert message.get_result(**WAIT) == "signals"


@pytest.mark.parametrize("actor", ["apart_hold", "apart_hold_in_c"])
def test_it_does_not_outlive_its_worker(fleet, apart, actor):
    worker = fleet.start(module="isolated_actors")
    getattr(apart, actor).send("orphan")
    child = pid_of(fleet, "orphan")

    fleet.kill(worker)

    fleet.until(lambda: not is_there(child))


def test_a_stopping_worker_waits_for_it_and_leaves_none_behind(fleet, apart):
    worker = fleet.start(module="isolated_actors")
    message = apart.apart_hold.send("last")
    child = pid_of(fleet, "last")

    worker.terminate()
    fleet.until(lambda: "Shutting down" in fleet.logs())
    fleet.let_go("last")

    assert worker.wait(20) == 0
    assert fleet.view(message).state is State.SUCCEEDED
    assert not is_there(child)


def test_one_that_outlasts_the_deploy_is_killed_and_handed_back(fleet, apart):
    worker = fleet.start(module="isolated_actors", POSTLUDE_SHUTDOWN_TIMEOUT="300ms")
    message = apart.apart_hold.send("long")
    child = pid_of(fleet, "long")

    assert fleet.stop(worker) == 0

    view = fleet.view(message)
    assert (view.state, view.crashes, view.retries) == (State.QUEUED, 0, 0)
    assert [a.outcome for a in fleet.attempts(message)] == ["interrupted"]
    assert not is_there(child)


def test_one_that_wants_to_know_is_interrupted_where_it_is(fleet, apart):
    worker = fleet.start(module="isolated_actors")
    message = apart.apart_hold_until_told.send("polite")
    pid_of(fleet, "polite")

    assert fleet.stop(worker) == 0

    view = fleet.view(message)
    assert (view.state, view.retries) == (State.QUEUED, 0)
    (attempt,) = fleet.attempts(message)
    assert (attempt.outcome, attempt.error_type) == ("interrupted", "Shutdown")
    assert "wait_for(word)" in attempt.traceback


# --- what cannot be isolated


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("not_apart", "importing not_apart does not declare it"),
        ("barely_apart", "memory_limit is 16 MiB, and a child process has an address space of"),
    ],
)
def test_a_worker_whose_actor_cannot_be_isolated_says_so_and_does_not_start(fleet, module, words):
    with pytest.raises(AssertionError, match=words):
        fleet.start(module=module)


# --- what came from elsewhere: cancelling, logs, pipelines


def test_a_cancelled_task_takes_its_child_along_whatever_that_is_doing(crew, apart):
    message = apart.apart_hold_in_c.send("stuck")
    child = pid_of(crew, "stuck")

    interventions.cancel(process.current().ledger, message.message_id)
    view = crew.ended(message)

    assert (view.state, view.reason) == (State.CANCELLED, Reason.BY_REQUEST)
    crew.until(lambda: not is_there(child))
    assert [attempt.outcome for attempt in crew.attempts(message)] == ["cancelled"]
    assert apart.apart.send(AT).get_result(**WAIT)[0] == "datetime"


def test_what_it_logs_is_kept_with_its_attempt(crew, apart):
    message = apart.apart_log.send()
    crew.ended(message)

    [attempt] = crew.attempts(message)
    assert attempt.logs


def test_it_takes_its_place_in_a_pipeline_and_may_run_one(crew, apart):
    pipe = (apart.apart_async.message(1) | apart.apart_async.message()).run()
    whole = apart.apart_runs_pipeline.send(1).get_result(**WAIT)

    assert pipe.get_result(**WAIT) == 3
    assert TaskHandle(whole).get_result(**WAIT) == 3
