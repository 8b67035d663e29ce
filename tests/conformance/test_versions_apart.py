"""A task that runs in a child waits for the version of the code that it fits, as any other does."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest

from postlude import process
from postlude.ledger import clock
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept
from postlude.states import Reason, State

NEW = {"name": "ada", "shout": True}


@pytest.fixture(scope="module")
def broker_url() -> str:
    """Where a task comes from makes no difference to where it runs."""
    return ""


def put(actors, actor, arguments, **options):
    """Add a task as a process with other code would; this one knows neither version."""
    now = clock.now()
    texts = json.dumps(arguments), json.dumps(options)
    task = NewTask(str(uuid4()), actor, actors.QUEUE, *texts, 0, None, now)
    process.current().ledger.write(partial(accept.enqueue, task=task, now=now))
    return SimpleNamespace(message_id=task.id)


def busy_v2(fleet, actors):
    """Start a worker with the newer code and keep it busy until the test lets it go."""
    fleet.start(module="apart_v2", threads=1)
    actors.hold.send("busy")
    fleet.noted("busy")


def outcomes(fleet, message):
    return [attempt.outcome for attempt in fleet.attempts(message)]


def test_an_isolated_one_waits_for_newer_code(fleet, actors):
    busy_v2(fleet, actors)
    old = fleet.start(module="apart_v1")
    message = put(actors, "versioned_apart", NEW, on_failure="told")
    fleet.until(lambda: outcomes(fleet, message))
    fleet.stop(old)
    fleet.let_go("busy")

    view = fleet.ended(message)

    *refusals, last = fleet.attempts(message)
    assert (view.state, view.result, view.retries) == (State.SUCCEEDED, "v2 True", 0)
    assert {(a.outcome, a.error_type, a.started_at) for a in refusals} == {
        ("unfit", "BadArguments", None)
    }
    assert "unexpected argument 'shout'" in refusals[0].error_message
    assert fleet.count("actor = 'told'") == 0, "it has not failed"
    assert last.outcome == "succeeded"


def test_an_isolated_one_that_fits_nobody_fails_at_once(fleet, actors):
    fleet.start(module="apart_v1")
    message = put(actors, "versioned_apart", NEW, on_failure="told")

    view = fleet.ended(message)

    assert (view.state, view.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert outcomes(fleet, message) == ["failed"]
    assert fleet.count("actor = 'told'") == 1


def test_a_suspect_waits_for_newer_code_and_stays_one(fleet, actors):
    busy_v2(fleet, actors)
    first = fleet.start(module="apart_v2")
    message = put(actors, "versioned_holding", NEW)
    fleet.noted("ada")
    fleet.kill(first)
    old = fleet.start(module="apart_v1")
    fleet.until(lambda: "unfit" in outcomes(fleet, message))
    assert fleet.count("actor = 'versioned_holding' AND suspect = 1") == 1
    fleet.stop(old)
    fleet.let_go("ada")
    fleet.let_go("busy")

    view = fleet.ended(message)

    assert (view.state, view.result, view.crashes) == (State.SUCCEEDED, "v2 True", 0)
    first, *refusals, last = outcomes(fleet, message)
    assert (first, set(refusals), last) == ("worker-died", {"unfit"}, "succeeded")
