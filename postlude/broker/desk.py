"""The worker's desk: claims come in, outcomes go out, and nothing lies about for long.

One a worker process, shared by the consumers of all queues whatever brings the tasks. It is told by
the middleware when the worker boots and stops.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude import process
from postlude.broker.delivery import Delivery, cut_short, message_of, refused
from postlude.broker.intake import find_actor, signature
from postlude.errors import LedgerError, PostludeError, UnknownActor
from postlude.ledger.queries.tasks import held_by
from postlude.ledger.transitions.hand_back import forgotten, hand_back
from postlude.ledger.transitions.mark import mark_progress, mark_started
from postlude.ledger.transitions.outcome import Outcome, finish
from postlude.states import Reason
from postlude.worker.holdings import Holdings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from dramatiq import Broker

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed
    from postlude.process import Process
    from postlude.worker.holdings import Held

log = structlog.get_logger()

DEFAULT_THREADS = 8


class Desk:
    """What one worker process holds, and the ways in which it settles it."""

    def __init__(self, owner: Process, threads: int) -> None:
        self.process = owner
        self.incarnation = owner.incarnation.id
        self.holdings = Holdings(threads)
        self._missed: set[str] = set()
        self._lock = threading.Lock()
        self._claims_under_way = 0

    def claim(self, broker: Broker, claim: Callable[[Tx], list[Claimed]]) -> list[Delivery]:
        """Claim tasks and make them ready for their actors; waits for the commit.

        Raises LedgerError: what was claimed all the same is given back by the audit.
        """
        with self._lock:
            self._claims_under_way += 1
        try:
            return self.receive(broker, self.process.ledger.write(claim))
        finally:
            with self._lock:
                self._claims_under_way -= 1

    def receive(self, broker: Broker, tasks: Iterable[Claimed]) -> list[Delivery]:
        """Note claimed tasks and make them ready for their actors; what does not fit fails here."""
        deliveries: list[Delivery] = []
        kept, refused = self.holdings.take(tasks)
        self.give_back(refused)
        for held in kept:
            try:
                actor = find_actor(broker, held.task.actor)
                args, kwargs = signature(actor).decode(held.task.arguments)
                message = message_of(held.task, args, kwargs)
            except UnknownActor as error:
                self._refuse(held, error, Reason.UNKNOWN_ACTOR)
            except PostludeError as error:
                self._refuse(held, error, Reason.BAD_ARGUMENTS)
            else:
                deliveries.append(Delivery(message, held, self.holdings))
        return deliveries

    def settle(self, delivery: Delivery) -> None:
        """Store what became of a task. Does not wait: the writer keeps it until it is stored."""
        if self.holdings.settle(delivery.held):
            self._store(delivery.held, delivery.outcome())

    def give_back(self, held: Iterable[Held]) -> None:
        """Queue tasks again that were not started, without counting an attempt."""
        for item in held:
            log.debug("task.handed_back", task_id=item.task.id)
            stored = self._submit(partial(hand_back, task=item.task))
            if stored:
                stored.add_done_callback(partial(self._handed_back, item))

    def cut_short(self) -> list[str]:
        """Queue what is running again: this worker's time is up. Costs no retry; returns the ids."""
        running = self.holdings.interrupt()
        for held in running:
            self._store(held, cut_short(held.task, held.started_at))
        return [held.task.id for held in running]

    def hand_back_stale(self, age_s: float) -> None:
        """Give back what has been held for ``age_s`` seconds without being started."""
        self.give_back(self.holdings.take_back(older_than=age_s))

    def mark_started(self) -> None:
        """Tell the ledger of tasks that were started and run for longer than a moment."""
        for held in self.holdings.long_running():
            if held.started_at:
                self._submit(partial(mark_started, task=held.task, at=held.started_at))

    def audit(self) -> None:
        """Give back what the ledger says we hold and we do not, two audits running.

        The reply to a claim that timed out is lost; what it claimed is not.
        """
        with self.process.ledger.read() as connection:
            held = set(held_by(connection, self.incarnation))
        if self._claims_under_way:
            return  # what it claims may be stored and not be noted here yet
        missing = held - self.holdings.ids()
        for task_id in missing & self._missed:
            log.warning("worker.forgot", task_id=task_id)
            self._submit(partial(forgotten, task=task_id, owner=self.incarnation))
        self._missed = missing

    def note_progress(self, delivery: Delivery, progress: str) -> None:
        """Store how far a running task is; does not wait."""
        self._submit(partial(mark_progress, task=delivery.task, progress=progress))

    def _refuse(self, held: Held, error: PostludeError, reason: Reason) -> None:
        log.error("task.refused", task_id=held.task.id, actor=held.task.actor, error=str(error))
        if self.holdings.settle(held):
            self._store(held, refused(held.task, error, reason))

    def _store(self, held: Held, outcome: Outcome) -> None:
        stored = self._submit(
            partial(finish, task=held.task, outcome=outcome, worker=self.incarnation)
        )
        if stored:
            stored.add_done_callback(partial(self._stored, held, outcome))
        else:
            self.holdings.forget(held)

    def _submit(self, write: partial[bool]) -> Future[bool] | None:
        try:
            return self.process.ledger.submit(write, patient=True)
        except LedgerError as error:
            log.warning("task.news_dropped", error=str(error), hint="this process is leaving")
            return None

    def _stored(self, held: Held, outcome: Outcome, stored: Future[bool]) -> None:
        self.holdings.forget(held)
        error = stored.exception()
        if error:
            log.error("task.outcome_not_stored", task_id=held.task.id, error=str(error))
        elif not stored.result():
            log.warning("task.late_news", task_id=held.task.id, outcome=outcome.word)

    def _handed_back(self, held: Held, stored: Future[bool]) -> None:
        self.holdings.forget(held)
        if error := stored.exception():
            log.error("task.not_handed_back", task_id=held.task.id, error=str(error))


_lock = threading.Lock()
_desk: Desk | None = None
_threads = DEFAULT_THREADS


def desk() -> Desk:
    """Return this process's desk; a new one for a new life of the process."""
    global _desk  # noqa: PLW0603 - there is one worker in a process
    with _lock:
        if _desk is None or _desk.process.ended:
            _desk = Desk(process.current(), _threads)
        return _desk


def open_desk(threads: int) -> Desk:
    """Make a desk for a worker that boots with so many threads."""
    global _desk, _threads
    with _lock:
        _desk, _threads = None, threads
    return desk()


def current_desk() -> Desk | None:
    """Return the desk if this process has one."""
    return _desk
