"""Takes back what dead incarnations held: their tasks run again, elsewhere.

Runs in every worker and scheduler, once per heartbeat; any number of them may look at once, because
burying is one guarded statement. The kernel's word (a lock file that nobody holds) is taken at once;
silence is believed after the lease.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude.ledger import clock
from postlude.ledger.queries import incarnations
from postlude.ledger.transitions.bury import bury
from postlude.policy.silence import Watch
from postlude.worker.incarnation import hostname, is_gone, lock_path

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from postlude.ledger.ledger import Ledger
    from postlude.ledger.queries.incarnations import IncarnationView

log = structlog.get_logger()


class Reaper:
    """One observer of the others."""

    def __init__(self, ledger: Ledger, *, lease: timedelta, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        self._watch = Watch(lease.total_seconds())

    def look(self) -> int:
        """Bury whoever is dead by now; returns how many."""
        with self._ledger.read() as connection:
            others = [view for view in incarnations.alive(connection) if not _is_us(view)]
        beats = {view.id: view.heartbeat for view in others}
        silent = self._watch.silent(beats, time.monotonic())
        buried = 0
        for view in others:
            proven = is_gone(lock_path(self._folder, view.id))
            if proven or view.id in silent:
                buried += self._bury(view, proven=proven)
        return buried

    def _bury(self, view: IncarnationView, *, proven: bool) -> bool:
        found = self._ledger.write(
            partial(bury, incarnation=view.id, now=clock.now(), proven=proven)
        )
        lock_path(self._folder, view.id).unlink(missing_ok=True)
        if found is None:
            return False
        log.warning(
            "reaper.buried",
            incarnation=view.id,
            kind=view.kind,
            pid=view.pid,
            host=view.host,
            proof="process gone" if proven else "silent for the lease",
            taken_back=found.taken_back,
            quarantined=found.quarantined,
            released=found.released,
        )
        return True


def _is_us(view: IncarnationView) -> bool:
    return view.pid == os.getpid() and view.host == hostname()
