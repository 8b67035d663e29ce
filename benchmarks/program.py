"""A process of a contestant: started with a log, measured while it runs, and surely ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks import consumption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[1]
LOOK_S = 0.005
PATIENCE_S = 60.0
GRACE_S = 5.0
TAIL = 2000


class BenchError(Exception):
    """A contestant did not do what it is here for; the message has the end of its log."""


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of Postlude's, and with ``variables``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTLUDE_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}


def command(program: str, *arguments: str) -> list[str]:
    """Return the command line of ``program``, which lies beside this interpreter."""
    if program == "python":
        return [sys.executable, *arguments]
    return [str(Path(sys.executable).with_name(program)), *arguments]


def wait_until(condition: Callable[[], Any], patience_s: float, what: str) -> Any:
    """Return what ``condition`` returns once that is true; BenchError says ``what`` did not happen."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            message = f"{what} within {patience_s:g} s"
            raise BenchError(message)
        time.sleep(LOOK_S)
    return found


class Program:
    """One process and its children, in a session of their own."""

    def __init__(self, argv: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - the contestants' own commands
                argv,
                env=dict(variables),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match of ``pattern`` in the log; BenchError if the process ends before."""

        def said() -> re.Match[str] | None:
            self.check()
            return re.search(pattern, self.text())

        found: re.Match[str] = wait_until(
            said, PATIENCE_S, f"{self.log.name} did not say {pattern!r}"
        )
        return found

    def check(self) -> None:
        """Raise BenchError if the process has ended."""
        if self._process.poll() is not None:
            message = f"{self.log.name} ended with {self._process.returncode}:\n{self.tail()}"
            raise BenchError(message)

    def text(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        """Return the end of what it has written."""
        return self.text()[-TAIL:]

    def consumption(self) -> consumption.Consumption | None:
        """Return what it and its children have used."""
        return consumption.of_session(self._process.pid)

    def finish(self, patience_s: float) -> str:
        """Wait for it to end by itself and return its output; BenchError if it fails."""
        code = None
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when somebody interrupts the wait
            if code is None:
                self.stop()
        if code != 0:
            message = f"{self.log.name} ended with {self._process.returncode}:\n{self.tail()}"
            raise BenchError(message)
        return self.text()

    def stop(self) -> None:
        """Ask it to stop, then kill what is left of its session's process group."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        self.kill()

    def kill(self) -> None:
        """Kill it and its session's process group, without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(GRACE_S)
