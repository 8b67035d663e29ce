"""What the tests of the drop-in share: an app, a ledger of its own, and ways to call it."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import httpx2
import pytest
import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

import postlude
from postlude import process
from postlude.ledger import migrate
from postlude.ledger.queries import tasks as queries
from postlude.settings import load, settings


@dramatiq.actor
def _keep(x: Any, note: str = "") -> None:
    """Never runs here: these tests have no worker."""


@pytest.fixture
def keep() -> dramatiq.Actor[..., None]:
    return _keep


@pytest.fixture(scope="session")
def blank_ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blank")
    migrate.upgrade(load(data_dir=folder))
    return folder / "postlude.db"


@pytest.fixture
def environment(monkeypatch) -> Callable[..., None]:
    """Sets ``POSTLUDE_*`` variables, to be called before the first task."""

    def configure(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"POSTLUDE_{name.upper()}", value)
        settings.cache_clear()

    yield configure
    settings.cache_clear()


@pytest.fixture
def life(blank_ledger, environment, monkeypatch, tmp_path):
    """This process's life with an empty ledger; what it still owes is settled before it ends.

    It is an API from its first moment: a process that was something else in the tests before would
    become one when it is looked at, and whoever changes leaves, which releases what it had promised.
    """
    monkeypatch.setattr(process, "_kind", "api")
    shutil.copy(blank_ledger, tmp_path / "postlude.db")
    environment(data_dir=str(tmp_path))
    yield Life()
    process.close()


class Life:
    """The ledger of this process, as a test looks at it."""

    @property
    def ledger(self):
        return process.open_as("api").ledger

    def settle(self) -> None:
        """Return when everything that was written so far, and what follows from it, is stored."""
        for _ in range(3):
            self.ledger.submit(lambda _tx: None, patient=True).result(10)

    def tasks(self) -> list[tuple[Any, str]]:
        """Return argument and state of each task, in the order of their acceptance."""
        return [(view.arguments["x"], str(view.state)) for view in self.views()]

    def views(self) -> list[queries.TaskView]:
        with self.ledger.read() as connection:
            return queries.page(connection)[0][::-1]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the database's write lock, as a stopped process would."""
        connection = self.ledger.connect()
        try:
            with connection.transaction():
                yield
        finally:
            connection.close()


class Site:
    """An app with Postlude installed, its ledger, and a list for what happens on the way."""

    def __init__(self, life: Life, client: str = "TestClient") -> None:
        self.app = FastAPI()
        postlude.install(self.app)
        self.life = life
        self.tasks, self.views, self.settle = life.tasks, life.views, life.settle
        self.events: list[Any] = []
        self._send = {"TestClient": self._by_test_client, "ASGITransport": self._by_transport}[
            client
        ]

    def call(self, method: str, url: str, **more: Any) -> httpx2.Response:
        """Send a request, errors of the app becoming responses, and settle what it left behind."""
        response = self._send(method, url, **more)
        self.settle()
        return response

    def _by_test_client(self, method: str, url: str, **more: Any) -> httpx2.Response:
        return TestClient(self.app, raise_server_exceptions=False).request(method, url, **more)

    def _by_transport(self, method: str, url: str, **more: Any) -> httpx2.Response:
        async def send() -> httpx2.Response:
            transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
                return await client.request(method, url, **more)

        return asyncio.run(send())


@pytest.fixture
def one_site(life) -> Site:
    return Site(life)


@pytest.fixture(params=["TestClient", "ASGITransport"])
def site(request, life) -> Site:
    return Site(life, request.param)


@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as lines:
        yield lines


class Served:
    """The app behind a real uvicorn, in a thread of this process."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", **options))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)
        self.address = self._server.servers[0].sockets[0].getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serves an app with uvicorn until the test is over, or stops it."""
    servers: list[Served] = []

    def serve(app: FastAPI, **options: Any) -> Served:
        servers.append(Served(app, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture(name="until")
def until_fixture():
    return until


def until(condition: Callable[[], Any], *, within_s: float = 10) -> None:
    """Wait until ``condition`` holds; fails when that takes too long."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)
