"""Publishes tickets and waits until RabbitMQ has confirmed each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pika
from pika import DeliveryMode

from postlude.broker.rabbitmq.connection import connect, translated
from postlude.broker.rabbitmq.envelope import CONTENT_TYPE, Ticket, declare, queue_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pika.adapters.blocking_connection import BlockingChannel

    from postlude.settings import Settings


class Publisher:
    """One connection, used by one thread. Raises BrokerAway, after which it connects anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._declared: set[str] = set()

    def publish(self, tasks: Sequence[tuple[str, str, int]]) -> None:
        """Publish (id, queue, generation) of each task; on return all are confirmed."""
        try:
            with translated():
                channel = self._open()
                for task, queue, generation in tasks:
                    self._declare(channel, queue)
                    channel.basic_publish(
                        exchange="",
                        routing_key=queue_name(queue),
                        body=Ticket(task, generation).encode(),
                        properties=pika.BasicProperties(
                            delivery_mode=DeliveryMode.Persistent,
                            content_type=CONTENT_TYPE,
                            message_id=task,
                        ),
                        mandatory=True,
                    )
        except BaseException:
            self.close()
            raise

    def keep_alive(self) -> None:
        """Answer RabbitMQ's heartbeats; to be called every few seconds while nothing is published."""
        if self._connection is None:
            return
        try:
            with translated():
                self._connection.process_data_events(0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self._connection, self._channel = self._connection, None, None
        self._declared.clear()
        if connection is not None and connection.is_open:
            with translated():
                connection.close()

    def _open(self) -> BlockingChannel:
        if self._channel is None:
            self._connection = connect(self._settings)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel

    def _declare(self, channel: BlockingChannel, queue: str) -> None:
        if queue not in self._declared:
            declare(channel, queue)
            self._declared.add(queue)
