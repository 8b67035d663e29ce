"""RQ on Redis; run as a module it is a worker, ``--simple`` for one that does not fork."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from redis import Redis
from rq import Queue, SimpleWorker, Worker

from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran

queue = Queue(QUEUE, connection=Redis.from_url(os.environ["REDIS_URL"]))


def note_run(number: int) -> int:
    """Note this run."""
    ran(number)
    return number


def send(number: int) -> None:
    """Enqueue a task by its importable name: this module may run as ``__main__``."""
    queue.enqueue(f"{__spec__.name}.note_run", number)


if __name__ == "__main__":
    import_module("benchmarks.contestants.rq_redis")  # once, before the first task
    kind = SimpleWorker if "--simple" in sys.argv else Worker
    kind([queue], connection=queue.connection).work(logging_level="WARNING")
