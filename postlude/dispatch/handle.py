"""What ``add_task`` gives back for a durable task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskHandle:
    """Names a task that this request has added.

    ``id`` is final from the first moment, so it may go into the response; the ledger knows it once
    the response has started, and only if the request did not fail.
    """

    id: str
    actor: str
    queue: str
