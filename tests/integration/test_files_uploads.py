"""Uploads over a real ledger and a real folder, without a worker: all of it is stored, or nothing."""

import asyncio
import hashlib
import io
import logging
import os
import shutil
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Annotated
from uuid import UUID

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi import Depends, HTTPException
from fastapi.testclient import TestClient
from sqlalchemy import text

from actors.files import delete_old_files, process_file
from actors.files.errors import UnusableFile
from actors.files.tables import metadata
from api import create_app
from api.routes.files import received
from api.uploads import ENVELOPE, Upload
from postlude import BackgroundTasks, process
from postlude.ledger.clock import to_micros
from postlude.ledger.engine import BareConnection, build_engine
from postlude.ledger.migrate import upgrade
from postlude.ledger.statement import Statement
from postlude.settings import load, settings

BOUNDARY = b"0123456789"
FORM = {"content-type": "multipart/form-data; boundary=0123456789"}
LIMIT = 200_000


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    chosen = load(data_dir=tmp_path_factory.mktemp("blank"))
    upgrade(chosen)
    return chosen.data_dir / "postlude.db"


@contextmanager
def api(folder, ledger, *, change=None, **variables):
    shutil.copy(ledger, folder)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    local = {"base_url": "http://127.0.0.1:8000", "client": ("127.0.0.1", 4711)}
    chosen = {"DATA_DIR": str(folder), "LOG_LEVEL": "error", "FILE_LIMIT": str(LIMIT), **variables}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chosen.items():
            patch.setenv(f"POSTLUDE_{name}", value)
        settings.cache_clear()
        try:
            app = create_app()
            if change:
                change(app)
            with TestClient(app, **local) as client:
                yield client
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            structlog.reset_defaults()
            settings.cache_clear()


@pytest.fixture
def client(tmp_path, blank):
    with api(tmp_path, blank) as client:
        yield client


def part(content=b"content", name=b"file", filename=b'; filename="a.txt"', extra=b""):
    disposition = b'Content-Disposition: form-data; name="%s"%s' % (name, filename)
    return b"--%s\r\n%s\r\n%s\r\n%s\r\n" % (BOUNDARY, disposition, extra, content)


def scope(*headers):
    """Return the ASGI scope of an upload from this machine."""
    content_type = FORM["content-type"].encode()
    return {
        "type": "http",
        "method": "POST",
        "path": "/files",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", content_type), *headers],
        "client": ("127.0.0.1", 1),
    }


END = b"--%s--\r\n" % BOUNDARY


def stored(folder):
    """Return the names of what is in the storage, once threads that tidy up are done."""
    deadline = time.monotonic() + 10
    files = folder / "files"
    while any(path.suffix == ".part" for path in files.glob("*")):
        assert time.monotonic() < deadline, list(files.iterdir())
    return sorted(path.name for path in files.glob("*"))


def rows():
    with process.current().ledger.read() as connection:
        found = [
            connection.execute(text(f"SELECT id FROM {t}")) for t in ("files", "postlude_tasks")
        ]
        return [sorted(result.scalars()) for result in found]


def nothing_left(folder):
    return stored(folder) == [] and rows() == [[], []]


def problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    return response.json()


# What is accepted


def test_an_upload_is_answered_with_what_was_stored_and_the_task_that_will_look_at_it(
    client, tmp_path
):
    content = b"Ada\nGrace\n"

    response = client.post("/files", files={"file": ("names.txt", content)})

    assert response.status_code == 202
    body = response.json()
    file_id = body["file"]["id"]
    assert body["file"] == {
        "id": file_id,
        "name": "names.txt",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "url": f"/files/{file_id}",
    }
    [task] = body["tasks"]
    assert (task["actor"], task["state"]) == ("process_file", "accepted")
    assert response.headers["location"] == body["file"]["url"]
    assert (tmp_path / "files" / file_id).read_bytes() == content
    assert stored(tmp_path) == [file_id]
    assert rows() == [[file_id], [task["id"]]]
    detail = client.get(body["file"]["url"]).json()
    assert (detail["state"], detail["profile"], detail["task"]["id"]) == (
        "waiting",
        None,
        task["id"],
    )
    assert client.get(task["url"]).json()["arguments"] == {"file_id": file_id}


