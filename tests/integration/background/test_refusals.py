"""What a client is told, and what is left behind, when tasks cannot be accepted."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack, contextmanager

import pytest
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.middleware.gzip import GZipMiddleware

import postlude
from postlude import BackgroundTasks, process
from postlude.dispatch import promises
from postlude.errors import LedgerError, PostludeError
from postlude.ledger import commit
from postlude.ledger.ledger import Ledger
from postlude.settings import settings


@pytest.fixture
def impatient(environment, site):
    """A site whose requests wait a quarter of a second for the ledger."""
    environment(write_timeout="250ms")
    _add_routes(site)
    return site


def _add_routes(site):
    async def session():
        try:
            yield
        except BaseException as error:
            site.events.append(f"rollback after {type(error).__name__}")
            raise
        site.events.append("commit")

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks, x: int = 1, _=Depends(session)):
        site.ids = [tasks.add_task(site.keep, x).id]
        tasks.add_task(site.events.append, "plain")
        return {"id": site.ids[0]}


@pytest.fixture(autouse=True)
def _actor(site, keep):
    site.keep = keep


def _warm_up(site):
    """Open the ledger and begin this process's life: from here on, only a write can fail."""
    site.settle()
    asyncio.run(promises.door())


@contextmanager
def _stuck():
    """Let the writer get stuck between an accept's statements and its commit."""
    go_on, accepts = threading.Event(), promises._promises._accepts
    write = accepts._write

    def get_stuck(tx, entries):
        write(tx, entries)
        go_on.wait(10)

    accepts._write = get_stuck
    try:
        yield
    finally:
        accepts._write = write
        go_on.set()


def test_an_unconfirmed_accept_is_unknown_with_its_ids_and_withdrawn_once_it_is_stored(impatient):
    site = impatient
    _warm_up(site)

    with _stuck():
        response = site._send("POST", "/")

    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["retry-after"]
    problem = response.json()
    assert problem["code"] == "accept-unknown"
    assert problem["type"] == "urn:postlude:problem:accept-unknown"
    assert problem["status"] == 503
    assert problem["tasks"] == site.ids
    assert site.events == ["rollback after Refused"]
    site.settle()
    (view,) = site.views()
    assert (str(view.state), str(view.reason)) == ("cancelled", "request-failed")


def test_an_accept_that_has_not_begun_is_refused_as_busy_and_never_stored(impatient):
    site = impatient
    _warm_up(site)

    with site.life.locked():
        response = site._send("POST", "/")

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert "tasks" not in response.json()
    site.settle()
    assert site.tasks() == []
    assert site.events == ["rollback after Refused"]


def _wait_until_running(future):
    deadline = threading.Event()
    while not future.running():
        deadline.wait(0.001)


def test_a_full_queue_is_refused_as_busy(environment, site):
    environment(write_timeout="5s", write_queue="1")
    _add_routes(site)
    _warm_up(site)

    with site.life.locked():
        ledger = process.current().ledger
        _wait_until_running(ledger.submit(lambda _tx: None))
        waiting = ledger.submit(lambda _tx: None)
        response = site._send("POST", "/")

    waiting.result(10)
    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    site.settle()
    assert site.tasks() == []
    assert not promises._promises._due


def test_a_ledger_that_fails_is_unavailable(impatient, monkeypatch):
    site = impatient
    monkeypatch.setattr(commit, "GIVE_UP_S", 0.0)
    monkeypatch.setattr(commit, "RETRY_S", 0.0)
    _warm_up(site)
    process.current().ledger.write(_rename("postlude_tasks", "gone"))

    response = site._send("POST", "/")

    process.current().ledger.write(_rename("gone", "postlude_tasks"))
    assert (response.status_code, response.json()["code"]) == (503, "ledger-unavailable")
    assert site.tasks() == []
    assert site.events == ["rollback after Refused"]


def _rename(old, new):
    from sqlalchemy import text

    from postlude.ledger.statement import Statement

    statement = Statement(text(f"ALTER TABLE {old} RENAME TO {new}"))
    return lambda tx: tx.run(statement)


def test_a_process_that_cannot_go_on_record_refuses_and_says_why(site, tmp_path, life):
    (tmp_path / "run").touch()  # where the folder of the lock files would be made
    _add_routes(site)

    response = site._send("POST", "/")

    assert (response.status_code, response.json()["code"]) == (503, "ledger-unavailable")
    assert "lock file" in response.json()["detail"]
    (tmp_path / "run").unlink()
    assert site._send("POST", "/").status_code == 200


def test_a_ledger_that_was_never_migrated_is_a_problem_with_what_to_do(site, tmp_path, environment):
    environment(data_dir=str(tmp_path / "fresh"))
    _add_routes(site)

    response = site._send("POST", "/")

    assert (response.status_code, response.json()["code"]) == (503, "ledger-too-old")
    assert "postlude migrate" in response.json()["detail"]


def test_the_refusal_passes_through_the_apps_middleware(impatient):
    site = impatient
    site.app.add_middleware(CORSMiddleware, allow_origins=["*"])
    _warm_up(site)

    with site.life.locked():
        response = site._send("POST", "/", headers={"origin": "http://elsewhere.example"})

    assert response.status_code == 503
    assert response.headers["access-control-allow-origin"] == "*"


