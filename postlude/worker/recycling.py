"""Replaces this worker process by a new one when it has run enough tasks or holds too much memory.

What leaks in somebody's library ends with the process. Leaving is that of any deploy: nothing more is
claimed, what was not started goes back, what runs has its time, and the end is announced.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from postlude.policy.recycle import Limits, Wear, is_futile, staggered, verdict
from postlude.worker import master

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postlude.broker.desk import Desk

log = structlog.get_logger()


def recycling(table: Desk) -> Iterator[Callable[[], object]]:
    """Return the chore that sees to it; none where nobody wants it, or it cannot be done."""
    settings = table.process.settings
    wanted = Limits(settings.worker_max_tasks, settings.worker_max_rss)
    if wanted == Limits():
        return
    if why := master.cannot_renew():
        log.warning("worker.recycling_refused", why=why)
        return
    yield _Recycling(table, staggered(wanted, table.incarnation)).look


class _Recycling:
    def __init__(self, table: Desk, limits: Limits) -> None:
        self._holdings = table.holdings
        self._holdings.most = limits.tasks
        self._limits = limits
        self._rss_at_start = resident()
        self._asked = False
        if is_futile(limits, self._wear()):
            log.error(
                "worker.memory_limit_too_low",
                limit=limits.rss,
                rss=self._rss_at_start,
                hint="it needs that much to start, so nothing is replaced for its memory; raise "
                "POSTLUDE_WORKER_MAX_RSS",
            )

    def look(self) -> None:
        """Ask for a successor when it is time; once, and not if this worker is leaving already."""
        wear = self._wear()
        why = verdict(self._limits, wear)
        if why and not self._asked and not self._holdings.closed:
            self._asked = True
            log.info("worker.recycling", why=why, tasks=wear.tasks, rss=wear.rss)
            master.renew()

    def _wear(self) -> Wear:
        return Wear(self._holdings.finished, resident(), self._rss_at_start)


def resident() -> int:
    """Return the bytes of memory that this process holds; outside Linux, the most it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")
