"""The ``dramatiq`` process above this one: it can start its workers anew, all of them at a time."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

from dramatiq.cli import make_argument_parser

from postlude.worker import signals


def cannot_renew() -> str | None:
    """Say why this worker cannot be replaced by itself, in words for the log; None if it can be."""
    if _master() is None:
        return "it was not started by the `dramatiq` command"
    if _processes() != 1:
        return (
            "`dramatiq -p N` can only replace all of its processes at once; start several "
            "`dramatiq -p 1` instead, as `postlude run` does with POSTLUDE_WORKERS"
        )
    if not _finds_its_way_back():
        return (
            "`python -m dramatiq` would look for `python` on PATH and find another one; start the "
            "`dramatiq` command"
        )
    return None


def renew() -> None:
    """Ask for a new process in the place of this one, which is asked to stop like by anybody else."""
    _signal(signal.SIGHUP)


def stop() -> None:
    """Ask the master to stop, and with it this process and its siblings."""
    _signal(signal.SIGTERM)


def _master() -> int | None:
    above = multiprocessing.parent_process() if signals.in_dramatiq() else None
    return above.pid if above is not None and above.is_alive() else None


def _signal(number: signal.Signals) -> None:
    if pid := _master():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _processes() -> int | None:
    """Return how many processes the command was told to start; None if its words are not Dramatiq's."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return int(make_argument_parser().parse_known_args()[0].processes)
    except SystemExit:
        return None


def _finds_its_way_back() -> bool:
    """Say whether the command that Dramatiq runs again would be this one (dramatiq/cli.py, its end)."""
    if not sys.argv[0].endswith("/dramatiq/__main__.py"):
        return True
    found = shutil.which("python")
    return found is not None and Path(found).parent == Path(sys.executable).parent
