"""The middleware that every task passes through, in order, with the reason for its place.

``before`` hooks run from first to last, ``after`` hooks from last to first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.results import Results

from postlude.middleware.age_limit import AgeLimit
from postlude.middleware.callbacks import Callbacks
from postlude.middleware.current_message import CurrentMessage
from postlude.middleware.event_loop import EventLoop
from postlude.middleware.group_callbacks import GroupCallbacks
from postlude.middleware.interrupts import Interrupts
from postlude.middleware.log_capture import LogCapture
from postlude.middleware.pipelines import Pipelines
from postlude.middleware.results import LedgerResults
from postlude.middleware.retries import Retries
from postlude.middleware.shutdown import Shutdown
from postlude.middleware.time_limit import TimeLimit
from postlude.middleware.tracking import Tracking
from postlude.middleware.worker import WorkerLife

if TYPE_CHECKING:
    from dramatiq.middleware import Middleware


def default_middleware(interrupts: Interrupts) -> list[Middleware]:
    """Return the list for a new broker, which shares ``interrupts`` with it."""
    return [
        # Opens the ledger before any other hook of a booting worker needs it, closes it last.
        WorkerLife(),
        # First in: a task that was handed back meanwhile stops here. Last out: by then everybody has
        # decided, so what it notes is the outcome.
        Tracking(),
        # Right inside of tracking: what other hooks log about the attempt belongs to it, too.
        LogCapture(),
        # Before the limits start to count: too old is too old.
        AgeLimit(),
        # Decides over a failure after callbacks and results have seen it, before tracking notes it.
        Retries(),
        Callbacks(),
        # Sees the result after Results, whose text it can share. Who waits is released by the outcome.
        Pipelines(),
        # Only for group.run, which looks for it by its class; no hook of it does anything.
        GroupCallbacks(),
        Results(backend=LedgerResults(), store_results=True),
        # The loop for async actors; runs per process, so its place does not matter.
        EventLoop(),
        CurrentMessage(),
        # Innermost: an interrupt may only strike while the actor itself runs.
        Shutdown(interrupts),
        TimeLimit(interrupts),
    ]