@pytest.mark.parametrize("size", [1, 65_536, LIMIT - 1, LIMIT])
def test_every_byte_up_to_the_limit_arrives(client, tmp_path, size):
    content = (b"\r\n--%s" % BOUNDARY[:-1] + bytes(range(256))) * (size // 256 + 1)

    file = client.post("/files", files={"file": ("x", content[:size])}).json()["file"]

    assert (tmp_path / "files" / file["id"]).read_bytes() == content[:size]
    assert file["sha256"] == hashlib.sha256(content[:size]).hexdigest()


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_it_does_not_matter_how_the_body_is_cut(client, tmp_path, step):
    content = bytes(range(256)) * 4
    body = part(content) + END

    pieces = (body[at : at + step] for at in range(0, len(body), step))
    response = client.post("/files", content=pieces, headers=FORM)

    assert response.status_code == 202, response.text
    assert (tmp_path / "files" / response.json()["file"]["id"]).read_bytes() == content


def test_a_file_may_be_larger_than_a_json_body(tmp_path, blank):
    with api(tmp_path, blank, BODY_LIMIT="1024") as client:
        assert client.post("/files", files={"file": ("x", bytes(100_000))}).status_code == 202
        problem(client.post("/files/", content=bytes(2_000)), 413, "payload-too-large")
        add = "/v1/actors/process_file/tasks"
        problem(client.post(add, content=bytes(2_000)), 413, "payload-too-large")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("../../postlude.db", "postlude.db"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\evil.exe", "evil.exe"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("x" * 3_000 + ".csv", "x" * 196 + ".csv"),
        ("..", "unnamed"),
        ("Größe.csv", "Größe.csv"),
    ],
)
def test_a_name_is_shown_without_its_tricks_and_never_used_as_a_path(client, tmp_path, raw, name):
    before = sorted(path.name for path in tmp_path.iterdir())
    body = part(filename=b'; filename="%s"' % raw.encode()) + END

    file = client.post("/files", content=body, headers=FORM).json()["file"]

    assert file["name"] == name
    assert stored(tmp_path) == [file["id"]]
    assert sorted({*before, "files"}) == sorted(path.name for path in tmp_path.iterdir())


# What is refused, and leaves nothing


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"", 400, "bad-request", "before its closing boundary"),
        (END, 422, "validation", "a file is missing"),
        (part(b"") + END, 422, "validation", "'a.txt' has no content"),
        (part(), 400, "bad-request", "before its closing boundary"),
        (part(b"x" * 100_000)[:-2], 400, "bad-request", "before its closing boundary"),
        (b"rubbish", 400, "bad-request", "not multipart"),
        (part()[:50], 400, "bad-request", "before its closing boundary"),
        (part(name=b"document") + END, 422, "validation", "'document' is not expected"),
        (part(name=b"\xff\0") + END, 422, "validation", "is not expected"),
        (part(filename=b"") + END, 422, "validation", "has no filename"),
        (part(b"x" * 9_000) + part() + END, 422, "validation", "several files"),
        (part() + part(name=b"note", filename=b"") + END, 422, "validation", "'note' is not"),
        (part(extra=b"Content-Transfer-Encoding: base64\r\n") + END, 422, "validation", "for mail"),
        (part(extra=b"X: " + b"y" * 100_000 + b"\r\n") + END, 400, "bad-request", "eader"),
        (part(extra=b"X: y\r\n" * 1_000) + END, 400, "bad-request", "eader"),
        (part() + END + bytes(ENVELOPE + 1), 413, "payload-too-large", "FILE_LIMIT"),
        (part(bytes(LIMIT + 1)) + END, 413, "payload-too-large", f"{LIMIT} bytes"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_no_file_is_refused_and_leaves_nothing(  # noqa: PLR0917
    client, tmp_path, body, status, code, words, chunked
):
    content = iter([body[:60], body[60:]]) if chunked else body

    told = problem(client.post("/files", content=content, headers=FORM), status, code)

    assert words in told["detail"]
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 415, "unsupported-media-type"),
        ({"content-type": "application/json"}, 415, "unsupported-media-type"),
        ({"content-type": "multipart/mixed; boundary=x"}, 415, "unsupported-media-type"),
        ({"content-type": "multipart/form-data"}, 400, "bad-request"),
        ({"content-type": "multipart/form-data; boundary="}, 400, "bad-request"),
        ({"content-type": f"multipart/form-data; boundary={'x' * 300}"}, 400, "bad-request"),
        (FORM | {"content-encoding": "gzip"}, 415, "unsupported-media-type"),
    ],
)
def test_another_kind_of_body_is_refused(client, tmp_path, headers, status, code):
    problem(client.post("/files", content=part() + END, headers=headers), status, code)

    assert nothing_left(tmp_path)


