"""The worker's desk: claims come in, outcomes go out, and nothing lies about for long.

One a worker process, shared by the consumers of all queues whatever brings the tasks. It is told by
the middleware when the worker boots and stops.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from postlude import process
from postlude.broker.callbacks import on_failure
from postlude.broker.delivery import Delivery, cancelled, cut_short, message_of
from postlude.broker.ending import Ending, record
from postlude.broker.intake import find_actor, signature
from postlude.broker.unfit import outcome_of
from postlude.broker.unstored import Unstored, bare
from postlude.errors import LedgerBusy, LedgerError, PostludeError, UnknownActor
from postlude.isolation.run import Run, runs_apart
from postlude.ledger import clock
from postlude.ledger.commit import NoRoom
from postlude.ledger.gathering import Gathering
from postlude.ledger.queries.tasks import held_by
from postlude.ledger.transitions.hand_back import forgotten, hand_back
from postlude.ledger.transitions.mark import mark_progress, mark_started
from postlude.ledger.transitions.outcome import finish
from postlude.states import State
from postlude.worker.holdings import Holdings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from dramatiq import Broker

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed
    from postlude.ledger.transitions.outcome import Outcome
    from postlude.process import Process
    from postlude.worker.holdings import Held

T = TypeVar("T")

log = structlog.get_logger()

DEFAULT_THREADS = 8
_LEAVING = "this life is over, and others run again what it had in hand"


class Desk:
    """What one worker process holds, and the ways in which it settles it."""

    def __init__(self, owner: Process, threads: int) -> None:
        self.process = owner
        self.incarnation = owner.incarnation.id
        self.holdings = Holdings(threads, board=owner.incarnation.board())
        self.unstored = Unstored(self.holdings, self._finish, self._stored)
        self._endings = Gathering(
            owner.ledger, partial(record, worker=self.incarnation), self._ended, patient=True
        )
        self._missed: set[str] = set()
        self._lock = threading.Lock()
        self._claims_under_way = 0

    def claim(self, broker: Broker, claim: Callable[[Tx], list[Claimed]]) -> list[Delivery] | None:
        """Claim tasks and make them ready for their actors; waits for the commit.

        None if by then this worker takes nothing any more: what it claimed while it leaves it could
        only hand back, and perhaps not in time. Raises LedgerError: what was claimed all the same is
        given back by the audit.
        """
        with self._lock:
            self._claims_under_way += 1
        try:
            claimed = self.process.ledger.write(
                lambda tx: None if self.holdings.refuses else claim(tx)
            )
            return None if claimed is None else self.receive(broker, claimed)
        finally:
            with self._lock:
                self._claims_under_way -= 1

    def receive(self, broker: Broker, tasks: Iterable[Claimed]) -> list[Delivery]:
        """Note claimed tasks and make them ready for their actors.

        What does not fit this code waits for a worker that it does fit, or fails here.
        """
        deliveries: list[Delivery] = []
        kept, refused = self.holdings.take(tasks)
        self.give_back(refused)
        for held in kept:
            self.holdings.board.enter(held.task.seq)  # decoding runs the actor's own types
            try:
                deliveries.append(self._delivery(broker, held))
            except UnknownActor as error:
                self._refuse(broker, held, error, None)
            except PostludeError as error:
                schema = signature(find_actor(broker, held.task.actor))
                self._refuse(broker, held, error, schema.fingerprint())
        self.holdings.board.enter(0)
        return deliveries

    def settle(self, delivery: Delivery) -> None:
        """Store what became of a task. Does not wait: it is kept until it is stored."""
        if self.holdings.settle(delivery.held):
            self._store(delivery.held, delivery.outcome())

    def give_back(self, held: Iterable[Held]) -> None:
        """Queue tasks again that were not started, without counting an attempt."""
        for item in held:
            log.debug("task.handed_back", task_id=item.task.id)
            stored = self._submit(partial(hand_back, task=item.task, now=clock.now()))
            if stored:
                stored.add_done_callback(partial(self._handed_back, item))

    def cut_short(self) -> list[str]:
        """Queue what is running again: this worker's time is up. Costs no retry; returns the ids."""
        running = self.holdings.interrupt()
        for held in running:
            self._store(held, cut_short(held.task, held.started_at))
        return [held.task.id for held in running]

    def cancel(self, held: Held) -> bool:
        """Cancel a task in hand whether or not it runs; False if it has just ended."""
        if not self.holdings.overrule(held):
            return False
        self._store(held, cancelled(held.task, held.started_at))
        return True

    def hand_back_stale(self, age_s: float) -> None:
        """Give back what has been held for ``age_s`` seconds without being started."""
        self.give_back(self.holdings.take_back(older_than=age_s))

    def commit_start(self, delivery: Delivery) -> bool:
        """Tell the ledger that a task starts, and return when it knows.

        False if the task is not ours, or the ledger has no room for the news: it must not start then.
        """
        held = delivery.held
        stored = self._submit(
            partial(mark_started, task=held.task, at=held.started_at or clock.now())
        )
        try:
            return stored is not None and stored.result()
        except LedgerError as error:
            log.warning("task.start_not_stored", task_id=held.task.id, error=str(error))
            return False

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

    def _refuse(
        self, broker: Broker, held: Held, error: PostludeError, version: str | None
    ) -> None:
        if not self.holdings.settle(held):
            return
        task = held.task
        outcome = outcome_of(self.process, task, error, version)
        if outcome.state is State.FAILED and outcome.failure:
            message = message_of(task, (), json.loads(task.arguments))
            told = on_failure(broker, message, outcome.failure, attempt=task.attempt)
            outcome = replace(outcome, follow_ups=(told,) if told else ())
        self._store(held, outcome)

    def _delivery(self, broker: Broker, held: Held) -> Delivery:
        """Return what is handed to a worker thread; the arguments of what runs apart are left as JSON."""
        task = held.task
        actor = find_actor(broker, task.actor)
        if (task.suspect or "isolation" in actor.options) and runs_apart(actor, task):
            delivery = Delivery(
                message_of(task, (), json.loads(task.arguments)), held, self.holdings
            )
            delivery.apart = Run(actor, delivery)
            held.kill = delivery.apart.cancel
            return delivery
        args, kwargs = signature(actor).decode(task.arguments)
        return Delivery(message_of(task, args, kwargs), held, self.holdings)

    def _store(self, held: Held, outcome: Outcome) -> None:
        self._endings.add(Ending(held, outcome))

    def _ended(
        self, endings: Sequence[Ending], stored: list[bool] | None, error: BaseException | None
    ) -> None:
        """Forget what is stored, or never will be; keep what there is no room for."""
        if isinstance(error, NoRoom):
            for held, outcome in endings:
                self.unstored.keep(held, outcome)
            self.give_back(self.holdings.take_back())
            return
        if error is not None and not isinstance(error, LedgerError):
            endings = [ending for ending in endings if not self._store_bare(ending, error)]
        self.holdings.forget(*(held for held, _ in endings))
        if isinstance(error, LedgerBusy):  # it refuses what is patient only when it closes
            ids = [held.task.id for held, _ in endings]
            log.warning("task.news_dropped", task_ids=ids, error=str(error), hint=_LEAVING)
        elif error is not None:
            for held, _ in endings:
                log.error("task.outcome_not_stored", task_id=held.task.id, error=str(error))
        elif stored is not None and not all(stored):
            for (held, outcome), in_time in zip(endings, stored, strict=True):
                if not in_time:
                    log.warning("task.late_news", task_id=held.task.id, outcome=outcome.word)

    def _store_bare(self, ending: Ending, error: BaseException) -> bool:
        """Store the outcome without what the ledger refuses in it: forgotten, the task would run again.

        False if that has been tried.
        """
        held, outcome = ending
        least = bare(outcome)
        if outcome == least:
            return False
        log.error(
            "task.outcome_reduced",
            task_id=held.task.id,
            actor=held.task.actor,
            outcome=outcome.word,
            dropped_follow_ups=[task.id for task in outcome.follow_ups],
            error=f"{type(error).__name__}: {error}",
        )
        self._store(held, least)
        return True

    def _finish(self, held: Held, outcome: Outcome) -> Future[bool] | None:
        return self._submit(
            partial(finish, task=held.task, outcome=outcome, worker=self.incarnation)
        )

    def _stored(self, held: Held, outcome: Outcome, stored: Future[bool]) -> None:
        error = stored.exception()
        self._ended([Ending(held, outcome)], None if error else [stored.result()], error)

    def _submit(self, write: Callable[[Tx], T]) -> Future[T] | None:
        try:
            return self.process.ledger.submit(write, patient=True)
        except LedgerError as error:
            log.warning("task.news_dropped", error=str(error), hint=_LEAVING)
            return None

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
