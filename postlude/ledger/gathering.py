"""Many threads or requests, one write: what they want stored meanwhile goes to the ledger together.

The ledger commits many writes at once, but each write it is given costs a future, a place in its
queue and a callback. Under load that is more than the statements themselves.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from postlude.errors import LedgerBusy, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from postlude.ledger.ledger import Ledger
    from postlude.ledger.statement import Tx

T = TypeVar("T")
R = TypeVar("R")


def at_once(call: Callable[[], None]) -> None:
    """Call it."""
    call()


class Gathering(Generic[T, R]):
    """Gathers items of one kind until the ledger's writer asks for them; any thread may add some.

    ``write(tx, items)`` must be replayable. ``done(items, result, error)`` is called once for each
    item, by the writer's thread or by the one that adds: with what ``write`` returned, or with an
    error. One that is of ``strikes_all`` strikes all that were written together; for any other they
    are written again one by one, so that it strikes only the item that causes it. ``patient`` is the
    ledger's. ``soon`` calls the writer in when the thread that adds thinks fit.
    """

    def __init__(
        self,
        ledger: Ledger,
        write: Callable[[Tx, list[T]], R],
        done: Callable[[list[T], R | None, BaseException | None], None],
        *,
        patient: bool = False,
        capacity: int | None = None,
        strikes_all: tuple[type[BaseException], ...] = (),
        soon: Callable[[Callable[[], None]], None] = at_once,
    ) -> None:
        self._ledger = ledger
        self._write = write
        self._done = done
        self._patient = patient
        self._capacity = capacity
        self._strikes_all = strikes_all
        self._soon = soon
        self._waiting: deque[T] = deque()
        self._announced = False

    def add(self, item: T) -> None:
        """Have ``item`` written with whatever else is there by then. Never waits, never raises."""
        if self._capacity is not None and len(self._waiting) >= self._capacity:
            message = f"{self._capacity} requests wait already; nothing was stored, try again"
            self._done([item], None, LedgerBusy(message))
            return
        self._waiting.append(item)
        if not self._announced:
            self._announced = True
            self._soon(self.announce)

    def announce(self) -> None:
        """Tell the ledger's writer to come for what waits; may be called by anybody, any number of times."""
        self._announced = False  # before looking: whoever comes later announces himself
        if self._waiting:
            self._announced = True
            taken: list[T] = []
            self._submit(taken, partial(self._write_waiting, taken))

    def take_back(self, item: T) -> bool:
        """Return True if ``item`` was still waiting: then it will not be written, nor done."""
        with suppress(ValueError):
            self._waiting.remove(item)
            return True
        return False

    def _submit(self, taken: list[T], write: Callable[[Tx], R]) -> None:
        try:
            stored = self._ledger.submit(write, patient=self._patient)
        except LedgerError as error:
            self._take(taken)
            self._done(taken, None, error)
        else:
            stored.add_done_callback(partial(self._finish, taken))

    def _write_waiting(self, taken: list[T], tx: Tx) -> R:
        self._take(taken)
        return self._write(tx, taken)

    def _take(self, taken: list[T]) -> None:
        self._announced = False  # before looking: whoever comes later announces himself
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())

    def _finish(self, taken: list[T], stored: Future[R]) -> None:
        error = stored.exception()
        if error is None:
            self._done(taken, stored.result(), None)
            return
        if not taken:
            self._take(taken)  # the write was given up before it ran: those who wait are concerned
        if len(taken) == 1 or isinstance(error, self._strikes_all):
            self._done(taken, None, error)
            return
        for item in taken:
            self._submit([item], partial(self._write_one, item))

    def _write_one(self, item: T, tx: Tx) -> R:
        return self._write(tx, [item])
