"""Keeps the ledger's log small, whoever reads and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from postlude.ledger.ledger import Ledger

log = structlog.get_logger()

LOG_MOST = 64 * 1024**2
"""Bytes at which the log is emptied by force; SQLite alone let it grow to 147 MB in 40 s (measured)."""
TRIES = 5
"""Looks in a row that could not empty it, after which somebody is told."""


class Upkeep:
    """A chore of one process; of several that do it at once, one does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._failed = 0

    def look(self) -> None:
        """Empty the log if it is too large. Raises LedgerError; the next look tries again."""
        size = self._ledger.log_size()
        done = size <= LOG_MOST or self._ledger.trim_log()
        self._failed = 0 if done else self._failed + 1
        if self._failed == TRIES:
            log.warning(
                "ledger.log_grows",
                bytes=size,
                hint="somebody reads the ledger without an end: a backup, a forgotten transaction",
            )
