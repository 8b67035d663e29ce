"""Makes cancelled tasks final that this worker holds: promptly, whether their code gives in or not."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from postlude.errors import LedgerError
from postlude.ledger.queries.tasks import cancelling
from postlude.middleware.cancelled import Cancelled
from postlude.worker.holdings import Step

if TYPE_CHECKING:
    from postlude.broker.desk import Desk
    from postlude.middleware.interrupts import Interrupts
    from postlude.worker.holdings import Held

log = structlog.get_logger()

LOOK_S = 0.2
"""The shortest time between two looks, however often the ledger changes."""
PATIENCE_S = 0.7
"""How long an interrupted actor has to leave before its task is cancelled over its head."""


class Cancellations:
    """A thread that looks for cancelled tasks among those in hand whenever the ledger has changed."""

    def __init__(self, desk: Desk, interrupts: Interrupts) -> None:
        self._desk = desk
        self._interrupts = interrupts
        self._asked: dict[Held, float] = {}
        self._stop = threading.Event()
        self._news = desk.process.pulse.listen()
        self._thread = threading.Thread(target=self._loop, name="cancellations", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the look at hand."""
        self._stop.set()
        self._news.set()
        self._thread.join(5)
        self._desk.process.pulse.forget(self._news)

    def _loop(self) -> None:
        while not self._stop.is_set():
            self._news.wait(LOOK_S if self._asked else None)
            self._news.clear()
            try:
                self._look()
            except LedgerError as error:
                log.warning("cancellations.failed", error=str(error))
            self._stop.wait(LOOK_S)

    def _look(self) -> None:
        with self._desk.process.ledger.read() as connection:
            wanted = cancelling(connection, self._desk.incarnation)
        found = self._desk.holdings.named(wanted)
        now = time.monotonic()
        self._asked = {held: self._asked.get(held, now) for held in found}
        for held in found:
            self._cancel(held, waited_s=now - self._asked[held])

    def _cancel(self, held: Held, *, waited_s: float) -> None:
        """Cancel what has not started; interrupt what has, and if that does not help, cancel it too."""
        started = held.step is Step.STARTED
        if started and waited_s < PATIENCE_S:
            if held.kill is not None:
                held.kill()
            else:
                self._interrupts.strike_task(held, Cancelled)
        elif self._desk.cancel(held) and started:
            log.warning(
                "task.cancelled_while_running",
                task_id=held.task.id,
                actor=held.task.actor,
                meaning="its code did not stop; what it still does counts for nothing",
            )
