"""What the worker of ``test_fidelity`` runs: `dramatiq fidelity_actors`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dramatiq
from dramatiq.middleware import Middleware

from postlude.broker import broker

STOPPING = "fidelity-stopping"
"""The queue of the tests that stop their worker."""
FOLDER = Path(os.environ.get("POSTLUDE_DATA_DIR", "var"))


class BrokenHook(Middleware):
    """Breaks before one actor, as a bug in somebody's own middleware would."""

    def before_process_message(self, broker, message):
        if message.actor_name == "fidelity-hooked":
            text = "this hook is broken"
            raise OSError(text)


broker().add_middleware(BrokenHook())


@dramatiq.actor(actor_name="fidelity-double")
def double(x: int) -> int:
    return 2 * x


@dramatiq.actor(actor_name="fidelity-double-async")
async def double_async(x: int) -> int:
    return 2 * x


@dramatiq.actor(actor_name="fidelity-fail-once", max_retries=1, min_backoff=1, max_backoff=2)
def fail_once(mark: str) -> str:
    """Fail, unless there is a file ``mark`` already."""
    path = FOLDER / mark
    if not path.exists():
        path.touch()
        raise OSError(mark)
    return "done"


@dramatiq.actor(actor_name="fidelity-fail", max_retries=0)
def fail(word: str) -> None:
    raise ValueError(word)


@dramatiq.actor(actor_name="fidelity-told")
def told(message: dict, news: dict) -> None:
    (FOLDER / f"told-{message['message_id']}").touch()


@dramatiq.actor(actor_name="fidelity-overrun", time_limit=100, max_retries=0)
def overrun() -> None:
    while True:
        time.sleep(0.01)


@dramatiq.actor(actor_name="fidelity-hooked", max_retries=0)
def hooked() -> None:
    (FOLDER / "hooked").touch()


@dramatiq.actor(actor_name="fidelity-hold", queue_name=STOPPING)
def hold(word: str) -> str:
    """Say so with a file, then wait for the file that lets it go on."""
    (FOLDER / f"{word}-runs").touch()
    while not (FOLDER / word).exists():
        time.sleep(0.01)
    return word


@dramatiq.actor(
    actor_name="fidelity-notified", queue_name=STOPPING, notify_shutdown=True, max_retries=0
)
def notified(word: str) -> str:
    """Hold in the same way, but be told when the worker stops."""
    return hold.fn(word)


@dramatiq.actor(actor_name="fidelity-kill", queue_name=STOPPING)
def kill() -> None:
    """Take down the process that runs this."""
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor(actor_name="fidelity-sleep", queue_name=STOPPING, time_limit=200, max_retries=0)
def sleep() -> None:
    """Be out of reach of any interrupt."""
    time.sleep(3600)
