"""What the machine and the bare libraries can do, for comparison; nobody stores or tracks a task here."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pika

from postlude.ledger import sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from pika.adapters.blocking_connection import BlockingChannel

    from benchmarks.bench import Bench
    from benchmarks.stage import Stage

PREFETCH = 500
BODY = b'{"number": 1}'
PIKA = ("limits.publish", "limits.consume")


def measure(bench: Bench) -> None:
    """Measure the bare libraries in this process, in as many rounds as planned."""
    amqp = bench.takes_part(PIKA, "RabbitMQ", quick=False)
    for _ in range(bench.plan.rounds):
        with bench.stage("limits", 1, "RabbitMQ" if amqp else "") as stage:
            _commits(bench, stage)
            if amqp:
                _messages(bench, stage)
    bench.say("limits: done")


def _commits(bench: Bench, stage: Stage) -> None:
    count = bench.plan.tasks // 4
    library = sqlite.library()
    with closing(library.connect(str(stage.folder / "bare.sqlite"))) as connection:
        sqlite.prepare(connection)
        connection.execute("CREATE TABLE tasks (arguments TEXT)")
        insert = "INSERT INTO tasks VALUES (?)"
        rate = _rate(count, lambda: connection.execute(insert, (BODY,)))
    title = "bare SQLite: synced commits of one row each"
    bench.note("limits.commit", rate, title=title, unit="commits/s")


def _messages(bench: Bench, stage: Stage) -> None:
    count = bench.plan.tasks
    parameters = pika.URLParameters(stage.variables["AMQP_URL"])
    with closing(pika.BlockingConnection(parameters)) as connection:
        channel = connection.channel()
        channel.queue_declare(stage.queue, durable=True)
        kept = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
        rate = _rate(count, lambda: channel.basic_publish("", stage.queue, BODY, kept))
        bench.note(PIKA[0], rate, title="bare pika: publish, not confirmed", unit="messages/s")
        rate = _consumed(channel, stage.queue, count)
        bench.note(
            PIKA[1], rate, title=f"bare pika: consume, prefetch {PREFETCH}", unit="messages/s"
        )


def _consumed(channel: BlockingChannel, queue: str, count: int) -> float:
    channel.basic_qos(prefetch_count=PREFETCH)
    began, left = time.perf_counter(), count
    for method, _, _ in channel.consume(queue):
        channel.basic_ack(method.delivery_tag)
        left -= 1
        if not left:
            break
    return count / (time.perf_counter() - began)


def _rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - began)
