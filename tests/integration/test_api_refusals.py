"""What is refused, and that nothing is ever answered otherwise than documented, nor stored."""

import itertools
import logging
import re

import pytest
import structlog
from fastapi.testclient import TestClient

from api import create_app
from postlude.ledger.migrate import upgrade
from postlude.settings import settings

UNKNOWN = "02ffffff-0000-7000-8000-000000000000"
"""Made in the far future: a parameter of tests must be the same in each of their processes."""
ADD = "/v1/actors/send_notification/tasks"
ARGS = {"email": "ada@example.com", "message": "Hello"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Serve the application to all tests here: they store nothing, or look at nothing stored."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    local = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 4711)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTLUDE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("POSTLUDE_LOG_LEVEL", "error")
        patch.setenv("POSTLUDE_BODY_LIMIT", "10000")
        settings.cache_clear()
        upgrade(settings())
        with TestClient(create_app(), **local) as client:
            yield client
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    settings.cache_clear()


def newest(client):
    return client.get("/v1/tasks?limit=1").json()["items"]


@pytest.fixture
def untouched(client):
    """See that the test stores nothing."""
    before = newest(client)
    yield
    assert newest(client) == before


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


@pytest.mark.parametrize(
    "email", ["ada", "ada@", "@example.com", "a b@example.com", "ada@example", "%00"]
)
def test_an_address_that_is_none_is_refused_before_anything_is_stored(client, untouched, email):
    body = problem(client.post(f"/send-notification/{email}?q=orders"), 422, "bad-arguments")

    assert body["errors"][0]["pointer"] == "/email"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dlay": "1s"}, "unknown option 'dlay'; known: delay, run_at,"),
        ({"eta": 1}, "unknown option 'eta'"),
        ({"delay": "1s", "run_at": "2999-01-01T00:00:00Z"}, "not both"),
        ({"delay": "soon"}, "'soon' is not a duration"),
        ({"delay": -1}, "not a duration"),
        ({"delay": True}, "write a span as"),
        ({"delay": []}, "write a span as"),
        ({"delay": "4000d"}, "ten years"),
        ({"delay": 1e300}, ""),
        ({"run_at": "2999-01-01T00:00:00"}, "needs an offset"),
        ({"run_at": "tomorrow"}, "write an instant as"),
        ({"run_at": 1}, "write an instant as"),
        ({"run_at": "0001-01-01T00:00:00+14:00"}, "beyond the calendar"),
        ({"priority": 2**31}, "less than"),
        ({"priority": "1"}, "valid integer"),
        ({"priority": 10**400}, ""),
        ({"max_retries": -1}, "greater than"),
        ({"max_retries": True}, "valid integer"),
        ({"time_limit": 0}, "at least 1ms"),
        ({"max_age": "0s"}, "at least 1ms"),
        ({"unique_key": ""}, "at least 1 character"),
        ({"unique_key": "x" * 201}, "at most 200 characters"),
        ({"unique_key": 7}, "valid string"),
        ({"unique_key": "k", "unique_for": "running"}, "'running' is not a duration"),
        ({"unique_key": "k", "unique_for": 0}, "at least 1ms"),
        ({"unique_key": "k", "unique_for": ["queued"]}, "write a span as"),
        ([], "valid dictionary"),
        (None, "valid dictionary"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(client, untouched, options, said):
    body = problem(client.post(ADD, json={"args": ARGS, "options": options}), 422, "validation")

    assert body["errors"][0]["pointer"].startswith("/options")
    assert said in body["errors"][0]["detail"]


def test_a_span_without_a_key_is_refused(client, untouched):
    options = {"unique_for": "queued"}

    body = problem(client.post(ADD, json={"args": ARGS, "options": options}), 422, "bad-options")

    assert "unique_for needs a unique_key" in body["detail"]


@pytest.mark.parametrize(
    ("args", "pointer"),
    [
        ({"email": "ada@example.com"}, "/args/message"),
        ({**ARGS, "colour": "red"}, "/args/colour"),
        ({**ARGS, "message": 1}, "/args/message"),
        ({**ARGS, "email": "ada"}, "/args/email"),
        ({**ARGS, "attachments": [{"name": "a"}]}, "/args/attachments/0/content"),
    ],
)
def test_arguments_that_do_not_fit_are_pointed_at(client, untouched, args, pointer):
    body = problem(client.post(ADD, json={"args": args}), 422, "bad-arguments")

    assert (body["errors"][0]["in"], body["errors"][0]["pointer"]) == ("body", pointer)


def test_the_body_must_have_the_shape_of_a_task(client, untouched):
    for body in ([], 1, "x", None, {"args": []}, {"arguments": {}}, {"args": ARGS, "more": 1}):
        problem(client.post(ADD, json=body), 422, "validation")


@pytest.mark.parametrize("name", ["nobody", "send_notification%00", "%F0%9F%98%80", "x" * 3000])
def test_an_actor_that_nobody_knows_is_not_found(client, untouched, name):
    problem(client.post(f"/v1/actors/{name}/tasks", json={}), 404, "unknown-actor")
    problem(client.get(f"/v1/actors/{name}"), 404, "unknown-actor")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("limit=many", "/limit"),
        ("state=lost", "/state"),
        ("stat=queued", "/stat"),
        ("actor=a%00b", "/actor"),
        ("queue=" + "x" * 256, "/queue"),
        ("cursor=", "/cursor"),
        ("cursor=%00", "/cursor"),
        ("cursor=!!!!", "/cursor"),
        ("cursor=M!g", "/cursor"),
        ("cursor=LTE", "/cursor"),
        ("cursor=MA", "/cursor"),
        ("cursor=OTIyMzM3MjAzNjg1NDc3NTgwOA", "/cursor"),
        ("cursor=" + "OTk5" * 3000, "/cursor"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(client, query, pointer):
    body = problem(client.get(f"/v1/tasks?{query}"), 422, "validation")

    assert [(e["in"], e["pointer"]) for e in body["errors"]] == [("query", pointer)]


@pytest.mark.parametrize(
    "task_id",
    [
        UNKNOWN,
        UNKNOWN.upper(),
        "1",
        "%00",
        "null",
        "%F0%9F%98%80",
        "x" * 3000,
        "00000000-0000-4000-8000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ],
)
def test_an_id_that_no_task_has_is_not_found(client, task_id):
    problem(client.get(f"/v1/tasks/{task_id}"), 404, "unknown-task")


def test_an_id_from_before_the_retention_is_gone(client):
    problem(client.get("/v1/tasks/017f22e2-79b0-7cc3-98c4-dc0c0c07398f"), 410, "task-expired")


def test_a_slash_too_many_is_not_found(client):
    problem(client.get("/v1/tasks/", follow_redirects=False), 404, "not-found")


def test_the_limit_of_bodies_is_that_of_the_settings(client, untouched):
    body = b'{"args": {"message": "' + b"x" * 10_000 + b'"}}'

    response = client.post(ADD, content=body, headers={"content-type": "application/json"})

    assert "10000 bytes" in problem(response, 413, "payload-too-large")["detail"]


# Everything else that a stranger may think of

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
PATHS = {
    "/send-notification/ada@example.com": "/send-notification/{email}",
    "/send-notification/%F0%9F%98%80@x": "/send-notification/{email}",
    "/v1/tasks": "/v1/tasks",
    f"/v1/tasks/{UNKNOWN}": "/v1/tasks/{task_id}",
    "/v1/tasks/%FF%FE": "/v1/tasks/{task_id}",
    "/v1/actors": "/v1/actors",
    "/v1/actors/send_notification": "/v1/actors/{name}",
    ADD: "/v1/actors/{name}/tasks",
    "/v1/actors/%2e%2e/tasks": "/v1/actors/{name}/tasks",
    "/files": "/files",
    f"/files/{UNKNOWN}": "/files/{id}",
    "/files/%2e%2e%2fpostlude.db": None,
    "/livez": "/livez",
    "/readyz": "/readyz",
    "/": None,
    "/docs": None,
    "/openapi.json": None,
    "/v1": None,
    "/v1/tasks/": None,
    "/v1/tasks/a/b": None,
    "/%00": None,
    "/..%2f..%2fetc/passwd": None,
    "/favicon.ico": None,
}
QUERIES = (
    "",
    "?state=queued&state=failed",
    "?limit=-1&cursor=%FF",
    "?message=%ED%A0%80&q=%F0%9F%98%80",
    "?message=%00&q=" + "x" * 5000,
    "?%00=%00&&&=;",
    "?limit=" + "9" * 5000,
)
BODIES = (
    (None, None),
    ("application/json", b""),
    ("application/json", b"{}"),
    ("application/json", b"{"),
    ("application/json", b"null"),
    ("application/json", b'{"args": {"email": NaN}}'),
    ("application/json", b'{"args": {"email": "\\ud800", "message": "x"}}'),
    ("application/json", b'{"args": {"\\u0000": 1}}'),
    ("application/json", b'{"args": {"email": "a@example.com", "message": ' + b"9" * 4500 + b"}}"),
    ("application/json", b'{"args": {"message": ' + b"[" * 150 + b"]" * 150 + b"}}"),
    ("application/json", b'{"options": {"delay": ' + b"[" * 150 + b"]" * 150 + b"}}"),
    ("application/json", b"[" * 9000),
    ("application/json", b'{"options": {' + b", ".join(b'"%d": 1' % n for n in range(800)) + b"}}"),
    ("application/json", b'{"args": {' + b", ".join(b'"%d": 1' % n for n in range(800)) + b"}}"),
    ("application/json", b" " * 10_001),
    ("application/json; charset=utf-16", '{"args": {}}'.encode("utf-16")),
    ("text/plain", b"hello"),
    ("multipart/form-data; boundary=x", b"--x--"),
    ("application/x-www-form-urlencoded", b"args=1"),
    ("\xff/\xfe", b"x"),
)
HEADERS = (
    {},
    {"accept": "text/html", "content-encoding": "gzip"},
    {"x-request-id": "\xff" * 300, "range": "bytes=0-1", "if-match": "*", "expect": "100-continue"},
)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_documented_and_every_error_is_a_problem(client, path):
    operations = client.get("/openapi.json").json()["paths"].get(PATHS[path], {})

    for method, query in itertools.product(METHODS, QUERIES):
        check(client, operations, method, path + query)
    for (content_type, body), headers in itertools.product(BODIES, HEADERS):
        typed = headers | ({"content-type": content_type} if content_type else {})
        encoded = {name: value.encode("latin-1") for name, value in typed.items()}
        check(client, operations, "POST", path, content=body, headers=encoded)


def check(client, operations, method, url, **extra):
    response = client.request(method, url, **extra)
    told = f"{method} {url[:80]} {str(extra)[:120]}: {response.status_code} {response.text[:300]}"
    assert response.status_code < 500, told
    assert re.fullmatch(r"[!-~]{1,128}", response.headers["x-request-id"]), told
    read_as = "get" if method == "HEAD" else method.lower()
    if read_as in operations:
        assert str(response.status_code) in operations[read_as]["responses"], told
    elif operations:
        assert response.status_code in {204, 405, 413}, told
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == "application/problem+json", told
    if method == "HEAD":
        assert response.content == b"", told
        return
    body = response.json()
    assert body["type"] == f"urn:postlude:problem:{body['code']}", told
    assert body["status"] == response.status_code, told
    assert {"title", "detail", "instance"} <= body.keys(), told
    assert len(response.content) < 20_000, told


def test_a_storm_of_nonsense_leaves_the_process_ready(client):
    assert client.get("/readyz").json() == {"status": "ok"}
