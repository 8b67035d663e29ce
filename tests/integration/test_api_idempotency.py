"""Every route that adds tasks, repeated under an Idempotency-Key."""

import asyncio
import json
import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import pytest
import structlog
from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import text

from actors.files import delete_old_files
from api import create_app
from api.routes.files import received
from api.routes.notifications import get_query
from postlude import process
from postlude.dispatch import promises
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.ledger.statement import Statement
from postlude.ledger.transitions.cancel import cancel_queue
from postlude.ledger.transitions.retain import delete_finished
from postlude.settings import load, settings
from postlude.states import State

KEY = {"idempotency-key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
ADD = "/v1/actors/send_notification/tasks"
ARGS = {"email": "ada@example.com", "message": "Hello"}
ADA, GRACE = "sender:ada-0123456789abcdef", "sender:grace-0123456789abcdef"
ROUTES = {
    "notification": ("/send-notification/ada@example.com?q=orders", {}),
    "task": (ADD, {"json": {"args": ARGS, "options": {"delay": "1h"}}}),
    "events": ("/events", {"json": [{"name": "order.placed"}]}),
    "cache": ("/cache/file-stats/refresh", {}),
    "file": ("/files", {"files": {"file": ("names.txt", b"Ada\nGrace\n")}}),
}


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    chosen = load(data_dir=tmp_path_factory.mktemp("blank"))
    upgrade(chosen)
    return chosen.data_dir / "postlude.db"


@pytest.fixture
def api(tmp_path, blank):
    """Serves the application to a client on this machine."""

    @contextmanager
    def serve(*, change=lambda _app: None, **variables):
        shutil.copy(blank, tmp_path)
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        local = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 4711)}
        chosen = {"DATA_DIR": str(tmp_path), "LOG_LEVEL": "error", **variables}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in chosen.items():
                patch.setenv(f"POSTLUDE_{name}", value)
            settings.cache_clear()
            try:
                app = create_app()
                change(app)
                with TestClient(app, **local) as client:
                    yield client
            finally:
                root.handlers[:] = handlers
                root.setLevel(level)
                structlog.reset_defaults()
                settings.cache_clear()

    return serve


@pytest.fixture
def client(api):
    with api() as client:
        yield client


def post(client, name, headers=KEY, **changes):
    path, request = ROUTES[name]
    return client.post(path, **(request | changes), headers=headers)


def same(answers):
    """Check that all are one answer, and return how many of them say that they repeat it."""
    assert len({(a.status_code, a.text, a.headers.get("location")) for a in answers}) == 1
    return [answer.headers.get("idempotency-replayed") for answer in answers]


def ids(client):
    return [item["id"] for item in client.get("/v1/tasks").json()["items"]]


def added(answer):
    """Return the ids of the tasks that an answer tells of."""
    body = answer.json()
    return [task["id"] for task in body.get("tasks", [body])]


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()


def stored_files(folder):
    """Return what is in the storage, once threads that tidy up are done."""
    deadline = time.monotonic() + 10
    while any(path.suffix == ".part" for path in (folder / "files").glob("*")):
        assert time.monotonic() < deadline
    return sorted(path.name for path in (folder / "files").glob("*"))


def file_rows():
    with process.current().ledger.read() as connection:
        return sorted(connection.execute(text("SELECT id FROM files")).scalars())


def test_every_route_that_adds_tasks_is_tested_here(client):
    document = client.get("/openapi.json").json()["paths"]
    adding = {
        path
        for path, operations in document.items()
        if "202" in operations.get("post", {}).get("responses", ())
    }

    assert len(adding) == len(ROUTES)
    for path in adding:
        operation = document[path]["post"]
        assert "Idempotency-Key" in [p["name"] for p in operation["parameters"]]
        assert "idempotency-mismatch" in operation["responses"]["422"]["description"]
        assert "bad-idempotency-key" in operation["responses"]["400"]["description"]
        assert "Idempotency-Replayed" in operation["responses"]["202"]["headers"]


@pytest.mark.parametrize("name", ROUTES)
def test_a_request_that_is_repeated_is_answered_as_before_and_adds_nothing(client, name):
    answers = [post(client, name) for _ in range(3)]

    assert answers[0].status_code == 202
    assert same(answers) == [None, "true", "true"]
    assert answers[1].headers["content-type"] == "application/json"
    assert ids(client) == added(answers[0])[::-1]
    request_ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(request_ids) == 3


