"""What is not a JSON body of decent size is refused before anybody works with it."""

import asyncio
import json

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from api import problems
from api.edge import Edge
from api.json_bodies import JsonRoute
from api.limits import BodyLimit

LIMIT = 3000


class Thing(BaseModel):
    name: str = ""
    data: dict = {}


def small_app():
    app = FastAPI()
    app.add_middleware(BodyLimit, limit=LIMIT)
    app.add_middleware(Edge)
    problems.install(app)
    app.state.seen = []
    router = APIRouter(route_class=JsonRoute)

    def note():
        app.state.seen.append("dependency")

    @router.post("/things", dependencies=[Depends(note)])
    def make(thing: Thing):
        return thing

    @router.post("/bodiless")
    def bodiless():
        return "served"

    app.include_router(router)
    return app


def post(content, content_type="application/json", path="/things", **headers):
    app = small_app()
    if content_type:
        headers["content-type"] = content_type
    response = TestClient(app).post(path, content=content, headers=headers)
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.status_code == 422 or app.state.seen == []
    return response


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x+json",
    ],
)
def test_json_is_read(content_type):
    response = post('{"name": "Grüße 😀", "data": {"n": [1.5, null]}}'.encode(), content_type)

    assert response.json() == {"name": "Grüße 😀", "data": {"n": [1.5, None]}}


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
)
def test_another_media_type_is_415(content_type):
    response = post(b"{}", content_type)

    assert (response.status_code, response.json()["code"]) == (415, "unsupported-media-type")


def test_a_compressed_body_is_415():
    response = post(b"{}", **{"content-encoding": "gzip"})

    assert response.json()["code"] == "unsupported-media-type"


@pytest.mark.parametrize("content_type", [None, "application/json"])
def test_no_body_is_a_missing_one(content_type):
    response = post(b"", content_type)

    assert (response.status_code, response.json()["code"]) == (422, "validation")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{'name': 1}",
        b'{"name": "a"} {}',
        b'{"data": {"n": NaN}}',
        b'{"data": {"n": Infinity}}',
        b'{"data": {"n": -Infinity}}',
        b'{"data": {"n": 1e999}}',
        b'{"data": {"n": [[{"m": -1e999}]]}}',
        b'{"data": {"n": ' + b"9" * 1900 + b"e9999}}",
        b'{"name": "\\ud800"}',
        b'{"data": {"\\udfff": 1}}',
        b'{"name": "\\u0000"}',
        b'{"data": {"a\\u0000b": 1}}',
        b'{"name": "\x00"}',
        b'{"name": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        '{"name": "ü"}'.encode("latin-1"),
        '{"name": "a"}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b'{"data": ' * 201 + b"1" + b"}" * 201,
        b"[" * 1900,
    ],
)
def test_what_json_cannot_carry_or_a_database_cannot_store_is_400(content):
    response = post(content)

    assert (response.status_code, response.json()["code"]) == (400, "malformed-json")


def test_a_body_of_another_shape_is_pointed_at():
    response = post(json.dumps({"name": 1, "data": {}}))

    assert response.json()["errors"][0]["in"] == "body"
    assert response.json()["errors"][0]["pointer"] == "/name"


@pytest.mark.parametrize("path", ["/things", "/bodiless", "/nowhere"])
def test_a_body_that_says_it_is_too_large_is_refused_unread(path):
    reads = []

    async def receive():
        reads.append(1)
        return {"type": "http.request", "body": b"x" * (LIMIT + 1), "more_body": False}

    status, headers = call(path, receive, [(b"content-length", str(LIMIT + 1).encode())])

    assert status == 413
    assert headers[b"connection"] == b"close"
    assert reads == []


def test_a_body_that_turns_out_too_large_is_refused_without_reading_the_rest():
    reads = []

    async def receive():
        reads.append(1)
        return {"type": "http.request", "body": b"x" * (LIMIT // 2), "more_body": True}

    status, headers = call("/things", receive, [(b"transfer-encoding", b"chunked")])

    assert status == 413
    assert headers[b"connection"] == b"close"
    assert len(reads) == 3


@pytest.mark.parametrize("value", [b"-1", b"1_0", b"+5", b"ten", b""])
def test_a_length_that_is_no_number_is_refused(value):
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    assert call("/bodiless", receive, [(b"content-length", value)])[0] == 400


def test_a_body_of_exactly_the_limit_is_read():
    content = json.dumps({"name": "x" * (LIMIT - len('{"name": ""}'))})

    assert post(content).status_code == 200
    assert post(iter([content[:900].encode(), content[900:].encode()])).status_code == 200
    assert post(content + " ").status_code == 413


def call(path, receive, headers):
    """Call the app as a server would, with bodies that no HTTP client would send."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    starts = []

    async def send(message):
        if message["type"] == "http.response.start":
            starts.append((message["status"], dict(message["headers"])))

    asyncio.run(small_app()(scope, receive, send))
    return starts[0]
