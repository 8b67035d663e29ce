"""Finds children that hang: looks at the kernel and at the ledger, lets the policy judge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from sqlalchemy import Engine

from postlude.errors import LedgerError
from postlude.ledger import clock
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
    """One live incarnation on this machine as the ledger has it."""

    incarnation: str
    pid: int
    counter: int


class Watch:
    """Judges children by what it sees of them from call to call, once a second or so.

    ``beats`` answers with the live incarnations of this machine; it is asked only while a child
    that reports to the ledger is watched.
    """

    def __init__(self, beats: Callable[[], Iterable[Beat]], limits: Limits) -> None:
        self._beats = beats
        self._limits = limits
        self._counters: dict[str, int] = {}
        self._vitals: dict[int, Vitals] = {}
        self._looked_at: float | None = None

    def __call__(self, children: list[Child], now: float) -> dict[int, str]:
        """Return the process ids of those that hang, with the reason; ``now`` is monotonic."""
        elapsed = timedelta(seconds=now - (self._looked_at or now))
        self._looked_at = now
        beaten = self._beaten() if any(child.role.beats for child in children) else set()
        stopped = stopped_groups()
        vitals = {}
        for child in children:
            sign = Sign(
                stopped=child.pid in stopped,
                beat=child.pid in beaten,
                somebody_beat=bool(beaten) and child.role.beats,
            )
            vitals[child.pid] = observe(self._vitals.get(child.pid, Vitals()), sign, elapsed)
        self._vitals = vitals
        reasons = {pid: verdict(found, self._limits) for pid, found in vitals.items()}
        return {pid: reason for pid, reason in reasons.items() if reason}

    def _beaten(self) -> set[int]:
        """Return the process groups in which a heart has beaten since the last call."""
        beats = list(self._beats())
        fresh = [beat for beat in beats if self._counters.get(beat.incarnation) != beat.counter]
        self._counters = {beat.incarnation: beat.counter for beat in beats}
        return {group for group in (_group(beat.pid) for beat in fresh) if group is not None}


class LedgerBeats:
    """Reads heartbeats from the ledger. A ledger that does not answer has no beats to tell."""

    def __init__(self, settings: Settings) -> None:
        self._engine: Engine = build_engine(settings)
        self._since = clock.now()
        self._host = hostname()

    def __call__(self) -> list[Beat]:
        """Return the live incarnations that were started on this machine since we were.

        An older one is a dead process's; its pid may be one of our children's by now.
        """
        try:
            with reading(self._engine) as connection:
                return [
                    Beat(life.id, life.pid, life.heartbeat)
                    for life in incarnations.alive(connection)
                    if life.host == self._host and life.started_at >= self._since
                ]
        except LedgerError as error:
            log.warning("ledger.unreadable", error=str(error))
            return []

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()


def stopped_groups() -> set[int]:
    """Return the process groups with a stopped process (state T); empty where there is no /proc."""
    groups = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state ppid pgrp …"; the name may hold anything, even a parenthesis.
            state, _parent, group = stat.read_bytes().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if state == b"T":
            groups.add(int(group))
    return groups


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def limits(settings: Settings) -> Limits:
    """Return the limits that ``settings`` sets."""
    return Limits(lease=settings.lease, boot=max(BOOT, settings.lease))
