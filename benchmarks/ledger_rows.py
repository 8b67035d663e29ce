"""Fills a ledger by SQL, a million rows in seconds: what weeks of use would have left there.

Bulk loading only: a task of the product changes through ``postlude.ledger.transitions`` alone.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger import clock
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.ledger import Ledger
    from postlude.ledger.statement import Tx

BATCH = 50_000
PATIENCE = timedelta(minutes=10)
DISTINCT = 1000
"""Numbers that queued tasks carry: a tally of a million of them would itself be memory."""

_TASKS = Statement(
    text("""
    WITH RECURSIVE numbers(n) AS (
        SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :first + :count)
    INSERT INTO postlude_tasks (
        id, actor, queue, arguments, options, state, priority, run_at, generation, attempts,
        retries, crashes, suspect, cancel_requested, followed, result, created_at, claimed_at, started_at,
        finished_at)
    SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-7' || hex(randomblob(1))
            || '0-' || hex(randomblob(2)) || '-' || hex(randomblob(6))),
        :actor, :queue, json_object('number', n % :distinct), '{}', :state, 0, :run_at + n,
        1, :attempts, 0, 0, 0, 0, 0, :result, :at, :finished, :finished, :finished + n
    FROM numbers""")
)
_ATTEMPTS = Statement(
    text("""
    INSERT INTO postlude_attempts (
        task, number, worker, claimed_at, started_at, finished_at, outcome)
    SELECT seq, 1, 'bench', claimed_at, started_at, finished_at, 'succeeded'
    FROM postlude_tasks WHERE state = 'succeeded'""")
)
_SCHEDULES = Statement(
    text("""
    WITH RECURSIVE numbers(n) AS (
        SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :first + :count)
    INSERT INTO postlude_schedules (
        id, incarnation, actor, arguments, options, "trigger", timezone, misfire, misfire_window,
        overlap, jitter, declared_by, next_at, paused, created_at, updated_at)
    SELECT :name || n, lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-7'
            || substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-'
            || hex(randomblob(6))),
        :actor, json_object('number', n), json_object('queue', :queue, 'priority', 0),
        '{"every": "1h"}', 'UTC', 'latest', 3600000000, 'allow', 0, 'api', :due, 0,
        :due - 3600000000, :due - 3600000000
    FROM numbers""")
)


def queued(ledger: Ledger, queue: str, count: int, *, actor: str = "note_run") -> None:
    """Add ``count`` tasks that may run at once."""
    _tasks(ledger, count, actor=actor, queue=queue, state="queued", now=clock.now())


def finished(ledger: Ledger, queue: str, count: int, *, actor: str = "note_run") -> None:
    """Add ``count`` tasks that succeeded an hour ago, each with its attempt."""
    at = clock.now() - timedelta(hours=1)
    _tasks(ledger, count, actor=actor, queue=queue, state="succeeded", now=at)
    ledger.write(lambda tx: tx.run(_ATTEMPTS), timeout=PATIENCE)


def scheduled(ledger: Ledger, queue: str, count: int, *, actor: str = "note_run") -> None:
    """Add ``count`` tasks that are due from tomorrow on."""
    at = clock.now() + timedelta(days=1)
    _tasks(ledger, count, actor=actor, queue=queue, state="scheduled", now=at)


def schedules(
    ledger: Ledger, queue: str, count: int, *, due: datetime, name: str, actor: str = "note_run"
) -> None:
    """Add ``count`` hourly schedules that are all due at one instant."""

    def write(tx: Tx) -> None:
        tx.run(
            _SCHEDULES,
            first=0,
            count=count,
            name=name,
            actor=actor,
            queue=queue,
            due=clock.to_micros(due),
        )

    ledger.write(write, timeout=PATIENCE)


def _tasks(
    ledger: Ledger, count: int, *, actor: str, queue: str, state: str, now: datetime
) -> None:
    at, done = clock.to_micros(now), state == "succeeded"
    columns: dict[str, str | int | None] = {
        "actor": actor,
        "queue": queue,
        "state": state,
        "distinct": DISTINCT,
        "run_at": at if state == "scheduled" else None,
        "attempts": int(done),
        "result": "null" if done else None,
        "at": at,
        "finished": at if done else None,
    }
    for first in range(0, count, BATCH):
        insert = partial(_insert, columns=columns, first=first, count=min(BATCH, count - first))
        ledger.write(insert, timeout=PATIENCE)


def _insert(tx: Tx, *, columns: dict[str, str | int | None], first: int, count: int) -> None:
    tx.run(_TASKS, **columns, first=first, count=count)
