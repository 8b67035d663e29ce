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
from postlude.policy.crash import Suspicion
from postlude.worker.board import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from datetime import datetime

    from postlude.ledger.task import Claimed


ALONE = int(Suspicion.ALONE)
"""From this degree of suspicion on, nothing may run beside a task."""


class Step(Enum):
    """How far a held task is."""

    HELD = auto()
    STARTED = auto()
    OVERRULED = auto()
    """Settled by somebody else, while a thread is still at it and not free for another."""
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
    kill: Callable[[], None] | None = None
    """Ends the child process that it runs in, if it runs in one."""


class Holdings:
    """Everything that one worker process holds. All methods may be called by any thread."""

    def __init__(
        self,
        threads: int,
        monotonic: Callable[[], float] = time.monotonic,
        board: Board | None = None,
    ) -> None:
        self.threads = threads
        self.board = board or Board()
        self.room = threading.Event()
        self.finished = 0
        self.most = 0
        """How many tasks may be finished here before nothing more is claimed; 0: any number."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._pace = Pace()
        self._closed = False
        self._suspended = False
        self._reserved: str | None = None
        self._enough = threads

    def budget(self, queue: str) -> int:
        """Return how many tasks of ``queue`` may be claimed now; clears ``room``, set when it grows."""
        with self._lock:
            self.room.clear()
            if self.refuses or self._alone() or self._reserved not in {None, queue}:
                return 0
            if self.most and self.finished >= self.most:
                return 0
            rate = self._pace.at(self._monotonic())
            self._enough = enough(threads=self.threads, rate=rate)
            return budget(threads=self.threads, rate=rate, held=len(self._held))

    def reserve(self, queue: str) -> bool:
        """Ask for this worker to be empty, so that a task of ``queue`` can run with nothing beside it.

        Until :meth:`unreserve`, nothing else is claimed. True once it is empty; ask again until then.
        """
        with self._lock:
            if self._reserved is None:
                self._reserved = queue
            return self._reserved == queue and not self._held and not self._closed

    def unreserve(self, queue: str) -> None:
        """Let other tasks be claimed again: that task is in hand, or somebody else has it."""
        with self._lock:
            if self._reserved != queue:
                return
            self._reserved = None
        self.room.set()

    def take(self, tasks: Iterable[Claimed]) -> tuple[list[Held], list[Held]]:
        """Note tasks that were just claimed; returns those to run and those to hand back.

        Between the question how much may be claimed and the claim's answer this worker may have
        begun to stop, or have taken a task beside which nothing may run.
        """
        now = self._monotonic()
        kept, refused = [], []
        with self._lock:
            closed = self.refuses or self._alone()
            for held in [Held(task, now) for task in tasks]:
                alone = held.task.suspect >= ALONE
                if closed or (alone and self._held):
                    held.step = Step.RETURNED
                    refused.append(held)
                else:
                    kept.append(held)
                    closed = alone
                self._held[held.task.token + held.task.id] = held
        return kept, refused

    def start(self, held: Held) -> bool:
        """Note that the actor is about to be entered; False if the task was handed back meanwhile.

        From now on the death of this process makes a suspect of the task.
        """
        self.board.enter(held.task.seq)
        with self._lock:
            if held.step is not Step.HELD:
                return False
            held.step = Step.STARTED
            held.started_at = clock.now()
            return True

    def settle(self, held: Held) -> bool:
        """Note that the attempt has ended; False if somebody else has settled or returned it."""
        with self._lock:
            before = held.step
            if before in {Step.SETTLED, Step.RETURNED}:
                return False
            held.step = Step.SETTLED
        if before is Step.OVERRULED:
            self.forget(held)
        return before is not Step.OVERRULED

    def overrule(self, held: Held) -> bool:
        """Note that somebody settles the task in place of its thread; False if that is too late.

        If the thread is at it, its place stays taken until it comes to :meth:`settle`.
        """
        with self._lock:
            if held.step not in {Step.HELD, Step.STARTED}:
                return False
            held.step = Step.OVERRULED if held.step is Step.STARTED else Step.SETTLED
            return True

    def forget(self, *confirmed: Held) -> None:
        """Drop tasks whose outcome or hand-back the ledger has confirmed (or refused for good)."""
        with self._lock:
            for held in confirmed:
                if held.step is Step.OVERRULED:
                    continue
                if self._held.pop(held.task.token + held.task.id, None) and (
                    held.step is Step.SETTLED
                ):
                    self._pace.finished()
                    self.finished += 1
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

    def named(self, ids: Collection[str]) -> list[Held]:
        """Return what is in hand under these task ids and neither settled nor returned."""
        if not ids:
            return []
        with self._lock:
            return [
                held
                for held in self._held.values()
                if held.task.id in ids and held.step in {Step.HELD, Step.STARTED}
            ]

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

    def suspend(self) -> None:
        """Claim nothing until :meth:`resume`: what was done before cannot be stored."""
        with self._lock:
            self._suspended = True

    def resume(self) -> None:
        """Claim again, unless this worker is leaving."""
        with self._lock:
            self._suspended = False
        self.room.set()

    @property
    def closed(self) -> bool:
        """Say whether this worker has stopped claiming."""
        return self._closed

    @property
    def refuses(self) -> bool:
        """Say whether this worker claims nothing, for now or for good."""
        return self._closed or self._suspended

    def _alone(self) -> bool:
        """Say whether a task is in hand beside which nothing may run."""
        return any(
            held.task.suspect >= ALONE and held.step is not Step.RETURNED
            for held in self._held.values()
        )
