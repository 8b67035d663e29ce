"""Finds children that hang: looks at the kernel and at the ledger, lets the policy judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import Connection, Engine

from postlude.errors import LedgerError
from postlude.ledger.engine import build_engine, reading
from postlude.ledger.queries import incarnations
from postlude.policy.hanging import Limits, Sign, Vitals, observe, verdict
from postlude.settings import Settings
from postlude.supervisor.child import Child
from postlude.worker.incarnation import hostname

log = structlog.get_logger()

BOOT = timedelta(seconds=60)
"""How long a child may take to report to the ledger for the first time."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One incarnation on this machine as the ledger has it: alive, or ``left`` since the last look."""

    incarnation: str
    pid: int
    counter: int
    left: bool = False


class Watch:
    """Judges children by what it sees of them from call to call, once a second or so.

    ``beats`` answers with the live incarnations of this machine, and those that have just left it; it is
    asked only while a child that reports to the ledger is watched.
    """

    def __init__(self, beats: Callable[[], Iterable[Beat]], limits: Limits) -> None:
        self._beats = beats
        self._limits = limits
        self._counters: dict[str, int] = {}
        self._groups: dict[str, int | None] = {}
        self._vitals: dict[int, Vitals] = {}
        self._looked_at: float | None = None

    def __call__(self, children: list[Child], now: float) -> dict[int, str]:
        """Return the process ids of those that hang, with the reason; ``now`` is monotonic."""
        elapsed = timedelta(seconds=now - (self._looked_at or now))
        self._looked_at = now
        beats = list(self._beats()) if any(child.role.beats for child in children) else []
        left = self._left(beats)
        beaten = self._beaten([beat for beat in beats if not beat.left])
        stopped, bereft = _from_the_kernel()
        vitals = {}
        for child in children:
            sign = Sign(
                stopped=child.pid in stopped,
                beat=child.pid in beaten,
                somebody_beat=bool(beaten) and child.role.beats,
                left=child.pid in left,
                bereft=child.role.is_master and child.pid in bereft,
            )
            vitals[child.pid] = observe(self._vitals.get(child.pid, Vitals()), sign, elapsed)
        self._vitals = vitals
        reasons = {pid: verdict(found, self._limits) for pid, found in vitals.items()}
        return {pid: reason for pid, reason in reasons.items() if reason}

    def _beaten(self, beats: list[Beat]) -> set[int | None]:
        """Return the process groups in which a heart has beaten since the last call."""
        fresh = [beat for beat in beats if self._counters.get(beat.incarnation) != beat.counter]
        self._counters = {beat.incarnation: beat.counter for beat in beats}
        self._groups = {beat.incarnation: _group(beat.pid) for beat in beats}
        return {self._groups[beat.incarnation] for beat in fresh} - {None}

    def _left(self, beats: list[Beat]) -> set[int | None]:
        """Return the process groups of those that were alive at the last call and have left since."""
        return {self._groups.get(beat.incarnation) for beat in beats if beat.left}


class LedgerBeats:
    """Reads heartbeats from the ledger. A ledger that does not answer has no beats to tell."""

    def __init__(self, settings: Settings) -> None:
        self._engine: Engine = build_engine(settings)
        self._host = hostname()
        self._last: dict[str, Beat] = {}
        self._before_us: frozenset[str] = frozenset()
        self._before_us = frozenset(beat.incarnation for beat in self())

    def __call__(self) -> list[Beat]:
        """Return the live incarnations of this machine that were not there when this was made.

        An older one is a dead process's; its pid may be one of our children's by now. Times do not
        tell: the clock may have been set back. One that was alive at the last call and has left in
        order since is returned once more, as that.
        """
        try:
            with reading(self._engine) as connection:
                return self._read(connection)
        except LedgerError as error:
            log.warning("ledger.unreadable", error=str(error))
            return []

    def _read(self, connection: Connection) -> list[Beat]:
        beats = {
            life.id: Beat(life.id, life.pid, life.heartbeat)
            for life in incarnations.alive(connection)
            if life.host == self._host and life.id not in self._before_us
        }
        gone = self._last.keys() - beats.keys()
        left = incarnations.left(connection, gone) if gone else []
        before, self._last = self._last, beats
        return [*beats.values(), *(replace(before[id_], left=True) for id_ in left)]

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()


def _from_the_kernel() -> tuple[set[int], set[int]]:
    """Return the process groups with a stopped process, and whose children are dead, all that are left.

    One that is alive is what a master waits for: beside it may lie those that it never asks after, such
    as Dramatiq's forks from before its workers were renewed. Both are empty where there is no /proc.
    """
    groups: set[int] = set()
    dead: set[int] = set()
    alive: set[int] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state ppid pgrp …"; the name may hold anything, even a parenthesis.
            state, parent, group = stat.read_bytes().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if state == b"T":
            groups.add(int(group))
        (dead if state == b"Z" else alive).add(int(parent))
    return groups, dead - alive


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def limits(settings: Settings) -> Limits:
    """Return the limits that ``settings`` sets."""
    return Limits(lease=settings.lease, boot=max(BOOT, settings.lease))
