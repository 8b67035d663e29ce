"""The ledger as broker: workers claim queued tasks in batches, straight from its rows."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, cast

import structlog
import uuid_utils
from dramatiq import Consumer
from dramatiq.errors import ConnectionClosed

from postlude.broker.desk import desk
from postlude.errors import LedgerError
from postlude.ledger import clock
from postlude.ledger.queries import ready
from postlude.ledger.transitions.claim import claim
from postlude.policy.crash import Suspicion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dramatiq import Broker
    from dramatiq.broker import MessageProxy

    from postlude.broker.delivery import Delivery
    from postlude.ledger.engine import BareConnection
    from postlude.process import Process

log = structlog.get_logger()

OTHERS_S = 3.0
"""The most that a task which has to run alone waits for those that the one before it has kept waiting."""


class LedgerDelivery:
    """Nothing to publish: a queued row is all there is, and the pulse tells the workers."""

    def __init__(self, owner: Process) -> None:
        self._process = owner

    def consumer(self, broker: Broker, queue: str, prefetch: int, timeout: int) -> LedgerConsumer:
        """Return a consumer of ``queue``. ``prefetch`` is not used: the pace decides (rule 14)."""
        del prefetch
        return LedgerConsumer(broker, queue, timeout)

    def publish(self) -> None:
        """Do nothing: the commit that queued a task has woken the workers."""

    def close(self) -> None:
        """Do nothing: the process closes its ledger."""


class LedgerConsumer(Consumer):
    """Hands out the tasks of one queue to the worker threads; one thread iterates over it.

    A task is claimed, that is held by this worker in the ledger, before it is handed out. Other
    workers, other queues of this worker and the reaper may act at the same time.
    """

    def __init__(self, broker: Broker, queue: str, timeout: int) -> None:
        self._broker = broker
        self._queue = queue
        self._timeout_s = timeout / 1000
        self._desk = desk()
        self._news = self._desk.process.pulse.listen()
        self._ready: deque[Delivery] = deque()
        self._reader: BareConnection | None = None
        self._suspects_turn = True
        self._kept_free_since: float | None = None
        self._alone_since: float | None = None
        """Since when everybody else has been waiting for the task that runs alone just now."""
        self._others_until = 0.0

    def __next__(self) -> MessageProxy | None:
        """Return the next task, or None when there was none for the time-out.

        Raises Dramatiq's ConnectionClosed when the ledger is away or this incarnation is over; the
        worker then makes a new consumer.
        """
        deadline = time.monotonic() + self._timeout_s
        while not self._ready:
            if self._desk.process.ended:
                message = "this incarnation is over"
                raise ConnectionClosed(message)
            try:
                self._ready.extend(self._claim())
            except LedgerError as error:
                raise ConnectionClosed(error) from error
            left = deadline - time.monotonic()
            if not self._ready and (left <= 0 or not self._wait(left)):
                return None
        return self._ready.popleft()

    def ack(self, message: MessageProxy) -> None:
        """Store the outcome that the middleware decided on; does not wait for the commit."""
        self._desk.settle(cast("Delivery", message))

    def nack(self, message: MessageProxy) -> None:
        """Store the failure; a task that failed stays in the ledger until it is retried."""
        self._desk.settle(cast("Delivery", message))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hand back what was not started; the worker calls this when it stops."""
        del messages
        self._desk.give_back(self._desk.holdings.take_back())

    def close(self) -> None:
        """Stop listening; what is still held is handed back by the desk."""
        self._desk.process.pulse.forget(self._news)
        if self._reader is not None:
            self._reader.close()
        self._desk.holdings.unreserve(self._queue)

    def _wait(self, limit_s: float) -> bool:
        """Wait for news from the ledger, or for room in this worker; False when neither came."""
        holdings = self._desk.holdings
        event = self._news if holdings.budget(self._queue) else holdings.room
        return event.wait(limit_s)

    def _claim(self) -> list[Delivery]:
        """Take what fits into this worker; suspects and the others take turns.

        A task that has to run alone keeps all others out, for a second or two with the start of its
        child, so after that the others have as long, up to OTHERS_S.
        """
        self._news.clear()
        holdings = self._desk.holdings
        limit = holdings.budget(self._queue)
        if not limit:
            return []
        suspicion = self._ask(ready.suspicion) if self._suspects_turn else Suspicion.NONE
        if suspicion >= Suspicion.ALONE:
            wait = time.monotonic() < self._others_until
            return (wait and self._claim_ready(limit)) or self._claim_alone(suspicion)
        self._note_end_of_alone()
        self._kept_free_since = None
        holdings.unreserve(self._queue)
        self._suspects_turn = suspicion == Suspicion.NONE
        if suspicion:
            return self._take(min(limit, holdings.threads), suspects=suspicion)
        return self._claim_ready(limit)

    def _claim_alone(self, suspicion: int) -> list[Delivery]:
        """Take a task that has to run alone, once nothing else is in hand."""
        holdings = self._desk.holdings
        self._kept_free_since = self._kept_free_since or time.monotonic()
        if not holdings.reserve(self._queue):
            return []
        self._suspects_turn = False
        self._alone_since, self._kept_free_since = self._kept_free_since, None
        try:
            return self._take(1, suspects=suspicion)
        finally:
            holdings.unreserve(self._queue)

    def _note_end_of_alone(self) -> None:
        """Give the others as long as the task that ran alone has kept them waiting, within reason."""
        if self._alone_since is not None:
            now = time.monotonic()
            self._others_until = now + min(now - self._alone_since, OTHERS_S)
            self._alone_since = None

    def _claim_ready(self, limit: int) -> list[Delivery]:
        return self._take(limit) if self._ask(ready.has_ready) else []

    def _ask(self, question: Callable[[BareConnection, str, Iterable[str]], int]) -> int:
        if self._reader is None:
            self._reader = self._desk.process.ledger.connect()
        return question(self._reader, self._queue, self._broker.get_declared_actors())

    def _take(self, limit: int, *, suspects: int = Suspicion.NONE) -> list[Delivery]:
        taking = partial(
            claim,
            queue=self._queue,
            actors=self._broker.get_declared_actors(),
            owner=self._desk.incarnation,
            token=str(uuid_utils.uuid7()),
            now=clock.now(),
            limit=limit,
            suspects=suspects,
        )
        return self._desk.claim(self._broker, taking) or []
