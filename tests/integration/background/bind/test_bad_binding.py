"""What ``bind`` refuses, each with what to do instead."""

from __future__ import annotations

import inspect
import sqlite3

import pytest
from fastapi import Depends
from fastapi.responses import JSONResponse
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import postlude
from postlude import BackgroundTasks, process
from postlude.errors import BadBinding
from postlude.ledger import sqlite

FIX = r"give it an engine that postlude\.engine\(\) or postlude\.async_engine\(\) has made"


@pytest.fixture
def refusal(shop):
    """Calls an endpoint that is to raise BadBinding, and returns its text."""

    def refusal(endpoint):
        texts = []

        async def wrapped(tasks: BackgroundTasks):
            with pytest.raises(BadBinding) as caught:
                await endpoint(tasks)
            texts.append(str(caught.value))

        shop.post(wrapped)
        (text,) = texts
        return text

    return refusal


def test_after_an_unbound_task(shop, keep, refusal):
    async def endpoint(tasks):
        tasks.add_task(keep, 1)
        async with shop.open() as till:
            tasks.bind(till.session)

    assert "bind before the first add_task" in refusal(endpoint)
    assert shop.tasks() == [(1, "queued")]


def test_after_an_unbound_task_of_an_object_made_by_hand(shop, keep, refusal):
    async def endpoint(tasks):
        BackgroundTasks().add_task(keep, 1)
        async with shop.open() as till:
            tasks.bind(till.session)

    assert "bind before the first add_task" in refusal(endpoint)


