"""What ``add_task`` gives back for a durable task."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from postlude.states import State


@dataclass(frozen=True, slots=True)
class TaskHandle:
    """Names a task: one that this request has added, or ``TaskHandle(id)`` for any that you know.

    ``id`` is final from the first moment, so it may go into the response; the ledger knows it once
    the response has started, and only if the request did not fail.
    """

    id: str
    actor: str = ""
    queue: str = ""

    def state(self) -> State:
        """Return where the task is now; reads the ledger. Raises UnknownTask."""
        state: State = import_module("postlude.results").state_of(self.id)
        return state

    def get_result(self, *, block: bool = False, timeout: int | None = None) -> Any:
        """Return what the actor returned, waiting up to ``timeout`` ms if ``block`` says so.

        Raises Dramatiq's ResultMissing while the task has not ended, ResultTimeout, or ResultFailure
        when it failed or was cancelled.
        """
        return import_module("postlude.results").wait_for(self.id, block=block, timeout=timeout)
