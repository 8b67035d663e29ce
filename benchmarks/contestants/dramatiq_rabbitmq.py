"""Dramatiq as it comes, on RabbitMQ: nothing tracked, no results, publishing not confirmed."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran

dramatiq.set_broker(RabbitmqBroker(url=os.environ["AMQP_URL"]))


@dramatiq.actor(queue_name=QUEUE)
def note_run(number: int) -> None:
    """Note this run. Returns nothing: Dramatiq would log a warning for each result that it drops."""
    ran(number)


send = note_run.send
