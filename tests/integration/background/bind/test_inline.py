"""``inline()`` and a bound session: whatever database the test has, its commit decides as well."""

from __future__ import annotations

import asyncio
import contextlib

import dramatiq
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from sqlalchemy import NullPool, StaticPool, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import postlude
from postlude import BackgroundTasks
from postlude.testing import inline


@pytest.fixture(params=["Session", "AsyncSession"])
def make(request, tmp_path, environment, till):
    """Makes sessions of a test's own database; no ledger and no data folder is there."""
    environment(data_dir=str(tmp_path / "var"))
    if request.param == "Session":
        options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        engine = create_engine("sqlite://", **options)
        yield lambda: till(Session(engine))
        engine.dispose()
    else:
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'own.db'}", poolclass=NullPool
        )
        yield lambda: till(AsyncSession(engine))
        asyncio.run(engine.dispose())
    assert not (tmp_path / "var").exists()


@dramatiq.actor(actor_name="bound-inline-step")
def step(x: int, y: int = 0) -> int:
    return x + y


def _post(endpoint):
    app = FastAPI()
    postlude.install(app)
    app.post("/")(endpoint)
    return TestClient(app, raise_server_exceptions=False).post("/").status_code


def _ran(tasks):
    return [task.arguments["x"] for task in tasks.ran]


def test_what_is_committed_runs_after_the_response_and_nothing_else(make, keep):
    async def endpoint(tasks: BackgroundTasks):
        till = make()
        tasks.bind(till.session)
        tasks.add_task(keep, "gone")
        await till.do("flush")
        await till.do("connection")
        await till.rollback()
        tasks.add_task(keep, 1)
        await till.commit()
        tasks.add_task(keep, 2)
        await till.commit()
        await till.do("close")

    with inline() as tasks:
        assert _post(endpoint) == 200

    assert _ran(tasks) == [1, 2]


def test_what_was_committed_runs_although_the_request_fails(make, keep):
    async def endpoint(tasks: BackgroundTasks):
        till = make()
        tasks.bind(till.session)
        tasks.add_task(keep, 1)
        await till.commit()
        await till.do("close")
        raise HTTPException(418)

    with inline() as tasks:
        assert _post(endpoint) == 418

    assert _ran(tasks) == [1]


def test_a_forgotten_commit_is_found_there_too(make, keep):
    async def endpoint(tasks: BackgroundTasks):
        till = make()
        tasks.bind(till.session)
        tasks.add_task(keep, 1)
        await till.do("connection")
        await till.do("close")

    with inline() as tasks:
        assert _post(endpoint) == 500

    assert _ran(tasks) == []


def test_steps_that_are_stored_again_after_a_savepoint_run_once(make):
    async def endpoint(tasks: BackgroundTasks):
        till = make()
        tasks.bind(till.session)
        await till.do("connection")
        tasks.add_task(step.message(1) | step.message(2))
        with contextlib.suppress(KeyError):
            async with till.savepoint():
                async with till.savepoint():
                    await till.do("connection")
                raise KeyError
        await till.commit()
        await till.do("close")

    with inline() as tasks:
        assert _post(endpoint) == 200

    assert _ran(tasks) == [1, 2]
