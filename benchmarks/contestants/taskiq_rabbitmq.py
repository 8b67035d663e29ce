"""taskiq on RabbitMQ: a quorum queue, as taskiq-aio-pika makes it."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

broker = AioPikaBroker(
    os.environ["AMQP_URL"],
    exchange=Exchange(name=QUEUE),
    task_queues=[Queue(name=QUEUE)],
    dead_letter_queue=Queue(name=f"{QUEUE}.dead"),
)


@broker.task
async def note_run(number: int) -> int:
    """Note this run."""
    ran(number)
    return number


send = note_run.kiq


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    """Keep the broker's connection open."""
    await broker.startup()
    yield
    await broker.shutdown()
