"""Routes in which FastAPI's own ``BackgroundTasks`` were left are named when the app begins to serve."""

from __future__ import annotations

from typing import Annotated

import fastapi
import pytest
import structlog
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTasks as OfStarlette

import postlude
from postlude import BackgroundTasks


class Own(fastapi.BackgroundTasks):
    """FastAPI takes any subclass for its own class."""


def stock(tasks: fastapi.BackgroundTasks):
    return tasks


def ours(tasks: BackgroundTasks):
    return tasks


def deep(_: Annotated[object, Depends(stock)], tasks: BackgroundTasks):
    return tasks


def served(app):
    """Return the warnings of an app that begins to serve."""
    with structlog.testing.capture_logs() as lines, TestClient(app) as client:
        client.get("/nothing")
        client.get("/nothing")
    return [line for line in lines if line["event"] == "task.stock_background_tasks"]


@pytest.fixture
def app():
    app = FastAPI()
    postlude.install(app)
    return app


def test_they_are_named_once_wherever_they_are(app):
    @app.post("/orders/{number}")
    def place(number: int, tasks: fastapi.BackgroundTasks): ...

    @app.get("/starlette")
    def of_starlette(tasks: OfStarlette): ...

    @app.get("/own")
    def own(tasks: Own): ...

    @app.get("/fine")
    def fine(_: Annotated[object, Depends(ours)], tasks: BackgroundTasks): ...

    router = APIRouter(prefix="/v1")
    router.add_api_route("/deep", lambda _=Depends(deep): None, methods=["PUT"])
    outer = APIRouter(prefix="/api")
    outer.include_router(router)
    app.include_router(outer)
    app.include_router(
        APIRouter(routes=[*router.routes]), prefix="/guarded", dependencies=[Depends(ours)]
    )
    inner = FastAPI()
    inner.delete("/part")(lambda _=Depends(stock): None)
    app.mount("/mounted", inner)

    [line] = served(app)

    assert line["log_level"] == "warning"
    assert line["routes"] == [
        "POST /orders/{number}",
        "GET /starlette",
        "GET /own",
        "PUT /api/v1/deep",
        "PUT /guarded/v1/deep",
        "DELETE /mounted/part",
    ]
    assert line["hint"] == "from postlude import BackgroundTasks"


def test_dependencies_of_a_whole_router_count_too(app):
    router = APIRouter()
    router.get("/plain")(lambda: None)
    app.include_router(router, dependencies=[Depends(stock)])

    assert served(app)[0]["routes"] == ["GET /plain"]


def test_of_many_the_first_are_named(app):
    for number in range(50):
        app.get(f"/{number}")(lambda _=Depends(stock): None)

    [line] = served(app)

    assert (line["count"], len(line["routes"])) == (50, 20)


def test_an_app_that_uses_ours_hears_nothing(app):
    app.get("/")(lambda tasks=Depends(ours): None)
    app.post("/")(ours)
    plain = Starlette()
    postlude.install(plain)

    assert served(app) == served(plain) == []
