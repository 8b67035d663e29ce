"""RabbitMQ as broker: it pushes what is ready to the workers; the ledger stays the truth.

A message says only "task so-and-so, generation such-and-such, is queued". A worker claims the task
in the ledger and acknowledges the message once that is committed; from then on both brokers behave
alike. A message that comes late, or twice, finds nothing to claim.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from postlude.broker.rabbitmq.consumer import RabbitConsumer
from postlude.broker.rabbitmq.publisher import Publisher
from postlude.ledger import clock
from postlude.ledger.queries.ready import unpublished
from postlude.ledger.transitions.publish import mark_published

if TYPE_CHECKING:
    from dramatiq import Broker, Consumer

    from postlude.ledger.statement import Tx
    from postlude.process import Process

BATCH = 200


class RabbitDelivery:
    """One process's way to RabbitMQ. Publishing is the relay's alone, so it needs no lock."""

    def __init__(self, owner: Process) -> None:
        self._process = owner
        self._publisher = Publisher(owner.settings)

    def consumer(self, broker: Broker, queue: str, prefetch: int, timeout: int) -> Consumer:
        """Return a consumer of ``queue`` with a connection of its own."""
        del prefetch
        return RabbitConsumer(broker, queue, timeout)

    def publish(self) -> None:
        """Publish what is queued and has no message yet, then note that it has one.

        A crash between the two publishes it again, which does no harm. Raises BrokerAway.
        """
        self._publisher.keep_alive()
        with self._process.ledger.read() as connection:
            waiting = unpublished(connection, BATCH)
        if not waiting:
            return
        self._publisher.publish(waiting)
        self._process.ledger.write(partial(_mark, waiting))

    def close(self) -> None:
        """Close the publisher's connection."""
        self._publisher.close()


def _mark(published: list[tuple[str, str, int]], tx: Tx) -> None:
    now = clock.now()
    for task, _, generation in published:
        mark_published(tx, task, generation=generation, now=now)
