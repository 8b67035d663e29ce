"""A task as the ledger takes it in and hands it out to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from postlude.ledger.clock import to_micros
from postlude.ledger.key import UniqueKey


@dataclass(slots=True)  # neither is frozen: that costs a call for every field, 3 µs a task
class NewTask:
    """A task that was checked and encoded but is not stored yet. Never changed once it is made.

    ``arguments`` is a JSON object of named arguments, ``options`` one of Dramatiq's message options.
    ``run_at`` None means as soon as possible. ``id`` makes storing it replayable: the second time
    nothing happens. While another task has its ``unique`` key it is stored as a duplicate of that one.

    ``waits_for`` is the id of the task or group whose end releases it, and ``pipe_into`` the parameter
    that then takes the task's result. ``followed`` says that somebody waits for this one in turn: a
    step, or its group ``group_id``.
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
    unique: UniqueKey | None = None
    waits_for: str | None = None
    followed: bool = False
    group_id: str | None = None
    pipe_into: str | None = None

    def columns(self) -> list[str | int | None]:
        """Return what describes the task, in the order in which the ledger is told of it."""
        return [
            self.id,
            self.actor,
            self.queue,
            self.arguments,
            self.options,
            self.priority,
            to_micros(self.run_at),
            to_micros(self.created_at),
            self.correlation_id,
            self.waits_for,
            int(self.followed),
            self.group_id,
            self.pipe_into,
        ]


@dataclass(slots=True)
class Claimed:
    """A task in a worker's hands: what it needs to run it and to prove that it still holds it.

    Never changed once it is made. ``created_at`` is when it was added, or when somebody last asked for
    it to be tried again. ``suspect`` is a Suspicion, ``crashes`` the deaths on its account.
    """

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
    suspect: int
    created_at: datetime
    claimed_at: datetime
    crashes: int = 0
    followed: bool = False
