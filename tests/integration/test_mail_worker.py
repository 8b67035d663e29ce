"""Mail from end to end: a task in the ledger, a worker in its own process, a mail that somebody reads."""

from __future__ import annotations

import asyncio
import mailbox
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

ROOT = Path(__file__).parents[2]
SEND = """
import sys
from actors.mail import send_notification
message = send_notification.send(sys.argv[1], "Grüße", subject="Schöne Grüße")
print(message.message_id)
"""
WAIT = """
import sys, time
from postlude import process
from postlude.ledger.queries import tasks

deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    with process.current().ledger.read() as connection:
        task = tasks.get(connection, sys.argv[1])
    if task.attempts and task.state not in ("queued", "running"):
        break
    time.sleep(0.05)
print(task.state, task.attempts, task.result, sep="\\n")
process.close()
"""


class Application:
    """The application in ``folder``, whose every process is a real one."""

    def __init__(self, folder, **variables):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("POSTLUDE_")}
        self.environment = inherited | {"POSTLUDE_DATA_DIR": str(folder)} | variables

    def run(self, *arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def send(self, to="jörg@example.com"):
        return self.run("-c", SEND, to)[-1]

    def outcome(self, task_id):
        """Wait until the task has ended, for now or for good: its state, attempts and result."""
        state, attempts, result = self.run("-c", WAIT, task_id)[-3:]
        return state, int(attempts), result

    @contextmanager
    def worker(self):
        process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "actors", "--processes", "1", "--threads", "2"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill(process)


def kill(process):
    """End the worker and its children the hard way, as a power cut does."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Inbox:
    """Refuses some, and keeps the first mail waiting for its reply for ever."""

    def __init__(self):
        self.received = []
        self.first_is_in = threading.Event()

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        refusals = {"gone@example.com": "550 gone", "full@example.com": "452 mailbox full"}
        if address in refusals:
            return refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.received.append(message_from_bytes(envelope.content, policy=policy.default))
        if not self.first_is_in.is_set():
            self.first_is_in.set()
            await asyncio.Event().wait()
        return "250 OK"


class Server(Controller):
    """A server on a port that the system chose."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def inbox():
    return Inbox()


@pytest.fixture
def mail_url(inbox):
    server = Server(inbox, hostname="127.0.0.1", port=0)
    server.start()
    yield f"smtp://127.0.0.1:{server.port}"
    server.stop()


def test_a_task_sent_to_a_worker_ends_as_one_mail_in_the_maildir(tmp_path):
    application = Application(tmp_path)
    application.run("-m", "postlude.cli", "migrate")
    task_id = application.send()

    with application.worker():
        outcome = application.outcome(task_id)

    (mail,) = mailbox.Maildir(tmp_path / "mail", create=False)
    assert mail["Message-ID"] == f"<{task_id}@localhost>"
    assert outcome == ("succeeded", 1, mail["Message-ID"])


def test_what_the_server_refuses_fails_at_once_and_what_it_defers_is_tried_again(
    tmp_path, mail_url
):
    application = Application(tmp_path, POSTLUDE_MAIL_URL=mail_url)
    application.run("-m", "postlude.cli", "migrate")
    refused, deferred = application.send("gone@example.com"), application.send("full@example.com")

    with application.worker():
        assert application.outcome(refused) == ("failed", 1, "None")
        assert application.outcome(deferred) == ("scheduled", 1, "None")


def test_a_worker_killed_in_the_middle_of_a_mail_sends_the_same_mail_again(
    tmp_path, inbox, mail_url
):
    application = Application(tmp_path, POSTLUDE_MAIL_URL=mail_url)
    application.run("-m", "postlude.cli", "migrate")
    task_id = application.send()

    with application.worker() as first:
        assert inbox.first_is_in.wait(30)
        kill(first)
    with application.worker():
        state, _, _ = application.outcome(task_id)

    assert state == "succeeded"
    first_copy, second_copy = inbox.received
    assert first_copy["Message-ID"] == second_copy["Message-ID"] == f"<{task_id}@localhost>"
    assert second_copy["Subject"] == "Schöne Grüße"
