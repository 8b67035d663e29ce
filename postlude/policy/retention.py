"""How long finished tasks are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postlude.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.settings import Retention, Settings


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
