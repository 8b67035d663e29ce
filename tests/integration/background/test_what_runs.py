"""Which tasks are accepted, which are dropped, in what order, and how far they are when."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response
from fastapi import BackgroundTasks as FastAPITasks
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from postlude import BackgroundTasks, TaskHandle
from postlude.dispatch import background


def test_tasks_of_all_dependencies_and_the_endpoint_are_merged_in_order(site, keep):
    async def from_router(tasks: BackgroundTasks):
        tasks.add_task(keep, "router")

    async def nested(tasks: BackgroundTasks):
        tasks.add_task(keep, "nested")
        yield
        site.events.append("nested torn down")

    def in_a_thread(tasks: BackgroundTasks, _=Depends(nested)):
        tasks.add_task(site.events.append, "plain of the dependency")
        tasks.add_task(keep, "thread")

    async def session():
        yield
        site.events.append(("commit", site.tasks()))

    async def plain(word):
        site.events.append(word)

    router = APIRouter(dependencies=[Depends(from_router)])

    @router.post("/")
    async def endpoint(
        tasks: BackgroundTasks,
        _=Depends(session, scope="function"),
        __=Depends(in_a_thread),
    ):
        tasks.add_task(plain, "plain of the endpoint")
        tasks.add_task(keep, "endpoint", note="by position and name")
        tasks.add_task(keep.send, "send")
        tasks.add_task(keep.send_with_options, args=("options",))
        tasks.add_task(keep.message("message"))
        return len(tasks), len(tasks.tasks)

    site.app.include_router(router)
    response = site.call("POST", "/")

    assert response.json() == [9, 9]
    assert site.events == [
        ("commit", []),
        "plain of the dependency",
        "plain of the endpoint",
        "nested torn down",
    ]
    assert site.tasks() == [
        (x, "queued")
        for x in ("router", "nested", "thread", "endpoint", "send", "options", "message")
    ]


def test_the_handle_names_the_task_and_a_plain_function_has_none(site, keep):
    handles = []

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        handles.append(tasks.add_task(keep, 1))
        handles.append(tasks.add_task(print, end=""))
        return handles[0].id

    given = site.call("POST", "/").json()

    (view,) = site.views()
    assert handles == [TaskHandle(view.id, "_keep", "default"), None]
    assert given == view.id


def test_a_dependency_in_a_thread_and_an_endpoint_in_a_thread_share_one_object(site, keep):
    def dependency(tasks: BackgroundTasks):
        tasks.add_task(keep, "dependency")
        return tasks

    @site.app.post("/")
    def endpoint(tasks: BackgroundTasks, other=Depends(dependency)):
        tasks.add_task(keep, "endpoint")
        return tasks is other

    assert site.call("POST", "/").json() is True
    assert site.tasks() == [("dependency", "queued"), ("endpoint", "queued")]


def _raises_http(app, add, keep):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        add(tasks)
        raise HTTPException(418)


def _raises(app, add, keep):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        add(tasks)
        raise ValueError


def _breaks_its_model(app, add, keep):
    @app.post("/", response_model=int)
    async def endpoint(tasks: BackgroundTasks):
        add(tasks)
        return "no number"


def _adds_what_cannot_be_encoded(app, add, keep):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        add(tasks)
        tasks.add_task(keep, object())


def _fails_to_commit(app, add, keep):
    async def session():
        yield
        raise HTTPException(409)

    @app.post("/")
    async def endpoint(tasks: BackgroundTasks, _=Depends(session, scope="function")):
        add(tasks)


def _has_a_failing_dependency(app, add, keep):
    async def dependency(tasks: BackgroundTasks):
        add(tasks)
        raise HTTPException(403)

    @app.post("/")
    async def endpoint(_=Depends(dependency)):
        pass


def _is_not_valid(app, add, keep):
    async def dependency(tasks: BackgroundTasks):
        add(tasks)

    @app.post("/")
    async def endpoint(number: int, _=Depends(dependency)):
        pass


def _has_no_such_file(app, add, keep):
    @app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        add(tasks)
        return FileResponse("does-not-exist")


@pytest.mark.parametrize(
    ("declare", "status"),
    [
        (_raises_http, 418),
        (_raises, 500),
        (_breaks_its_model, 500),
        (_adds_what_cannot_be_encoded, 500),
        (_fails_to_commit, 409),
        (_has_a_failing_dependency, 403),
        (_is_not_valid, 422),
        (_has_no_such_file, 500),
    ],
)
def test_a_failed_request_leaves_no_task(site, keep, declare, status):
    def add(tasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")

    declare(site.app, add, keep)

    assert site.call("POST", "/").status_code == status
    assert site.tasks() == []
    assert site.events == []


def test_an_error_that_is_returned_keeps_its_tasks(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")
        return JSONResponse({}, 400)

    assert site.call("POST", "/").status_code == 400
    assert site.tasks() == [(1, "queued")]
    assert site.events == ["plain"]


def test_arguments_that_do_not_fit_raise_a_type_error_in_the_endpoint(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        with pytest.raises(TypeError, match="_keep"):
            tasks.add_task(keep)
        with pytest.raises(TypeError, match="_keep"):
            tasks.add_task(keep, 1, unknown=2)
        with pytest.raises(TypeError, match="_keep"):
            tasks.add_task_with_options(keep, args=(object(),))
        tasks.add_task(keep, "good")

    assert site.call("POST", "/").status_code == 200
    assert site.tasks() == [("good", "queued")]


def test_a_session_of_function_scope_commits_before_the_accept_a_default_one_before_the_release(
    site, keep
):
    async def before():
        yield
        site.events.append(("function scope", site.tasks()))

    async def after():
        yield
        site.settle()
        site.events.append(("default scope", site.tasks()))

    @site.app.post("/")
    async def endpoint(
        tasks: BackgroundTasks, _=Depends(before, scope="function"), __=Depends(after)
    ):
        tasks.add_task(keep, 1)

    site.call("POST", "/")

    assert site.events == [("function scope", []), ("default scope", [(1, "accepted")])]
    assert site.tasks() == [(1, "queued")]


def test_with_tasks_in_process_the_release_does_not_wait_for_them(site, keep):
    def plain():
        site.settle()
        site.events.append(("plain", site.tasks()))

    async def session():
        yield
        site.events.append("default scope")

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks, _=Depends(session)):
        tasks.add_task(keep, 1)
        tasks.add_task(plain)

    site.call("POST", "/")

    assert site.events == [("plain", [(1, "queued")]), "default scope"]


def test_tasks_that_fastapi_itself_injects_count_as_tasks_in_process(site, keep):
    @site.app.post("/")
    async def endpoint(fastapis: FastAPITasks, tasks: BackgroundTasks):
        fastapis.add_task(site.events.append, 1)
        tasks.add_task(site.events.append, 2)
        tasks.add_task(keep, 1)
        fastapis.add_task(lambda: (site.settle(), site.events.append(site.tasks())))

    site.call("POST", "/")

    assert site.events == [1, 2, [(1, "queued")]]


def test_a_response_with_a_background_of_its_own_keeps_durable_tasks_only(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "lost, as in FastAPI")
        return JSONResponse({}, background=BackgroundTask(site.events.append, "own"))

    site.call("POST", "/")

    assert site.events == ["own"]
    assert site.tasks() == [(1, "queued")]


def test_a_failing_task_in_process_takes_no_durable_task_with_it(site, keep):
    def fail():
        raise RuntimeError

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(fail)
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "never, as in FastAPI")

    assert site.call("POST", "/").status_code == 200
    assert site.tasks() == [(1, "queued")]
    assert site.events == []


def test_tasks_added_while_streaming_are_accepted_by_the_last_byte(site, keep):
    @site.app.get("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, "early")

        async def body():
            site.events.append(site.tasks())
            yield b"a"
            tasks.add_task(keep, "late")
            yield b"b"
            site.events.append(site.tasks())

        return StreamingResponse(body())

    assert site.call("GET", "/").content == b"ab"
    assert site.events == [[("early", "accepted")], [("early", "accepted")]]
    assert site.tasks() == [("early", "queued"), ("late", "queued")]


def test_a_generator_endpoint_adds_its_tasks_after_the_start(site, keep):
    @site.app.get("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        yield {"line": 1}
        tasks.add_task(keep, 2)
        yield {"line": 2}

    assert len(site.call("GET", "/").text.splitlines()) == 2
    assert site.tasks() == [(1, "queued"), (2, "queued")]


def test_a_stream_that_breaks_keeps_what_was_promised_and_drops_what_was_not(site, keep, logs):
    @site.app.get("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, "promised")
        tasks.add_task(site.events.append, "never, as in FastAPI")

        async def body():
            yield b"x"
            tasks.add_task(keep, "not yet")
            raise RuntimeError

        return StreamingResponse(body())

    site.call("GET", "/")

    assert site.tasks() == [("promised", "queued")]
    assert site.events == []
    assert [line["event"] for line in logs if "task_ids" in line] == ["task.dropped"]


def test_a_task_added_by_a_task_in_process_is_stored(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, "durable")
        tasks.add_task(lambda: tasks.add_task(keep, "by a task"))

    site.call("POST", "/")

    assert site.tasks() == [("durable", "queued"), ("by a task", "queued")]


@pytest.mark.parametrize("url", ["/file", "/nothing", "/thread", "/mounted/endpoint"])
def test_every_kind_of_response_delivers(site, keep, url):
    mounted = FastAPI()
    site.app.mount("/mounted", mounted)

    @site.app.post("/file")
    async def file(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        return FileResponse(__file__)

    @site.app.post("/nothing", status_code=204)
    async def nothing(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    @site.app.post("/thread")
    def thread(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        return Response(b"x")

    @mounted.post("/endpoint")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    assert site.call("POST", url).is_success
    assert site.tasks() == [(1, "queued")]


def test_options_and_a_delay_reach_the_ledger(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task_with_options(keep, args=("ms",), delay=60_000, max_retries=3)
        tasks.add_task_with_options(keep, kwargs={"x": "span"}, delay=timedelta(hours=1))

    site.call("POST", "/")

    first, second = site.views()
    assert site.tasks() == [("ms", "scheduled"), ("span", "scheduled")]
    assert first.options["max_retries"] == 3
    assert timedelta(seconds=59) < first.run_at - first.created_at <= timedelta(seconds=60)
    assert second.run_at - second.created_at == timedelta(hours=1)


def test_a_task_added_while_a_dependency_is_torn_down_is_stored(site, keep):
    async def dependency(tasks: BackgroundTasks):
        yield
        tasks.add_task(keep, "teardown")

    @site.app.post("/")
    async def endpoint(_=Depends(dependency)):
        pass

    site.call("POST", "/")

    assert site.tasks() == [("teardown", "queued")]


class Generic(dramatiq.GenericActor):
    def perform(self, x):
        """Never runs here."""


def test_partials_and_generic_actors_are_durable_too(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(partial(keep, 1), note="a")
        tasks.add_task(partial(keep.send, x=2))
        tasks.add_task(Generic, 3)
        tasks.add_task(Generic.send, 4)

    site.call("POST", "/")

    assert site.tasks() == [(1, "queued"), (2, "queued"), (3, "queued"), (4, "queued")]


def test_options_need_an_actor(life):
    with pytest.raises(TypeError, match=r"@dramatiq\.actor on builtins\.print"):
        BackgroundTasks().add_task_with_options(print, args=("x",))


def test_an_actor_of_another_broker_is_refused_by_name(life):
    @dramatiq.actor(broker=StubBroker())
    def stranger():
        pass

    with pytest.raises(
        ValueError, match=r"actor 'stranger' is bound .*StubBroker.* import postlude"
    ):
        BackgroundTasks().add_task(stranger)


def test_one_line_names_each_function_that_stays_in_process(site, logs, monkeypatch):
    monkeypatch.setattr(background, "_announced", set())

    def write_log(message):
        pass

    def other():
        pass

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(write_log, "a")
        tasks.add_task(write_log, "b")
        tasks.add_task(partial(other))

    site.call("POST", "/")
    site.call("POST", "/")

    lines = [line for line in logs if line["event"] == "task.in_process"]
    names = [line["function"].rpartition(".")[2] for line in lines]
    assert names == ["write_log", "other"]
