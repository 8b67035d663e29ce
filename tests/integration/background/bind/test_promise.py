"""What the response of a bound request promises: nothing that its session has not committed."""

from __future__ import annotations

import asyncio
import gc
import threading

import aiosqlite
import pytest
from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from httpx2 import ASGITransport, AsyncClient

from postlude import BackgroundTasks
from postlude.dispatch import promises
from postlude.dispatch.messages import durable
from postlude.errors import LedgerError, NotCommitted
from postlude.ledger import commit

FIXES = ("commit or roll back before you return", "scope='function'", "late=True")


def _is_not_committed(response):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (500, "not-committed")
    assert all(fix in problem["detail"] for fix in FIXES)
    return True


def test_a_session_that_has_not_committed_is_an_error_before_the_first_byte(
    shop, keep, till, order, logs
):
    late = till(shop.session())

    async def endpoint(tasks: BackgroundTasks):
        tasks.bind(late.session)
        await late.order("ada")
        tasks.add_task(keep, 1)
        return "never seen"

    async def commit():
        with pytest.raises(NotCommitted):
            await late.commit()
        await late.do("close")

    assert _is_not_committed(shop.post(endpoint, settle=False))
    (refused,) = [line for line in logs if line["event"] == "task.refused"]
    assert all(fix in refused["error"] for fix in FIXES)
    asyncio.run(commit())  # too late: what is refused must not come true by half
    shop.settle()
    assert (shop.orders(), shop.tasks()) == ([], [])


def test_a_refused_session_is_of_use_again_once_it_was_rolled_back(shop, keep, till, order):
    late = till(shop.session())

    async def endpoint(tasks: BackgroundTasks):
        tasks.bind(late.session)
        await late.order("ada")
        tasks.add_task(keep, 1)

    async def go_on():
        await late.rollback()
        await late.order("bob")
        await late.commit()
        await late.do("close")

    assert _is_not_committed(shop.post(endpoint, settle=False))
    asyncio.run(go_on())
    assert (shop.orders(), shop.tasks()) == (["bob"], [])


def test_a_session_that_was_closed_without_a_commit_is_one(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)

    assert _is_not_committed(shop.post(endpoint))
    assert (shop.orders(), shop.tasks()) == ([], [])


def test_a_returned_error_is_a_response_that_promises(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            return JSONResponse({}, 400)

    assert _is_not_committed(shop.post(endpoint))


def test_what_was_committed_before_runs_although_the_rest_is_refused(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()
            tasks.add_task(keep, 2)

    assert _is_not_committed(shop.post(endpoint))
    assert shop.tasks() == [(1, "queued")]


@pytest.fixture
def committing(shop):
    """Returns a dependency whose session commits when the endpoint has done well."""

    async def session():
        async with shop.open() as till:
            yield till
            await till.commit()

    return session


def test_a_dependency_that_commits_after_the_response_is_an_error_too(shop, keep, committing):
    async def endpoint(tasks: BackgroundTasks, till=Depends(committing)):
        tasks.bind(till.session)
        await till.order("ada")
        tasks.add_task(keep, 1)

    assert _is_not_committed(shop.post(endpoint))
    assert (shop.orders(), shop.tasks()) == ([], [])


def test_a_dependency_with_the_scope_of_the_function_commits_in_time(shop, keep, committing):
    async def endpoint(tasks: BackgroundTasks, till=Depends(committing, scope="function")):
        tasks.bind(till.session)
        await till.order("ada")
        tasks.add_task(keep, 1)

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])


def test_with_late_a_dependency_may_commit_after_the_response(shop, keep, committing):
    async def endpoint(tasks: BackgroundTasks, till=Depends(committing)):
        tasks.bind(till.session, late=True)
        await till.order("ada")
        tasks.add_task(keep, 1)

        async def body():
            shop.events.append((shop.orders(), shop.tasks()))
            yield b"x"

        return StreamingResponse(body())

    assert shop.post(endpoint).text == "x"
    assert shop.events == [([], [])]
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])


def test_one_who_asks_for_late_is_enough(shop, keep, committing):
    async def endpoint(tasks: BackgroundTasks, till=Depends(committing)):
        tasks.bind(till.session)
        tasks.bind(till.session, late=True)
        tasks.add_task(keep, 1)

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(1, "queued")]


def test_a_commit_long_after_the_request_has_its_task_run_and_no_audit_takes_it_for_a_strangers(
    shop, keep, till, logs
):
    late = till(shop.session())

    async def endpoint(tasks: BackgroundTasks):
        tasks.bind(late.session, late=True)
        await late.order("ada")
        tasks.add_task(keep, 1)

    async def commit():
        await late.commit()
        await late.do("close")

    assert shop.post(endpoint, settle=False).status_code == 200
    assert [line["event"] for line in logs if "task_ids" in line] == ["task.uncommitted"]
    owed = promises.open_door()
    for _ in range(3):
        owed.audit()
    asyncio.run(commit())
    for _ in range(3):
        owed.audit()

    shop.settle()
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])
    assert not owed._due


