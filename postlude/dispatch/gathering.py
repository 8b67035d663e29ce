"""Many requests, one write: what several of them want stored meanwhile goes to the ledger together.

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


class Gathering(Generic[T]):
    """Gathers items of one kind until the ledger's writer asks for them; any thread may add some.

    ``write(tx, items)`` must be replayable. ``done(items, error)`` is called once for each item, by
    the writer's thread or by the one that adds. An error that is about data, not about the ledger,
    strikes only the item that causes it.
    """

    def __init__(
        self,
        ledger: Ledger,
        write: Callable[[Tx, list[T]], None],
        done: Callable[[list[T], BaseException | None], None],
        *,
        capacity: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._write = write
        self._done = done
        self._capacity = capacity
        self._waiting: deque[T] = deque()
        self._announced = False

    def add(self, item: T) -> None:
        """Have ``item`` written with whatever else is there by then. Never waits, never raises."""
        if self._capacity is not None and len(self._waiting) >= self._capacity:
            message = f"{self._capacity} requests wait already; nothing was stored, try again"
            self._done([item], LedgerBusy(message))
            return
        self._waiting.append(item)
        if not self._announced:
            self._announced = True
            taken: list[T] = []
            self._submit(taken, partial(self._write_waiting, taken))

    def take_back(self, item: T) -> bool:
        """Return True if ``item`` was still waiting: then it will not be written, nor done."""
        with suppress(ValueError):
            self._waiting.remove(item)
            return True
        return False

    def _submit(self, taken: list[T], write: Callable[[Tx], None]) -> None:
        try:
            stored = self._ledger.submit(write)
        except LedgerBusy as busy:
            self._take(taken)
            self._done(taken, busy)
        else:
            stored.add_done_callback(partial(self._finish, taken))

    def _write_waiting(self, taken: list[T], tx: Tx) -> None:
        self._take(taken)
        self._write(tx, taken)

    def _take(self, taken: list[T]) -> None:
        self._announced = False  # before looking: whoever comes later announces himself
        with suppress(IndexError):
            while True:
                taken.append(self._waiting.popleft())

    def _finish(self, taken: list[T], stored: Future[None]) -> None:
        error = stored.exception()
        if error is None or len(taken) == 1 or isinstance(error, LedgerError):
            self._done(taken, error)
            return
        for item in taken:
            self._submit([item], partial(self._write_one, item))

    def _write_one(self, item: T, tx: Tx) -> None:
        self._write(tx, [item])
