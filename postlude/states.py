"""The states of a task, the reasons for ``failed`` and ``cancelled``, and which move may follow which.

This table is the specification: every function in :mod:`postlude.ledger.transitions` makes one of
these moves, guarded by state and by generation or token, and a test holds the two against each other.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a task is."""

    ACCEPTED = "accepted"
    """Stored durably; waits for the response that promised it to go out."""
    WAITING = "waiting"
    """A later step of a pipeline, or a callback of a group; waits for the step or group before it."""
    SCHEDULED = "scheduled"
    """Waits for its ``run_at``: a delay or the back-off before a retry."""
    QUEUED = "queued"
    """May be claimed by any worker that knows its actor."""
    RUNNING = "running"
    """Held by one worker under a token; ``started_at`` tells whether the actor was entered."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why a task ended in ``failed`` or ``cancelled``."""

    RETRIES_EXHAUSTED = "retries-exhausted"
    EXPIRED = "expired"
    CRASH_LOOP = "crash-loop"
    TIME_LIMIT = "time-limit"
    UNKNOWN_ACTOR = "unknown-actor"
    BAD_ARGUMENTS = "bad-arguments"
    UPSTREAM_FAILED = "upstream-failed"
    """The step before it in its pipeline failed or was cancelled."""
    UPSTREAM_SKIPPED = "upstream-skipped"
    """A middleware skipped the step before it, which therefore has no result to pass on."""
    UNDECODABLE = "undecodable"
    REQUEST_FAILED = "request-failed"
    """The request that had added it ended before its response started."""
    BY_REQUEST = "by-request"
    """Somebody asked for it."""
    DUPLICATE = "duplicate"
    """Another task had its unique key when it was added; ``duplicate_of`` names that one."""


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
"""A task in one of these is never changed or run again, unless somebody asks for a retry."""

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.QUEUED, State.SCHEDULED, State.CANCELLED}),
    State.WAITING: frozenset({State.QUEUED, State.SCHEDULED, State.FAILED, State.CANCELLED}),
    State.SCHEDULED: frozenset({State.QUEUED, State.RUNNING, State.CANCELLED, State.FAILED}),
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED, State.FAILED}),
    State.RUNNING: frozenset(
        {State.QUEUED, State.SCHEDULED, State.SUCCEEDED, State.FAILED, State.CANCELLED}
    ),
    State.FAILED: frozenset({State.QUEUED, State.SCHEDULED}),
    State.CANCELLED: frozenset({State.QUEUED, State.SCHEDULED, State.WAITING}),
    State.SUCCEEDED: frozenset(),
}
