"""What a task may expect of every broker when workers are killed, stopped or frozen."""

from __future__ import annotations

import signal

from postlude.states import State


def test_a_worker_whose_thread_has_died_is_replaced(fleet, actors):
    fleet.start(threads=2)
    actors.end_sibling.send()

    fleet.until(lambda: "worker.thread_died" in fleet.logs())
    fleet.until(lambda: fleet.logs().count('"worker.ready"') == 2)

    assert actors.add.send(1).get_result(block=True, timeout=10_000) == 3


def test_a_task_whose_worker_is_killed_runs_again(fleet, actors):
    first = fleet.start()
    message = actors.hold.send("mail")
    fleet.noted("mail")

    fleet.kill(first)
    fleet.let_go("mail")
    fleet.start()

    assert fleet.ended(message).state is State.SUCCEEDED
    assert fleet.journal() == ["mail", "mail"]
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-died", "succeeded"]


def test_a_worker_that_wakes_up_late_changes_nothing(fleet, actors):
    frozen = fleet.start()
    message = actors.hold.send("mail")
    fleet.noted("mail")
    fleet.kill(frozen, signal.SIGSTOP)

    fleet.start()
    fleet.until(lambda: fleet.journal() == ["mail", "mail"])
    fleet.kill(frozen, signal.SIGCONT)
    fleet.until(lambda: "heart.buried" in fleet.logs())
    fleet.let_go("mail")
    view = fleet.ended(message)
    fleet.until(lambda: "late_news" in fleet.logs() or "news_dropped" in fleet.logs())

    assert view.state is State.SUCCEEDED
    assert fleet.view(message) == view
    assert [a.outcome for a in fleet.attempts(message)] == ["worker-silent", "succeeded"]


def test_a_worker_that_was_frozen_works_again(fleet, actors):
    worker = fleet.start()
    fleet.kill(worker, signal.SIGSTOP)
    other = fleet.start()
    fleet.until(lambda: "reaper.buried" in fleet.logs())
    fleet.kill(other)

    fleet.kill(worker, signal.SIGCONT)

    assert actors.add.send(1).get_result(block=True, timeout=20_000) == 3


def test_a_deploy_finishes_what_runs_and_hands_back_the_rest(fleet, actors):
    first = fleet.start(threads=1)
    messages = [actors.hold.send(f"{n}") for n in range(10)]
    fleet.noted("0")

    first.terminate()
    fleet.until(lambda: "Shutting down" in fleet.logs())
    fleet.until(lambda: fleet.count("state = 'queued'") == 9)
    fleet.let_go("0")
    assert first.wait(20) == 0

    assert fleet.view(messages[0]).state is State.SUCCEEDED
    assert [fleet.view(m).attempts for m in messages] == [1] + [0] * 9
    for n in range(1, 10):
        fleet.let_go(f"{n}")
    fleet.start()
    assert {fleet.ended(m).state for m in messages} == {State.SUCCEEDED}
    assert sorted(fleet.journal()) == [f"{n}" for n in range(10)]


def test_a_stopping_worker_hands_back_what_it_claimed_ahead_before_anything_else(fleet, actors):
    # A heartbeat this slow keeps the hand-back of stale claims, a chore, out of the way.
    worker = fleet.start(threads=1, POSTLUDE_HEARTBEAT="60s", POSTLUDE_LEASE="3m")
    actors.hold.send("gate")
    fleet.noted("gate")
    for n in range(300):
        actors.jot.send(f"{n}")
    long = actors.hold.send("long")
    for _ in range(50):
        actors.jot.send("ahead")
    fleet.let_go("gate")
    fleet.noted("long")
    fleet.until(lambda: fleet.count("state = 'running'") > 1)

    worker.terminate()
    fleet.until(lambda: fleet.count("state = 'running'") == 1)

    assert fleet.view(long).state is State.RUNNING
    fleet.let_go("long")
    assert worker.wait(20) == 0
    assert fleet.view(long).state is State.SUCCEEDED
    # A claim that was under way when the worker was told to stop came back, too.
    assert fleet.count("state = 'running'") == 0
    assert fleet.count("state = 'queued' AND attempts > 0") == 0


def test_a_task_that_outlasts_the_deploy_is_handed_back(fleet, actors):
    first = fleet.start(POSTLUDE_SHUTDOWN_TIMEOUT="300ms")
    message = actors.hold.send("long")
    fleet.noted("long")

    assert fleet.stop(first) == 0

    view = fleet.view(message)
    assert (view.state, view.crashes, view.retries) == (State.QUEUED, 0, 0)
    assert [a.outcome for a in fleet.attempts(message)] == ["interrupted"]


def test_a_worker_that_is_stopping_takes_no_task_that_comes_meanwhile(fleet, actors):
    first = fleet.start()
    long = actors.hold.send("long")
    fleet.noted("long")

    first.terminate()
    fleet.until(lambda: "Stopping worker" in fleet.logs())
    messages = [actors.jot.send(f"{n}") for n in range(20)]
    second = fleet.start()
    for message in messages:
        assert fleet.ended(message).state is State.SUCCEEDED

    # Nothing was claimed only to be handed back: no task has moved on to a further generation.
    assert fleet.count("generation > 1") == 0
    fleet.let_go("long")
    assert (fleet.ended(long).state, first.wait(20)) == (State.SUCCEEDED, 0)
    assert fleet.stop(second) == 0


def test_an_actor_that_wants_to_know_is_interrupted_and_loses_no_retry(fleet, actors):
    first = fleet.start()
    message = actors.hold_until_told.send("polite")
    fleet.noted("polite")

    assert fleet.stop(first) == 0

    view = fleet.view(message)
    assert (view.state, view.retries) == (State.QUEUED, 0)
    assert [a.outcome for a in fleet.attempts(message)] == ["interrupted"]


def test_two_workers_share_the_tasks_and_run_each_once(fleet, actors):
    fleet.start()
    fleet.start()

    for number in range(300):
        actors.jot.send(f"{number}")

    fleet.until(lambda: fleet.count("state = 'succeeded'") == 300)
    assert sorted(fleet.journal(), key=int) == [f"{number}" for number in range(300)]
    assert fleet.count("attempts <> 1") == 0


def test_a_request_to_stop_that_comes_twice_is_one(fleet, actors):
    worker = fleet.start()
    message = actors.hold.send("mail")
    fleet.noted("mail")

    fleet.kill(worker, signal.SIGTERM)
    fleet.until(lambda: "Shutting down" in fleet.logs())
    fleet.let_go("mail")

    assert worker.wait(20) == 0
    assert fleet.view(message).state is State.SUCCEEDED


def test_a_request_to_stop_that_comes_while_it_boots_is_one_too(fleet, actors):
    worker = fleet.launch(module="slow_to_boot")
    fleet.noted("booting")

    fleet.kill(worker, signal.SIGTERM)
    fleet.let_go("boot")

    assert worker.wait(20) == 0
    assert fleet.logged("worker.ready") == 1
    assert fleet.logged("Killing worker process") == 0


def test_a_worker_that_is_told_again_to_stop_does_not_hang(fleet, actors):
    worker = fleet.start(POSTLUDE_SHUTDOWN_TIMEOUT="60s")
    actors.hold.send("mail")
    fleet.noted("mail")
    worker.terminate()
    fleet.until(lambda: "Shutting down" in fleet.logs())

    fleet.until(lambda: worker.terminate() or worker.poll() is not None)
