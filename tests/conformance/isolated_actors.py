"""Actors that run in child processes, and what they may do there; for tests of isolation."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage
from fleet_actors import QUEUE, jot, note, wait_for

import postlude
from postlude.errors import ChildDied

log = structlog.get_logger()


class Rejected(Exception):
    """Needs more than a message, and says something else than its arguments."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(code)
        self.code = code
        self.why = why

    def __str__(self) -> str:
        return f"{self.why} ({self.code})"


def isolated(**options):
    return dramatiq.actor(queue_name=QUEUE, isolation="process", **{"max_retries": 0} | options)


@isolated()
def apart(at: datetime, *, pids: bool = False) -> list:
    """Tell the type of the argument, and who runs this."""
    return [type(at).__name__, os.getpid(), os.getppid()] if pids else [type(at).__name__]


@isolated()
async def apart_async(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@isolated()
def apart_hold(word: str) -> str:
    """Note word and process, wait for the file of that name, return."""
    note(f"{word} {os.getpid()}")
    wait_for(word)
    return word


@isolated()
def apart_hold_in_c(word: str) -> None:
    """Hold, and hold the interpreter's lock: no thread of this process can do anything."""
    note(f"{word} {os.getpid()}")
    re.match(r"(a+)+$", "a" * 60 + "b")


@isolated(notify_shutdown=True)
def apart_hold_until_told(word: str) -> None:
    note(f"{word} {os.getpid()}")
    wait_for(word)


@isolated()
def apart_progress(word: str) -> str:
    postlude.set_progress({"done": 1, "of": 2})
    note(word)
    wait_for(word)
    return CurrentMessage.get_current_message().message_id


@isolated()
def apart_send(word: str) -> str:
    return jot.send(word).message_id


@isolated()
def apart_send_twice() -> str:
    message = jot.message("once")
    broker = dramatiq.get_broker()
    broker.enqueue(message)
    try:
        broker.enqueue(message.copy(kwargs={}, args=("again",)))
    except postlude.errors.BadOptions as error:
        return str(error)
    return "no error"


@isolated()
def apart_log() -> None:
    log.warning("from.structlog", colour="red")
    logging.getLogger("shop").warning("from %s", "logging")
    sys.stdout.write("from print\n")


@isolated(throws=Rejected, max_retries=5)
def apart_rejected() -> None:
    raise Rejected(7, why="too heavy")


@isolated(max_retries=1)
def apart_retry(delay: int) -> None:
    message = "later"
    raise dramatiq.Retry(message, delay=delay)


def _twice(retries: int, error: BaseException) -> bool:
    return isinstance(error, Rejected) and error.code == 7 and retries < 1


@isolated(retry_when=_twice, min_backoff=1)
def apart_retry_when() -> None:
    raise Rejected(7, why="again")


def _twice_if_dead(retries: int, error: BaseException) -> bool:
    return isinstance(error, ChildDied) and retries < 1


@isolated(retry_when=_twice_if_dead, min_backoff=1)
def apart_segfault() -> None:
    note("segfault")
    ctypes.string_at(0)


@isolated()
def apart_exit(code: int) -> None:
    os._exit(code)


@isolated()
def apart_kill(number: int) -> None:
    os.kill(os.getpid(), number)


@isolated()
def apart_kill_group() -> None:
    os.killpg(0, signal.SIGKILL)


@isolated(memory_limit="400MiB")
def apart_hog(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


@isolated()
def apart_unlimited(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


@isolated(time_limit=500)
def apart_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@isolated(time_limit=500)
def apart_loop() -> None:
    while True:
        pass


@isolated(time_limit=500)
def apart_loop_in_c() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


@isolated(time_limit=500)
def apart_sleep() -> None:
    time.sleep(3600)


@isolated()
def apart_with_others(word: str) -> None:
    """Start somebody, and die once that has been seen."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    note(f"{word} {os.getpid()}")
    wait_for(word)
    os._exit(1)


@isolated()
def apart_files() -> list[str]:
    """Tell which files this process has open, beside the standard ones."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return sorted(found)


@isolated()
def apart_nothing() -> None:
    """Tell that a result that has no form in JSON is dropped."""
    return object()


@isolated(max_retries=0)
def apart_sends_badly() -> None:
    jot.send(too=1, many=2)


apart_of_others = isolated(actor_name="apart_of_others")(shlex.quote)


@isolated()
def apart_fork() -> int:
    """Return the exit code of a fork that tries to send something."""
    forked = os.fork()
    if forked == 0:
        try:
            jot.send("from a fork")
        except OSError:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])


@isolated()
def apart_loaded() -> bool:
    return "sqlalchemy" in sys.modules


@isolated()
def apart_runs_pipeline(x: int) -> str:
    return (apart_async.message(x) | apart_async.message()).run().messages[-1].message_id
