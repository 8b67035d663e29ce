"""Requests that are repeated under an Idempotency-Key, in an app of one's own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel

import postlude
from postlude import BackgroundTasks, IdempotentRoute
from postlude.dispatch import promises
from postlude.errors import NotInstalled
from postlude.ledger import commit
from postlude.testing import inline

KEY = {"idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


class Order(BaseModel):
    """What is ordered in these tests."""

    number: int


@pytest.fixture
def router():
    """Routes that take keys; to be included once they are there."""
    return APIRouter(route_class=IdempotentRoute)


@pytest.fixture
def shop(one_site, keep, router):
    """A site with a route that takes keys, and a session that is rolled back when it fails."""
    one_site.ids = []

    async def session():
        try:
            yield
        except BaseException as error:
            one_site.events.append(f"rollback after {type(error).__name__}")
            raise
        one_site.events.append("commit")

    @router.post("/orders", status_code=202)
    async def add_order(
        order: Order, tasks: BackgroundTasks, response: Response, _=Depends(session)
    ):
        task = tasks.add_task(keep, order.number)
        one_site.ids.append(task.id)
        response.headers["location"] = f"/orders/{order.number}"
        return {"task": task.id}

    one_site.session = session
    one_site.app.include_router(router)
    return one_site


def order(site, number=7, headers=KEY, path="/orders"):
    return site.call("POST", path, json={"number": number}, headers=headers)


def same(answers):
    """Check that all are one answer, and return how many of them say that they repeat it."""
    assert len({(a.status_code, a.text, a.headers.get("location")) for a in answers}) == 1
    return [answer.headers.get("idempotency-replayed") for answer in answers]


def test_a_request_that_is_repeated_is_answered_as_before_and_done_once(shop):
    answers = [order(shop) for _ in range(3)]

    assert same(answers) == [None, "true", "true"]
    assert answers[1].status_code == 202
    assert answers[1].json() == {"task": shop.ids[0]}
    assert answers[1].headers["location"] == "/orders/7"
    assert answers[1].headers["content-type"] == answers[0].headers["content-type"]
    assert shop.tasks() == [(7, "queued")]
    assert shop.events == ["commit"]


def test_without_a_key_or_with_another_one_a_request_is_a_new_one(shop):
    for headers in ({}, {}, KEY, {"idempotency-key": "another"}):
        assert "idempotency-replayed" not in order(shop, headers=headers).headers

    assert len(shop.tasks()) == 4


@pytest.mark.parametrize("change", [{"number": 8}, {"path": "/orders?express=1"}])
def test_another_request_under_the_same_key_is_refused(shop, change):
    first = order(shop)

    other = order(shop, **change)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")
    assert other.headers["content-type"] == "application/problem+json"
    assert same([first, order(shop)]) == [None, "true"]
    assert shop.tasks() == [(7, "queued")]


def test_the_same_key_at_another_address_or_of_another_caller_is_another_key(shop, router, keep):
    @router.post("/{noun}")
    async def add(noun: str, tasks: BackgroundTasks):
        return tasks.add_task(keep, noun).id

    shop.app.include_router(router)
    requests = [(path, {}) for path in ("/orders", "/returns", "/Returns")]
    requests += [("/orders", {"authorization": f"Bearer {who}"}) for who in ("ada", "grace")]
    requests += [("/orders", {"cookie": f"session={who}"}) for who in ("ada", "grace")]

    first = [order(shop, path=path, headers=KEY | more) for path, more in requests]
    again = [order(shop, path=path, headers=KEY | more) for path, more in requests]

    assert [same(pair) for pair in zip(first, again, strict=True)] == 7 * [[None, "true"]]
    assert len(shop.tasks()) == 7


@pytest.mark.parametrize("key", ["", " ", '""', "x" * 256, '"x', "é", '"é"', '"a"b', '"a\\b"'])
def test_a_key_that_makes_no_sense_is_refused(shop, key):
    answer = order(shop, headers={"idempotency-key": key.encode("latin-1")})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad-idempotency-key")
    assert shop.tasks() == []


def test_two_keys_are_refused(shop):
    answer = order(shop, headers=[("idempotency-key", "a"), ("idempotency-key", "a")])

    assert (answer.status_code, answer.json()["code"]) == (400, "bad-idempotency-key")


@pytest.mark.parametrize(
    ("first", "second"),
    [("k", '"k"'), ('"a\\"b\\\\c"', 'a"b\\c'), (" k ", "k"), ("x" * 255, f'"{"x" * 255}"')],
)
def test_a_key_is_the_same_with_quotes_and_without(shop, first, second):
    answers = [order(shop, headers={"idempotency-key": key}) for key in (first, second)]

    assert same(answers) == [None, "true"]


def test_an_answer_without_tasks_is_not_kept(shop, router, keep):
    @router.post("/maybe")
    async def maybe(order: Order, tasks: BackgroundTasks):
        shop.events.append("called")
        if len(shop.events) == 2:
            raise HTTPException(409)
        if len(shop.events) == 3:
            tasks.add_task(keep, order.number)
        return len(shop.events)

    shop.app.include_router(router)

    answers = [order(shop, path="/maybe") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 409, 200, 200]
    assert same(answers[2:]) == [None, "true"]
    assert shop.tasks() == [(7, "queued")]


def test_a_returned_error_that_came_with_tasks_is_kept_like_any_answer(shop, router, keep):
    @router.post("/teapot")
    async def teapot(order: Order, tasks: BackgroundTasks):
        tasks.add_task(keep, order.number)
        return JSONResponse({"short": "stout"}, 418, headers={"x-pot": "tea"})

    shop.app.include_router(router)

    answers = [order(shop, path="/teapot") for _ in range(2)]

    assert same(answers) == [None, "true"]
    assert (answers[1].status_code, answers[1].headers["x-pot"]) == (418, "tea")


def test_any_bytes_are_answered_again_but_no_cookie(shop, router, keep):
    @router.post("/bytes")
    async def answer_bytes(order: Order, tasks: BackgroundTasks):
        tasks.add_task(keep, order.number)
        response = Response(bytes(range(256)), media_type="application/octet-stream")
        response.set_cookie("session", "secret")
        return response

    shop.app.include_router(router)

    first, again = (order(shop, path="/bytes") for _ in range(2))

    assert first.content == again.content == bytes(range(256))
    assert again.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" in first.headers
    assert "set-cookie" not in again.headers


def test_the_route_reads_its_body_as_ever(shop, router, keep):
    @router.post("/form")
    async def form(request: Request, tasks: BackgroundTasks, word: str = Form()):
        tasks.add_task(keep, word)
        return word

    @router.post("/raw")
    async def raw(request: Request, tasks: BackgroundTasks):
        body = b"".join([chunk async for chunk in request.stream()])
        tasks.add_task(keep, body.decode())
        return PlainTextResponse(body)

    @router.patch("/nothing")
    def nothing(tasks: BackgroundTasks):
        tasks.add_task(keep, "nothing")

    shop.app.include_router(router)

    for _ in range(2):
        assert shop.call("POST", "/form", data={"word": "w"}, headers=KEY).json() == "w"
        assert shop.call("POST", "/raw", content=b"x" * 100_000, headers=KEY).text == "x" * 100_000
        assert shop.call("PATCH", "/nothing", headers=KEY).status_code == 200

    assert [x for x, _ in shop.tasks()] == ["w", "x" * 100_000, "nothing"]


def test_what_is_added_after_the_answer_is_no_part_of_it(shop, router, keep):
    @router.post("/late")
    async def late(tasks: BackgroundTasks):
        tasks.add_task(keep, "promised")
        tasks.add_task(lambda: tasks.add_task(keep, "late") and None)

    shop.app.include_router(router)

    answers = [shop.call("POST", "/late", headers=KEY) for _ in range(2)]

    assert same(answers) == [None, "true"]
    assert shop.tasks() == [("promised", "queued"), ("late", "queued")]


def test_a_key_means_nothing_to_a_get(shop, router, keep):
    @router.get("/")
    async def read(tasks: BackgroundTasks):
        tasks.add_task(keep, "read")

    shop.app.include_router(router)

    for _ in range(2):
        assert shop.call("GET", "/", headers=KEY).status_code == 200

    assert len(shop.tasks()) == 2


def test_an_answer_whose_body_is_not_known_is_refused_before_anything_is_stored(shop, router, keep):
    @router.post("/stream")
    async def stream(tasks: BackgroundTasks):
        tasks.add_task(keep, 1)
        return StreamingResponse(iter([b"x"]))

    shop.app.include_router(router)

    with pytest.raises(TypeError, match="a StreamingResponse cannot be given again"):
        TestClient(shop.app).post("/stream", headers=KEY)
    assert shop.call("POST", "/stream", headers=KEY).status_code == 500
    assert shop.tasks() == []
    assert shop.call("POST", "/stream").status_code == 200


def test_an_app_without_postlude_says_what_is_missing(router):
    @router.post("/")
    async def endpoint():
        pass

    app = FastAPI()
    app.include_router(router)

    with pytest.raises(NotInstalled, match="takes Idempotency-Keys, which needs"):
        TestClient(app).post("/", headers=KEY)
    assert TestClient(app).post("/").status_code == 200


def test_in_a_mounted_app_keys_are_those_of_the_whole_address(shop):
    outer = FastAPI()
    for place in ("/here", "/there"):
        outer.mount(place, shop.app)
    postlude.install(outer)
    client = TestClient(outer)

    answers = [
        client.post(f"{place}/orders", json={"number": 7}, headers=KEY)
        for place in ("/here", "/here", "/there")
    ]

    shop.settle()
    assert same(answers[:2]) == [None, "true"]
    assert "idempotency-replayed" not in answers[2].headers
    assert len(shop.tasks()) == 2


def test_a_test_with_inline_tasks_needs_no_ledger_for_keys(shop, environment, tmp_path):
    environment(data_dir=str(tmp_path / "nowhere"))

    with inline() as tasks:
        for _ in range(2):
            assert TestClient(shop.app).post("/orders", json={"number": 7}, headers=KEY).is_success

    assert len(tasks.ran) == 2
    assert not (tmp_path / "nowhere").exists()


def test_once_the_retention_is_over_a_request_is_a_new_one(shop, environment):
    environment(idempotency_retention="1ms")

    answers = [order(shop) for _ in range(2)]

    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, None]
    assert len(shop.tasks()) == 2


# Several at once


@pytest.fixture
def race(shop, router, keep):
    """Sends requests that are all in their endpoint at the same time."""
    calls = threading.Barrier(2)

    @router.post("/race", status_code=202)
    def add_order(order: Order, tasks: BackgroundTasks, _=Depends(shop.session)):
        task = tasks.add_task(keep, order.number)
        calls.wait(20)
        return {"task": task.id}

    shop.app.include_router(router)
    shop.settle()
    asyncio.run(promises.door())

    def race(*numbers, keys=("k", "k")):
        def send(number, key):
            headers = {"idempotency-key": key}
            return TestClient(shop.app).post("/race", json={"number": number}, headers=headers)

        with ThreadPoolExecutor(2) as clients:
            answers = list(clients.map(send, numbers, keys))
        shop.settle()
        return answers

    return race


def test_two_requests_at_once_with_one_key_get_one_answer_and_make_one_task(race, shop, logs):
    answers = race(7, 7)

    assert sorted(map(str, same(answers))) == ["None", "true"]
    assert shop.tasks() == [(7, "queued")]
    assert shop.views()[0].id == answers[0].json()["task"]
    assert sorted(shop.events) == ["commit", "rollback after Refused"]
    assert [line["event"] for line in logs if "task_ids" in line] == ["request.repeated"]
    assert not promises._promises._due


def test_two_different_requests_at_once_with_one_key_are_one_request_and_a_mismatch(race, shop):
    answers = race(7, 8)

    assert sorted(answer.status_code for answer in answers) == [202, 422]
    (accepted,) = [answer for answer in answers if answer.status_code == 202]
    (refused,) = [answer for answer in answers if answer.status_code == 422]
    assert refused.json()["code"] == "idempotency-mismatch"
    assert refused.headers["content-type"] == "application/problem+json"
    assert [view.id for view in shop.views()] == [accepted.json()["task"]]


def test_two_requests_at_once_with_two_keys_are_two(race, shop):
    answers = race(7, 7, keys=("a", "b"))

    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(shop.tasks()) == 2


@contextmanager
def stuck():
    """Let the writer get stuck between an accept's statements and its commit."""
    go_on, inside, accepts = threading.Event(), threading.Event(), promises._promises._accepts
    write = accepts._write

    def get_stuck(tx, entries):
        write(tx, entries)
        inside.set()
        go_on.wait(10)

    accepts._write = get_stuck
    try:
        yield inside
    finally:
        accepts._write = write
        go_on.set()


