"""An actor whose second start finds the disk full: somebody's middleware has just filled it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dramatiq
from conftest import Disk
from dramatiq.middleware import Middleware

import postlude.broker

FOLDER = Path(os.environ["STARVED_FOLDER"])


class Hog(Middleware):
    """Fills the ledger's disk, once, between the claim of a suspect and its start."""

    def before_process_message(self, broker, message):
        full = FOLDER / "full"
        if message.actor_name == "starved-linger" and message.task.suspect and not full.exists():
            Disk(Path(os.environ["POSTLUDE_DATA_DIR"])).fill()
            full.touch()


broker = postlude.broker.broker()
broker.add_middleware(Hog(), before=type(broker.middleware[0]))


@dramatiq.actor(actor_name="starved-linger", max_retries=0)
def linger() -> None:
    """Wait for a file, for as long as it takes."""
    with (FOLDER / "journal").open("a") as journal:
        journal.write("run\n")
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
