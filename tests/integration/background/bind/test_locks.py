"""A bound session and the ledger's own writer want the same lock: both get it, or an honest 503."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import httpx2
import pytest
from fastapi import Depends
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session

import postlude
from postlude import BackgroundTasks, process
from postlude.dispatch import promises
from postlude.ledger import clock, sqlite
from postlude.ledger.transitions.incarnation import beat


def test_a_request_that_accepts_waits_for_the_lock_of_one_that_is_bound(shop, keep, serve, until):
    go_on = threading.Event()

    async def bound(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, "bound")
            shop.events.append("locked")
            while not go_on.is_set():  # noqa: ASYNC110 # set by the test's thread
                await asyncio.sleep(0.001)
            await till.commit()

    async def unbound(tasks: BackgroundTasks):
        tasks.add_task(keep, "unbound")
        asyncio.get_running_loop().call_later(0.1, go_on.set)

    shop.app.post("/bound")(bound)
    shop.app.post("/unbound")(unbound)
    server = serve(shop.app)
    statuses = []

    def post(path):
        statuses.append(httpx2.post(f"{server.url}{path}", timeout=30).status_code)

    calls = [threading.Thread(target=post, args=(path,)) for path in ("/bound", "/unbound")]
    calls[0].start()
    until(lambda: shop.events)
    calls[1].start()
    for call in calls:
        call.join(30)

    assert statuses == [200, 200]
    until(lambda: {state for _, state in shop.tasks()} == {"queued"})
    assert sorted(x for x, _ in shop.tasks()) == ["bound", "unbound"]


def test_a_response_does_not_wait_for_the_lock_that_its_own_session_has(shop, keep):
    """With an unbound task beside it, it would: until the accept gives up, and the session with it."""

    async def session():
        async with shop.open() as till:
            yield till
            await till.commit()

    async def endpoint(tasks: BackgroundTasks, till=Depends(session)):
        tasks.bind(till.session, late=True)
        await till.order("ada")
        tasks.add_task(keep, 1)

    began = time.monotonic()
    assert shop.post(endpoint).status_code == 200
    assert time.monotonic() - began < 30  # of 60, the patience
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])


def test_a_session_that_has_read_may_write_although_others_have_written_meanwhile(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            await till.read()
            shop.settle()
            _write(shop.life)
            tasks.bind(till.session)
            await till.read()
            _write(shop.life)
            await till.order("ada")
            tasks.add_task(keep, 1)
            await till.commit()
            await till.read()
            _write(shop.life)
            tasks.add_task(keep, 2)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.orders() == ["ada"]
    assert shop.tasks() == [(1, "queued"), (2, "queued")]


def _write(life):
    """Commit something from another connection."""
    life.ledger.write(partial(beat, incarnation=process.current().incarnation.id, now=clock.now()))


@pytest.mark.parametrize("wrote", [True, False], ids=["it wrote already", "it had only read"])
def test_the_first_task_of_a_process_may_be_a_bound_one(shop, keep, monkeypatch, wrote):
    """To promise, the process has to be on record, which needs the lock that the session may have."""
    process.close()
    monkeypatch.setattr(promises, "_serves", False)

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            await till.read()
            if wrote:
                await till.order("ada")
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()

    began = time.monotonic()
    assert shop.post(endpoint).status_code == 200
    assert time.monotonic() - began < 30  # of 60, the patience
    assert shop.tasks() == [(1, "queued")]


def test_when_the_lock_cannot_be_had_the_answer_is_a_503_and_nothing_is_stored(
    shop, keep, environment, logs
):
    environment(write_timeout="300ms")
    shop = type(shop)(shop.site, shop.kind)
    asyncio.run(promises.door())

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()

    with shop.life.locked():
        response = shop.post(endpoint, settle=False)

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert response.headers["retry-after"]
    assert "task.refused" in [line["event"] for line in logs]
    shop.settle()
    assert shop.tasks() == []
    assert not promises.open_door()._due
    shop.close()


def test_who_waits_for_the_lock_and_gets_it_at_last_may_try_again(shop, keep, environment):
    environment(write_timeout="100ms")
    shop = type(shop)(shop.site, shop.kind)
    asyncio.run(promises.door())

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            with shop.life.locked(), pytest.raises(postlude.errors.LedgerBusy):
                await till.commit()
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(1, "queued")]
    shop.close()


@pytest.fixture
def plain(sync_shop):
    """An engine without any of our doing but the library: the driver begins when it sees fit."""
    engine = create_engine(sync_shop.engine.url, module=sqlite.library())
    yield engine
    engine.dispose()


@pytest.fixture
def deferred(sync_shop):
    """An engine of the user's own making: all is right but that its transactions begin DEFERRED."""
    engine = create_engine(sync_shop.engine.url, module=sqlite.library())

    @event.listens_for(engine, "connect")
    def prepare(connection, _record):
        sqlite.prepare(connection)

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")

    yield engine
    engine.dispose()


def test_an_engine_of_ones_own_that_has_read_is_told_that_the_lock_cannot_be_had(
    sync_shop, keep, deferred
):
    shop = sync_shop

    def endpoint(tasks: BackgroundTasks):
        with Session(deferred) as session:
            tasks.bind(session)
            session.execute(text("SELECT * FROM orders")).all()
            _write(shop.life)
            tasks.add_task(keep, 1)
            session.commit()

    response = shop.post(endpoint)

    assert (response.status_code, response.json()["code"]) == (503, "ledger-busy")
    assert shop.tasks() == []


@pytest.mark.parametrize("engine", ["plain", "deferred"])
def test_an_engine_of_ones_own_that_has_not_read_will_do(sync_shop, keep, order, request, engine):
    shop, engine = sync_shop, request.getfixturevalue(engine)

    def endpoint(tasks: BackgroundTasks):
        with Session(engine) as session:
            tasks.bind(session)
            session.add(order(name="ada"))
            tasks.add_task(keep, 1)
            session.commit()

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])
