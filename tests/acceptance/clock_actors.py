"""Actors, and a schedule, for the tests that set the clock; named by POSTLUDE_ACTORS."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dramatiq

import postlude

FOLDER = Path(os.environ["CLOCK_FOLDER"])


def note(word: str) -> int:
    """Append a word to the journal; returns how often it is there now."""
    with (FOLDER / "journal").open("a") as journal:
        journal.write(f"{word}\n")
    return (FOLDER / "journal").read_text().splitlines().count(word)


@dramatiq.actor(actor_name="clock-hold")
def hold(word: str) -> None:
    note(word)
    while not (FOLDER / word).exists():
        time.sleep(0.01)


@dramatiq.actor(actor_name="clock-jot")
def jot(word: str) -> None:
    note(word)


@dramatiq.actor(actor_name="clock-stumble", min_backoff=5_000, max_backoff=10_000)
def stumble(word: str) -> None:
    """Fail the first time."""
    if note(word) == 1:
        message = "the first time"
        raise ValueError(message)


@postlude.every("1s", misfire="latest")
@dramatiq.actor(actor_name="clock-tick")
def tick() -> None:
    pass
