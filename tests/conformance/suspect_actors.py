"""Actors that die, or live on; for tests of who is suspected of a worker's death."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import dramatiq
from fleet_actors import QUEUE, jot, note, wait_for

assert jot, "the other actors are declared by importing them"


def note_place(word: str) -> None:
    """Note the word, who runs this, and whose child that is."""
    note(f"{word} {os.getpid()} {os.getppid()}")


@dramatiq.actor(queue_name=QUEUE)
def linger(word: str) -> str:
    """Wait for the file of the name ``word``."""
    note_place(word)
    wait_for(word)
    return word


@dramatiq.actor(queue_name=QUEUE)
def kill(word: str) -> None:
    """Take down the process that runs this."""
    note_place(word)
    os.kill(os.getpid(), signal.SIGKILL)


@dramatiq.actor(queue_name=QUEUE, max_retries=1, min_backoff=1)
def fail_later(word: str) -> None:
    """Wait for the file of the name ``word``, then fail."""
    note_place(word)
    wait_for(word)
    raise ValueError(word)


@dramatiq.actor(queue_name=QUEUE, time_limit=1000, max_retries=1, min_backoff=1)
def hang(word: str) -> None:
    """Wait for ever, and for nothing."""
    note_place(word)
    time.sleep(3600)


@dramatiq.actor(queue_name=QUEUE, time_limit=500, min_backoff=1, max_backoff=1)
def seize(word: str) -> None:
    """Hold the interpreter's lock for ever, as a regular expression that explodes does."""
    note_place(word)
    ctypes.PyDLL(None).sleep(3600)


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def seize_for_a_while(word: str, seconds: int) -> str:
    """Hold the interpreter's lock for so long."""
    note_place(word)
    ctypes.PyDLL(None).sleep(seconds)
    return word


def _declare() -> dramatiq.Actor:
    @dramatiq.actor(queue_name=QUEUE, actor_name="only_here")
    def only_here(word: str) -> None:
        note_place(word)
        os.kill(os.getpid(), signal.SIGKILL)

    return only_here


if not sys.argv[0].endswith("child.py"):
    only_here = _declare()
