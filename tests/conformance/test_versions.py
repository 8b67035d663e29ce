"""Two versions of the code take from one queue, as in every deploy: a task waits for the one it fits."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest

from postlude import process
from postlude.ledger import clock
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept
from postlude.states import Reason, State

OLD = {"name": "ada"}
NEW = {"name": "ada", "shout": True}


def put(actors, arguments):
    """Add a task as a process with other code would; this one knows neither version."""
    now = clock.now()
    text = json.dumps(arguments)
    task = NewTask(str(uuid4()), "versioned", actors.QUEUE, text, "{}", 0, None, now)
    process.current().ledger.write(partial(accept.enqueue, task=task, now=now))
    return SimpleNamespace(message_id=task.id)


def refusals(fleet, message, count):
    """Return the attempts of a task once ``count`` workers have handed it back as unfit."""
    attempts = fleet.until(
        lambda: len(found := fleet.attempts(message)) >= count and found, patience_s=60
    )
    assert {a.outcome for a in attempts[:count]} == {"unfit"}
    return attempts


def occupy(fleet, actors, word):
    """Keep a worker with one thread busy until the test lets it go."""
    actors.hold.send(word)
    fleet.noted(word)


def busy(fleet, actors, module, **variables):
    """Start a worker that runs ``module`` and keep it busy with the word of that name."""
    worker = fleet.start(module=module, threads=1, **variables)
    occupy(fleet, actors, module)
    return worker


def test_arguments_that_only_newer_code_takes_wait_for_it_and_not_hot(fleet, actors):
    busy(fleet, actors, "code_v2")
    old = fleet.start(module="code_v1")
    message = put(actors, NEW)

    first, second, *_ = refusals(fleet, message, 2)
    view = fleet.view(message)
    fleet.stop(old)
    fleet.let_go("code_v2")

    assert fleet.ended(message).state is State.SUCCEEDED
    assert fleet.view(message).result == "v2 True"
    assert (first.error_type, first.worker) == ("BadArguments", second.worker)
    assert "unexpected argument 'shout'" in first.error_message
    assert second.claimed_at - first.finished_at >= timedelta(seconds=1)
    assert view.retries == view.crashes == 0


def test_arguments_of_old_calls_run_wherever_they_fit(fleet, actors):
    fleet.start(module="code_v1")
    fleet.start(module="code_v2")

    ended = [fleet.ended(put(actors, OLD)) for _ in range(5)]

    assert {(view.state, view.attempts) for view in ended} == {(State.SUCCEEDED, 1)}


def test_without_another_version_they_fail_at_once(fleet, actors):
    fleet.start(module="code_v1")

    message = put(actors, NEW)

    view = fleet.ended(message)
    (attempt,) = fleet.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert (attempt.outcome, attempt.error_type) == ("failed", "BadArguments")


def test_once_the_other_version_has_left_they_fail(fleet, actors):
    newer = busy(fleet, actors, "code_v2", POSTLUDE_SHUTDOWN_TIMEOUT="100ms")
    fleet.start(module="code_v1")
    message = put(actors, NEW)
    refusals(fleet, message, 1)

    fleet.stop(newer)

    view = fleet.ended(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)


def test_arguments_that_no_version_takes_fail_when_each_has_said_so(fleet, actors):
    busy(fleet, actors, "code_v2")
    fleet.start(module="code_v1", threads=1)
    message = put(actors, {"nonsense": 1})
    refusals(fleet, message, 1)
    occupy(fleet, actors, "code_v1")
    fleet.let_go("code_v2")

    view = fleet.ended(message)

    *_, before, last = fleet.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert (before.outcome, last.outcome) == ("unfit", "failed")
    assert before.worker != last.worker
    assert before.fingerprint
    fleet.let_go("code_v1")


def test_an_actor_that_one_worker_does_not_know_waits_for_one_that_does(fleet, actors, broker_url):
    ignorant = fleet.start()
    message = put(actors, OLD)

    if broker_url:  # RabbitMQ pushes; from the ledger a worker takes what it knows
        first, second, *_ = refusals(fleet, message, 2)
        assert (first.error_type, first.started_at) == ("UnknownActor", None)
        assert second.claimed_at - first.finished_at >= timedelta(seconds=1)
    else:
        actors.add.send(1).get_result(block=True, timeout=20_000)
        assert (fleet.view(message).state, fleet.attempts(message)) == (State.QUEUED, [])
    fleet.start(module="code_v1")
    fleet.stop(ignorant)

    view = fleet.until(lambda: (v := fleet.view(message)).finished_at and v, patience_s=60)
    assert (view.state, view.result) == (State.SUCCEEDED, "v1")


@pytest.mark.parametrize("broker_url", ["rabbitmq"], indirect=True)
def test_an_actor_that_nobody_knows_for_the_grace_is_unknown(fleet, actors):
    fleet.start(POSTLUDE_UNKNOWN_ACTOR_GRACE="2s")
    message = put(actors, OLD)

    view = fleet.ended(message)

    *before, last = fleet.attempts(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.UNKNOWN_ACTOR)
    assert (last.outcome, last.error_type) == ("failed", "UnknownActor")
    assert {a.outcome for a in before} == {"unfit"}
    assert last.finished_at - before[0].finished_at >= timedelta(seconds=2)


@pytest.mark.parametrize("broker_url", ["rabbitmq"], indirect=True)
def test_as_long_as_a_live_worker_knows_it_nothing_is_unknown(fleet, actors):
    busy(fleet, actors, "code_v1")
    ignorant = fleet.start(POSTLUDE_UNKNOWN_ACTOR_GRACE="0s")
    message = put(actors, OLD)
    refusals(fleet, message, 2)
    fleet.stop(ignorant)
    fleet.let_go("code_v1")

    assert fleet.ended(message).state is State.SUCCEEDED
