"""Whose fault is a death? How far a task is suspected, and when suspicion is enough to quarantine it.

A worker that dies accuses nobody in particular: every task that it had begun becomes a suspect, and
runs in a child process of its own. A child that dies has had one task to blame. So it is with a worker that
falls silent: a task that holds the interpreter's lock stops its heart, and would do that to one worker
after the other. In a child that harms nobody, and can be killed.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class Death(Enum):
    """What is known of an incarnation that others put an end to."""

    PROVEN = "process gone"
    """The kernel says that its process is gone."""
    HUNG = "silent for the lease while its process ran"
    """It is silent, and the kernel says that it is neither gone nor stopped: something in it hangs."""
    STOPPED = "silent for the lease, being stopped"
    """It is silent because somebody has stopped its process: that is nobody's fault in there."""
    UNSEEN = "silent for the lease"
    """It is silent, and nothing more is known: it is on another machine."""

    @property
    def suspects(self) -> bool:
        """Say whether one of the tasks in its hands may be to blame."""
        return self is not Death.STOPPED

    @property
    def accuses(self) -> bool:
        """Say whether a task that was alone in there is to blame."""
        return self in {Death.PROVEN, Death.HUNG}


class Suspicion(IntEnum):
    """How a task has to be run; ``postlude_tasks.suspect``."""

    NONE = 0
    APART = 1
    """Its worker died, or hung: it runs in its own child process, beside whatever else the worker does."""
    ALONE = 2
    """A child died of it, or one worker after the other: the same, and its worker does nothing else,
    so that nobody else's hunger for memory can be what kills it."""
    INSIDE = 3
    """It cannot run in a child: alone, in the worker itself, whose death then counts against it."""


DEADLY = 3
"""Deaths that only one task can have caused before it is quarantined as ``crash-loop``."""
OFTEN = 3
"""Workers that died while they held a task; from then on it runs alone."""
TOO_OFTEN = 10
"""Workers that died while they held a task, the last ones it alone: no child's death is known, but
something that kills child and worker together (a container's memory limit) is not to go on for ever."""


def is_deadly(crashes: int) -> bool:
    """Say whether a task with so many deaths on its account is to be quarantined."""
    return crashes >= DEADLY
