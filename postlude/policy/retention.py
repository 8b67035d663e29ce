"""How long finished tasks are kept, and how much room that has become free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlude.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.settings import Retention, Settings


SPARE = 4_096
"""Free pages of 4 KiB that the ledger always keeps for what comes next."""


def excess(pages: int, free: int) -> int:
    """Return how many of a file's ``pages`` are to go, of which ``free`` are unused.

    A quarter of it may be free: a steady load with retention uses those again and again.
    """
    return free - max(SPARE, pages // 4)


def cutoffs(settings: Settings, now: datetime) -> dict[State, datetime]:
    """Return, for each final state whose tasks may be deleted, the time before which they ended.

    A state that is kept for ever is absent; ``failed`` is by default, since a dead letter waits for
    somebody to look at it.
    """
    kept: dict[State, Retention] = {
        State.SUCCEEDED: settings.keep_succeeded,
        State.CANCELLED: settings.keep_cancelled,
        State.FAILED: settings.keep_failed,
    }
    return {state: now - span for state, span in kept.items() if span != "never"}
