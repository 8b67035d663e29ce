"""Actors for the tests of the worker tree to hold and to count; named by POSTLUDE_ACTORS."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dramatiq

import postlude  # noqa: F401 - sets the broker

FOLDER = Path(os.environ["TREE_FOLDER"])


def note(word: str) -> None:
    with (FOLDER / "journal").open("a") as journal:
        journal.write(f"{word}\n")


@dramatiq.actor(actor_name="tree-hold")
def hold(word: str) -> str:
    """Note the word, wait for the file of that name, return."""
    note(word)
    while not (FOLDER / word).exists():
        time.sleep(0.01)
    return word


@dramatiq.actor(actor_name="tree-jot")
def jot(word: str) -> None:
    note(word)


@dramatiq.actor(actor_name="tree-swell", max_retries=0)
def swell(word: str, size: int) -> str:
    """Do work that cannot be undone, wait, return so many bytes."""
    note(word)
    while not (FOLDER / word).exists():
        time.sleep(0.01)
    return "x" * size
