"""Takes back what dead incarnations held: their tasks run again, elsewhere.

Runs in every worker and scheduler, once per heartbeat; any number of them may look at once, because
burying is one guarded statement. The kernel's word (a lock file that nobody holds) is taken at once;
silence is believed after the lease.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude.ledger import clock
from postlude.ledger.queries import incarnations, tasks
from postlude.ledger.transitions.bury import adopt, bury
from postlude.policy.silence import Watch
from postlude.worker.incarnation import is_gone, lock_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postlude.ledger.queries.incarnations import IncarnationView
    from postlude.process import Process

log = structlog.get_logger()


class Reaper:
    """One observer of the others."""

    def __init__(self, owner: Process) -> None:
        self._ledger = owner.ledger
        self._us = owner.incarnation.id
        self._folder = owner.settings.data_dir / "run"
        lease_s = owner.settings.lease.total_seconds()
        self._watch = Watch(lease_s, blink_s=lease_s / 2)
        self._own_beat: int | None = None

    def look(self) -> int:
        """Bury whoever is dead by now; returns how many."""
        with self._ledger.read() as connection:
            views = incarnations.alive(connection)
            orphans = tasks.has_orphan(connection)
        if orphans:
            adopted = self._ledger.write(partial(adopt, now=clock.now()))
            log.warning("reaper.adopted", tasks=adopted, hint="their holders had been buried")
        others = [view for view in views if view.id != self._us]
        beats = {view.id: view.heartbeat for view in others}
        silent = self._watch.silent(beats, time.monotonic(), deaf=self._is_deaf(views))
        buried = 0
        for view in others:
            proven = is_gone(lock_path(self._folder, view.id))
            if proven or view.id in silent:
                buried += self._bury(view, proven=proven)
        return buried

    def _is_deaf(self, views: Sequence[IncarnationView]) -> bool:
        """Say whether our own heart has not got through since the last look: a full disk, a lock."""
        own = next((view.heartbeat for view in views if view.id == self._us), None)
        before, self._own_beat = self._own_beat, own
        return own is None or own == before

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
