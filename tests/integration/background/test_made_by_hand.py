"""``BackgroundTasks()`` and ``await tasks()``, which work as in Starlette."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse
from starlette.routing import Route

import postlude
from postlude import BackgroundTasks


def test_a_response_that_carries_the_injected_object_runs_everything_once(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")
        return JSONResponse({}, background=tasks)

    site.call("POST", "/")

    assert site.events == ["plain"]
    assert site.tasks() == [(1, "queued")]


def test_one_made_by_hand_is_accepted_before_the_first_byte_and_released_after_it(site, keep):
    async def endpoint(request):
        tasks = BackgroundTasks([BackgroundTask(site.events.append, "given")])
        tasks.add_task(keep, 1)
        tasks.add_task(keep, 2)

        async def body():
            site.events.append(site.tasks())
            yield b""

        return StreamingResponse(body(), background=tasks)

    site.app.add_route("/", endpoint)
    site.call("GET", "/")

    assert site.events == [[(1, "accepted"), (2, "accepted")], "given"]
    assert site.tasks() == [(1, "queued"), (2, "queued")]


def test_one_made_by_hand_that_no_response_carries_is_cancelled(site, keep):
    @site.app.post("/")
    async def endpoint():
        BackgroundTasks().add_task(keep, 1)

    site.call("POST", "/")

    (view,) = site.views()
    assert (str(view.state), str(view.reason)) == ("cancelled", "request-failed")


def test_one_made_by_hand_in_a_failed_request_stores_nothing(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        BackgroundTasks().add_task(keep, 1)
        raise ValueError

    assert site.call("POST", "/").status_code == 500
    assert site.tasks() == []


def test_an_exception_handler_may_send_tasks_of_its_own(site, keep):
    @site.app.exception_handler(ValueError)
    async def handle(request, error):
        tasks = BackgroundTasks()
        tasks.add_task(keep, "report")
        return JSONResponse({}, 400, background=tasks)

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, "dropped")
        raise ValueError

    assert site.call("POST", "/").status_code == 400
    assert site.tasks() == [("report", "queued")]


def test_one_with_tasks_in_process_releases_the_others_before_it_runs_them(site, keep):
    def plain():
        site.settle()
        site.events.append(site.tasks())

    @site.app.post("/")
    async def endpoint():
        tasks = BackgroundTasks()
        tasks.add_task(plain)
        tasks.add_task(keep, 1)
        return JSONResponse({}, background=tasks)

    site.call("POST", "/")

    assert site.events == [[(1, "queued")]]


def test_a_starlette_app_needs_no_fastapi(life, keep):
    async def endpoint(request):
        tasks = BackgroundTasks()
        tasks.add_task(keep, 1)
        return JSONResponse({}, background=tasks)

    app = Starlette(routes=[Route("/", endpoint)])
    postlude.install(app)

    assert TestClient(app).get("/").status_code == 200
    life.settle()
    assert life.tasks() == [(1, "queued")]


def test_outside_a_request_a_call_stores_the_durable_ones_and_runs_the_others(life, keep):
    events = []

    async def script():
        tasks = BackgroundTasks()
        tasks.add_task(events.append, "plain")
        tasks.add_task(keep, 1)
        await tasks()
        await tasks()

    asyncio.run(script())

    life.settle()
    assert life.tasks() == [(1, "queued")]
    assert events == ["plain", "plain"]  # as in Starlette: each call runs them


def test_outside_a_request_nothing_happens_without_a_call(life, keep):
    tasks = BackgroundTasks()
    tasks.add_task(keep, 1)

    life.settle()
    assert life.tasks() == []


def test_after_a_request_in_the_same_context_one_is_outside_again(one_site, keep):
    @one_site.app.get("/")
    async def endpoint():
        pass

    async def script():
        transport = httpx2.ASGITransport(one_site.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            await client.get("/")
        tasks = BackgroundTasks()
        tasks.add_task(keep, 1)
        await tasks()

    asyncio.run(script())

    one_site.settle()
    assert one_site.tasks() == [(1, "queued")]


def test_in_an_endpoint_a_call_stores_at_once(site, keep):
    @site.app.post("/")
    async def endpoint():
        tasks = BackgroundTasks()
        tasks.add_task(keep, 1)
        await tasks()
        await asyncio.sleep(0)  # the writer is told at the end of a round of this loop
        site.settle()
        site.events.append(site.tasks())
        raise ValueError

    site.call("POST", "/")

    assert site.events == [[(1, "queued")]]
    assert site.tasks() == [(1, "queued")]


def test_without_install_one_made_by_hand_stores_its_tasks_after_the_response(life, keep):
    app = FastAPI()

    @app.post("/")
    async def endpoint():
        tasks = BackgroundTasks()
        tasks.add_task(keep, 1)
        return JSONResponse({}, background=tasks)

    TestClient(app).post("/")
    life.settle()
    assert life.tasks() == [(1, "queued")]


def test_adding_after_the_end_of_the_request_is_an_error(site, keep):
    kept = []

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        kept.append(tasks)

    site.call("POST", "/")

    with pytest.raises(RuntimeError, match=r"its request had ended already; use _keep\.send"):
        kept[0].add_task(keep, 1)


def test_adding_to_a_failed_request_is_an_error(site, keep):
    kept = []

    @site.app.exception_handler(ValueError)
    async def handle(request, error):
        with pytest.raises(RuntimeError, match="its request had failed already"):
            kept[0].add_task(keep, 1)
        return JSONResponse({}, 400)

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        kept.append(tasks)
        raise ValueError

    assert site.call("POST", "/").status_code == 400


def test_calling_one_after_its_tasks_were_cancelled_is_an_error(site, keep):
    kept = []

    @site.app.post("/")
    async def endpoint():
        tasks = BackgroundTasks()
        tasks.add_task(keep, 1)
        kept.append(tasks)

    site.call("POST", "/")

    with pytest.raises(RuntimeError, match="called after the end of the request"):
        asyncio.run(kept[0]())


def test_it_is_true_when_empty_as_fastapis_is():
    tasks = BackgroundTasks()

    assert tasks
    assert (len(tasks), tasks.tasks) == (0, [])
