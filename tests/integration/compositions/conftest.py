"""What these tests share: a ledger of this process, in which the test itself is the worker."""

from __future__ import annotations

import dramatiq
import pytest

from postlude import process
from postlude.broker import broker
from postlude.broker.desk import open_desk
from postlude.ledger import migrate
from postlude.ledger.queries import tasks as queries
from postlude.settings import load, settings

QUEUE = "compositions"


@pytest.fixture
def site(monkeypatch, tmp_path):
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("POSTLUDE_BROKER_URL", "")
    process.close()
    settings.cache_clear()
    migrate.upgrade(load())
    kind, queues = process._kind, process._queues
    yield Site(process.open_as("worker", [QUEUE]))
    process.close()
    monkeypatch.setattr(process, "_kind", kind)
    monkeypatch.setattr(process, "_queues", queues)
    settings.cache_clear()


class Site:
    """This process's ledger; the test is the worker, with all the middleware that a worker has."""

    def __init__(self, owner) -> None:
        self.owner = owner
        open_desk(1)
        self.consumer = broker().consume(QUEUE, timeout=100)

    def work(self) -> list[str]:
        """Run what is queued and what becomes so; returns the names of the actors in order."""
        ran = []
        while (delivery := next(self.consumer)) is not None:
            ran.append(delivery.actor_name.removeprefix("compositions-"))
            self.run(delivery)
            self.consumer.ack(delivery)
            self.settle()
        self.settle()  # what was refused when it was claimed
        return ran

    @staticmethod
    def run(delivery) -> None:
        """Run one task as Dramatiq's worker threads do."""
        ours = broker()
        try:
            ours.emit_before("process_message", delivery)
            result = ours.get_actor(delivery.actor_name).fn(*delivery.args, **delivery.kwargs)
        except dramatiq.middleware.SkipMessage:
            ours.emit_after("skip_message", delivery)
        except Exception as error:  # noqa: BLE001 - as a worker does
            ours.emit_after("process_message", delivery, exception=error)
        else:
            ours.emit_after("process_message", delivery, result=result)

    def settle(self) -> None:
        """Return when everything that was written so far is stored."""
        self.owner.ledger.submit(lambda _tx: None, patient=True).result(10)

    def views(self) -> list[queries.TaskView]:
        with self.owner.ledger.read() as connection:
            return queries.page(connection)[0][::-1]

    def view(self, message) -> queries.TaskView:
        with self.owner.ledger.read() as connection:
            return queries.get(connection, message.message_id)

    def states(self) -> list[str]:
        return [str(view.state) for view in self.views()]

    def last_attempt(self, message):
        with self.owner.ledger.read() as connection:
            return queries.attempts(connection, message.message_id)[-1]
