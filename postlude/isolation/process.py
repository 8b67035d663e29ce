"""A child process as its worker sees it: started, asked, killed, and what it died of."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any, NoReturn

from postlude.errors import CannotIsolate, ChildDied
from postlude.isolation.line import Line
from postlude.isolation.raised import Elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    Attend = Callable[["ChildProcess", dict[str, Any]], None]

LOAD_S = 60.0
"""How long a child may take to start and to import an actor's module."""
LOOK_S = 0.5
"""How often to look whether a silent child lives: what it has forked may hold its line open."""
SEND_S = 10
"""How long a child that has been stopped may hold up a frame that does not fit into the socket."""
ANSWER_S = 1.0
"""How long a child may take to say that it hears: longer than a thread waits for the interpreter."""
_BOX_LIMIT = 16_000


class ChildProcess:
    """A running child; one thread at a time has it. Raises CannotIsolate when it does not start.

    The thread that makes it must live as long as this process: on Linux the child is killed when
    that thread ends (``PR_SET_PDEATHSIG``).
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.tasks = 0
        self.idle_since = time.monotonic()
        self._box_read = 0
        with contextlib.ExitStack() as undo:
            try:
                self._box = undo.enter_context(_new_box())
                ours, theirs = map(undo.enter_context, socket.socketpair())
                self._process = _start(theirs.fileno(), self._box.fileno())
                theirs.close()
            except OSError as error:
                message = f"a child process could not be started: {error}"
                raise CannotIsolate(message) from error
            undo.pop_all()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))
        self.line = Line(ours)
        with contextlib.suppress(OSError):  # if it has died already, its first task will tell
            self.line.say(path=_path(), python_path=os.environ.get("PYTHONPATH"))

    @property
    def pid(self) -> int:
        """Its process id, and that of its process group."""
        return self._process.pid

    def load(self, actor: str, module: str, attend: Attend) -> int:
        """Have it import what declares ``actor``; returns how many bytes of address space it uses then.

        Raises CannotIsolate when it cannot be imported there, ChildDied when that kills the child.
        ``attend`` gets what else it says meanwhile.
        """
        if module == "__main__":
            message = f"{actor} is declared in __main__, which a child process cannot import"
            raise CannotIsolate(message)
        self._box_read = os.fstat(self._box.fileno()).st_size
        self.tell(do="load", actor=actor, module=module)
        deadline = time.monotonic() + LOAD_S
        while True:
            frame = self.hear(deadline)
            if frame is None:
                message = f"importing {module} took a child process more than {LOAD_S:g} s"
                raise CannotIsolate(message)
            if frame["say"] == "loaded":
                self.modules.add(module)
                return int(frame["address_space"])
            if frame["say"] == "cannot":
                message = f"{actor} cannot be run in a child process: {frame['why']}"
                raise CannotIsolate(message) from Elsewhere(frame["traceback"])
            attend(self, frame)

    def tell(self, **frame: Any) -> None:
        """Send it one frame; raises ChildDied when it is gone, or has been stopped."""
        try:
            self.line.say(**frame)
        except OSError:
            self._report_death()

    def hear(self, deadline: float) -> dict[str, Any] | None:
        """Return its next frame; None when the monotonic ``deadline`` passes, ChildDied when it dies."""
        while True:
            left = deadline - time.monotonic()
            try:
                frame = self.line.hear(min(left, LOOK_S))
                if frame is None and self.ended:
                    frame = self.line.hear(0)  # the last that it said
                    if frame is None:
                        self._report_death()
            except EOFError:
                self._report_death()
            if frame is not None or left <= 0:
                return frame

    def hears(self) -> bool:
        """Say whether it answers; not if its actor holds the interpreter's lock. Drops what else it says."""
        deadline = time.monotonic() + ANSWER_S
        try:
            self.tell(do="ping")
            while frame := self.hear(deadline):
                if frame["say"] == "pong":
                    return True
        except ChildDied:
            return True  # it was about to be killed, and is past hanging
        return False

    def last_words(self) -> str:
        """Return the Python stacks that its fault handler has written since it was told to load."""
        return os.pread(self._box.fileno(), _BOX_LIMIT, self._box_read).decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Say whether it has ended; it stays a zombie, which keeps its number from being used again."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is not None
        if self._process.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, options) is not None
        except ChildProcessError:  # somebody else in this process has waited for it
            return True

    def end(self) -> None:
        """Kill it, and everything in its process group; whoever has it hears that it died."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End it, and everything in its process group, now. May be called again."""
        self._bury()
        self.line.close()
        self._box.close()

    def _report_death(self) -> NoReturn:
        """End what is left of it and raise the error that says what it died of, and where."""
        deadline = time.monotonic() + LOOK_S
        while not (ended := self.ended) and time.monotonic() < deadline:
            time.sleep(0.005)
        code = self._bury()
        how = in_words(code) if ended else "closed the line to its worker, or stood still"
        message = f"the child process that ran this task {how}"
        trace = self.last_words() or "it has left no trace of where it was"
        raise ChildDied(message) from Elsewhere(trace)

    def _bury(self) -> int:
        self.end()
        return self._process.wait()


def in_words(code: int) -> str:
    """Say how a child ended: "exited with code 3", "was killed by SIGSEGV (11)"."""
    if code >= 0:
        return f"exited with code {code} in the middle of it"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"was killed by signal {-code}"
    hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"was killed by {name} ({-code}){hint}"


def _start(line: int, box: int) -> subprocess.Popen[bytes]:
    """Start the program with our interpreter and our path; of our files it gets these two."""
    return subprocess.Popen(  # noqa: S603 # our own program
        [
            sys.executable,
            *("-u", "-P", "-m", "postlude.isolation.child"),
            *map(str, (line, box, os.getpid())),
        ],
        stdin=subprocess.DEVNULL,
        pass_fds=(line, box),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, _path()))},
        start_new_session=True,
    )


def _new_box() -> IO[bytes]:
    """Return a file without a name, where it can be had without a disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("postlude-child"), "w+b")
    return tempfile.TemporaryFile()


def _path() -> list[str]:
    return [str(entry) for entry in sys.path]
