"""``postlude.testing.inline``: tasks run in the test, as a worker would run them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import dramatiq
import pytest
from dramatiq.middleware import CurrentMessage
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

import postlude
from postlude import BackgroundTasks
from postlude.errors import BadArguments
from postlude.testing import inline

seen = []


@dramatiq.actor(queue_name="mail")
def greet(name: str, at: datetime, *, key: UUID | None = None):
    seen.append((name, at, key))
    return f"hello {name}"


@dramatiq.actor
def fail(word: str):
    raise LookupError(word)


@dramatiq.actor
async def greet_async(name: str):
    await asyncio.sleep(0)
    seen.append(name)


@dramatiq.actor
def chain(depth: int):
    seen.append((depth, CurrentMessage.get_current_message().message_id))
    if depth:
        chain.send(depth - 1)
    seen.append((depth, CurrentMessage.get_current_message().message_id))


@dramatiq.actor
def needs_no_loop():
    asyncio.run(asyncio.sleep(0))
    seen.append("ran")


@pytest.fixture(autouse=True)
def nothing_on_disk(tmp_path, environment):
    """No ledger, no migration; and at the end there is still none."""
    environment(data_dir=str(tmp_path / "var"))
    seen.clear()
    yield
    assert not (tmp_path / "var").exists()


@pytest.fixture
def app():
    app = FastAPI()
    postlude.install(app)
    return app


def test_tasks_of_a_request_run_after_its_response_with_what_came_back_from_json(app):
    at, key = datetime(2027, 1, 1, tzinfo=UTC), uuid4()

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        handle = tasks.add_task(greet, "Ada", at, key=key)
        seen.append("endpoint")
        return handle.id

    with inline() as tasks:
        id_ = TestClient(app).post("/").json()

    assert seen == ["endpoint", ("Ada", at, key)]
    (ran,) = tasks.ran
    assert (ran.id, ran.actor, ran.queue) == (id_, "greet", "mail")
    assert ran.arguments == {"name": "Ada", "at": at, "key": key}
    assert (ran.result, ran.error, ran.delay) == ("hello Ada", None, None)


def test_tasks_of_a_failed_request_do_not_run(app):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(fail, "never")
        raise HTTPException(418)

    with inline() as tasks:
        assert TestClient(app).post("/").status_code == 418

    assert tasks.ran == []


def test_an_object_made_by_hand_and_not_called_runs_nothing(app):
    @app.post("/")
    async def endpoint():
        BackgroundTasks().add_task(fail, "never")

    with inline() as tasks:
        TestClient(app).post("/")

    assert tasks.ran == []


def test_bad_arguments_are_refused_as_always(app):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(greet, "Ada", "no date")

    with inline() as tasks, pytest.raises(BadArguments, match="at"):
        TestClient(app).post("/")

    assert tasks.ran == []


def test_an_error_in_a_task_reaches_the_test_after_the_other_tasks_have_run(app):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(fail, "here")
        tasks.add_task(greet_async, "Ada")

    with inline() as tasks, pytest.raises(LookupError, match="here"):
        TestClient(app).post("/")

    assert [ran.actor for ran in tasks.ran] == ["fail", "greet_async"]
    assert seen == ["Ada"]


def test_an_error_may_be_noted_instead(app):
    with inline(raise_errors=False) as tasks:
        fail.send("there")

    (ran,) = tasks.ran
    assert isinstance(ran.error, LookupError)


def test_send_runs_at_once_and_raises():
    with inline() as tasks:
        with pytest.raises(LookupError, match="there"):
            fail.send("there")
        greet_async.send("Ada")

    assert [ran.actor for ran in tasks.ran] == ["fail", "greet_async"]


def test_tasks_that_send_tasks_know_which_message_is_theirs():
    with inline() as tasks:
        chain.send(1)

    outer, inner = (ran.id for ran in tasks.ran)
    assert seen == [(1, outer), (0, inner), (0, inner), (1, outer)]
    assert CurrentMessage.get_current_message() is None


def test_delays_are_noted_and_not_waited_for(app):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task_with_options(greet_async, args=("Ada",), delay=timedelta(days=1))

    with inline() as tasks:
        TestClient(app).post("/")
        greet_async.send_with_options(args=("Bob",), delay=60_000)

    assert [ran.delay for ran in tasks.ran] == [timedelta(days=1), timedelta(minutes=1)]
    assert seen == ["Ada", "Bob"]


def test_an_actor_runs_where_no_event_loop_does(app):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(needs_no_loop)
        needs_no_loop.send()

    with inline():
        TestClient(app).post("/")

    assert seen == ["ran", "ran"]


def test_outside_of_it_everything_is_as_before(life):
    with inline():
        pass

    greet_async.send("Ada")

    life.settle()
    assert [view.actor for view in life.views()] == ["greet_async"]