@pytest.mark.parametrize("name", ROUTES)
def test_without_a_key_every_request_adds_tasks(client, name):
    answers = [post(client, name, headers={}) for _ in range(2)]

    assert not set(added(answers[0])) & set(added(answers[1]))
    assert all("idempotency-replayed" not in answer.headers for answer in answers)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("notification", {"params": {"message": "other"}}),
        ("task", {"json": {"args": ARGS}}),
        ("events", {"json": {"name": "order.placed"}}),
        ("cache", {"params": {"x": "1"}}),
        ("file", {"files": {"file": ("names.txt", b"Ada\nGrade\n")}}),
        ("file", {"files": {"file": ("other.txt", b"Ada\nGrace\n")}}),
        ("file", {"params": {"x": "1"}}),
    ],
)
def test_another_request_under_the_same_key_is_refused_and_adds_nothing(
    client, tmp_path, name, change
):
    first = post(client, name)
    files = stored_files(tmp_path)

    body = problem(post(client, name, **change), 422, "idempotency-mismatch")

    assert body["instance"].startswith("urn:postlude:request:")
    assert ids(client) == added(first)[::-1]
    assert stored_files(tmp_path) == files


@pytest.mark.parametrize("name", ROUTES)
@pytest.mark.parametrize("key", ["", "x" * 256, "\u00e9", '"half'])
def test_a_key_that_makes_no_sense_is_refused_and_adds_nothing(client, tmp_path, name, key):
    answer = post(client, name, headers={"idempotency-key": key.encode("latin-1")})

    problem(answer, 400, "bad-idempotency-key")
    assert ids(client) == []
    assert stored_files(tmp_path) == []


def test_a_request_that_was_refused_may_be_corrected_under_its_key(client):
    for args in ({}, {**ARGS, "email": "ada"}):
        problem(post(client, "task", json={"args": args}), 422, "bad-arguments")
    problem(post(client, "task", content=b"{", json=None), 415, "unsupported-media-type")

    assert same([post(client, "task") for _ in range(2)]) == [None, "true"]
    assert len(ids(client)) == 1


def test_each_caller_has_keys_of_his_own_whichever_header_he_shows_himself_in(api):
    secret, other = (entry.partition(":")[2] for entry in (ADA, GRACE))
    with api(API_KEYS=f"{ADA},{GRACE}") as client:
        shown = [
            {"authorization": f"Bearer {secret}"},
            {"x-api-key": secret},
            {"x-api-key": other},
        ]
        answers = [post(client, "task", headers=KEY | show) for show in shown]

    assert same(answers[:2]) == [None, "true"]
    assert "idempotency-replayed" not in answers[2].headers
    assert added(answers[2]) != added(answers[0])


def test_nothing_in_the_ledger_tells_the_secret_of_a_caller(api):
    with api(API_KEYS=ADA) as client:
        post(client, "task", headers=KEY | {"x-api-key": ADA.partition(":")[2]})
        with process.current().ledger.read() as connection:
            (row,) = connection.execute(text("SELECT * FROM postlude_keys")).mappings()

    assert "0123456789" not in str(dict(row))
    assert row["key"] == KEY["idempotency-key"].strip('"')


def test_an_answer_outlives_its_tasks(client):
    first = post(client, "task")
    process.current().ledger.write(partial(cancel_queue, queue="default", now=clock.now()))
    deadline = time.monotonic() + 10
    while client.get(first.headers["location"]).json()["state"] != "cancelled":
        assert time.monotonic() < deadline
        process.current().ledger.write(partial(cancel_queue, queue="default", now=clock.now()))
    assert same([first, post(client, "task")]) == [None, "true"]
    now = clock.now()
    deleting = partial(delete_finished, state=State.CANCELLED, before=now, limit=9, now=now)
    assert process.current().ledger.write(deleting) == 1

    assert same([first, post(client, "task")]) == [None, "true"]
    assert ids(client) == []


def test_the_retention_is_a_setting(api):
    with api(IDEMPOTENCY_RETENTION="1ms") as client:
        answers = [post(client, "task") for _ in range(2)]

    assert added(answers[0]) != added(answers[1])


def test_a_ledger_that_cannot_be_asked_is_a_problem(client):
    harm = Statement(text("ALTER TABLE postlude_keys RENAME TO gone"))
    process.current().ledger.write(lambda tx: tx.run(harm))

    problem(post(client, "task"), 503, "ledger-unavailable")
    assert post(client, "task", headers={}).status_code == 202


# Several at once


