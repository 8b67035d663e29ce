"""Our end of the guard: whom it must end if we are killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import IO, cast

_SCRIPT = Path(__file__).with_name("guard.py")


class Guard:
    """A running guard. Used by one thread; :meth:`close` it once all children are gone."""

    def __init__(self, grace: timedelta) -> None:
        self._grace = grace
        self._process = self._start()

    def register(self) -> None:
        """Put the calling process's group on the list.

        Runs in the child between fork and exec, so there is no instant at which a child exists that
        the guard does not know.
        """
        self._tell(b"+%d\n" % os.getpid())

    def forget(self, group: int) -> None:
        """Take a group off the list: it is gone, its number may be used again."""
        self._tell(b"-%d\n" % group)

    def check(self, groups: Iterable[int]) -> None:
        """Start the guard again if somebody killed it, with ``groups`` on its list."""
        if self._process.poll() is None:
            return
        self._pipe.close()
        self._process = self._start()
        for group in groups:
            self._tell(b"+%d\n" % group)

    def close(self) -> None:
        """End it; whatever is still on its list is ended too."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Return its process id, for tests and for the curious."""
        return self._process.pid

    @property
    def _pipe(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdin)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 # our own script, our own interpreter
            [sys.executable, "-I", "-S", str(_SCRIPT), str(self._grace.total_seconds())],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # what kills our process group must not kill it
        )

    def _tell(self, line: bytes) -> None:
        # A guard that is dead hears of the group when `check` starts it again.
        with contextlib.suppress(OSError):
            os.write(self._pipe.fileno(), line)
