"""What to do with a task that a worker has claimed and its code cannot run: wait for another, or fail.

During a deploy two versions of the code take from the same queues: one knows an actor, or a parameter
of it, that the other does not.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

FIRST = timedelta(seconds=1)
LONGEST = timedelta(minutes=1)


def delay(refusals: int) -> timedelta:
    """Return how long to wait after the task has been refused so often: 1 s, 2 s, 4 s … ``LONGEST``."""
    doublings = min(max(refusals - 1, 0), 10)
    return min(FIRST * (1 << doublings), LONGEST)


def may_fit(*, own: str, live: AbstractSet[str], refused: AbstractSet[str]) -> bool:
    """Say whether arguments that do not fit our ``own`` version of the actor may fit another.

    ``live`` are the versions of the workers there are, ``refused`` those that have said no already.
    """
    return bool(live - refused - {own})


def may_come(
    *, now: datetime, refused_since: datetime, known_until: datetime | None, grace: timedelta
) -> bool:
    """Say whether to wait for a worker that knows the actor: one was there until a short while ago.

    ``refused_since``: when the task was handed back for the first time; ``known_until``: when there
    last was such a worker, ``now`` if there is one.
    """
    last = max(refused_since, known_until or refused_since)
    return known_until == now or now - last < grace
