"""Where ``install`` puts the two middlewares, and what stands between them and around them."""

from __future__ import annotations

import types

import pytest
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.gzip import GZipMiddleware

import postlude
from postlude import BackgroundTasks
from postlude.dispatch import background
from postlude.errors import NotInstalled


class Marks(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-mark"] = "1"
        return response


class Consumes(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        body = b"".join([chunk async for chunk in response.body_iterator])
        return Response(body, response.status_code, dict(response.headers))


class RaisesLate(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        await call_next(request)
        raise RuntimeError


class HoldsBack:
    """Lets nothing out before the app has returned, and notes what the ledger says then."""

    def __init__(self, app, site):
        self.app, self.site = app, site

    async def __call__(self, scope, receive, send):
        held = []

        async def hold(message):
            held.append(message)

        await self.app(scope, receive, hold)
        self.site.settle()
        self.site.events.append(self.site.tasks())
        for message in held:
            await send(message)


@pytest.fixture(params=["added before install", "added after install"])
def surrounded(request, site):
    """An app with three middlewares of the awkward kind."""
    if request.param == "added before install":
        site.app = FastAPI()
    for middleware, options in ((Marks, {}), (GZipMiddleware, {"minimum_size": 1}), (Consumes, {})):
        site.app.add_middleware(middleware, **options)
    postlude.install(site.app)
    return site


def test_tasks_survive_middlewares_that_buffer_compress_and_replace(surrounded, keep):
    site = surrounded

    @site.app.post("/good")
    async def good(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")

    @site.app.post("/bad")
    async def bad(tasks: BackgroundTasks):
        tasks.add_task(keep, 2)
        raise HTTPException(418)

    @site.app.post("/stream")
    async def stream(tasks: BackgroundTasks):
        yield {}
        tasks.add_task(keep, 3)

    statuses = [site.call("POST", url).status_code for url in ("/good", "/bad", "/stream")]

    assert statuses == [200, 418, 200]
    assert site.tasks() == [(1, "queued"), (3, "queued")]
    assert site.events == ["plain"]


def test_nothing_is_released_before_the_outermost_middleware_has_let_the_response_go(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "plain")

    site.app.add_middleware(HoldsBack, site=site)
    site.call("POST", "/")

    assert site.events == ["plain", [(1, "accepted")]]
    assert site.tasks() == [(1, "queued")]


def test_tasks_are_kept_when_a_middleware_fails_after_the_endpoint(site, keep):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        tasks.add_task(site.events.append, "lost, as in FastAPI")

    site.app.add_middleware(RaisesLate)

    assert site.call("POST", "/").status_code == 500
    assert site.tasks() == [(1, "queued")]
    assert site.events == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("made", ["injected", "by hand"])
def test_what_a_middleware_adds_when_the_app_has_returned_is_stored(site, keep, made, fails):
    injected = []

    class AddsLate:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            if made == "injected":
                injected[0].add_task(keep, made)
            else:
                tasks = BackgroundTasks()
                tasks.add_task(keep, made)
                await tasks()
            if fails:
                raise OSError(made)

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        injected.append(tasks)

    site.app.add_middleware(AddsLate)
    site.call("POST", "/")

    assert site.tasks() == [(made, "queued")]


def test_accept_stays_innermost_whatever_is_added_how(site):
    site.app.user_middleware.append(Middleware(Marks))
    site.app.add_middleware(CORSMiddleware)

    stack = site.app.build_middleware_stack()

    names = [type(layer).__name__ for layer in _layers(stack)]
    assert names[:3] == ["_Outermost", "Release", "ServerErrorMiddleware"]
    inner = names.index("Accept")
    assert names.index("CORSMiddleware") < names.index("Marks") < inner
    assert names[inner + 1] == "ExceptionMiddleware"


def _layers(app):
    while hasattr(app, "app"):
        yield app
        app = app.app


def test_tools_that_rebuild_the_stack_find_what_they_expect(site, keep):
    """Instrumentation replaces ``build_middleware_stack`` and wants a ServerErrorMiddleware."""
    build = site.app.build_middleware_stack

    def rebuild(self):
        stack = build()
        assert isinstance(stack, ServerErrorMiddleware)
        return ServerErrorMiddleware(HoldsBack(stack.app, site))

    site.app.build_middleware_stack = types.MethodType(rebuild, site.app)
    site.app.middleware_stack = site.app.build_middleware_stack()
    site.app.middleware_stack = site.app.build_middleware_stack()

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    assert site.call("POST", "/").status_code == 200
    assert site.tasks() == [(1, "queued")]


def test_installing_twice_changes_nothing(site, keep):
    before = list(site.app.user_middleware)

    postlude.install(site.app)

    assert site.app.user_middleware == before
    names = [type(layer).__name__ for layer in _layers(site.app.build_middleware_stack())]
    assert names.count("Release") == names.count("Accept") == 1


def test_installing_into_an_app_that_serves_already_is_refused():
    app = FastAPI()
    TestClient(app).get("/")

    with pytest.raises(RuntimeError, match=r"install\(app\) came too late"):
        postlude.install(app)


def test_installing_opens_and_starts_nothing(tmp_path, environment):
    environment(data_dir=str(tmp_path / "var"))
    app = FastAPI()
    postlude.install(app)

    @app.get("/")
    async def endpoint(tasks: BackgroundTasks):
        return len(tasks)

    assert TestClient(app).get("/").json() == 0
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("outer_too", [True, False])
def test_a_mounted_app_may_be_installed_as_well(life, keep, outer_too):
    outer, inner = FastAPI(), FastAPI()
    outer.mount("/inner", inner)
    inner.add_middleware(Marks)
    postlude.install(inner)
    if outer_too:
        postlude.install(outer)

    @inner.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    assert TestClient(outer).post("/inner/").headers["x-mark"] == "1"
    life.settle()
    assert life.tasks() == [(1, "queued")]


def test_without_install_the_error_says_what_to_call(life):
    app = FastAPI()

    @app.get("/here")
    async def endpoint(tasks: BackgroundTasks):
        pass

    with pytest.raises(NotInstalled, match=r"'/here' .* call postlude\.install\(app\)"):
        TestClient(app).get("/here")


def test_a_websocket_route_is_told_that_it_has_no_response(site):
    @site.app.websocket("/socket")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks):
        pass

    with (
        pytest.raises(NotInstalled, match=r"WebSocket route '/socket' has none; use actor\.send"),
        TestClient(site.app).websocket_connect("/socket"),
    ):
        pass


def test_the_bare_class_is_refused_when_the_route_is_declared():
    app = FastAPI()

    with pytest.raises(Exception, match="Invalid args for response field"):

        @app.get("/")
        async def endpoint(tasks: background.Tasks):
            pass


def test_a_test_may_inject_a_fake(site, keep):
    class Fake:
        def add_task(self, *call):
            site.events.append(call)

    site.app.dependency_overrides[background.provide] = Fake

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    site.call("POST", "/")

    assert site.events == [(keep, 1)]
    assert site.tasks() == []
