"""``postlude.testing.inline`` runs pipelines and groups as a worker would, in their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
from dramatiq import group, pipeline
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

import postlude
from postlude import BackgroundTasks
from postlude.errors import BadArguments, BadResult
from postlude.testing import inline

QUEUE = "inline-compositions"


@dramatiq.actor(actor_name="inline-add", queue_name=QUEUE)
def add(x: int, y: int = 1) -> int:
    return x + y


@dramatiq.actor(actor_name="inline-many", queue_name=QUEUE)
async def many(*numbers: int) -> list[int]:
    return list(numbers)


@dramatiq.actor(actor_name="inline-when", queue_name=QUEUE)
def when(at: datetime) -> datetime:
    return at


@dramatiq.actor(actor_name="inline-fail", queue_name=QUEUE)
def fail(word: str = "failed") -> None:
    raise LookupError(word)


@dramatiq.actor(actor_name="inline-odd", queue_name=QUEUE)
def odd() -> object:
    return object()


@dramatiq.actor(actor_name="inline-done", queue_name=QUEUE)
def done() -> None:
    """Ends a group."""


@pytest.fixture(autouse=True)
def nothing_on_disk(tmp_path, environment):
    environment(data_dir=str(tmp_path / "var"))
    yield
    assert not (tmp_path / "var").exists()


@pytest.fixture
def app():
    app = FastAPI()
    postlude.install(app)
    return app


def names(tasks):
    return [ran.actor.removeprefix("inline-") for ran in tasks.ran]


def with_callback(*children):
    together = group(children)
    together.add_completion_callback(done.message())
    return together


def test_steps_run_in_order_with_the_results_of_those_before_them():
    with inline() as tasks:
        (add.message(1, 2) | add.message(3) | many.message(7, 8)).run()

    assert names(tasks) == ["add", "add", "many"]
    assert [ran.arguments for ran in tasks.ran] == [
        {"x": 1, "y": 2},
        {"x": 3, "y": 3},
        {"numbers": (7, 8, 6)},
    ]
    assert tasks.ran[-1].result == [7, 8, 6]


def test_a_result_goes_through_json_and_is_typed_again():
    at = datetime(2027, 1, 1, tzinfo=UTC)

    with inline() as tasks:
        (when.message(at) | when.message()).run()

    assert tasks.ran[1].arguments == {"at": at}


def test_what_a_step_would_wait_for_is_noted():
    with inline() as tasks:
        (add.message(1) | add.message_with_options(delay=5000) | add.message()).run()

    assert [ran.delay for ran in tasks.ran] == [None, timedelta(seconds=5), None]


def test_steps_after_a_failure_do_not_run_and_the_error_reaches_the_test():
    with inline() as tasks, pytest.raises(LookupError):
        (add.message(1) | fail.message_with_options(pipe_ignore=True) | many.message()).run()

    assert names(tasks) == ["add", "fail"]


def test_a_step_that_its_result_does_not_fit_fails():
    with inline(raise_errors=False) as tasks:
        (many.message(1) | add.message(1) | done.message_with_options(pipe_ignore=True)).run()

    assert names(tasks) == ["many", "add"]
    assert isinstance(tasks.ran[1].error, BadArguments)


def test_a_result_that_cannot_be_passed_on_is_an_error():
    with inline() as tasks, pytest.raises(BadResult):
        (odd.message() | many.message()).run()
    with inline() as fine:
        (odd.message() | done.message_with_options(pipe_ignore=True)).run()

    assert (names(tasks), names(fine)) == (["odd"], ["odd", "done"])


def test_callbacks_run_once_after_all_members_also_those_that_failed():
    children = [add.message(1) | add.message(), fail.message() | many.message(), add.message(9)]

    with inline(raise_errors=False) as tasks:
        with_callback(*children).run()

    assert names(tasks) == ["add", "add", "fail", "add", "done"]


def test_a_long_pipeline_runs():
    with inline() as tasks:
        pipeline([add.message(0), *(add.message() for _ in range(2000))]).run()

    assert tasks.ran[-1].result == 2001


def test_those_of_a_request_run_after_its_response_in_their_order(app):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(add.message(1) | add.message())
        tasks.add_task(with_callback(add.message(2), add.message(3)))
        return len(tasks)

    with inline() as tasks:
        assert TestClient(app).post("/").json() == 5

    assert names(tasks) == ["add", "add", "add", "add", "done"]
    assert [ran.result for ran in tasks.ran] == [2, 3, 3, 4, None]


def test_those_of_a_failed_request_do_not_run(app):
    @app.post("/hand")
    async def by_hand():
        BackgroundTasks().add_task(with_callback(add.message(1) | add.message()))

    @app.post("/failed")
    async def failed(tasks: BackgroundTasks):
        tasks.add_task(with_callback(add.message(1)))
        raise HTTPException(418)

    with inline() as tasks:
        TestClient(app).post("/hand")
        TestClient(app).post("/failed")

    assert tasks.ran == []