@pytest.mark.parametrize("declared", [False, True])
def test_over_the_limit_the_rest_is_not_read(client, declared):
    taken = []
    sent = []

    async def receive():
        taken.append(64_000)
        content = part(b"")[:-2] if len(taken) == 1 else bytes(64_000)
        return {"type": "http.request", "body": content, "more_body": True}

    async def send(message):
        sent.append(message)

    headers = [(b"content-length", b"1000000000000")] if declared else []
    client.portal.call(client.app, scope(*headers), receive, send)

    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert sum(taken) <= (0 if declared else LIMIT + 128_000)


def test_a_storage_that_cannot_be_written_is_a_503_that_says_so(client, tmp_path):
    (tmp_path / "files").write_text("a file is in the way")

    response = client.post("/files", files={"file": ("a.txt", b"content")})

    told = problem(response, 503, "storage-unavailable")
    assert "POSTLUDE_STORAGE_URL" in told["detail"]
    assert rows() == [[], []]


def test_a_client_that_leaves_in_the_middle_leaves_nothing(client, tmp_path):
    messages = [
        {"type": "http.request", "body": part(bytes(2_000_000))[:1_500_000], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    async def send(message):
        pytest.fail(f"nobody is there to be told {message}")

    client.app.state.settings = load(data_dir=tmp_path, file_limit=10_000_000)
    client.portal.call(client.app, scope(), receive, send)

    assert nothing_left(tmp_path)


def test_a_request_that_is_cancelled_in_the_middle_leaves_nothing(client, tmp_path):
    async def upload():
        waits = asyncio.Event()
        first = [{"type": "http.request", "body": part(bytes(3_000_000))[:-9], "more_body": True}]

        async def receive():
            if first:
                return first.pop()
            waits.set()
            return await asyncio.Event().wait()

        request = asyncio.ensure_future(client.app(scope(), receive, None))
        await waits.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    client.app.state.settings = load(data_dir=tmp_path, file_limit=10_000_000)
    client.portal.call(upload)

    assert nothing_left(tmp_path)


def fails_after_the_upload(app):
    @app.post("/fails/files")
    async def fail(
        background_tasks: BackgroundTasks, upload: Annotated[Upload, Depends(received)]
    ) -> None:
        background_tasks.add_task(process_file, UUID(upload.id))
        raise HTTPException(409)


def test_a_request_that_fails_after_the_upload_leaves_nothing(tmp_path, blank):
    with api(tmp_path, blank, change=fails_after_the_upload) as client:
        response = client.post("/fails/files", files={"file": ("a.txt", b"content")})

        assert response.status_code == 409
        assert nothing_left(tmp_path)


@contextmanager
def ledger_held(folder):
    """Hold the write lock, as a process does that was stopped in mid-commit."""
    engine = build_engine(load(data_dir=folder))
    holder = BareConnection(engine)
    try:
        with holder.raw_transaction():
            yield
    finally:
        holder.close()
        engine.dispose()


def test_a_ledger_that_does_not_answer_refuses_the_upload_and_forgets_it(tmp_path, blank):
    with api(tmp_path, blank, WRITE_TIMEOUT="200ms") as client:
        with ledger_held(tmp_path):
            response = client.post("/files", files={"file": ("a.txt", b"content")})
            assert response.status_code == 503, response.text

        assert stored(tmp_path) == []
        process.current().ledger.write(lambda tx: tx.rows(Statement(text("SELECT 1"))))
        assert rows() == [[], []]


def test_many_uploads_at_once_do_not_mix(client, tmp_path):
    answers = {}

    def upload(number):
        content = bytes([number]) * 150_000
        answers[number] = client.post("/files", files={"file": ("x", content)}).json()["file"]

    threads = [Thread(target=upload, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, file in answers.items():
        assert (tmp_path / "files" / file["id"]).read_bytes() == bytes([number]) * 150_000
    assert len(stored(tmp_path)) == 12


# What is looked at


def uploaded(client, name, content):
    return client.post("/files", files={"file": (name, content)}).json()["file"]["id"]


def test_a_file_may_be_looked_at_twice_and_is_the_same(client, tmp_path):
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (30, 20)).save(content, "PNG")
    file_id = uploaded(client, "a.png", content.getvalue())

    first = process_file(UUID(file_id))
    seen = client.get(f"/files/{file_id}").json()
    second = process_file(UUID(file_id))

    assert first == second == seen["profile"]
    assert seen["state"] == "processed"
    assert stored(tmp_path) == [file_id, f"{file_id}.thumbnail.jpg"]


def test_a_file_that_cannot_be_used_says_why_until_it_is_looked_at_with_success(client):
    file_id = uploaded(client, "a.csv", b'a,b\n"open')

    with pytest.raises(UnusableFile):
        process_file(UUID(file_id))

    seen = client.get(f"/files/{file_id}").json()
    assert (seen["state"], seen["type"], seen["profile"]) == ("failed", "text/csv", None)
    assert "quotes" in seen["fault"]


def test_a_file_that_is_not_there_is_a_fault_of_its_task(client, tmp_path):
    file_id = uploaded(client, "a.txt", b"content")
    (tmp_path / "files" / file_id).unlink()

    with pytest.raises(UnusableFile, match=r"is not in the storage.*POSTLUDE_STORAGE_URL"):
        process_file(UUID(file_id))
    with pytest.raises(UnusableFile, match=r"there is no file"):
        process_file(UUID(int=7))


@pytest.mark.parametrize("argument", ["../postlude.db", "", 7, None, "a" * 36])
def test_a_task_cannot_be_given_anything_but_an_id(client, argument):
    response = client.post("/v1/actors/process_file/tasks", json={"args": {"file_id": argument}})

    problem(response, 422, "bad-arguments")


@pytest.mark.parametrize("file_id", ["postlude.db", "..%2fpostlude.db", "%00", "x" * 36])
def test_a_file_is_asked_for_by_its_id_alone(client, file_id):
    assert client.get(f"/files/{file_id}").status_code in {404, 422}


def test_a_file_that_never_was_is_404(client):
    problem(client.get("/files/01998f2e-5c5e-7000-8000-3f2f5a1b9c0d"), 404, "not-found")


# What is deleted


def change(statement, **values):
    process.current().ledger.write(lambda tx: tx.run(Statement(text(statement)), **values))


def make_older(folder, file_id, days):
    then = datetime.now(UTC) - timedelta(days=days)
    change("UPDATE files SET created_at = :at WHERE id = :id", at=to_micros(then), id=file_id)


def test_files_are_deleted_when_their_time_is_over_and_their_task_too(client, tmp_path):
    old, waiting, young = (uploaded(client, "a.txt", b"content") for _ in range(3))
    process_file(UUID(old))
    change(
        "UPDATE postlude_tasks SET state = 'succeeded', finished_at = 1"
        " WHERE arguments LIKE '%' || :id || '%'",
        id=old,
    )
    for file_id in (old, waiting):
        make_older(tmp_path, file_id, days=31)

    delete_old_files()
    delete_old_files()

    assert stored(tmp_path) == sorted([waiting, young])
    assert rows()[0] == sorted([waiting, young])
    problem(client.get(f"/files/{old}"), 404, "not-found")


def test_files_may_be_kept_for_ever(tmp_path, blank):
    with api(tmp_path, blank, KEEP_FILES="never") as client:
        file_id = uploaded(client, "a.txt", b"content")
        process_file(UUID(file_id))
        change("DELETE FROM postlude_tasks")
        make_older(tmp_path, file_id, days=5_000)

        delete_old_files()

        assert stored(tmp_path) == [file_id]
        assert client.get(f"/files/{file_id}").json()["task"] is None


def test_what_no_task_will_look_at_is_not_served_and_is_deleted(client, tmp_path):
    abandoned, young = (uploaded(client, "a.txt", b"content") for _ in range(2))
    change("DELETE FROM postlude_tasks WHERE arguments LIKE '%' || :id || '%'", id=abandoned)
    make_older(tmp_path, abandoned, days=1)
    problem(client.get(f"/files/{abandoned}"), 404, "not-found")

    delete_old_files()

    assert stored(tmp_path) == [young]
    assert rows()[0] == [young]


def test_bytes_that_no_row_knows_are_deleted_once_no_request_can_be_about_to_write_it(
    client, tmp_path
):
    old, young = (uploaded(client, "a.txt", b"content") for _ in range(2))
    change("DELETE FROM files")
    os.utime(tmp_path / "files" / old, (0, 0))

    delete_old_files()

    assert stored(tmp_path) == [young]


# The table


def test_the_migration_makes_exactly_the_table_of_the_code(tmp_path):
    chosen = load(data_dir=tmp_path)
    upgrade(chosen)
    engine = build_engine(chosen)

    def ours(name, kind, _parent):
        return kind != "table" or name in metadata.tables

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": ours,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []
