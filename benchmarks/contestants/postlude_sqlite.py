"""Postlude, embedded: an SQLite file is the ledger, and the ledger delivers."""

from __future__ import annotations

import dramatiq

import postlude  # noqa: F401 - first: it sets the broker that actors are declared on
from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran


@dramatiq.actor(queue_name=QUEUE)
def note_run(number: int) -> int:
    """Note this run; may run twice. The result is stored."""
    ran(number)
    return number


send = note_run.send
