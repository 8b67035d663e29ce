"""What this worker has claimed, and how far each task is: held, started, handed back, settled.

The ledger says only that the worker holds a task. Whether it was started is known here, under one
lock, so that a task is either run or handed back and never both.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from postlude.ledger import clock
from postlude.policy.claim import Pace, budget, enough

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from postlude.ledger.task import Claimed


class Step(Enum):
    """How far a held task is."""

    HELD = auto()
    STARTED = auto()
    RETURNED = auto()
    SETTLED = auto()


@dataclass(slots=True, eq=False)
class Held:
    """A claimed task in this worker's hands."""

    task: Claimed
    since: float
    step: Step = Step.HELD
    started_at: datetime | None = None
    marked: bool = False


class Holdings:
    """Everything that one worker process holds. All methods may be called by any thread."""

    def __init__(self, threads: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.threads = threads
        self.room = threading.Event()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._pace = Pace()
        self._closed = False
        self._reserved: str | None = None
        self._enough = threads

    def budget(self, queue: str) -> int:
        """Return how many tasks of ``queue`` may be claimed now; clears ``room``, set when it grows."""
        with self._lock:
            self.room.clear()
            if self._closed or self._alone() or self._reserved not in {None, queue}:
                return 0
            rate = self._pace.at(self._monotonic())
            self._enough = enough(threads=self.threads, rate=rate)
            return budget(threads=self.threads, rate=rate, held=len(self._held))

    def reserve(self, queue: str) -> bool:
        """Ask for this worker to be empty, so that a suspect of ``queue`` can run alone.

        Until :meth:`unreserve`, nothing else is claimed. True once it is empty; ask again until then.
        """
        with self._lock:
            if self._reserved is None:
                self._reserved = queue
            return self._reserved == queue and not self._held and not self._closed

    def unreserve(self, queue: str) -> None:
        """Let other tasks be claimed again: the suspect is in hand, or somebody else has it."""
        with self._lock:
            if self._reserved != queue:
                return
            self._reserved = None
        self.room.set()

    def take(self, tasks: Iterable[Claimed]) -> tuple[list[Held], list[Held]]:
        """Note tasks that were just claimed; returns those to run and those to hand back.

        Between the question how much may be claimed and the claim's answer this worker may have
        begun to stop, or have taken a suspect, beside which nothing may run.
        """
        now = self._monotonic()
        kept, refused = [], []
        with self._lock:
            for held in [Held(task, now) for task in tasks]:
                if self._closed or self._alone() or (held.task.suspect and self._held):
                    held.step = Step.RETURNED
                    refused.append(held)
                else:
                    kept.append(held)
                self._held[held.task.token + held.task.id] = held
        return kept, refused

    def start(self, held: Held) -> bool:
        """Note that the actor is about to be entered; False if the task was handed back meanwhile."""
        with self._lock:
            if held.step is not Step.HELD:
                return False
            held.step = Step.STARTED
            held.started_at = clock.now()
            return True

    def settle(self, held: Held) -> bool:
        """Note that the attempt has ended; False if somebody else has settled or returned it."""
        with self._lock:
            if held.step in {Step.SETTLED, Step.RETURNED}:
                return False
            held.step = Step.SETTLED
            return True

    def forget(self, held: Held) -> None:
        """Drop a task whose outcome or hand-back the ledger has confirmed (or refused for good)."""
        with self._lock:
            if self._held.pop(held.task.token + held.task.id, None) and held.step is Step.SETTLED:
                self._pace.finished()
            worth_a_claim = len(self._held) <= self._enough
        if worth_a_claim:
            self.room.set()

    def take_back(self, *, older_than: float = -1.0) -> list[Held]:
        """Return, marked as returned, what was claimed that many seconds ago and is not started."""
        now = self._monotonic()
        with self._lock:
            stale = [
                held
                for held in self._held.values()
                if held.step is Step.HELD and now - held.since > older_than
            ]
            for held in stale:
                held.step = Step.RETURNED
        return stale

    def interrupt(self) -> list[Held]:
        """Return, marked as returned, what is running: its time to finish is up."""
        with self._lock:
            running = [held for held in self._held.values() if held.step is Step.STARTED]
            for held in running:
                held.step = Step.RETURNED
        return running

    def long_running(self) -> list[Held]:
        """Return what has been started and is not marked as such in the ledger; marks it."""
        with self._lock:
            found = [h for h in self._held.values() if h.step is Step.STARTED and not h.marked]
            for held in found:
                held.marked = True
        return found

    def ids(self) -> set[str]:
        """Return the ids of all that is in hand."""
        with self._lock:
            return {held.task.id for held in self._held.values()}

    def close(self) -> bool:
        """Claim nothing any more; False if that was so already."""
        with self._lock:
            before, self._closed = self._closed, True
        return not before

    @property
    def closed(self) -> bool:
        """Say whether this worker has stopped claiming."""
        return self._closed

    def _alone(self) -> bool:
        """Say whether a suspect is in hand: nothing may run beside it."""
        return any(
            held.task.suspect and held.step is not Step.RETURNED for held in self._held.values()
        )
