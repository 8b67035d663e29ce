"""Keys that one at a time may have: those of tasks that are unique, those of requests that are repeated.

A key is a row with its own end. ``scope`` is what it is unique among: an actor's tasks, or the
requests of one caller to one address.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Hold(StrEnum):
    """How long a task has its unique key. A task that is cancelled lets go of it at once."""

    UNFINISHED = "unfinished"
    """Until it has ended, one way or another."""
    QUEUED = "queued"
    """Until a worker first takes it."""
    PERIOD = "period"
    """For a span of time, beginning when it was added, whether it has ended or not."""


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """What a task wants to be the only one with. ``expires_at`` belongs to a period, and only there."""

    scope: str
    key: str
    held: Hold
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request with an Idempotency-Key is answered, to be stored together with its tasks.

    ``fingerprint`` tells a repetition from another request under the same key. ``text`` is the
    answer, in a form that the ledger does not look into.
    """

    scope: str
    key: str
    fingerprint: str
    text: str
    answered_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that was given before, as it is read back."""

    fingerprint: str
    text: str
