"""Every error is an RFC 9457 problem with a stable code, whichever layer it comes from."""

import asyncio
import json

import pytest
import structlog
from fastapi import FastAPI, Query
from fastapi.exceptions import HTTPException
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from api import problems
from api.edge import Edge
from api.openapi import Api, kinds, responses
from api.problems import HttpProblem
from postlude import errors


def small_app(endpoint=None, path="/thing"):
    app = FastAPI(redirect_slashes=False)
    app.add_middleware(Edge)
    problems.install(app)
    if endpoint:
        app.add_api_route(path, endpoint, methods=["GET"])
    return app


def get(app, path="/thing", **kwargs):
    return TestClient(app).get(path, **kwargs)


def raising(error):
    def endpoint():
        raise error

    return small_app(endpoint)


def problem_of(response, status, code):
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:postlude:problem:{code}"
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == f"urn:postlude:request:{response.headers['x-request-id']}"
    return body


def test_an_address_without_a_route_is_not_found():
    body = problem_of(get(small_app(), "/nothing/here"), 404, "not-found")

    assert "/nothing/here" in body["detail"]


def test_a_wrong_method_is_told_the_right_ones():
    app = small_app(lambda: 1)
    app.add_api_route("/thing", lambda: 1, methods=["POST", "DELETE"])

    response = TestClient(app).put("/thing")

    problem_of(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD, POST, DELETE, OPTIONS"


def test_options_lists_the_methods_without_a_body():
    response = TestClient(small_app(lambda: 1)).options("/thing")

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


def test_options_of_an_address_without_a_route_is_not_found():
    problem_of(TestClient(small_app()).options("/nothing"), 404, "not-found")


def test_head_is_get_without_its_body():
    client = TestClient(small_app(lambda: "some text"))

    head, whole = client.head("/thing"), client.get("/thing")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_the_body_is_not_even_sent_where_only_its_head_was_asked_for():
    scope = {"type": "http", "method": "HEAD", "path": "/thing", "query_string": b"", "headers": []}
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message.get("body"))

    asyncio.run(small_app(lambda: "some text")(scope, receive, send))

    assert sent == [None, b""]


def test_a_parameter_that_does_not_fit_is_pointed_at():
    def endpoint(limit: int = Query(ge=1), other: int = 0):
        return limit + other

    body = problem_of(get(small_app(endpoint), "/thing?limit=0&other=x"), 422, "validation")

    assert [(e["in"], e["pointer"]) for e in body["errors"]] == [
        ("query", "/limit"),
        ("query", "/other"),
    ]
    assert "greater than or equal to 1" in body["errors"][0]["detail"]
    assert "/limit" in body["detail"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.UnknownTask("no task x"), 404, "unknown-task"),
        (errors.TaskExpired("gone"), 410, "task-expired"),
        (errors.BadOptions("odd"), 422, "bad-options"),
        (errors.LedgerBusy("full"), 503, "ledger-busy"),
        (errors.LedgerTooOld("old"), 503, "ledger-too-old"),
        (HttpProblem(problems.Code.NOT_READY, "no heartbeat"), 503, "not-ready"),
        (HTTPException(418, "short and stout"), 418, "im-a-teapot"),
        (HTTPException(400, "no"), 400, "bad-request"),
    ],
)
def test_an_error_has_the_code_of_its_class(error, status, code):
    response = get(raising(error))

    body = problem_of(response, status, code)
    assert body["detail"] == (
        error.detail if isinstance(error, HTTPException | HttpProblem) else str(error)
    )
    assert ("retry-after" in response.headers) == (status == 503)


def test_bad_arguments_point_at_each_fault():
    faults = ({"pointer": "/email", "detail": "not an address"},)

    body = problem_of(get(raising(errors.BadArguments("bad", faults))), 422, "bad-arguments")

    assert body["errors"] == list(faults)


def test_an_unknown_accept_names_the_tasks_to_ask_for():
    error = errors.AcceptUnknown("who knows", ("id-1", "id-2"))

    body = problem_of(get(raising(error)), 503, "accept-unknown")

    assert body["tasks"] == ["id-1", "id-2"]


@pytest.mark.parametrize(
    "error", [RuntimeError("the password is 1234"), errors.SettingsError("1234")]
)
def test_an_unforeseen_error_is_logged_under_the_id_in_the_answer_and_says_nothing_else(error):
    with structlog.testing.capture_logs() as logs:
        response = get(raising(error))

    body = problem_of(response, 500, "internal-error")
    assert "1234" not in response.text
    assert [entry["correlation_id"] for entry in logs] == [body["instance"].rpartition(":")[2]]
    assert logs[0]["exc_info"] is error


def test_an_error_after_the_response_has_begun_breaks_the_connection():
    async def endless():
        yield b"half of "
        raise BrokenPipeError

    app = small_app(lambda: StreamingResponse(endless()))

    with pytest.raises(BrokenPipeError), structlog.testing.capture_logs():
        get(app)


def test_text_that_cannot_be_encoded_does_not_become_a_500():
    body = problem_of(get(raising(errors.BadOptions("odd \ud800"))), 422, "bad-options")

    assert body["detail"] == "odd \ud800"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("order-4711", True),
        ("a/b+c=d.e_f:g", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("two words", False),
        ("<script>", False),
        ('"', False),
    ],
)
def test_a_request_keeps_the_id_that_it_came_with_if_that_is_harmless(sent, kept):
    response = get(small_app(lambda: 1), headers={"x-request-id": sent})

    assert (response.headers["x-request-id"] == sent) == kept
    assert response.headers["x-request-id"]


def test_log_lines_and_tasks_of_a_request_carry_its_id_and_later_ones_do_not():
    seen = []
    app = small_app(lambda: seen.append(structlog.contextvars.get_contextvars()))

    get(app, headers={"x-request-id": "order-4711"})

    assert seen == [{"correlation_id": "order-4711"}]
    assert structlog.contextvars.get_contextvars() == {}


def test_a_description_groups_problems_by_status():
    described = responses("not-found", "unknown-task", "ledger-busy")

    assert list(described) == [404, 503]
    assert "`not-found`" in described[404]["description"]
    assert "`unknown-task`" in described[404]["description"]
    assert list(described[503]["content"]) == ["application/problem+json"]


def test_a_description_never_shows_the_error_shape_of_the_framework():
    app = Api(title="x", version="1")
    app.add_api_route("/{thing}", lambda thing: thing, methods=["GET"])

    document = app.openapi()

    assert list(document["components"]["schemas"]) == ["Problem"]
    assert "HTTPValidationError" not in json.dumps(document)


def test_each_code_has_one_status_and_one_title():
    known = kinds()

    for code, kind in problems.HTTP_PROBLEMS.items():
        assert known[code].status == kind.status
    assert all(code == code.lower() and " " not in code for code in known)
    assert all(400 <= kind.status < 600 and kind.title for kind in known.values())
