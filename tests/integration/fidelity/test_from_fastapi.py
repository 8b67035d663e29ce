"""Where Postlude differs from FastAPI: each line of the README's table, and what FastAPI does itself.

``LINES`` says which test proves which line.
"""

from __future__ import annotations

import os

import fastapi
import pytest
import structlog
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

import postlude
from postlude import BackgroundTasks, TaskHandle
from postlude.errors import NotInstalled
from postlude.states import State

WAIT_MS = 20_000


def test_an_actor_runs_in_a_worker_and_fastapi_runs_it_here(ledger, keep, post):
    ran, here = [], os.getpid()

    def ours(tasks: BackgroundTasks):
        return [tasks.add_task(keep, n).id for n in range(2)]

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(lambda: ran.append(os.getpid()))

    ids = post(ours).json()
    post(theirs)

    assert [ledger.released(task_id) for task_id in ids] == [State.QUEUED] * 2
    assert ran == [here]


def test_an_actor_starts_after_the_exit_code_of_dependencies_and_fastapis_task_before(
    ledger, keep, post
):
    seen = []

    def ours(tasks: BackgroundTasks):
        handle = tasks.add_task(keep)
        yield
        seen.append((handle.id, handle.state()))

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(lambda: seen.append("task"))
        yield
        seen.append("exit code")

    for dependency in (ours, theirs):
        post(lambda _=Depends(dependency): None)

    (task_id, state), *rest = seen
    assert (state, ledger.released(task_id)) == (State.ACCEPTED, State.QUEUED)
    assert rest == ["task", "exit code"]


def test_one_failing_task_stops_no_other_and_fastapis_stops_the_rest(actors, ledger, worker, post):
    ran, ids = [], []

    def ours(tasks: BackgroundTasks):
        ids.append(tasks.add_task(actors.fail, "no").id)
        ids.append(tasks.add_task(actors.double, 2).id)

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(lambda: 1 / 0)
        tasks.add_task(ran.append, "second")

    post(ours)
    with pytest.raises(ZeroDivisionError):  # it reaches the server, which closes the connection
        post(theirs, strict=True)

    assert TaskHandle(ids[1]).get_result(block=True, timeout=WAIT_MS) == 4
    assert ran == []


def test_wrong_arguments_raise_at_once_and_in_fastapi_after_the_response(ledger, keep, post):
    seen = []

    def ours(tasks: BackgroundTasks):
        with pytest.raises(TypeError, match="fidelity-keep"):
            tasks.add_task(keep, "many")

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(keep.fn, 1, 2, 3)
        seen.append("endpoint ended")

    assert post(ours).status_code == 200
    assert post(theirs).status_code == 200
    assert seen == ["endpoint ended"]


def test_arguments_must_be_json_and_fastapi_hands_over_any_object(ledger, keep, post):
    ran = []

    def ours(tasks: BackgroundTasks):
        with pytest.raises(TypeError):
            tasks.add_task(keep, object())

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(ran.append, ran)

    assert post(ours).status_code == 200
    post(theirs)
    assert ran == [ran]


def test_add_task_returns_a_handle_and_fastapis_returns_none(ledger, keep, post):
    def ours(tasks: BackgroundTasks):
        assert tasks.add_task(int) is None
        assert len(tasks.add_task(keep.message() | keep.message())) == 2
        return tasks.add_task(keep).id

    def theirs(tasks: fastapi.BackgroundTasks):
        assert tasks.add_task(int) is None

    task_id = post(ours).json()
    assert ledger.released(task_id) is State.QUEUED
    assert TaskHandle(task_id).state() is State.QUEUED
    assert post(theirs).status_code == 200


def test_a_background_of_ones_own_keeps_injected_tasks_and_fastapi_drops_them(ledger, keep, post):
    ran, ids = [], []

    def ours(tasks: BackgroundTasks):
        ids.append(tasks.add_task(keep).id)
        return JSONResponse({}, background=BackgroundTask(ran.append, "own"))

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(ran.append, "injected")
        return JSONResponse({}, background=BackgroundTask(ran.append, "own, too"))

    post(ours)
    post(theirs)

    assert ledger.released(ids[0]) is State.QUEUED
    assert ran == ["own", "own, too"]


def test_a_task_that_cannot_be_stored_is_a_503_and_the_session_rolls_back(keep, ledger, post):
    seen = []

    def session():
        try:
            yield
        except BaseException:
            seen.append("rollback")
            raise
        seen.append("commit")

    def ours(tasks: BackgroundTasks, _=Depends(session)):
        seen.append(tasks.add_task(keep).id)

    with ledger.locked():
        answer = post(ours)

    assert (answer.status_code, answer.json()["status"]) == (503, 503)
    assert seen[1:] == ["rollback"]


def test_without_install_the_request_fails_and_says_so(ledger, keep, post):
    def ours(tasks: BackgroundTasks):
        tasks.add_task(keep)

    assert post(ours, installed=False).status_code == 500
    with pytest.raises(NotInstalled, match=r"postlude\.install\(app\)"):
        post(ours, installed=False, strict=True)


