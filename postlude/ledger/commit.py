"""Committing a batch of writes, whatever it takes.

Writes are replayable, so those of a transaction that failed are simply run again: one by one if a
write was to blame, or was too large for what room there is, which finds the culprit; or after a pause
if the database was.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from postlude.errors import LedgerError
from postlude.ledger import sqlite
from postlude.ledger.engine import BareConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from postlude.ledger.statement import Tx

log = structlog.get_logger()

RETRY_S = 0.25
GIVE_UP_S = 4.0
"""How long writes are tried again while the database does not answer, before their waiters are told."""


class NoRoom(LedgerError):
    """The disk has no room for this write; nothing was stored. A smaller one may still fit."""


@dataclass(slots=True)
class Write:
    """A write on its way; ``patient`` ones are never given up, their caller must not lose them."""

    run: Callable[[Tx], Any]
    patient: bool
    future: Future[Any] = field(default_factory=Future)


class Committer:
    """Owns a connection, made when it is needed and made anew after a fault; used by one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: BareConnection | None = None
        self.hurried = False
        """Set when the process is closing: patient writes are given up with the others."""

    def store(self, batch: list[Write]) -> None:
        """Commit ``batch`` in as few transactions as can be; every future is settled on return."""
        started = time.monotonic()
        groups = [batch] if batch else []
        while groups:
            group = groups.pop(0)
            error = self._commit(group)
            if error is None:
                continue
            log.warning("ledger.write_failed", writes=len(group), error=str(error))
            if isinstance(error, NoRoom):
                self.close()
            elif not self._is_ours(error):
                groups = self._wait([group, *groups], error, started)
                continue
            if len(group) == 1:
                group[0].future.set_exception(error)
            else:
                groups = [[write] for write in group] + groups

    def close(self) -> None:
        """Close the connection; what is open on it is undone."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def _commit(self, group: list[Write]) -> BaseException | None:
        """Run ``group`` in one transaction; returns what went wrong, having undone it."""
        try:
            self._connection = self._connection or BareConnection(self._engine)
            with self._connection.raw_transaction() as tx:
                results = [write.run(tx) for write in group]
        except BaseException as error:  # noqa: BLE001 - the waiters get it, and this thread lives on
            return _named(error)
        for write, result in zip(group, results, strict=True):
            write.future.set_result(result)
        return None

    def _is_ours(self, error: BaseException) -> bool:
        """Say whether a write is to blame, rather than the database."""
        connection = self._connection
        if connection is None:
            return False
        return isinstance(error, connection.data_errors) or not isinstance(error, connection.errors)

    def _wait(
        self, groups: list[list[Write]], error: BaseException, started: float
    ) -> list[list[Write]]:
        """Answer those who need not wait any longer; returns the others, after a pause."""
        self.close()
        if time.monotonic() - started > GIVE_UP_S:
            message = f"the ledger could not be written: {error}; nothing was stored"
            refusal = LedgerError(message)
            refusal.__cause__ = error
            for group in groups:
                for write in group:
                    if self.hurried or not write.patient:
                        write.future.set_exception(refusal)
            groups = [[write for write in group if not write.future.done()] for group in groups]
            groups = [group for group in groups if group]
        time.sleep(RETRY_S)
        return groups


def _named(error: BaseException) -> BaseException:
    """Tell that the disk is full from other trouble with the database, which a pause may cure."""
    if not sqlite.has_no_room(error):
        return error
    message = f"the ledger has no room for this: {error}; nothing was stored, make room on its disk"
    refusal = NoRoom(message)
    refusal.__cause__ = error
    return refusal
