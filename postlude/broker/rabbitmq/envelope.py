"""What travels through RabbitMQ, and the queues that it travels in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingChannel

CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to claim one task in one generation."""

    task: str
    generation: int

    def encode(self) -> bytes:
        """Return the body of its message."""
        return json.dumps({"task": self.task, "generation": self.generation}).encode()

    @classmethod
    def decode(cls, body: bytes) -> Ticket | None:
        """Read a message's body; None for one that is not ours."""
        try:
            document = json.loads(body)
            return cls(str(document["task"]), int(document["generation"]))
        except (ValueError, TypeError, KeyError):
            return None


def queue_name(queue: str) -> str:
    """Return RabbitMQ's name of ``queue``; the prefix keeps it apart from stock Dramatiq's."""
    return f"postlude.{queue}"


def declare(channel: BlockingChannel, queue: str) -> None:
    """Declare a durable quorum queue; crashes are counted in the ledger, so it has no limit."""
    channel.queue_declare(queue_name(queue), durable=True, arguments={"x-queue-type": "quorum"})
