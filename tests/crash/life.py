"""The life of tasks, from request to outcome, in one process: everything that a crash could strike.

API, worker, scheduler, relay and reaper live in it together, so a death takes all of them at once,
which no real deployment is likely to see and every one has to survive.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dramatiq import Worker
from uuid_utils import uuid7
from walk_actors import Base, folder, walk_fine, walk_hopeless, walk_slow, witness
from walk_actors import app as own_app

import postlude
from api import create_app
from postlude import process
from postlude.broker import broker
from postlude.ledger import clock
from postlude.ledger.queries import tasks
from postlude.ledger.transitions import accept, claim, incarnation
from postlude.scheduler.service import Service
from postlude.scheduler.sync import sync
from postlude.schedules.declare import declarations
from postlude.states import FINAL, State
from postlude.worker.incarnation import hostname, lock_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postlude.ledger.statement import Tx

PATIENCE_S = 20
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


class Answer:
    """What a client has seen of a response: it counts from its first byte."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""

    def json(self) -> Any:
        return json.loads(self.body)


def post(app: Any, path: str, body: bytes = b"", *headers: tuple[str, str]) -> Answer:
    """Make a request as a client on this machine; returns when the application has returned."""
    answer = Answer()
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-length", str(len(body)).encode())]
        + [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body") and answer.status < 300:
                _note(path, answer)

    asyncio.run(app(scope, receive, send))
    return answer


def _note(path: str, answer: Answer) -> None:
    """Write down what the client was promised, when it has all of it."""
    told = answer.json()
    ids = told.get("ids") or [task["id"] for task in told.get("tasks", [])]
    if path.endswith("/tasks"):
        ids = [told["id"]]
    verb = path.rpartition("/")[2]
    witness("answered", path=path, ids=ids, file=told.get("file"))
    if verb in {"cancel", "retry"}:
        witness(verb, id=told["id"])


@contextmanager
def working() -> Iterator[None]:
    """Run a worker around a block, in this process."""
    worker = Worker(broker(), worker_timeout=50, worker_threads=4)
    worker.start()
    try:
        yield
    finally:
        worker.stop()


@contextmanager
def scheduling() -> Iterator[None]:
    """Run a scheduler around a block, in this process."""
    ledger = process.current().ledger
    sync(ledger, declarations(), broker(), clock.now(), source="walk")
    service = Service(ledger)
    service.start()
    try:
        yield
    finally:
        service.stop(process.current().settings.write_timeout)


def until(condition: Callable[[], Any]) -> Any:
    """Return what ``condition`` returns once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)
    return found


def state(task_id: str) -> State:
    with process.current().ledger.read() as connection:
        view = tasks.get(connection, task_id)
    assert view is not None, task_id
    return view.state


def ended(task_id: str) -> bool:
    return state(task_id) in FINAL


def ticked() -> bool:
    return any(run["actor"] == "walk_ticked" for run in witnessed("ran"))


def witnessed(event: str) -> list[dict[str, Any]]:
    """Return what was written down so far."""
    path = folder() / "witness"
    lines = path.read_text().splitlines() if path.exists() else []
    return [found for found in map(json.loads, lines) if found["event"] == event]


def haunt() -> None:
    """Leave behind what a dead process does: a task in its hands, one that it owed, its lock file."""
    ghost = str(uuid7())
    ledger = process.current().ledger
    prepare = partial(broker().prepare, delay=None)
    held, owed = (prepare(walk_fine.message(word)) for word in ("held", "owed"))

    def write(tx: Tx) -> None:
        incarnation.appear(
            tx,
            ghost,
            kind="worker",
            host=hostname(),
            pid=0,
            version="0",
            queues=[],
            now=clock.now(),
        )
        accept.accept(tx, owed, owner=ghost)
        accept.enqueue(tx, held, now=clock.now())
        claim.claim(
            tx,
            queue="default",
            actors=["walk_fine"],
            owner=ghost,
            token="gone",
            now=clock.now(),
            limit=1,
        )

    ledger.write(write)
    Base.metadata.create_all(postlude.engine())
    lock = lock_path(folder() / "run", ghost)
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    witness("answered", path="before", ids=[held.id, owed.id], file=None)
    process.close()


def walk() -> None:
    """Live through all of it; every promise that a client sees is on the witness's record."""
    real = create_app()
    with working(), scheduling():
        ids = post(own_app, "/fine").json()["ids"]
        ids += post(own_app, "/flaky").json()["ids"]
        post(own_app, "/refused")
        for path in ("/piped", "/unique", "/unique", "/bound"):
            ids += post(own_app, path).json()["ids"]
        ids += [id_ for _ in range(2) for id_ in ask_again()]
        ids += _use_cases(real)
        _cancel_and_retry(real)
        ids += witnessed("answered")[0]["ids"]
        until(lambda: all(ended(id_) for id_ in ids))
        until(lambda: witnessed("told"))
        until(ticked)


def ask_again() -> list[str]:
    """Make the request that may be repeated; returns the ids in its answer."""
    ids: list[str] = post(own_app, "/keyed", b"", ("idempotency-key", "once")).json()["ids"]
    return ids


def _use_cases(real: Any) -> list[str]:
    """Send mail, upload a file, refresh the cache, record events."""
    as_json = ("content-type", "application/json")
    boundary = ("content-type", "multipart/form-data; boundary=x")
    upload = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="dot.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + PNG + b"\r\n--x--\r\n"
    )
    answers = [
        post(real, "/send-notification/ada@example.com?message=hello&q=why"),
        post(real, "/files", upload, boundary),
        post(real, "/events", b'{"id": "e1", "name": "seen"}', as_json),
        post(real, "/cache/file-stats/refresh"),
    ]
    for answer in answers:
        assert answer.status == 202, answer.body
    return [task["id"] for answer in answers for task in answer.json()["tasks"]]


def _cancel_and_retry(real: Any) -> None:
    add = partial(post, real)
    as_json = ("content-type", "application/json")
    later = add(
        "/v1/actors/walk_fine/tasks",
        b'{"args": {"word": "later"}, "options": {"delay": "1h"}}',
        as_json,
    ).json()["id"]
    soon = add(
        "/v1/actors/walk_fine/tasks",
        b'{"args": {"word": "soon"}, "options": {"delay": "50ms"}}',
        as_json,
    ).json()["id"]
    add(f"/v1/tasks/{later}/cancel")
    slow = walk_slow.send("slow").message_id
    hopeless = walk_hopeless.send("hopeless").message_id
    until(lambda: witnessed("slow"))
    add(f"/v1/tasks/{slow}/cancel")
    until(lambda: ended(hopeless))
    add(f"/v1/tasks/{hopeless}/retry")
    until(lambda: all(ended(id_) for id_ in (slow, soon, hopeless)))
