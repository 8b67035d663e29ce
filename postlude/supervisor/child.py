"""One running process of a role, and everything that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from datetime import timedelta
from typing import IO, cast

from postlude.supervisor.output import Lines
from postlude.supervisor.role import Role
from postlude.supervisor.watchman import Guard

_PIECE = 64 * 1024


class Child:
    """A started role, in a session of its own, so that the terminal's Ctrl-C does not reach it.

    Raises OSError when the command cannot be started. Starting forks, so only a process with a
    single thread may do it.
    """

    def __init__(self, role: Role, guard: Guard, *, started: float) -> None:
        self.role = role
        self.started = started
        self._lines = Lines()
        self._guard = guard
        self._process = subprocess.Popen(  # noqa: S603 # the role's own command
            role.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **role.environment},
            start_new_session=True,
            preexec_fn=guard.register,  # noqa: PLW1509 # we have one thread; see `register`
        )
        os.set_blocking(self.pipe.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process id, and that of its process group."""
        return self._process.pid

    @property
    def pipe(self) -> IO[bytes]:
        """What it prints; never blocks."""
        return cast("IO[bytes]", self._process.stdout)

    def read(self) -> list[str] | None:
        """Return the whole lines that it has printed meanwhile; None at the end."""
        try:
            data = os.read(self.pipe.fileno(), _PIECE)
        except BlockingIOError:
            return []
        return self._lines.feed(data) if data else None

    def stop(self) -> None:
        """Ask it to finish what it does and leave; wakes what was stopped."""
        with contextlib.suppress(ProcessLookupError):
            # To the leader alone: a Dramatiq worker takes a second SIGTERM for "at once".
            os.kill(self.pid, signal.SIGTERM)
            os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it and everything that it has started, now. May run twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Tell whether its leader has ended; it stays a zombie until :meth:`bury`."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is not None
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def bury(self) -> tuple[list[str], int]:
        """End what it has left behind; return its last lines and its exit code (-9: by SIGKILL).

        The leader is reaped last: as a zombie it keeps the group's number from being used again.
        """
        self.kill()
        last: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe.fileno(), _PIECE):
                last += self._lines.feed(data)
        last += self._lines.end()
        code = self._process.wait()
        self.pipe.close()
        self._guard.forget(self.pid)
        return last, code


def lived(child: Child, now: float) -> timedelta:
    """Return how long ago ``child`` was started, ``now`` being on the same clock."""
    return timedelta(seconds=now - child.started)


def in_words(code: int) -> str:
    """Say how a process ended: "exited with code 3", "killed by SIGKILL"."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
