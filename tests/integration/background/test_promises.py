"""What this process owes when something goes wrong between the accept and the release."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import uuid_utils
from fastapi import Depends
from fastapi.responses import StreamingResponse
from starlette.testclient import TestClient

from postlude import BackgroundTasks, process
from postlude.broker import broker
from postlude.dispatch import promises
from postlude.dispatch.waiting import Signal
from postlude.errors import BadOptions, LedgerBusy, LedgerError
from postlude.ledger import commit
from postlude.ledger.task import NewTask
from postlude.ledger.transitions.accept import accept

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "headers": [],
    "http_version": "1.1",
    "scheme": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "root_path": "",
}


@pytest.fixture
def site(one_site):
    return one_site


@pytest.fixture
def owed(life):
    """The promises of this process, with the ledger open and its life begun."""
    life.settle()
    return asyncio.run(promises.door())


def test_what_is_loaded_is_looked_through_for_garbage_once(owed):
    gc.unfreeze()
    owed.look()
    kept = gc.get_freeze_count()
    owed.look()  # what came since may become garbage

    assert kept > 10_000
    assert gc.get_freeze_count() <= kept


def test_a_process_that_serves_freezes_what_it_has_loaded(life):
    gc.unfreeze()
    asyncio.run(promises.door())

    deadline = time.monotonic() + 20
    while not gc.get_freeze_count():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _new_task(x):
    return NewTask(
        id=str(uuid_utils.uuid7()),
        actor="_keep",
        queue="default",
        arguments=f'{{"x":"{x}"}}',
        options="{}",
        priority=0,
        run_at=None,
        created_at=datetime.now(UTC),
    )


@contextmanager
def _busy_writer(life):
    """Let the writer be in the middle of something until the block is left."""
    begun, go_on = threading.Event(), threading.Event()

    def write(_tx):
        begun.set()
        go_on.wait(10)

    life.ledger.submit(write)
    begun.wait(10)
    try:
        yield
    finally:
        go_on.set()


async def _receive():
    return {"type": "http.request", "body": b"", "more_body": False}


async def _cancel_when(condition, coroutine):
    """Run ``coroutine`` as a server would and cancel it natively once ``condition`` holds."""
    task = asyncio.create_task(coroutine)
    while not condition():  # noqa: ASYNC110 # set by code that knows no event of ours
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_request_cancelled_while_its_accept_waits_stores_nothing(site, keep, owed):
    sent = []

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    async def send(message):
        sent.append(message)

    with _busy_writer(site.life):
        asyncio.run(_cancel_when(lambda: owed._due, site.app(dict(SCOPE), _receive, send)))

    site.settle()
    assert sent == []
    assert site.tasks() == []
    assert not owed._due


def test_a_request_cancelled_in_the_middle_of_its_accept_withdraws_what_was_stored(
    site, keep, owed, monkeypatch
):
    inside, go_on = threading.Event(), threading.Event()
    write = owed._accepts._write

    def slowly(tx, entries):
        inside.set()
        go_on.wait(10)
        write(tx, entries)

    monkeypatch.setattr(owed._accepts, "_write", slowly)
    rolled_back = []

    async def session():
        try:
            yield
        except BaseException as error:
            rolled_back.append(type(error).__name__)
            raise

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks, _=Depends(session)):
        tasks.add_task(keep, 1)

    async def send(message):
        raise AssertionError(message)

    asyncio.run(_cancel_when(inside.is_set, site.app(dict(SCOPE), _receive, send)))
    go_on.set()

    site.settle()
    assert rolled_back == ["CancelledError"]
    (view,) = site.views()
    assert (str(view.state), str(view.reason)) == ("cancelled", "request-failed")
    assert not owed._due


def test_requests_that_are_stored_together_fail_apart(life, owed):
    """One of them brings a task that exists already."""
    known, new, other = _new_task("known"), _new_task("new"), _new_task("other")
    life.ledger.write(lambda tx: accept(tx, known, owner="somebody"))
    twin = replace(known, created_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def both():
        with _busy_writer(life):
            requests = [
                asyncio.create_task(owed.accept([new, twin], started=False)),
                asyncio.create_task(owed.accept([other], started=False)),
            ]
            await asyncio.sleep(0)
        return await asyncio.gather(*requests, return_exceptions=True)

    refused, accepted = asyncio.run(both())

    assert isinstance(refused, BadOptions)
    assert accepted is None
    assert life.tasks() == [("known", "accepted"), ("other", "accepted")]
    assert set(owed._due) == {other.id}


def test_a_commit_that_failed_is_replayed_with_all_that_was_in_it(life, owed, monkeypatch):
    monkeypatch.setattr(commit, "RETRY_S", 0.0)
    with closing(life.ledger.connect()) as connection:
        fault = connection.errors("the disk hiccups")
    write, faults = owed._accepts._write, [fault]

    def write_and_fail_once(tx, entries):
        write(tx, entries)
        if faults:
            raise faults.pop()

    monkeypatch.setattr(owed._accepts, "_write", write_and_fail_once)

    asyncio.run(owed.accept([_new_task(1), _new_task(2)], started=False))

    assert not faults
    assert life.tasks() == [("1", "accepted"), ("2", "accepted")]


def test_a_request_cancelled_between_the_commit_and_the_news_of_it_is_withdrawn(life, owed):
    async def cancel_late():
        request = asyncio.create_task(owed.accept([_new_task(1)], started=False))
        for _ in range(2):  # its own step, and the one that tells the writer
            await asyncio.sleep(0)
        life.settle()  # the commit happens while this loop stands still
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)

    asyncio.run(cancel_late())

    life.settle()
    assert life.tasks() == [("1", "cancelled")]
    assert not owed._due


def test_more_requests_than_may_wait_are_refused_as_busy(life, environment):
    environment(write_queue="2")
    life.settle()
    owed = asyncio.run(promises.door())

    async def three():
        with _busy_writer(life):
            requests = [
                asyncio.create_task(owed.accept([_new_task(n)], started=False)) for n in range(3)
            ]
            await asyncio.sleep(0)
        return await asyncio.gather(*requests, return_exceptions=True)

    first, second, third = asyncio.run(three())

    assert (first, second) == (None, None)
    assert isinstance(third, LedgerBusy)
    assert life.tasks() == [("0", "accepted"), ("1", "accepted")]


def test_after_an_outage_of_the_ledger_requests_are_accepted_again(life, owed, monkeypatch):
    """The write that was to gather them was given up before it had gathered any."""
    monkeypatch.setattr(commit, "GIVE_UP_S", 0)

    with life.locked(), pytest.raises(LedgerError, match="could not be written"):
        asyncio.run(owed.accept([_new_task(1)], started=False))
    asyncio.run(owed.accept([_new_task(2)], started=False))

    assert life.tasks() == [("2", "accepted")]


def test_a_signal_to_a_loop_that_is_closed_is_lost_quietly():
    async def make():
        return Signal()

    asyncio.run(make()).set()


def test_a_request_cancelled_after_its_response_has_started_is_released(site, keep, owed):
    started = threading.Event()

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

        async def body():
            started.set()
            yield b"x"
            await asyncio.Event().wait()

        return StreamingResponse(body())

    async def send(message):
        pass

    async def receive():
        await asyncio.Event().wait()

    asyncio.run(_cancel_when(started.is_set, site.app(dict(SCOPE), receive, send)))

    site.settle()
    assert site.tasks() == [(1, "queued")]
    assert not owed._due


def test_a_release_that_the_ledger_would_not_hear_is_repeated_by_the_audit(
    site, keep, until, logs, environment
):
    environment(write_queue="1")
    owed = asyncio.run(promises.door())
    queue_full = threading.Event()

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

        async def body():
            yield b"x"
            queue_full.wait(10)

        return StreamingResponse(body())

    def respond():
        TestClient(site.app).post("/")

    request = threading.Thread(target=respond)
    request.start()
    until(lambda: site.tasks() == [(1, "accepted")])
    with _busy_writer(site.life):
        waiting = site.life.ledger.submit(lambda _tx: None)
        queue_full.set()
        request.join(10)
    waiting.result(10)
    site.settle()
    assert [line["event"] for line in logs if "task_ids" in line] == ["promises.unsettled"]
    assert site.tasks() == [(1, "accepted")]

    owed.audit()

    site.settle()
    assert site.tasks() == [(1, "queued")]
    assert not owed._due


def test_a_release_that_a_closed_loop_has_left_lying_is_seen_to_by_the_audit(life, owed):
    loop = asyncio.new_event_loop()

    async def release_last():
        await owed.accept([task], started=True)
        loop.stop()  # what is to be called soon is never called
        owed.release([task.id])

    task = _new_task("left")
    last = loop.create_task(release_last())
    loop.run_forever()
    loop.close()
    assert last.done()
    assert life.tasks() == [("left", "accepted")]

    owed.audit()
    life.settle()
    assert life.tasks() == [("left", "queued")]
    asyncio.run(owed.accept([later := _new_task("later")], started=True))
    owed.release([later.id])
    life.settle()
    assert life.tasks() == [("left", "queued"), ("later", "queued")]


def test_an_audit_leaves_open_requests_alone(site, keep, owed):
    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

        async def body():
            for _ in range(3):
                owed.audit()
            site.settle()
            site.events.append(site.tasks())
            yield b"x"

        return StreamingResponse(body())

    site.call("POST", "/")

    assert site.events == [[(1, "accepted")]]
    assert site.tasks() == [(1, "queued")]


def test_a_task_that_nobody_remembers_is_withdrawn_by_the_second_audit(life, owed):
    """Its request was told that it failed, but the commit had reached the disk after all."""
    owner = process.current().incarnation.id
    life.ledger.write(lambda tx: accept(tx, _new_task("lost"), owner=owner))

    owed.audit()
    life.settle()
    assert life.tasks() == [("lost", "accepted")]

    owed.audit()
    life.settle()
    assert life.tasks() == [("lost", "cancelled")]


def test_an_audit_touches_nothing_of_another_incarnation(life, owed):
    life.ledger.write(lambda tx: accept(tx, _new_task("theirs"), owner="somebody else"))

    for _ in range(3):
        owed.audit()

    life.settle()
    assert life.tasks() == [("theirs", "accepted")]


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_message_that_two_requests_add_stays_promised_by_the_first(
    site, keep, owed, life, cancelled
):
    message = keep.message("once")

    @site.app.get("/stream")
    def stream(tasks: BackgroundTasks):
        tasks.add_task(message)

        async def body():
            yield b"first"
            await add_again()
            for _ in range(3):
                owed.audit()
                life.settle()
            yield b", last"

        return StreamingResponse(body())

    async def add_again():
        again = owed.accept([broker().prepare(message)], started=False)
        if not cancelled:
            with pytest.raises(BadOptions):
                await again
            return
        with _busy_writer(life):
            await _cancel_when(lambda: owed._accepts._waiting, again)

    response = site.call("GET", "/stream")

    assert response.text == "first, last"
    assert site.tasks() == [("once", "queued")]


def test_a_message_that_the_first_request_gives_up_is_promised_by_the_second(keep, owed, life):
    message = keep.message("once")

    def add():
        return owed.accept([broker().prepare(message)], started=False)

    async def add_twice():
        with _busy_writer(life):
            given_up = _cancel_when(lambda: len(owed._accepts._waiting) == 2, add())
            first = asyncio.create_task(given_up)
            while not owed._accepts._waiting:  # noqa: ASYNC110 # set by code that knows no event of ours
                await asyncio.sleep(0)
            second = asyncio.create_task(add())
            await first
        await second

    asyncio.run(add_twice())
    for _ in range(3):
        owed.audit()
        life.settle()

    assert life.tasks() == [("once", "accepted")]
    owed.release([message.message_id])
    life.settle()
    assert life.tasks() == [("once", "queued")]


def test_a_process_audits_itself(life, until, monkeypatch):
    monkeypatch.setattr(process, "CHORE_S", 0.01)
    owner = process.open_as("api").incarnation.id
    asyncio.run(promises.door())

    life.ledger.write(lambda tx: accept(tx, _new_task("lost"), owner=owner))

    until(lambda: life.tasks() == [("lost", "cancelled")])


def test_a_closed_process_promises_anew_under_another_name(site, keep, owed):
    before = process.current().incarnation.id
    process.close()

    @site.app.post("/")
    async def endpoint(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)

    assert site.call("POST", "/").status_code == 200
    assert process.current().incarnation.id != before
    assert site.tasks() == [(1, "queued")]


def test_a_forked_child_does_not_use_its_parents_promises(owed):
    child = os.fork()
    if child == 0:  # pragma: no cover
        os._exit(0 if owed.is_past else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not owed.is_past


def test_two_rounds_of_promises_are_not_made_at_once(life, monkeypatch):
    life.settle()

    async def first_tasks():
        return await asyncio.gather(*(promises.door() for _ in range(8)))

    assert len({id(door) for door in asyncio.run(first_tasks())}) == 1