def meet_at(barrier):
    """Let requests wait for each other when their keys have been looked at, and no task is there."""

    def query():
        barrier.wait(20)

    async def upload(request: Request):
        async with asynccontextmanager(received)(request) as upload:
            await asyncio.to_thread(barrier.wait, 20)
            yield upload

    return lambda app: app.dependency_overrides.update({get_query: query, received: upload})


@pytest.mark.parametrize("name", ["notification", "file"])
def test_requests_at_once_with_one_key_are_done_once(api, tmp_path, name):
    number = 4
    change = meet_at(threading.Barrier(number))
    with api(change=change) as client, ThreadPoolExecutor(number) as clients:
        sent = [clients.submit(post, client, name) for _ in range(number)]
        answers = [answer.result(30) for answer in sent]

        assert answers[0].status_code == 202
        assert sorted(map(str, same(answers))) == ["None", "true", "true", "true"]
        assert ids(client) == added(answers[0])
        if name == "file":
            file_id = answers[0].json()["file"]["id"]
            assert stored_files(tmp_path) == [file_id]
            settle()
            assert file_rows() == [file_id]


def settle():
    """Return when what was submitted so far is stored."""
    process.current().ledger.submit(lambda _tx: None, patient=True).result(10)


# Uploads


def upload(client, boundary, content=b"content", name=b"a.txt", headers=KEY):
    disposition = b'Content-Disposition: form-data; name="file"; filename="%b"' % name
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (boundary, disposition, content, boundary)
    content_type = {"content-type": b"multipart/form-data; boundary=" + boundary}
    return client.post("/files", content=body, headers=content_type | headers)


def test_an_upload_is_the_same_however_its_body_wraps_it(client, tmp_path):
    answers = [upload(client, boundary) for boundary in (b"x", b"another", b"x" * 70)]

    assert same(answers) == [None, "true", "true"]
    assert stored_files(tmp_path) == file_rows() == [answers[0].json()["file"]["id"]]


def test_an_upload_that_is_repeated_is_refused_for_what_would_have_refused_it_before(api):
    with api(FILE_LIMIT="100") as client:
        assert upload(client, b"x").status_code == 202

        problem(upload(client, b"x", content=b"x" * 101), 413, "payload-too-large")
        problem(upload(client, b"x", content=b""), 422, "validation")
        problem(client.post("/files", content=b"x", headers=KEY), 415, "unsupported-media-type")


def test_an_upload_that_is_repeated_is_answered_although_there_is_no_room_for_it(client, tmp_path):
    first = upload(client, b"x")
    shutil.rmtree(tmp_path / "files")
    (tmp_path / "files").write_text("not a folder")

    assert same([first, upload(client, b"x")]) == [None, "true"]
    problem(upload(client, b"x", headers={}), 503, "storage-unavailable")


def test_a_file_whose_repetition_was_answered_is_looked_at_once_and_kept(client, tmp_path):
    first = upload(client, b"x").json()
    upload(client, b"x")

    delete_old_files()

    assert stored_files(tmp_path) == [first["file"]["id"]]
    assert client.get(first["file"]["url"]).json()["task"]["id"] == first["tasks"][0]["id"]


def test_an_answer_in_the_ledger_is_the_one_that_was_sent(client):
    sent = post(client, "events")
    with process.current().ledger.read() as connection:
        kept = json.loads(connection.execute(text("SELECT answer FROM postlude_keys")).scalar_one())

    assert kept["status"] == 202
    assert kept["body"] == sent.text
    assert ["location", sent.headers["location"]] in kept["headers"]


def test_an_upload_that_is_cancelled_in_the_middle_of_its_commit_keeps_its_file(
    client, tmp_path, monkeypatch
):
    post(client, "task")  # opens the ledger
    accepts = promises._promises._accepts
    inside, go_on, write = threading.Event(), threading.Event(), accepts._write

    def slowly(tx, entries):
        inside.set()
        go_on.wait(10)
        write(tx, entries)

    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nA\r\n--x--'
    headers = {
        "host": "127.0.0.1",
        "content-type": "multipart/form-data; boundary=x",
        "idempotency-key": "another",
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/files",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }

    async def receive():
        return {"type": "http.request", "body": form, "more_body": False}

    async def cancel():
        request = asyncio.ensure_future(client.app(scope, receive, None))
        await asyncio.to_thread(inside.wait, 10)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    with monkeypatch.context() as patch:
        patch.setattr(accepts, "_write", slowly)
        client.portal.call(cancel)
    go_on.set()
    settle()

    again = client.post("/files", content=form, headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert stored_files(tmp_path) == file_rows() == [again.json()["file"]["id"]]