def test_a_websocket_route_says_why_and_fastapis_never_runs_them(ledger):
    ran = []
    app = FastAPI()
    postlude.install(app)

    @app.websocket("/ours")
    async def ours(socket: WebSocket, tasks: BackgroundTasks):
        await socket.accept()

    @app.websocket("/theirs")
    async def theirs(socket: WebSocket, tasks: fastapi.BackgroundTasks):
        await socket.accept()
        tasks.add_task(ran.append, "never")
        await socket.close()

    with (
        pytest.raises(NotInstalled, match="WebSocket"),
        TestClient(app).websocket_connect("/ours"),
    ):
        pass
    with TestClient(app).websocket_connect("/theirs"):
        pass
    assert ran == []


def test_a_task_that_comes_after_the_request_is_refused_and_fastapis_never_runs(ledger, keep, post):
    kept, ran = [], []

    def ours(tasks: BackgroundTasks):
        kept.append(tasks)

    def theirs(tasks: fastapi.BackgroundTasks):
        kept.append(tasks)

    post(ours)
    post(theirs)

    with pytest.raises(RuntimeError, match="ended already"):
        kept[0].add_task(keep)
    kept[1].add_task(ran.append, "late")
    assert ran == []


def test_actors_do_not_wait_for_plain_functions(ledger, keep, post):
    seen = []

    def ours(tasks: BackgroundTasks):
        def look(task_id):
            seen.append(ledger.released(task_id))

        tasks.add_task(look, tasks.add_task(keep).id)

    with structlog.testing.capture_logs() as lines:
        post(ours)

    assert seen == [State.QUEUED]
    assert "look" in next(line for line in lines if line["event"] == "task.in_process")["function"]


@pytest.fixture
def engine(ledger):
    engine = postlude.engine()
    yield engine
    engine.dispose()


def test_a_bound_sessions_commit_decides_and_fastapi_drops_the_tasks_of_what_was_committed(
    ledger, keep, post, engine
):
    ids, ran = [], []

    def ours(tasks: BackgroundTasks):
        with Session(engine) as session:
            tasks.bind(session)
            ids.append(tasks.add_task(keep).id)
            session.commit()
        raise HTTPException(418)

    def theirs(tasks: fastapi.BackgroundTasks):
        tasks.add_task(ran.append, "never")
        with Session(engine) as session:
            session.commit()
        raise HTTPException(418)

    assert (post(ours).status_code, post(theirs).status_code) == (418, 418)
    assert [ledger.released(task_id) for task_id in ids] == [State.QUEUED]
    assert ran == []


def test_a_response_before_the_commit_is_a_500(ledger, keep, post, engine):
    def ours(tasks: BackgroundTasks):
        with Session(engine) as session:
            tasks.bind(session)
            tasks.add_task(keep)

    response = post(ours)

    assert (response.status_code, response.json()["code"]) == (500, "not-committed")


LINES = {
    "An actor added with `add_task` runs in a worker": (
        test_an_actor_runs_in_a_worker_and_fastapi_runs_it_here,
    ),
    "A durable task starts after the exit code": (
        test_an_actor_starts_after_the_exit_code_of_dependencies_and_fastapis_task_before,
    ),
    "One task that fails": (test_one_failing_task_stops_no_other_and_fastapis_stops_the_rest,),
    "`add_task` with wrong arguments": (
        test_wrong_arguments_raise_at_once_and_in_fastapi_after_the_response,
    ),
    "An actor's arguments": (test_arguments_must_be_json_and_fastapi_hands_over_any_object,),
    "`add_task` returns a handle": (test_add_task_returns_a_handle_and_fastapis_returns_none,),
    "`Response(background=…)`": (
        test_a_background_of_ones_own_keeps_injected_tasks_and_fastapi_drops_them,
    ),
    "A task cannot be stored": (
        test_a_task_that_cannot_be_stored_is_a_503_and_the_session_rolls_back,
    ),
    "Without `postlude.install(app)`": (test_without_install_the_request_fails_and_says_so,),
    "Of tasks bound to a session": (
        test_a_bound_sessions_commit_decides_and_fastapi_drops_the_tasks_of_what_was_committed,
        test_a_response_before_the_commit_is_a_500,
    ),
    "In a WebSocket route": (test_a_websocket_route_says_why_and_fastapis_never_runs_them,),
    "A task added when the request has ended": (
        test_a_task_that_comes_after_the_request_is_refused_and_fastapis_never_runs,
    ),
    "Plain functions run": (test_actors_do_not_wait_for_plain_functions,),
}


def test_each_line_of_the_readmes_table_has_its_test(lines):
    found = lines("from FastAPI")

    assert found
    assert [[key for key in LINES if line.startswith(key)] for line in found] == [
        [key] for key in LINES
    ]
