"""A disk without room: nothing is half-done, everybody lives on, and it all goes on when there is room."""

from __future__ import annotations

import asyncio
import json
import signal
from email import message_from_bytes
from mailbox import Maildir

import pytest
from aiosmtpd.controller import Controller

MORE_THAN_ARE_MADE_FOR_OTHERS = 20
"""Attempts to store an outcome: a request would have been given up before."""
FILE = {"file": ("a.bin", bytes(range(256)) * 4096)}  # 1 MiB


class Inbox:
    """An SMTP server that takes no mail before it is told to."""

    def __init__(self):
        self.mails = []
        self.open = False

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        self.mails.append(message_from_bytes(envelope.content))
        while not self.open:  # noqa: ASYNC110 # opened from another thread
            await asyncio.sleep(0.02)
        return "250 OK"


class Server(Controller):
    """A server on a port that the system chose."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def inbox():
    inbox = Inbox()
    server = Server(inbox, hostname="127.0.0.1", port=0)
    server.start()
    inbox.port = server.port
    yield inbox
    inbox.open = True
    server.stop()


def refused(response, code):
    assert (response.status_code, response.json()["code"]) == (503, code), response.text
    assert int(response.headers["retry-after"]) > 0
    return response.json()["detail"]


def logged(site, role, event):
    """Return how often processes of this kind have logged ``event``."""
    lines = [json.loads(line) for line in site.log.read_text().splitlines() if line[-1:] == "}"]
    return [(line.get("role"), line.get("event")) for line in lines].count((role, event))


def test_api_and_worker_refuse_keep_and_go_on(site, disk, inbox):
    """One disk for everything: ledger, files, locks."""
    site = site(POSTLUDE_MAIL_URL=f"smtp://127.0.0.1:{inbox.port}")
    small = disk(site.data, 6000)
    site.migrate()
    processes = [site.start_api(), site.start_worker()]
    url = site.web.post("/send-notification/ada@example.com").headers["location"]
    site.until(lambda: inbox.mails)
    small.fill()
    inbox.open = True
    site.until(lambda: logged(site, "worker", "ledger.write_failed"))

    assert "full" in refused(
        site.web.post("/send-notification/a@example.com"), "ledger-unavailable"
    )
    told = refused(site.web.post("/files", files=FILE), "storage-unavailable")
    assert f"{site.data}/files" in told
    assert "No space left" in told
    site.until(lambda: not [path for path in site.data.glob("files/*") if path.is_file()])
    assert [task["url"] for task in site.web.get("/v1/tasks").json()["items"]] == [url]
    site.until(
        lambda: logged(site, "worker", "ledger.write_failed") > MORE_THAN_ARE_MADE_FOR_OTHERS
    )
    assert not logged(site, "worker", "task.outcome_not_stored")
    assert site.task(url)["state"] == "running"
    small.make_room()

    task = site.ended(url)
    assert (task["state"], task["attempt_count"], task["crashes"]) == ("succeeded", 1, 0)
    again = site.web.post("/send-notification/grace@example.com")
    assert site.ended(again.headers["location"])["state"] == "succeeded"
    file = site.web.post("/files", files=FILE).json()["tasks"][0]
    assert site.ended(file["url"])["state"] == "succeeded"
    assert [mail["to"] for mail in inbox.mails] == ["ada@example.com", "grace@example.com"]
    assert len(site.web.get("/v1/tasks").json()["items"]) == 3
    assert [process.poll() for process in processes] == [None, None]
    site.until(site.is_ready)


def test_an_upload_that_runs_out_of_room_in_the_middle_leaves_nothing(site, disk, tmp_path):
    small = disk(tmp_path / "storage", 600)
    site = site(POSTLUDE_STORAGE_URL=f"file://{small.folder}")
    site.migrate()
    site.start_api()

    told = refused(site.web.post("/files", files=FILE), "storage-unavailable")

    assert f"cannot write files in {small.folder}: No space left" in told
    site.until(lambda: list(small.folder.iterdir()) == [])
    assert site.web.get("/v1/tasks").json()["items"] == []
    fits = site.web.post("/files", files={"file": ("b.txt", b"fits")})
    assert fits.status_code == 202
    assert [path.read_bytes() for path in small.folder.iterdir()] == [b"fits"]


def test_a_full_maildir_keeps_the_mail_until_there_is_room(site, disk):
    site = site()
    small = disk(site.data / "mail", 100)
    small.fill()
    site.migrate()
    site.start_api()
    site.start_worker()
    options = {"min_backoff": "20ms", "max_backoff": "50ms", "max_retries": 1000}
    args = {"email": "ada@example.com", "message": "hello" * 1000}
    body = {"args": args, "options": options}

    added = site.web.post("/v1/actors/send_notification/tasks", json=body)
    url = added.headers["location"]
    failed = site.until(lambda: site.task(url)["attempts"])[0]

    assert failed["error_type"] == "MailDeferred"
    assert f"cannot write mail to {small.folder}: No space left" in failed["error_message"]
    assert "POSTLUDE_MAIL_URL" in failed["error_message"]
    small.make_room()
    task = site.ended(url)
    assert task["state"] == "succeeded"
    (mail,) = Maildir(small.folder, create=False)
    assert mail["message-id"] == task["result"]
    assert list((small.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("migrated", [False, True])
def test_a_stack_that_cannot_start_says_why(site, disk, migrated):
    site = site()
    small = disk(site.data, 2000)
    if migrated:
        site.migrate()
    small.fill()

    done = site.run("postlude.cli", "run")

    assert done.returncode == 1
    assert f"the folder {site.data} cannot be written (No space left on device)" in done.stderr
    assert "make room" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "role.started" not in done.stdout
    small.make_room()
    assert site.run("postlude.cli", "migrate").returncode == 0


@pytest.mark.long
def test_a_stack_outlives_a_full_disk_longer_than_its_lease(site, disk):
    site = site(POSTLUDE_LEASE="2s")
    small = disk(site.data, 6000)
    run = site.start("postlude.cli", "run")
    site.until(site.is_ready)
    small.fill()

    refused(site.web.post("/send-notification/ada@example.com"), "ledger-unavailable")
    refused(site.web.post("/send-notification/ada@example.com"), "ledger-unavailable")
    small.make_room()

    site.until(site.is_ready)
    task = site.ended(site.web.post("/send-notification/ada@example.com").headers["location"])
    assert (task["state"], task["attempt_count"]) == ("succeeded", 1)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == 0
    assert site.told("role.started") == 3
    assert site.told("role.died") == site.told("role.hangs") == 0
