"""The examples of FastAPI's own page on background tasks, with the import and ``install`` changed.

They are kept as that page prints them, down to the names; then the same again with
``@dramatiq.actor`` on the function.
"""

from typing import Annotated

import dramatiq
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

import postlude
from postlude import BackgroundTasks


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, life):
    """The examples write ``log.txt`` into the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _first_example():
    app = FastAPI()
    postlude.install(app)

    def write_notification(email: str, message=""):
        with open("log.txt", mode="w") as email_file:  # noqa: PTH123 # as printed
            content = f"notification for {email}: {message}"
            email_file.write(content)

    @app.post("/send-notification/{email}")
    async def send_notification(email: str, background_tasks: BackgroundTasks):
        background_tasks.add_task(write_notification, email, message="some notification")
        return {"message": "Notification sent in the background"}

    return app


def _second_example(write_log):
    app = FastAPI()
    postlude.install(app)

    def get_query(background_tasks: BackgroundTasks, q: str | None = None):
        if q:
            message = f"found query: {q}\n"
            background_tasks.add_task(write_log, message)
        return q

    @app.post("/send-notification/{email}")
    async def send_notification(
        email: str, background_tasks: BackgroundTasks, q: Annotated[str, Depends(get_query)]
    ):
        message = f"message to {email}\n"
        background_tasks.add_task(write_log, message)
        return {"message": "Message sent"}

    return app


def test_the_first_example_writes_its_file(folder):
    response = TestClient(_first_example()).post("/send-notification/foo@example.com")

    assert response.json() == {"message": "Notification sent in the background"}
    text = (folder / "log.txt").read_text()
    assert text == "notification for foo@example.com: some notification"


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_second_example_merges_the_task_of_its_dependency(folder, kind):
    def write_log(message: str):
        with open("log.txt", mode="a") as log:  # noqa: PTH123 # as printed
            log.write(message)

    async def write_log_async(message: str):
        write_log(message)

    app = _second_example(write_log if kind == "def" else write_log_async)
    response = TestClient(app).post("/send-notification/foo@example.com?q=some-query")

    assert response.json() == {"message": "Message sent"}
    text = (folder / "log.txt").read_text()
    assert text == "found query: some-query\nmessage to foo@example.com\n"


@dramatiq.actor
def write_notification(email: str, message=""):
    """Never runs here."""


@dramatiq.actor(actor_name="documented_write_log")
def write_log(message: str):
    """Never runs here."""


@dramatiq.actor(actor_name="write_log_async")
async def write_log_async(message: str):
    """Never runs here."""


def test_an_actor_in_the_first_example_makes_it_durable(folder, life):
    app = FastAPI()
    postlude.install(app)

    @app.post("/send-notification/{email}")
    async def send_notification(email: str, background_tasks: BackgroundTasks):
        background_tasks.add_task(write_notification, email, message="some notification")
        return {"message": "Notification sent in the background"}

    TestClient(app).post("/send-notification/foo@example.com")
    life.settle()

    (view,) = life.views()
    assert (view.actor, str(view.state)) == ("write_notification", "queued")
    assert view.arguments == {"email": "foo@example.com", "message": "some notification"}
    assert not (folder / "log.txt").exists()


@pytest.mark.parametrize("actor", [write_log, write_log_async], ids=["def", "async def"])
def test_an_actor_in_the_second_example_makes_both_tasks_durable(folder, life, actor):
    TestClient(_second_example(actor)).post("/send-notification/foo@example.com?q=some-query")
    life.settle()

    assert [(view.arguments["message"], str(view.state)) for view in life.views()] == [
        ("found query: some-query\n", "queued"),
        ("message to foo@example.com\n", "queued"),
    ]
