"""Takes tickets from RabbitMQ, claims their tasks in the ledger, then acknowledges them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uuid_utils
from dramatiq.errors import ConnectionClosed

from postlude.broker.ledger import LedgerConsumer
from postlude.broker.rabbitmq.connection import connect, translated
from postlude.broker.rabbitmq.envelope import Ticket, declare, queue_name
from postlude.errors import BrokerAway
from postlude.ledger import clock
from postlude.ledger.transitions.claim import claim_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dramatiq import Broker
    from dramatiq.broker import MessageProxy

    from postlude.broker.delivery import Delivery
    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed

log = structlog.get_logger()

LOOK_S = 0.5
"""How long to wait for a ticket before looking after room, suspects and the end of this worker."""


class RabbitConsumer(LedgerConsumer):
    """A consumer whose news come from RabbitMQ. Its connection is used by its own thread alone.

    Tickets that this worker has no room for go back to the queue: a ticket kept for later would
    neither be worked on elsewhere nor, after ``consumer_timeout``, be kept at all.
    """

    def __init__(self, broker: Broker, queue: str, timeout: int) -> None:
        super().__init__(broker, queue, timeout)
        try:
            with translated():
                self._connection = connect(self._desk.process.settings)
                self._channel = self._connection.channel()
                declare(self._channel, queue)
        except BrokerAway as error:
            self.close()
            raise ConnectionClosed(error) from error

    def __next__(self) -> MessageProxy | None:
        """Return the next task, or None; raises ConnectionClosed when RabbitMQ or the ledger is away."""
        try:
            with translated():
                return super().__next__()
        except BrokerAway as error:
            raise ConnectionClosed(error) from error

    def close(self) -> None:
        """Close the connection; tickets that were not acknowledged go back to the queue."""
        super().close()
        connection = getattr(self, "_connection", None)
        if connection is not None and connection.is_open:
            with translated():
                connection.close()

    def _wait(self, limit_s: float) -> bool:
        """Wait for room; news are waited for at RabbitMQ. False when there was no room in time.

        While this worker is kept free for a task that has to run alone, nobody has waited at RabbitMQ.
        """
        if self._kept_free_since is None and self._desk.holdings.budget(self._queue):
            return True
        self._channel.cancel()  # what it has no room for is not kept from others
        self._connection.process_data_events(0)
        return self._desk.holdings.room.wait(min(limit_s, LOOK_S))

    def _claim_ready(self, limit: int) -> list[Delivery]:
        tickets = self._tickets(limit)
        if not tickets:
            return []
        claimed = self._desk.claim(
            self._broker,
            partial(
                _claim_all,
                [ticket for _, ticket in tickets if ticket],
                owner=self._desk.incarnation,
                token=str(uuid_utils.uuid7()),
            ),
        )
        for tag, _ in tickets:
            if claimed is None:
                self._channel.basic_nack(tag)
            else:
                self._channel.basic_ack(tag)
        return claimed or []

    def _tickets(self, limit: int) -> list[tuple[int, Ticket | None]]:
        """Return up to ``limit`` tickets with their delivery tags: the first is waited for.

        RabbitMQ is never asked for more than there is room for, so what is pushed is claimed.
        """
        found: list[tuple[int, Ticket | None]] = []
        name = queue_name(self._queue)
        self._channel.basic_qos(prefetch_count=limit)
        patience = min(LOOK_S, self._timeout_s)
        for method, _, body in self._channel.consume(name, inactivity_timeout=patience):
            if method is None:
                break
            ticket = Ticket.decode(body or b"")
            if ticket is None:
                log.error("rabbitmq.undecodable", queue=name, body=repr(body)[:200])
            found.append((method.delivery_tag, ticket))
            if len(found) == limit or not self._channel.get_waiting_message_count():
                break
        if found:  # while none came, the consumer stays: what arrives now keeps its place
            self._channel.cancel()
        return found


def _claim_all(tickets: Sequence[Ticket], tx: Tx, *, owner: str, token: str) -> list[Claimed]:
    now = clock.now()
    claims: Any = (
        claim_message(
            tx,
            task=ticket.task,
            generation=ticket.generation,
            owner=owner,
            token=token,
            now=now,
        )
        for ticket in tickets
    )
    return [claimed for claimed in claims if claimed]
