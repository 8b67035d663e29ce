"""A task as the ledger takes it in and hands it out to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postlude.ledger.clock import to_micros

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task that was checked and encoded but is not stored yet.

    ``arguments`` is a JSON object of named arguments, ``options`` one of Dramatiq's message options.
    ``run_at`` None means as soon as possible. ``id`` makes storing it replayable: the second time
    nothing happens.
    """

    id: str
    actor: str
    queue: str
    arguments: str
    options: str
    priority: int
    run_at: datetime | None
    created_at: datetime
    correlation_id: str | None = None

    def columns(self) -> dict[str, str | int | None]:
        """Return the columns that describe the task, as the ledger stores them."""
        return {
            "id": self.id,
            "actor": self.actor,
            "queue": self.queue,
            "arguments": self.arguments,
            "options": self.options,
            "priority": self.priority,
            "run_at": to_micros(self.run_at),
            "created_at": to_micros(self.created_at),
            "correlation_id": self.correlation_id,
        }


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task in a worker's hands: what it needs to run it and to prove that it still holds it."""

    seq: int
    id: str
    actor: str
    queue: str
    arguments: str
    options: str
    priority: int
    generation: int
    token: str
    attempt: int
    retries: int
    suspect: bool
    created_at: datetime
    claimed_at: datetime
