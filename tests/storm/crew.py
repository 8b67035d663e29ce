"""The processes in the storm: started anew as soon as they have ended, struck as the forecast says.

Not ``make run``: that lets whoever dies again and again wait for up to half a minute, by design.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections import Counter
from pathlib import Path

from hours import Freeze
from weather import EACH, LASTS_S, Blow

TURN_S = 0.02
PATIENCE_S = 10
WORKER = ("-p", "1", "-t", "4", "--worker-fork-timeout", "2000")  # as in compose.yaml
WRITE_LOCK = "120"
"""The byte of a write-ahead log's index that SQLite locks to write."""
SIGNALS = {
    Blow.KILL: signal.SIGKILL,
    Blow.KILL_INNER: signal.SIGKILL,
    Blow.BLINK: signal.SIGSTOP,
    Blow.FREEZE: signal.SIGSTOP,
    Blow.TERM: signal.SIGTERM,
}


class Post:
    """A place that one process after the other takes."""

    def __init__(self, site, name, *command):
        self.role = name.partition("-")[0]
        self._site = site
        self._command = command
        self.told_to_go = False
        self.process = None
        self.thaw_at = None
        self.freeze = None
        self.start()

    def start(self):
        self.told_to_go = False
        self.thaw_at = None
        self.process = self._site.start(*self._command)

    def is_over(self):
        return self.process.poll() is not None

    def send(self, number, *, inner=False):
        """Send a signal to the process and its children; ``inner``: to its children alone."""
        self.told_to_go |= number in {signal.SIGKILL, signal.SIGTERM}
        if inner:
            for pid in children(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def now():
    return time.time_ns() // 1000


def steady_port():
    """Return a free port that is not among those which the kernel gives to others meanwhile."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
            return listener.getsockname()[1]


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def lock_holders(path):
    """Return the processes that have SQLite's write lock on the log whose index is ``path``."""
    try:
        inode = str(path.stat().st_ino)
    except FileNotFoundError:  # nobody has the ledger open
        return set()
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {
        int(pid)
        for *_, kind, pid, file, first, last in locks
        if (kind, first, last) == ("WRITE", WRITE_LOCK, WRITE_LOCK) and file.endswith(f":{inode}")
    }


def state(pid):
    """Return the letter that the kernel has for what a process does; X: it is not there any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class Crew:
    """All of them. One thread turns :meth:`turn`."""

    def __init__(self, site, is_busy):
        """Start them. ``is_busy`` says of process ids whether one of these has hold of a slow task."""
        self._is_busy = is_busy
        self._index = site.data / "postlude.db-shm"
        self.freezes = []
        """Who was stopped when, and whether the ledger was locked by that."""
        self.urls = []
        self.posts = {}
        self.seen = Counter()
        """What has happened to whom, for the report."""
        self.fallen = Counter()
        """Processes of each role that have ended although nobody here had told them to."""
        for number in range(EACH):
            port = str(steady_port())
            self.urls.append(f"http://127.0.0.1:{port}")
            api = ("uvicorn", "storm_app:app", "--port", port, "--log-level", "warning")
            worker = ("dramatiq", "storm_actors", *WORKER)
            scheduler = ("postlude.cli", "scheduler", "storm_actors")
            commands = {"api": api, "worker": worker, "scheduler": scheduler}
            for role, command in commands.items():
                name = f"{role}-{number}"
                self.posts[name] = Post(site, name, *command)

    def endure(self, strikes):
        """Return when the last of ``strikes`` is over."""
        began = time.monotonic()
        pending = list(strikes)
        while pending or any(post.thaw_at for post in self.posts.values()):
            late_s = {strike: time.monotonic() - began - strike.at for strike in pending}
            due = [strike for strike in pending if self._is_due(strike, late_s[strike])]
            for strike in due:
                pending.remove(strike)
                self._strike(strike)
            self.turn()

    def turn(self):
        """Wake who has been frozen for long enough, and start anew who has ended."""
        for post in self.posts.values():
            if post.thaw_at and post.thaw_at <= time.monotonic():
                self._thaw(post)
                post.send(signal.SIGCONT)
            if post.is_over():
                self._thaw(post)
                self._note(post, f"ended ({post.process.returncode})")
                self.fallen[post.role] += not post.told_to_go
                post.send(signal.SIGKILL)  # what it has left behind
                post.start()
        time.sleep(TURN_S)

    def _is_due(self, strike, late_s):
        """Say whether it is time; a worker is frozen when it has work in hand, if that is soon."""
        if late_s < 0 or strike.blow is not Blow.FREEZE or not strike.post.startswith("worker"):
            return late_s >= 0
        return late_s > PATIENCE_S or self._is_busy(children(self.posts[strike.post].process.pid))

    def _strike(self, strike):
        post = self.posts[strike.post]
        post.send(SIGNALS[strike.blow], inner=strike.blow is Blow.KILL_INNER)
        if strike.blow in LASTS_S:
            post.thaw_at = max(post.thaw_at or 0, time.monotonic() + strike.lasts)
            self._freeze(post)
        self._note(post, strike.blow)

    def _freeze(self, post):
        if post.freeze:
            return
        pids = frozenset([post.process.pid, *children(post.process.pid)])
        while any(state(pid) not in "TXZ" for pid in pids):
            time.sleep(0)  # a signal takes its time, and a transaction may end meanwhile
        post.freeze = Freeze(pids, now(), bool(pids & lock_holders(self._index)), 0)
        self.freezes.append(post.freeze)

    def _thaw(self, post):
        post.thaw_at = None
        if post.freeze:
            post.freeze.ended = now()
            post.freeze = None

    def _note(self, post, event):
        self.seen[f"{post.role}: {event}"] += 1

    def leave(self, patience_s):
        """Ask all of them to stop; returns when they have."""
        for post in self.posts.values():
            post.send(signal.SIGTERM)
        for post in self.posts.values():
            post.process.wait(patience_s)
