"""What a cache does, wherever it is kept: five operations on an entry, each one atomic step.

At most one task loads a key at a time: it holds a lease, taken under the task's id. Instants come
from the caller, never from where the cache is kept: they are compared with one another and with
what is in the ledger, which is only true of one clock. They are stored as whole microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache has under one key. ``as_of`` None: nothing yet, and ``value`` means nothing."""

    value: Any = None
    as_of: datetime | None = None
    loading: bool = False
    error: str | None = None
    failed_at: datetime | None = None
    asked_at: datetime | None = None

    def age(self, now: datetime) -> timedelta | None:
        """Return how old the value is, None if there is none."""
        return None if self.as_of is None else max(timedelta(0), now - self.as_of)

    def may_ask(self, now: datetime, pause: timedelta) -> bool:
        """Say whether :meth:`Cache.ask` is worth the write."""
        return self.asked_at is None or not now - pause <= self.asked_at <= now


class Verdict(StrEnum):
    """What a task that wants to load finds."""

    LOAD = "load"
    """The lease is its own."""
    UNDER_WAY = "under way"
    """Another task is loading; if that began too early for us, it sees to a further one."""
    FRESH = "fresh"
    """The value is as new as it was asked for."""


class Cache(Protocol):
    """Keeps entries under keys. Any thread may call any of this, in any number of processes at once.

    Each method may be called again when it is not known whether it took effect. Raises
    CacheUnavailable, or LedgerError where the ledger is the cache.
    """

    def get(self, key: str, now: datetime) -> Entry:
        """Return what there is under ``key``, an empty entry if nothing."""

    def take(
        self, key: str, *, task: str, wanted: datetime | None, now: datetime, lease: timedelta
    ) -> Verdict:
        """Take the lease for ``task`` unless another has it, or the value is as of ``wanted`` already.

        While another has it and began before ``wanted``, that is noted for it. Without ``wanted``,
        what another is loading will do. Instants that are further ahead than a lease can be are
        those of a clock that was set back since; they hold nobody up.
        """

    def keep(self, key: str, value: str, *, task: str, since: datetime) -> datetime | None:
        """Store what ``task`` has loaded, as JSON, and end the lease that it took at ``since``.

        Does nothing if that has run out and was taken since, be it by another run of the same task.
        Returns the instant that somebody wants the value to be as of by now, if it is not.
        """

    def fail(self, key: str, error: str, *, task: str, since: datetime, now: datetime) -> None:
        """Keep the old value, note why there is no new one, and end the lease as ``keep`` does."""

    def ask(self, key: str, *, now: datetime, pause: timedelta) -> bool:
        """Say whether a reader is to ask for a refresh: True once in ``pause``.

        An answer that is lost on its way counts: then nobody asks before ``pause`` is over.
        """
