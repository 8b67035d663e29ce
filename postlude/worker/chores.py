"""What every worker and scheduler does on the side, once per heartbeat: look after the dead and the due.

Each chore may run in any number of processes at once; each is guarded, so that one fails alone and
is tried again at the next round.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from postlude.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = structlog.get_logger()


class Chores:
    """A thread that does its chores one after the other, every ``every_s`` seconds.

    One that takes longer than ``slow_s`` seconds is named in the log.
    """

    def __init__(
        self, every_s: float, chores: Sequence[Callable[[], object]], *, slow_s: float = 1.0
    ) -> None:
        self._every_s = every_s
        self._chores = tuple(chores)
        self._slow_s = slow_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="chores", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the chore at hand."""
        self._stop.set()
        self._thread.join(5)

    def _loop(self) -> None:
        while not self._stop.wait(self._every_s):
            for chore in self._chores:
                if not self._stop.is_set():
                    self._do(chore)

    def _do(self, chore: Callable[[], object]) -> None:
        started = time.monotonic()
        try:
            chore()
        except LedgerError as error:
            log.warning("chore.failed", chore=_name(chore), error=str(error))
        except Exception:
            log.exception("chore.failed", chore=_name(chore))
        took = time.monotonic() - started
        if took > self._slow_s:
            log.warning("chore.slow", chore=_name(chore), took_s=round(took, 3))


def _name(chore: Callable[[], object]) -> str:
    return getattr(chore, "__qualname__", repr(chore))
