"""What the storm has left: the ledger's rows, each move that they made, and what tasks and servers noted."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from pathlib import Path

    from postlude.ledger.ledger import Ledger

WATCH = (
    "CREATE TABLE storm_moves (task INTEGER, was TEXT, became TEXT, owner TEXT)",
    """CREATE TRIGGER storm_move AFTER UPDATE OF state ON postlude_tasks
        WHEN OLD.state <> NEW.state AND OLD.finished_at IS NULL BEGIN
        INSERT INTO storm_moves VALUES (OLD.seq, OLD.state, NEW.state, OLD.owner); END""",
    """CREATE TRIGGER storm_move_of_the_finished AFTER UPDATE ON postlude_tasks
        WHEN OLD.finished_at IS NOT NULL BEGIN
        INSERT INTO storm_moves VALUES (OLD.seq, OLD.state, NEW.state, OLD.owner); END""",
)
"""SQLite itself writes down who moves, in the same transaction: nothing can happen between two looks."""
BEGINS = ('"event": "worker.ready"', '"event": "worker.born_again"')
OPEN = "state NOT IN ('succeeded', 'failed', 'cancelled')"


def watch(ledger: Ledger) -> None:
    """Have every move written down from now on."""
    connection = ledger.connect()
    try:
        with connection.raw_transaction() as tx:
            for statement in WATCH:
                tx.run(Statement(text(statement)))
    finally:
        connection.close()


def still_open(ledger: Ledger) -> list[tuple[str, str, int]]:
    """Return how many tasks of which actor are in which state that is not their last."""
    query = f"SELECT actor, state, count(*) FROM postlude_tasks WHERE {OPEN} GROUP BY 1, 2"
    with ledger.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def has_slow_task(ledger: Ledger, pids: list[int]) -> bool:
    """Say whether one of the processes ``pids`` has hold of a task that takes its time."""
    query = """SELECT 1 FROM postlude_incarnations life JOIN postlude_tasks ON owner = life.id
        WHERE life.ended_at IS NULL AND pid = ? AND state = 'running' AND actor = 'storm_slow'"""
    with ledger.read() as connection:
        return any(connection.exec_driver_sql(query, (pid,)).first() for pid in pids)


@dataclass
class Evidence:
    """All of it, in memory. Instants are microseconds of this machine's clock."""

    tasks: dict[str, Any]
    """Rows by id."""
    attempts: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """Rows by the task's ``seq``."""
    moves: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    ticks: list[Any] = field(default_factory=list)
    lives: dict[str, Any] = field(default_factory=dict)
    """Incarnations by id."""
    ready: dict[str, int] = field(default_factory=dict)
    """By incarnation, since when a worker takes tasks; it loads its actors before that."""
    began: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    gone: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def gather(ledger: Ledger, journal: Path, log: Path) -> Evidence:
    with ledger.read() as connection:

        def rows(query: str) -> list[Any]:
            return connection.exec_driver_sql(query).all()

        found = Evidence({row.id: row for row in rows("SELECT * FROM postlude_tasks ORDER BY seq")})
        for row in rows("SELECT * FROM postlude_attempts ORDER BY task, number"):
            found.attempts[row.task].append(row)
        for row in rows("SELECT * FROM storm_moves ORDER BY rowid"):
            found.moves[row.task].append(row)
        found.ticks = rows("SELECT * FROM postlude_ticks ORDER BY scheduled_for")
        found.lives = {row.id: row for row in rows("SELECT * FROM postlude_incarnations")}
    for line in journal.read_text().splitlines():
        at, event, subject, *_ = line.split(" ")
        getattr(found, event)[subject].append(int(at))
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{") and any(event in line for event in BEGINS):
            told = json.loads(line)
            at = datetime.fromisoformat(told["timestamp"])
            found.ready[told["incarnation"]] = to_micros(at)
    return found


def number_of(task: Any) -> int | None:
    number: int | None = json.loads(task.arguments).get("number")
    return number
