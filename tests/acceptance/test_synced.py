"""Nothing is acknowledged that is not on the disk: an fsync for every commit, as the kernel sees it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SYNCS = {"fsync", "fdatasync"}
FRAME_HEADER, PAGE = 24, 4096
REQUESTS = 8
CALLS = ("pwrite64", "fsync", "fdatasync", "sendto", "sendmsg", "write", "writev")
_BEGUN = re.compile(rb"(\d+) +(\w+)\((\d+)<([^>]*)>")
_RESUMED = re.compile(rb"(\d+) +<\.\.\. \w+ resumed>")
_RESULT = re.compile(rb"= (-?\d+)\D*$")
_STRING = re.compile(rb'"([^"]*)"')


@dataclass
class Call:
    """One call; ``begun`` and ``done`` are places in the order of things."""

    thread: int
    name: str
    file: int
    path: str
    data: bytes
    begun: int
    done: int = 0
    result: int = -1


def strace(trace: Path) -> tuple[str, ...]:
    """Return what to put in front of a command, to have its calls in ``trace``."""
    wanted = f"trace={','.join(CALLS)}"
    return (
        "strace",
        "-f",
        "--seccomp-bpf",
        "-y",
        "-xx",
        "-s",
        "70000",
        "-e",
        wanted,
        "-o",
        str(trace),
    )


def first_process(trace: Path) -> int:
    """Return the process that strace started: a signal is for it, strace would just let go of it."""
    return int(trace.read_bytes().split(b" ", 1)[0])


def calls(trace: Path) -> list[Call]:
    """Return the calls in the order in which they began."""
    found: list[Call] = []
    under_way: dict[int, Call] = {}
    for number, line in enumerate(trace.read_bytes().splitlines()):
        if begun := _BEGUN.match(line):
            thread, name, file, path = begun.groups()
            data = b"".join(_unquoted(text) for text in _STRING.findall(line))
            call = Call(
                int(thread), name.decode(), int(file), _unquoted(path).decode(), data, number
            )
            found.append(call)
        elif resumed := _RESUMED.match(line):
            call = under_way.pop(int(resumed[1]))
        else:
            continue
        if line.endswith(b"<unfinished ...>"):
            under_way[call.thread] = call
        elif result := _RESULT.search(line):
            call.done, call.result = number, int(result[1])
    return found


def _unquoted(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(rb"\x", b"").decode())


@dataclass
class Commit:
    """What one transaction wrote to the log, and the call that followed the last of it."""

    pages: list[bytes]
    then: Call | None = None

    @property
    def is_synced(self):
        then = self.then
        return then is not None and then.name in SYNCS and then.result == 0

    def has(self, task, state):
        """Say whether this wrote the row of ``task`` in ``state``: its columns stand side by side."""
        row = re.compile(re.escape(task.encode()) + rb"send_notification\w+{.*?}{.*?}" + state)
        return any(row.search(page) for page in self.pages)


def commits(trace):
    """Return the transactions in the log: the last page is announced with the size of the database."""
    found, writers = [], {}
    for call in trace:
        if not call.path.endswith("postlude.db-wal"):
            continue
        writer = writers.setdefault((call.thread, call.file), Writer())
        if writer.commit and writer.commit.then is None:
            writer.commit.then = call
        if call.name == "pwrite64" and len(call.data) == FRAME_HEADER:
            writer.is_last = any(call.data[4:8])
        elif call.name == "pwrite64" and len(call.data) >= PAGE:
            writer.pages.append(call.data)
            if writer.is_last:
                writer.commit = Commit(writer.pages)
                writer.pages = []
                found.append(writer.commit)
    return found


@dataclass
class Writer:
    """A connection that writes the log."""

    pages: list[bytes] = field(default_factory=list)
    is_last: bool = False
    commit: Commit | None = None


@pytest.fixture
def traced_site(site, tmp_path):
    """A site whose processes are looked at by strace; ``trace`` ends them and returns their calls."""
    works = (
        shutil.which("strace")
        and not subprocess.run(
            [*strace(tmp_path / "try"), "true"], check=False, capture_output=True
        ).returncode
    )
    if not works:
        hint = "no strace that may trace; get one with: apt-get install strace"
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(hint)
        pytest.skip(hint)
    site = site()
    site.migrate()
    site.before = strace(path := tmp_path / "trace")
    tracer = site.start("postlude.cli", "run")
    site.until(site.is_ready)

    def end():
        os.kill(first_process(path), signal.SIGTERM)
        tracer.wait(60)
        return calls(path)

    site.trace = end
    return site


def test_each_commit_is_synced_before_anybody_hears_of_it(traced_site):
    """The answer to a request, the mail of a task that runs, and the state of one that has ended."""
    with ThreadPoolExecutor(REQUESTS) as clients:
        posts = [
            clients.submit(traced_site.web.post, f"/send-notification/synced{n}@example.com")
            for n in range(REQUESTS)
        ]
    tasks = [post.result().json()["tasks"][0] for post in posts]
    for task in tasks:
        assert traced_site.ended(task["url"])["state"] == "succeeded"
    trace = traced_site.trace()
    stored = commits(trace)

    assert [commit for commit in stored if not commit.is_synced] == []
    for n, task in enumerate(tasks):
        address = f"synced{n}@example.com".encode()
        sent = [call for call in trace if call.path.startswith("socket:")]
        answer = first(
            sent, lambda data, id_=task["id"]: data[9:12] == b"202" and id_.encode() in data
        )
        report = first(
            sent, lambda data, id_=task["id"]: b'"succeeded"' in data and id_.encode() in data
        )
        mail = first(
            [call for call in trace if "/var/mail/" in call.path],
            lambda data, to=address: to in data,
        )
        for state, news in ((b"accepted", answer), (b"running", mail), (b"succeeded", report)):
            on_disk = next(commit for commit in stored if commit.has(task["id"], state))
            assert on_disk.then.done < news.begun, (task, state)


def first(trace, fits):
    return next(call for call in trace if fits(call.data))
