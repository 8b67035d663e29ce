"""Takes back what dead incarnations held: their tasks run again, elsewhere.

Runs in every worker and scheduler, once per heartbeat; any number of them may look at once, because
burying is one guarded statement. The kernel's word (a lock file that nobody holds) is taken at once;
silence is believed after the lease, and then the kernel is asked whether somebody has stopped the process.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from postlude.broker import broker
from postlude.broker.callbacks import on_death
from postlude.ledger import clock
from postlude.ledger.queries import incarnations, tasks
from postlude.ledger.transitions.bury import adopt, bury
from postlude.policy.crash import Death
from postlude.policy.silence import Watch
from postlude.worker.incarnation import begun_by, hostname, is_gone, is_stopped, lock_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postlude.ledger.queries.incarnations import IncarnationView
    from postlude.ledger.task import NewTask
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
        if self._ledger.outgrown:  # newer processes see to it
            return 0
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
            if is_gone(lock_path(self._folder, view.id)):
                buried += self._bury(view, Death.PROVEN)
            elif view.id in silent:
                buried += self._bury(view, _death(view))
        return buried

    def _is_deaf(self, views: Sequence[IncarnationView]) -> bool:
        """Say whether our own heart has not got through since the last look: a full disk, a lock."""
        own = next((view.heartbeat for view in views if view.id == self._us), None)
        before, self._own_beat = self._own_beat, own
        return own is None or own == before

    def _bury(self, view: IncarnationView, death: Death) -> bool:
        lock = lock_path(self._folder, view.id)
        end = partial(
            bury,
            incarnation=view.id,
            death=death,
            begun=begun_by(lock),
            callbacks=self._callbacks(view) if death.accuses else {},
        )
        found = self._ledger.write(partial(end, now=clock.now()))
        lock.unlink(missing_ok=True)
        if found is None:
            return False
        log.warning(
            "reaper.buried",
            incarnation=view.id,
            kind=view.kind,
            pid=view.pid,
            host=view.host,
            proof=death.value,
            taken_back=found.taken_back,
            suspected=found.suspected,
            quarantined=found.quarantined,
            released=found.released,
        )
        return True

    def _callbacks(self, view: IncarnationView) -> dict[str, NewTask]:
        """Return what is to be queued for each task that this death may put into quarantine.

        Made beforehand, since nothing but statements may run while the ledger is locked. What the dead
        held changes no more until somebody buries it.
        """
        with self._ledger.read() as connection:
            doomed = tasks.doomed(connection, view.id)
        return {task.id: told for task in doomed if (told := on_death(broker(), task))}


def _death(view: IncarnationView) -> Death:
    """Say what is known of an incarnation that is silent, and whose process is not gone."""
    stopped = is_stopped(view.pid) if view.host == hostname() else None
    if stopped is None:
        return Death.UNSEEN
    return Death.STOPPED if stopped else Death.HUNG