def test_an_audit_leaves_a_committed_task_alone_while_its_request_goes_on(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()
        for _ in range(3):
            promises.open_door().audit()
        shop.settle()
        shop.events.append(shop.tasks())

    assert shop.post(endpoint).status_code == 200
    assert shop.events == [[(1, "accepted")]]
    assert shop.tasks() == [(1, "queued")]


def test_a_session_that_never_commits_leaves_a_line_in_the_log_and_no_debt(shop, keep, till, logs):
    async def endpoint(tasks: BackgroundTasks):
        session = shop.session()
        tasks.bind(session, late=True)
        await till(session).order("ada")
        tasks.add_task(keep, 1)
        await till(session).do("flush")
        await till(session).order("bob")  # its flush has written the task
        await till(session).do("close")

    assert shop.post(endpoint).status_code == 200
    assert [line["event"] for line in logs if "task_ids" in line] == ["task.uncommitted"]
    assert (shop.orders(), shop.tasks()) == ([], [])
    assert not promises.open_door()._due


def test_a_session_that_is_lost_to_the_garbage_leaves_no_debt(sync_shop, keep, order, until):
    shop = sync_shop

    def endpoint(tasks: BackgroundTasks):
        session = shop.session()
        tasks.bind(session, late=True)
        tasks.add_task(keep, 1)
        session.add(order(name="ada"))
        session.flush()

    assert shop.post(endpoint, settle=False).status_code == 200
    owed = promises.open_door()
    until(
        lambda: [gc.collect()] and not owed._due
    )  # the thread of the endpoint remembers it a while

    assert (shop.orders(), shop.tasks()) == ([], [])


def test_a_stream_may_not_end_before_what_was_added_in_it_is_committed(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        session = shop.open()
        till = await session.__aenter__()
        tasks.bind(till.session)
        tasks.add_task(keep, 1)
        await till.commit()

        async def body():
            yield b"x"
            tasks.add_task(keep, 2)
            yield b"y"

        return StreamingResponse(body())

    shop.app.post("/")(endpoint)
    with pytest.raises(NotCommitted):
        TestClient(shop.app).post("/")
    shop.settle()
    assert shop.tasks() == [(1, "queued")]


def test_when_the_ledger_cannot_be_asked_it_is_unknown_and_the_commit_decides(
    shop, keep, monkeypatch
):
    def fail(_promises, _ids):
        message = "the disk is away"
        raise LedgerError(message)

    monkeypatch.setattr(promises.Promises, "_missing", fail)

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            shop.events.append(tasks.add_task(keep, 1).id)
            await till.commit()

    response = shop.post(endpoint)

    assert (response.status_code, response.json()["code"]) == (503, "accept-unknown")
    assert response.json()["tasks"] == shop.events
    assert shop.tasks() == [(1, "queued")]


def test_what_is_in_doubt_is_not_forgotten_while_a_lock_keeps_it_from_being_found_out(
    sync_shop, keep, monkeypatch, logs, until
):
    """Its connection is lost to us, not to SQLite, and commits in the end."""
    monkeypatch.setattr(commit, "GIVE_UP_S", 0)
    shop, owed = sync_shop, asyncio.run(promises.door())
    task = durable(keep, (1,), {})

    with shop.engine.begin() as connection:
        owed.accept_within([task], lambda: connection)
        owed.doubt([task.id])
        until(lambda: "promises.unsettled" in [line["event"] for line in logs])
        owed.audit()

    for _ in range(3):
        owed.audit()
    shop.settle()
    assert shop.tasks() == [(1, "queued")]
    assert not owed._due


def test_a_commit_that_others_have_not_committed_promises_nothing(sync_shop, keep):
    """As in a test-suite that joins its sessions into a transaction of its own."""
    shop = sync_shop
    connection = shop.engine.connect()
    outer = connection.begin()

    def endpoint(tasks: BackgroundTasks):
        with shop.session() as session:
            session.bind = connection
            tasks.bind(session)
            tasks.add_task(keep, 1)
            session.commit()

    response = shop.post(endpoint, settle=False)
    outer.rollback()
    connection.close()

    assert response.json()["code"] == "not-committed"
    assert "has joined a transaction" in response.json()["detail"]
    shop.settle()
    assert shop.tasks() == []


def test_a_commit_that_was_cancelled_and_reached_the_disk_all_the_same_has_its_task_run(
    async_shop, keep, monkeypatch
):
    """The order is there, so its task must be, too; no audit may take it for a stranger's."""
    shop = async_shop
    inside, go_on = threading.Event(), threading.Event()

    async def slow_commit(connection):
        def commit():
            inside.set()
            assert go_on.wait(10)
            connection._conn.commit()

        await connection._execute(commit)

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)
            monkeypatch.setattr(aiosqlite.Connection, "commit", slow_commit)
            commit = asyncio.create_task(till.commit())
            while not inside.is_set():  # noqa: ASYNC110 # set in the connection's thread
                await asyncio.sleep(0.001)
            commit.cancel()
            asyncio.get_running_loop().call_later(0.05, go_on.set)
            with pytest.raises(asyncio.CancelledError):
                await commit

    assert _is_not_committed(shop.post(endpoint))  # for all that anybody knows
    for _ in range(3):
        promises.open_door().audit()

    shop.settle()
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])
    assert not promises.open_door()._due


def test_a_message_of_another_request_is_refused_and_waits_for_the_response_of_that(shop, keep):
    message, states = keep.message("once"), []

    @shop.app.get("/first")
    async def first(tasks: BackgroundTasks):
        tasks.add_task(message)

        async def body():
            yield b"begun, "
            await add_again()
            shop.settle()
            states.extend(shop.tasks())
            yield b"over"

        return StreamingResponse(body())

    @shop.app.get("/second")
    async def second(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(message)
            await till.commit()

    async def add_again():
        transport = ASGITransport(shop.app, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://app") as client:
            assert (await client.get("/second")).status_code == 500

    assert shop.call("GET", "/first").text == "begun, over"
    assert states == [("once", "accepted")]
    assert shop.tasks() == [("once", "queued")]
