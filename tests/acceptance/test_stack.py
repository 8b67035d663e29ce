"""``make run`` as its user has it: API, worker and scheduler together, from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from email import message_from_bytes
from mailbox import Maildir
from pathlib import Path

import httpx2
import pytest
from aiosmtpd.controller import Controller

from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import incarnations
from postlude.settings import load

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30


class Stack:
    """A running ``postlude run`` in a folder of its own."""

    def __init__(self, folder, **variables):
        self.folder = folder
        self.settings = load(data_dir=folder / "var")
        self.variables = variables
        self.port = free_port()
        self.log = folder / "log"
        self.web = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def start(self):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
        here = {"POSTLUDE_DATA_DIR": str(self.settings.data_dir), "POSTLUDE_PORT": str(self.port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "postlude.cli", "run"],
                cwd=ROOT,
                env=inherited | here | self.variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.until(self.ready)
        return self

    def ready(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.web.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, self.log.read_text()[-6000:]
            time.sleep(0.02)
        return found

    def notify(self, address="ada@example.com", **query):
        """Post a notification and return the url of its own task."""
        answer = self.web.post(f"/send-notification/{address}", params=query)
        assert answer.status_code == 202, answer.text
        return answer.headers["location"]

    def ended(self, url):
        final = {"succeeded", "failed", "cancelled"}
        return self.until(lambda: (task := self.web.get(url).json())["state"] in final and task)

    def interrupt(self):
        """Press Ctrl-C and return exit code and seconds."""
        started = time.monotonic()
        os.kill(self.process.pid, signal.SIGINT)
        code = self.process.wait(PATIENCE_S)
        return code, time.monotonic() - started

    def pid_of(self, kind):
        ledger = Ledger(self.settings)
        try:
            with ledger.read() as connection:
                return next(
                    view.pid for view in incarnations.alive(connection) if view.kind == kind
                )
        finally:
            ledger.close()

    def close(self):
        self.web.close()
        if self.process.poll() is None:
            self.interrupt()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def stack(tmp_path):
    stack = Stack(tmp_path).start()
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A stack for the tests that kill nothing."""
    stack = Stack(tmp_path_factory.mktemp("shared")).start()
    yield stack
    stack.close()


class Inbox:
    """An SMTP server that takes its time for every mail."""

    def __init__(self, delay_s):
        self.delay_s = delay_s
        self.mails = []

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        await asyncio.sleep(self.delay_s)
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def slow_mail(tmp_path):
    """A stack whose mail goes to a slow server."""
    inbox = Inbox(delay_s=0.3)
    server = Controller(inbox, hostname="127.0.0.1", port=free_port())
    server.start()
    stack = Stack(
        tmp_path,
        POSTLUDE_MAIL_URL=f"smtp://127.0.0.1:{server.port}",
        POSTLUDE_WORKER_THREADS="2",
    ).start()
    yield stack, inbox
    stack.close()
    server.stop()


def test_a_notification_is_answered_at_once_and_its_mail_lands_a_moment_later(shared):
    url = shared.notify(message="hello", q="orders")

    task = shared.ended(url)
    assert (task["state"], task["actor"]) == ("succeeded", "send_notification")
    (mail,) = Maildir(shared.settings.data_dir / "mail", create=False)
    assert mail["to"] == "ada@example.com"
    assert task["id"] in mail["message-id"] == task["result"]
    log = shared.settings.data_dir / "log.txt"
    shared.until(lambda: log.exists() and log.read_text() == "found query: orders\n")


def test_the_terminal_shows_urls_a_curl_to_try_and_a_schedule_at_work(shared):
    shown = shared.until(
        lambda: "Ctrl-C lets running tasks finish" in (log := shared.log.read_text()) and log
    )

    assert f"http://127.0.0.1:{shared.port}/docs" in shown
    assert "curl -X POST" in shown
    shared.until(lambda: re.search(r"worker.*tasks\.report", shared.log.read_text()))


def test_ctrl_c_in_the_middle_of_ten_mails_loses_none_and_doubles_none(slow_mail):
    stack, inbox = slow_mail
    for number in range(10):
        stack.notify(f"n{number}@example.com")
    stack.until(lambda: len(inbox.mails) >= 2)

    code, seconds = stack.interrupt()
    early = len(inbox.mails)
    stack.start()
    stack.until(lambda: len(inbox.mails) >= 10)
    stack.until(lambda: not stack.web.get("/v1/tasks", params={"state": "running"}).json()["items"])

    assert code == 0
    assert seconds < 10
    assert early < 10
    sent = Counter(mail["to"] for mail in inbox.mails)
    assert sent == {f"n{number}@example.com": 1 for number in range(10)}


def test_a_worker_killed_in_the_middle_of_a_mail_is_restarted_and_sends_it_again(slow_mail):
    stack, inbox = slow_mail
    inbox.delay_s = 60
    url = stack.notify()
    stack.until(lambda: stack.web.get(url).json()["state"] == "running")

    os.kill(stack.pid_of("worker"), signal.SIGKILL)
    inbox.delay_s = 0

    task = stack.ended(url)
    assert task["state"] == "succeeded"
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["worker-died", "succeeded"]
    assert [mail["message-id"] for mail in inbox.mails] == [task["result"]]
    assert "role.died" in stack.log.read_text() or "restart" in stack.log.read_text()


def test_whatever_is_killed_comes_back_and_nothing_accepted_is_lost(stack):
    urls = []
    for kind in ("api", "scheduler", "worker", "api"):
        os.kill(stack.pid_of(kind), signal.SIGKILL)
        stack.until(stack.ready)
        urls += [stack.notify(message=f"after {kind}") for _ in range(5)]

    assert {stack.ended(url)["state"] for url in urls} == {"succeeded"}
    assert len(Maildir(stack.settings.data_dir / "mail", create=False)) == len(urls)


def test_an_id_that_never_was_is_404_and_one_past_its_retention_is_410(shared):
    fresh = shared.web.get("/v1/tasks/ffffffff-ffff-7fff-bfff-ffffffffffff")
    old = shared.web.get("/v1/tasks/01900000-0000-7000-8000-000000000000")

    assert (fresh.status_code, fresh.json()["code"]) == (404, "unknown-task")
    assert (old.status_code, old.json()["code"]) == (410, "task-expired")


def test_demo_shows_the_mail_and_leaves(tmp_path):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
    done = subprocess.run(
        [sys.executable, "-m", "postlude.cli", "demo"],
        cwd=ROOT,
        env=inherited
        | {"POSTLUDE_DATA_DIR": str(tmp_path / "var"), "POSTLUDE_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"(?m)^\s*Message-ID: <", done.stdout), done.stdout


def test_no_process_outlives_it(stack):
    pids = [stack.pid_of(kind) for kind in ("api", "worker", "scheduler")]

    code, seconds = stack.interrupt()

    assert code == 0
    assert seconds < 10
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            pytest.fail(f"process {pid} is still there")
