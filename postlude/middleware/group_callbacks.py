"""Completion callbacks of groups: rows that wait in the ledger, where Dramatiq counts in Redis."""

from __future__ import annotations

from dramatiq.middleware import GroupCallbacks as DramatiqGroupCallbacks
from dramatiq.middleware import Middleware
from dramatiq.rate_limits import RateLimiterBackend

from postlude.broker import groups


class GroupCallbacks(DramatiqGroupCallbacks):
    """Lets ``group.run`` find what it looks for: it makes a barrier here, then enqueues the members."""

    def __init__(self) -> None:
        super().__init__(_Barriers())

    after_process_message = Middleware.after_process_message
    """Nothing to do: the outcome of a group's last task releases the callbacks."""


class _Barriers(RateLimiterBackend):
    """Takes a new barrier as the news that a group is about to be enqueued; keeps nothing."""

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Expect the ``value`` members of the group ``key`` from this thread."""
        del ttl
        groups.begin(key, value)
        return True
