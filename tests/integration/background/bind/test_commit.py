"""What a bound session's commit decides: whether tasks run, whatever the response says."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fastapi import Depends, HTTPException
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from starlette.responses import StreamingResponse

from postlude import BackgroundTasks
from postlude.dispatch.promises import Promises
from postlude.errors import BadOptions


def test_an_order_and_its_task_are_stored_together_and_the_task_runs_after_the_response(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)
            shop.events.append((shop.orders(), shop.tasks()))
            await till.commit()
        shop.events.append((shop.orders(), shop.tasks()))

    assert shop.post(endpoint).status_code == 200
    assert shop.events == [([], []), (["ada"], [(1, "accepted")])]
    assert shop.tasks() == [(1, "queued")]


def test_a_bound_request_never_asks_the_group_commit(shop, keep, monkeypatch):
    async def accept(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr(Promises, "accept", accept)

    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            for x in range(3):
                tasks.add_task(keep, x)
            await till.commit()
            tasks.add_task(keep, 3)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(x, "queued") for x in range(4)]


@pytest.mark.parametrize("error", [HTTPException(418), ValueError()])
def test_what_was_committed_runs_although_the_request_fails(shop, keep, error):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)
            await till.commit()
        raise error

    assert shop.post(endpoint).status_code in {418, 500}
    assert shop.orders() == ["ada"]
    assert shop.tasks() == [(1, "queued")]


def test_what_was_rolled_back_never_runs(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)
            await till.rollback()
            await till.order("bob")
            tasks.add_task(keep, 2)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.orders() == ["bob"]
    assert shop.tasks() == [(2, "queued")]


def test_what_a_failed_request_had_not_committed_never_runs(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)
            raise HTTPException(418)

    assert shop.post(endpoint).status_code == 418
    assert (shop.orders(), shop.tasks()) == ([], [])


def test_a_dependency_that_commits_a_failed_request_has_its_tasks_run(shop, keep):
    async def session():
        async with shop.open() as till:
            try:
                yield till
            finally:
                await till.commit()

    async def endpoint(tasks: BackgroundTasks, till=Depends(session)):
        tasks.bind(till.session)
        await till.order("ada")
        tasks.add_task(keep, 1)
        raise HTTPException(418)

    assert shop.post(endpoint).status_code == 418
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])


def test_a_constraint_that_fails_takes_the_task_with_it(shop, keep, order):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            await till.order("ada")
            await till.commit()
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            till.session.add(order(name="ada"))
            with pytest.raises(IntegrityError):
                await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == (["ada"], [])


def test_a_task_that_is_added_first_falls_with_a_rollback_although_nothing_was_asked_of_the_database(
    shop, keep
):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.rollback()
            tasks.add_task(keep, 2)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(2, "queued")]


def test_a_task_belongs_to_the_transaction_that_begins_next_if_the_session_begins_none_by_itself(
    sync_shop, keep, order
):
    shop = sync_shop

    def endpoint(tasks: BackgroundTasks):
        with shop.session(autobegin=False) as session:
            tasks.bind(session)
            tasks.add_task(keep, 1)
            with pytest.raises(LookupError), session.begin():
                raise LookupError
            tasks.add_task(keep, 2)
            with session.begin():
                session.add(order(name="ada"))
                tasks.add_task(keep, 3)

    assert shop.post(endpoint).status_code == 200
    assert shop.orders() == ["ada"]
    assert shop.tasks() == [(2, "queued"), (3, "queued")]


def test_a_block_that_begins_a_transaction_commits_the_tasks_in_it(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            transaction = till.session.begin()
            if shop.kind == "AsyncSession":
                await transaction.start()
            tasks.add_task(keep, 1)
            await till.order("ada")
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == (["ada"], [(1, "queued")])


def test_a_task_that_a_hook_adds_while_the_session_commits_goes_with_it(shop, keep, order):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            sync = getattr(till.session, "sync_session", till.session)

            @event.listens_for(sync, "before_flush")
            def welcome(session, context, instances):
                for new in session.new:
                    tasks.add_task(keep, new.name)

            till.session.add(order(name="ada"))
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert (shop.orders(), shop.tasks()) == (["ada"], [("ada", "queued")])


def test_a_task_that_is_added_too_late_for_a_commit_goes_with_the_next_one(shop, keep):
    """Whoever adds it listens as we do, and hears of the commit after us."""

    async def endpoint(tasks: BackgroundTasks, again: bool = False):
        async with shop.open() as till:
            tasks.bind(till.session)
            sync = getattr(till.session, "sync_session", till.session)
            event.listen(sync, "before_commit", lambda _: tasks.add_task(keep, 2), once=True)
            tasks.add_task(keep, 1)
            await till.commit()
            if again:
                await till.commit()

    assert shop.post(endpoint).json()["code"] == "not-committed"
    assert shop.tasks() == [(1, "queued")]
    assert shop.call("POST", "/?again=1").status_code == 200
    assert shop.tasks() == [(1, "queued"), (1, "queued"), (2, "queued")]


def test_a_dependency_binds_for_all_of_the_request(shop, keep):
    async def session(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            yield till

    async def audit(tasks: BackgroundTasks):
        tasks.add_task(keep, "audit")

    async def endpoint(tasks: BackgroundTasks, till=Depends(session), _=Depends(audit)):
        tasks.bind(till.session)  # again, as somebody may who does not know
        tasks.add_task(keep, "endpoint")
        await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [("audit", "queued"), ("endpoint", "queued")]


def test_a_scoped_session_is_the_one_it_stands_for(sync_shop, keep):
    shop = sync_shop
    scoped = scoped_session(sessionmaker(shop.engine))

    def endpoint(tasks: BackgroundTasks):
        tasks.bind(scoped)
        tasks.add_task(keep, 1)
        scoped.commit()
        scoped.remove()

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(1, "queued")]


def test_a_session_that_serves_one_request_after_another_is_followed_by_none_in_between(
    shop, keep, till, is_followed
):
    shared = till(shop.session())

    async def endpoint(tasks: BackgroundTasks):
        tasks.bind(shared.session)
        shop.events.append(is_followed(shared.session))
        tasks.add_task(keep, len(shop.events))
        await shared.commit()
        await shared.do("close")

    shop.app.post("/")(endpoint)
    for _ in range(2):
        assert shop.call("POST", "/").status_code == 200
        assert not is_followed(shared.session)

    assert shop.events == [True, True]
    assert shop.tasks() == [(1, "queued"), (2, "queued")]


def test_a_message_that_was_added_already_is_refused_before_and_after_the_commit(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            message = keep.message(1)
            tasks.add_task(message)
            with pytest.raises(BadOptions, match="was added already"):
                tasks.add_task(message)
            await till.commit()
            with pytest.raises(BadOptions, match="was added already"):
                tasks.add_task(message)

    assert shop.post(endpoint).status_code == 200
    assert shop.tasks() == [(1, "queued")]


def test_plain_functions_run_as_ever_and_bound_tasks_do_not_wait_for_them(shop, keep, until):
    def look():
        until(lambda: shop.tasks() == [(1, "queued")])
        shop.events.append("ran")

    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(look)
        async with shop.open() as till:
            tasks.bind(till.session)
            tasks.add_task(keep, 1)
            await till.commit()

    assert shop.post(endpoint).status_code == 200
    assert shop.events == ["ran"]


def test_a_plain_function_is_no_part_of_the_transaction(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.order("ada")
            tasks.add_task(keep, 1)
            tasks.add_task(shop.events.append, "ran")
            await till.rollback()

    assert shop.post(endpoint).status_code == 200
    assert shop.events == ["ran"]
    assert (shop.orders(), shop.tasks()) == ([], [])


def test_a_stream_holds_back_what_was_committed_before_and_in_it(shop, keep):
    async def endpoint(tasks: BackgroundTasks):
        session = shop.open()
        till = await session.__aenter__()
        tasks.bind(till.session)
        tasks.add_task(keep, 1)
        await till.commit()

        async def body():
            yield b"x"
            tasks.add_task(keep, 2)
            await till.commit()
            shop.settle()
            shop.events.append(shop.tasks())
            yield b"y"
            await session.__aexit__(None, None, None)

        return StreamingResponse(body())

    assert shop.post(endpoint).text == "xy"
    assert shop.events == [[(1, "accepted"), (2, "accepted")]]
    assert shop.tasks() == [(1, "queued"), (2, "queued")]


def test_an_endpoint_in_a_thread_commits_before_its_response(sync_shop, keep, serve, until, order):
    """As most endpoints are written, behind a real server, and with the release in the way."""
    shop = sync_shop
    go_on = threading.Event()

    def endpoint(name: str, tasks: BackgroundTasks):
        with Session(shop.engine) as session:
            tasks.bind(session)
            session.add(order(name=name))
            tasks.add_task(keep, name)
            session.commit()
        shop.events.append(name)
        assert go_on.wait(10)

    shop.app.post("/{name}")(endpoint)
    server = serve(shop.app)
    calls = [threading.Thread(target=_post, args=(f"{server.url}/{n}",)) for n in range(8)]
    for call in calls:
        call.start()
    until(lambda: len(shop.events) == 8)
    assert {state for _, state in shop.tasks()} == {"accepted"}
    go_on.set()
    for call in calls:
        call.join(10)

    until(lambda: {state for _, state in shop.tasks()} == {"queued"})
    assert sorted(shop.orders()) == sorted(x for x, _ in shop.tasks()) == [*"01234567"]


def _post(url):
    import httpx2

    assert httpx2.post(url, timeout=30).status_code == 200


def test_sessions_of_many_requests_at_once_keep_their_tasks_apart(shop, keep):
    async def endpoint(n: int, tasks: BackgroundTasks):
        async with shop.open() as till:
            tasks.bind(till.session)
            await till.read()
            tasks.add_task(keep, n)
            await till.order(str(n))
            await (till.rollback() if n % 3 == 0 else till.commit())
            if n % 3 == 1:
                raise HTTPException(418)

    shop.app.post("/{n}")(endpoint)

    async def all_at_once():
        import httpx2

        transport = httpx2.ASGITransport(shop.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            return await asyncio.gather(*(client.post(f"/{n}", timeout=60) for n in range(30)))

    statuses = [response.status_code for response in asyncio.run(all_at_once())]
    shop.settle()

    expected = [n for n in range(30) if n % 3]
    assert statuses == [418 if n % 3 == 1 else 200 for n in range(30)]
    assert sorted(shop.tasks()) == [(n, "queued") for n in expected]
    assert sorted(map(int, shop.orders())) == expected
