"""Celery on RabbitMQ, without a result backend."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran

app = Celery("bench", broker=os.environ["AMQP_URL"])
app.conf.task_default_queue = QUEUE
app.conf.worker_enable_remote_control = False  # its queues would outlive this run


@app.task
def note_run(number: int) -> int:
    """Note this run."""
    ran(number)
    return number


send = note_run.delay