def test_a_refusal_in_a_mounted_app_passes_through_the_middleware_of_both(impatient):
    site = impatient
    outer = FastAPI()
    outer.mount("/inner", site.app)
    outer.add_middleware(CORSMiddleware, allow_origins=["*"])
    site.app.add_middleware(GZipMiddleware, minimum_size=1)
    postlude.install(outer)
    _warm_up(site)

    with site.life.locked():
        response = TestClient(outer).post("/inner/", headers={"origin": "http://x.example"})

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["access-control-allow-origin"] == "*"


def test_a_refusal_between_two_installed_apps_is_not_tried_again(impatient, keep, logs):
    site = impatient
    outer = FastAPI()
    outer.mount("/inner", site.app)
    postlude.install(outer)

    @site.app.post("/by-hand")
    async def by_hand():
        tasks = BackgroundTasks()
        tasks.add_task(keep, 1)
        return JSONResponse({}, background=tasks)

    _warm_up(site)

    with site.life.locked():
        assert TestClient(outer).post("/inner/by-hand").status_code == 503

    assert [line["event"] for line in logs if "task_ids" in line] == ["task.refused"]


def test_a_layer_that_swallows_exceptions_does_not_get_to_answer_instead(impatient):
    site = impatient

    class Swallows:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            try:
                await self.app(scope, receive, send)
            except Exception:  # noqa: BLE001
                await JSONResponse({"code": "swallowed"}, 500)(scope, receive, send)

    site.app.router.routes[-1].app = Swallows(site.app.router.routes[-1].app)
    _warm_up(site)

    with site.life.locked():
        response = site._send("POST", "/")

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")


def test_an_app_that_handles_our_errors_does_not_meet_the_refusal(impatient, logs):
    site = impatient

    @site.app.exception_handler(PostludeError)
    async def handle(request, error):
        return JSONResponse({"handled": True}, 500)

    _warm_up(site)

    with site.life.locked():
        response = site._send("POST", "/")

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert "task.refusal_replaced" not in [line["event"] for line in logs]


def test_a_dependency_that_fails_to_roll_back_changes_nothing_and_is_logged(impatient, keep, logs):
    site = impatient

    async def session():
        try:
            yield
        except Exception:  # noqa: BLE001 # as bad rollbacks do
            raise ZeroDivisionError from None

    @site.app.post("/rollback")
    async def endpoint(tasks: BackgroundTasks, _=Depends(session)):
        tasks.add_task(keep, 1)

    _warm_up(site)

    with site.life.locked():
        response = site._send("POST", "/rollback")

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    (line,) = [line for line in logs if line["event"] == "task.refusal_replaced"]
    assert line["by"] == "ZeroDivisionError"


def test_a_ledger_that_cannot_be_opened_in_time_is_busy_and_works_once_it_can(impatient):
    site = impatient
    other = Ledger(settings())
    held = other.connect()

    with held.transaction():
        response = site._send("POST", "/")

    held.close()
    other.close()
    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert "could not be opened within 0.25 s" in response.json()["detail"]

    _warm_up(site)
    assert site.call("POST", "/").status_code == 200
    assert site.tasks() == [(1, "queued")]


def test_a_late_refusal_truncates_the_stream_and_keeps_what_was_promised(impatient, keep):
    site = impatient

    with ExitStack() as stack:
        _add_stream(site, keep, lambda: stack.enter_context(site.life.locked()))
        _truncated(site)

    site.settle()
    assert site.tasks() == [("promised", "queued")]


def test_a_late_accept_that_is_confirmed_too_late_is_released(impatient, keep):
    """The response has begun, so the client may count on what it was told by then."""
    site = impatient

    with ExitStack() as stack:
        _add_stream(site, keep, lambda: stack.enter_context(_stuck()))
        _truncated(site)

    site.settle()
    assert site.tasks() == [("promised", "queued"), ("late", "queued")]


def _add_stream(site, keep, obstruct):
    @site.app.get("/stream")
    async def stream(tasks: BackgroundTasks):
        tasks.add_task(keep, "promised")

        async def body():
            yield b"x"
            tasks.add_task(keep, "late")
            obstruct()

        return StreamingResponse(body())

    _warm_up(site)


def _truncated(site):
    with pytest.raises(LedgerError):
        TestClient(site.app).get("/stream")


def test_a_message_that_is_added_twice_is_refused_and_nothing_is_stored(site, keep):
    caught = []

    @site.app.post("/twice")
    async def twice(tasks: BackgroundTasks):
        message = keep.message("x")
        tasks.add_task(message)
        try:
            tasks.add_task(message)
        except ValueError as error:
            caught.append(error)
            raise

    response = site.call("POST", "/twice")

    assert response.status_code == 500
    assert "add a message once" in str(caught[0])
    assert site.tasks() == []


def test_a_refusal_is_logged_with_its_ids(impatient, logs):
    site = impatient
    _warm_up(site)

    with site.life.locked():
        site._send("POST", "/")

    (line,) = [line for line in logs if line["event"] == "task.refused"]
    assert line["code"] == "ledger-busy"
    assert line["task_ids"] == site.ids
