"""Actors that no interrupt reaches; for tests of time limits that hold all the same."""

from __future__ import annotations

import time

import dramatiq
from fleet_actors import QUEUE, jot, note, wait_for

assert jot, "the other actors are declared by importing them"


@dramatiq.actor(queue_name=QUEUE, time_limit=300, max_retries=0)
def stuck(word: str, seconds: float = 3600) -> None:
    """Be out of reach."""
    note(word)
    time.sleep(seconds)
    note(f"{word} came back")


@dramatiq.actor(queue_name=QUEUE, time_limit=300, max_retries=1, min_backoff=1)
def stuck_until_told(word: str) -> str:
    """Be out of reach, unless there is the file of the name ``word``."""
    note(word)
    try:
        wait_for(word)
    except BaseException:  # noqa: BLE001 # whatever it takes
        time.sleep(3600)
    return word


@dramatiq.actor(queue_name=QUEUE, time_limit=300, max_retries=0)
async def stuck_async(word: str) -> None:
    """Hold up the event loop, as who forgets to await does."""
    note(word)
    time.sleep(3600)  # noqa: ASYNC251 # the mistake is the point


@dramatiq.actor(queue_name=QUEUE, time_limit=300, max_retries=0)
def tidy(word: str) -> None:
    """Take a moment to clean up."""
    try:
        wait_for("never")
    finally:
        wait_for(word)
        note(f"{word} tidied")
