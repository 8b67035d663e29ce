"""G5: a task whose worker died runs again within ten seconds in which there was anybody to run it.

A death counts from the dead worker's last beat, which is earlier than the death. Two things must
come soon: that somebody buries the dead, by which its tasks can be claimed, and that each of these
begins. The storm may leave no worker at all for a while, or freeze one that has the ledger's lock:
the seconds that count are those in which one had said that it is ready, was awake and could write (hours.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from hours import SECOND, Hours, Shift
from weather import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evidence import Evidence
    from hours import Freeze

AT_MOST_S = 10
DEFAULT_LEASE_S = 5
"""That of the storm is shorter; whoever died by silence is judged as if it were this one."""
DEATHS = {"worker-died", "worker-silent"}


@dataclass(frozen=True)
class Wait:
    """How long something took: by the clock, and of that how long there was somebody to do it."""

    whom: str
    clock_s: float
    served_s: float

    def __str__(self) -> str:
        return f"{self.whom}: {self.clock_s:.1f} s, in {self.served_s:.1f} s of which it could have been"


def promptness(found: Evidence, freezes: Sequence[Freeze]) -> Iterator[str]:
    """Return what came too late."""
    for wait in _burials(found, freezes):
        if wait.served_s > AT_MOST_S:
            yield f"G5: buried late: {wait}"
    for wait in _retries(found, freezes):
        if wait.served_s > AT_MOST_S:
            yield f"G5: run again late: {wait}"


def report(found: Evidence, freezes: Sequence[Freeze]) -> Iterator[str]:
    """Say what kind of storm it was."""
    outcomes = Counter(a.outcome for attempts in found.attempts.values() for a in attempts)
    deaths = (sum(a.outcome in DEATHS for a in row) for row in found.attempts.values())
    ends = Counter(f"{life.kind} {life.end}" for life in found.lives.values())
    yield f"{len(found.tasks)} tasks, attempts: {dict(outcomes)}"
    yield f"lives: {dict(ends)}"
    yield f"{len(freezes)} freezes, {sum(freeze.locks for freeze in freezes)} with the ledger locked"
    yield f"most deaths of workers with one task: {max(deaths)}"
    for name, waits in ("burial", _burials(found, freezes)), ("next run", _retries(found, freezes)):
        found_waits = list(waits)
        late = sum(wait.clock_s > AT_MOST_S for wait in found_waits)
        longest = max(found_waits, key=lambda wait: wait.served_s, default=None)
        slowest = max(found_waits, key=lambda wait: wait.clock_s, default=None)
        yield f"from death to {name}: {len(found_waits)}, after more than {AT_MOST_S} s by the clock {late}"
        yield f"  longest: {longest}; by the clock: {slowest}"


def _burials(found: Evidence, freezes: Sequence[Freeze]) -> Iterator[Wait]:
    shifts = [
        Shift(life.pid, life.started_at, life.beat_at)
        for life in found.lives.values()
        if life.kind != "api"
    ]
    reapers = Hours(shifts, freezes)
    for life in found.lives.values():
        if life.end in {"died", "silent"}:
            silent = life.end == "silent"
            who = f"{life.kind} {life.id}"
            yield _wait(who, life.beat_at, life.ended_at, reapers, silent=silent)


def _retries(found: Evidence, freezes: Sequence[Freeze]) -> Iterator[Wait]:
    """Return, of each attempt that its worker's death has cut short, what there is to say of the next."""
    lives = found.lives
    shifts = [Shift(lives[id_].pid, at, lives[id_].beat_at) for id_, at in found.ready.items()]
    workers = Hours(shifts, freezes)
    for task in found.tasks.values():
        for earlier, later in pairwise(found.attempts[task.seq]):
            if earlier.outcome in DEATHS:
                death = max(found.lives[earlier.worker].beat_at, earlier.claimed_at)
                again = later.started_at or later.claimed_at
                silent = earlier.outcome == "worker-silent"
                yield _wait(f"{task.actor} {task.id}", death, again, workers, silent=silent)


def _wait(whom: str, began: int, ended: int, hours: Hours, *, silent: bool) -> Wait:
    more_s = DEFAULT_LEASE_S - LEASE_S if silent else 0.0
    return Wait(whom, (ended - began) / SECOND + more_s, hours.between(began, ended) + more_s)