def test_what_was_accepted_too_late_to_be_told_is_told_when_the_request_is_repeated(
    shop, environment
):
    environment(write_timeout="250ms")
    shop.settle()
    asyncio.run(promises.door())

    with stuck():
        unknown = shop._send("POST", "/orders", json={"number": 7}, headers=KEY)
    shop.settle()
    again = order(shop)

    assert (unknown.status_code, unknown.json()["code"]) == (503, "accept-unknown")
    assert "the same Idempotency-Key" in unknown.json()["detail"]
    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    assert [again.json()["task"]] == unknown.json()["tasks"] == shop.ids
    assert shop.tasks() == [(7, "queued")]


def test_what_was_not_accepted_is_accepted_when_the_request_is_repeated(shop, environment):
    environment(write_timeout="250ms")
    shop.settle()
    asyncio.run(promises.door())

    with shop.life.locked():
        busy = shop._send("POST", "/orders", json={"number": 7}, headers=KEY)
    again = order(shop)

    assert (busy.status_code, busy.json()["code"]) == (503, "ledger-busy")
    assert again.status_code == 202
    assert "idempotency-replayed" not in again.headers
    assert shop.tasks() == [(7, "queued")]


def test_a_request_that_is_cancelled_in_the_middle_of_its_commit_is_answered_when_it_is_repeated(
    shop,
):
    shop.settle()
    asyncio.run(promises.door())
    body = b'{"number": 7}'
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/orders",
        "raw_path": b"/orders",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"idempotency-key", KEY["idempotency-key"].encode()),
        ],
        "http_version": "1.1",
        "scheme": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "root_path": "",
    }

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        raise AssertionError(message)

    async def cancel_when(inside):
        request = asyncio.create_task(shop.app(scope, receive, send))
        await asyncio.to_thread(inside.wait, 10)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    with stuck() as inside:
        asyncio.run(cancel_when(inside))
    shop.settle()
    again = shop.call(
        "POST",
        "/orders",
        content=body,
        headers=KEY | {"content-type": "application/json"},
    )

    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {"task": shop.ids[0]}
    assert shop.tasks() == [(7, "queued")]


def test_a_commit_that_is_replayed_does_not_take_its_own_answer_for_anothers(shop, monkeypatch):
    monkeypatch.setattr(commit, "RETRY_S", 0.0)
    shop.settle()
    owed = asyncio.run(promises.door())
    with closing(shop.life.ledger.connect()) as connection:
        fault = connection.errors("the disk hiccups")
    write, faults = owed._accepts._write, [fault]

    def write_and_fail_once(tx, entries):
        write(tx, entries)
        if faults:
            raise faults.pop()

    monkeypatch.setattr(owed._accepts, "_write", write_and_fail_once)

    answers = [order(shop) for _ in range(2)]

    assert not faults
    assert same(answers) == [None, "true"]
    assert shop.tasks() == [(7, "queued")]
