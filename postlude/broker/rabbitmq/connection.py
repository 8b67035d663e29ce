"""Connections to RabbitMQ, with the time-outs that pika leaves open."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pika
from pika.exceptions import AMQPError

from postlude.errors import BrokerAway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postlude.settings import Settings

BLOCKED_S = 20
"""How long a publish may hang while RabbitMQ has a memory or disk alarm; pika's default: for ever."""


def connect(settings: Settings) -> pika.BlockingConnection:
    """Open a connection; raises BrokerAway when RabbitMQ does not answer within a few seconds.

    RabbitMQ takes the tickets of a frozen worker back after two silent heartbeats; the lease is how
    long silence is borne everywhere else.
    """
    parameters = pika.URLParameters(settings.broker_url)
    parameters.heartbeat = max(2, round(settings.lease.total_seconds()))
    parameters.blocked_connection_timeout = BLOCKED_S
    parameters.socket_timeout = 3
    parameters.stack_timeout = 5
    with translated():
        return pika.BlockingConnection(parameters)


@contextmanager
def translated() -> Iterator[None]:
    """Turn pika's errors, and the socket's, into BrokerAway."""
    try:
        yield
    except (AMQPError, OSError) as error:
        message = f"RabbitMQ does not answer: {error or type(error).__name__}"
        raise BrokerAway(message) from error