def test_a_plain_function_before_it_does_no_harm(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(shop.events.append, "ran")
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert (shop.events, shop.tasks()) == (["ran"], [(1, "queued")])


def test_two_sessions(shop, keep, refusal):
    async def endpoint(tasks):
        async with shop.open() as till, shop.open() as other:
            tasks.bind(till.session)
            tasks.bind(other.session)

    assert "bound to another session already" in refusal(endpoint)


def test_one_session_for_two_requests_at_once(shop, keep, refusal):
    shared = shop.session()

    @shop.app.post("/inner")
    async def inner(tasks: BackgroundTasks):
        with pytest.raises(BadBinding, match="another request that is still under way"):
            tasks.bind(shared)

    async def endpoint(tasks: BackgroundTasks):
        tasks.bind(shared)
        assert shop.call("POST", "/inner").status_code == 200

    assert shop.post(endpoint).status_code == 200


def test_an_object_made_by_hand(shop, keep, refusal):
    async def endpoint(_tasks):
        async with shop.open() as till:
            BackgroundTasks().bind(till.session)

    assert "that FastAPI injects, not for one made by hand" in refusal(endpoint)


def test_a_task_in_an_object_made_by_hand_beside_it(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        by_hand = BackgroundTasks()
        async with shop.open() as till:
            tasks.bind(till.session)
            with pytest.raises(BadBinding, match=r"'_keep' .* add it to the injected ones"):
                by_hand.add_task(keep, 1)
            by_hand.add_task(shop.events.append, "ran")
            tasks.add_task(keep, 2)
            await till.commit()
        return JSONResponse({}, background=by_hand)

    assert shop.post(endpoint).status_code == 200
    assert (shop.events, shop.tasks()) == (["ran"], [(2, "queued")])


def test_a_request_that_is_over(shop, keep):
    kept = []

    async def endpoint(tasks: BackgroundTasks):
        kept.append(tasks)

    shop.post(endpoint)

    with pytest.raises(BadBinding, match="had failed or ended already"):
        kept[0].bind(shop.session())


@pytest.mark.parametrize("session", [None, object(), "session"])
def test_what_is_no_session(shop, refusal, session):
    async def endpoint(tasks):
        tasks.bind(session)

    assert f"not {type(session).__name__}" in refusal(endpoint)


def test_a_session_without_an_session(shop, refusal):
    async def endpoint(tasks):
        tasks.bind(Session() if shop.kind == "Session" else AsyncSession())

    assert "has no engine that is its default" in refusal(endpoint)


def _session(shop, file, **options):
    """Return a session on an engine such as somebody makes who does not know ours."""
    if shop.kind == "Session":
        return Session(create_engine(f"sqlite:///{file}", **options))
    return AsyncSession(create_async_engine(f"sqlite+aiosqlite:///{file}"))


def test_another_database(shop, keep, till, refusal, tmp_path):
    async def endpoint(tasks):
        tasks.bind(_session(shop, tmp_path / "other.db", module=sqlite.library()))

    text = refusal(endpoint)
    assert f"is on {tmp_path / 'other.db'}, and the ledger is {tmp_path / 'postlude.db'}" in text
    assert not (tmp_path / "other.db").exists()


def test_a_database_in_memory(shop, refusal):
    async def endpoint(tasks):
        tasks.bind(_session(shop, ":memory:"))

    assert "is on a database in memory" in refusal(endpoint)


def test_another_kind_of_database(sync_shop, keep):
    def endpoint(tasks: BackgroundTasks):
        with pytest.raises(BadBinding, match="is on postgresql, and the ledger on sqlite"):
            tasks.bind(Session(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")))

    assert sync_shop.post(endpoint).status_code == 200


@pytest.mark.skipif(sqlite.library() is sqlite3, reason="there is only one SQLite library here")
def test_another_sqlite_library(shop, refusal, tmp_path):
    """It is not asked to open the file: once it has, our locks are gone."""

    async def endpoint(tasks):
        tasks.bind(_session(shop, tmp_path / "postlude.db"))

    text = refusal(endpoint)
    assert "uses the SQLite library of sqlite3" in text
    assert "postlude.engine()" in text


async def _commit_one(shop, tasks, keep):
    """Bind and commit a task: some things are found out only when it is stored."""
    async with shop.open() as till:
        tasks.bind(till.session)
        tasks.add_task(keep, 1)
        await till.commit()


@pytest.mark.parametrize(("level", "number"), [("OFF", 0), ("NORMAL", 1)])
def test_a_connection_whose_commits_can_be_lost(shop, keep, refusal, level, number):
    @event.listens_for(getattr(shop.lent, "sync_engine", shop.lent), "connect")
    def prepare(connection, _record):
        connection.execute(f"PRAGMA synchronous = {level}").close()

    async def endpoint(tasks):
        await _commit_one(shop, tasks, keep)

    shop.engine.dispose()
    assert f"has synchronous = {number}, below FULL" in refusal(endpoint)
    assert shop.tasks() == []


def test_a_connection_without_wal(shop, keep, refusal, tmp_path, monkeypatch):
    shop.settle()
    process.close()
    shop.engine.dispose()
    connection = sqlite.library().connect(tmp_path / "postlude.db")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    monkeypatch.setattr(sqlite, "_use_wal", lambda _connection: None)

    async def endpoint(tasks):
        await _commit_one(shop, tasks, keep)

    assert "has journal_mode = delete, not WAL" in refusal(endpoint)


def test_a_connection_that_commits_each_statement(shop, keep, refusal):
    async def endpoint(tasks):
        async with shop.open() as till:
            options = {"execution_options": {"isolation_level": "AUTOCOMMIT"}}
            connection = till.session.connection(**options)
            if inspect.isawaitable(connection):
                await connection
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()

    assert "commits each statement by itself (AUTOCOMMIT)" in refusal(endpoint)
    assert shop.tasks() == []


def test_an_engine_whose_connections_commit_each_statement(sync_shop, keep):
    engine = postlude.engine(isolation_level="AUTOCOMMIT")

    def endpoint(tasks: BackgroundTasks):
        with Session(engine) as session:
            tasks.bind(session)
            tasks.add_task(keep, 1)
            with pytest.raises(BadBinding, match="AUTOCOMMIT"):
                session.commit()
            session.rollback()

    assert sync_shop.post(endpoint).status_code == 200
    assert sync_shop.tasks() == []
    engine.dispose()


def test_a_stranger_to_the_ledger_is_found_out_when_it_is_bound(sync_shop, keep, tmp_path):
    """An engine of one's own in a Session: what its connections are like is asked at once."""
    shop = sync_shop
    engine = create_engine(f"sqlite:///{tmp_path / 'postlude.db'}", module=sqlite.library())

    @event.listens_for(engine, "connect")
    def prepare(connection, _record):
        connection.execute("PRAGMA synchronous = NORMAL")

    def endpoint(tasks: BackgroundTasks):
        with Session(engine) as session:
            with pytest.raises(BadBinding, match=f"synchronous = 1, below FULL.*{FIX}"):
                tasks.bind(session)
            session.connection()
            with pytest.raises(BadBinding, match="synchronous = 1, below FULL"):
                tasks.bind(session)
            assert session.in_transaction()

    assert shop.post(endpoint).status_code == 200
    engine.dispose()


def test_nothing_is_bound_by_what_was_refused(shop, keep, tmp_path):
    async def dependency(tasks: BackgroundTasks):
        with pytest.raises(BadBinding):
            tasks.bind(_session(shop, ":memory:"))

    async def endpoint(tasks: BackgroundTasks, _=Depends(dependency)):
        tasks.add_task(keep, 1)

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(1, "queued")]
