"""Where a scenario is played: a broker, its worker, and what can be seen of a task afterwards.

A script that plays scenarios is run as ``python scenes_….py STAGE SCENARIO`` and prints what the
scenario has observed, as JSON. Nothing of ours is imported unless the stage is ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import dramatiq

QUEUE = os.environ.get("HOLE_QUEUE", "holes")
PATIENCE_S = 20


class Stage:
    """One broker, made Dramatiq's default; each play has a process of its own."""

    def __init__(self, broker) -> None:
        self.broker = broker
        broker.emit_after("process_boot")
        dramatiq.set_broker(broker)

    @contextmanager
    def working(self):
        """Run Dramatiq's worker, with one thread, while the block lasts."""
        worker = dramatiq.Worker(self.broker, worker_timeout=50, worker_threads=1)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    def close(self) -> None:
        self.broker.close()


class Stub(Stage):
    """Dramatiq's broker for tests, which has its worker's faults and no connection to lose."""

    def __init__(self) -> None:
        from dramatiq.brokers.stub import StubBroker

        super().__init__(StubBroker(fail_fast_default=False))

    def settle(self) -> None:
        """Return when nothing is left to do in the queue."""
        self.broker.join(QUEUE, timeout=PATIENCE_S * 1000)

    def dead_letters(self) -> int:
        return len(self.broker.dead_letters)


class Rabbit(Stage):
    """Dramatiq's broker for RabbitMQ."""

    def __init__(self) -> None:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        super().__init__(RabbitmqBroker(url=os.environ["AMQP_URL"]))

    def left(self, queue: str = QUEUE) -> list:
        """Take what RabbitMQ would give to a worker now, and return the arguments."""
        found = []
        while (body := self.broker.channel.basic_get(queue, auto_ack=True)[2]) is not None:
            found.append("".join(dramatiq.Message.decode(body).args))
        return found

    def arguments(self) -> dict:
        return self.broker._build_queue_arguments(QUEUE)

    def dead_letters(self) -> int:
        return self.broker.get_queue_message_counts(QUEUE)[2]

    def connections(self) -> int:
        return sum(connection.is_open for connection in self.broker.connections)

    def grow_old(self) -> None:
        """Let a dead letter's time pass: ``dramatiq_dead_message_ttl``."""
        until(lambda: not self.dead_letters(), or_after_s=3)

    def close(self) -> None:
        for queue in (QUEUE, f"{QUEUE}.DQ", f"{QUEUE}.XQ"):
            self.broker.channel.queue_delete(queue)
        super().close()


class Ours(Stage):
    """Our broker, over a ledger in an empty folder."""

    def __init__(self) -> None:
        from postlude.broker import broker
        from postlude.ledger import migrate
        from postlude.settings import load

        migrate.upgrade(load())
        super().__init__(broker())

    def settle(self) -> None:
        self.broker.join(QUEUE, timeout=PATIENCE_S * 1000)

    def count(self, where: str) -> int:
        from sqlalchemy import text

        from postlude import process

        with process.current().ledger.read() as connection:
            return connection.execute(
                text(f"SELECT count(*) FROM postlude_tasks WHERE {where}")
            ).scalar_one()

    def dead_letters(self) -> int:
        return self.count("state = 'failed'")

    def connections(self) -> int:
        """Count the handles that this process has on the ledger's files, where the kernel tells."""
        open_files = 0
        for file in Path("/proc/self/fd").glob("*"):
            with suppress(FileNotFoundError):
                open_files += "postlude.db" in str(file.readlink())
        return open_files

    def grow_old(self) -> None:
        """Do what a year of hourly maintenance would do."""
        from datetime import timedelta
        from functools import partial

        from postlude import process
        from postlude.ledger import clock
        from postlude.ledger.transitions.retain import delete_finished
        from postlude.policy.retention import cutoffs

        later = clock.now() + timedelta(days=365)
        owner = process.current()
        for state, before in cutoffs(owner.settings, later).items():
            owner.ledger.write(
                partial(delete_finished, state=state, before=before, limit=99, now=later)
            )


STAGES = {"stub": Stub, "rabbitmq": Rabbit, "ours": Ours}


def until(condition, or_after_s: float = 0.0):
    """Return what ``condition`` returns once that is true; give up after a while, or fail."""
    deadline = time.monotonic() + (or_after_s or PATIENCE_S)
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found or or_after_s, "it did not come to pass"
    return found


def play(scenarios) -> None:
    """Play what the command line asks for."""
    _, name, scenario = sys.argv
    stage = STAGES[name]()
    try:
        observed = scenarios[scenario](stage)
    finally:
        stage.close()
    print(json.dumps(observed))  # noqa: T201 - the result
