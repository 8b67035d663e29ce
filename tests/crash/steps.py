"""Every step on which durability hangs, found where it is taken: statements, commits, fsyncs, renames.

:func:`watch` puts itself between Postlude and SQLite, and between Postlude and the file system. A
step is known by what it is (the statement's text, the call and the kind of file) and by how many of
its kind went before, so that threads may take turns as they like. At the step that
:class:`Plan` names the process kills itself, just before or just after it.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_OF_A_KIND = 3
"""Later ones of a kind are the heartbeats and polls of however long a life takes."""
LONGEST_ENDING = 6
READS = ("SELECT", "PRAGMA", "EXPLAIN", "BEGIN DEFERRED")


@dataclass(frozen=True, order=True)
class Point:
    """A place to die at: the ``number``-th step of this kind, ``before`` or after it."""

    kind: str
    number: int
    before: bool

    def __str__(self) -> str:
        side = "before" if self.before else "after"
        return f"{side} {self.kind} #{self.number}"


@dataclass
class Plan:
    """What is counted, and where it ends."""

    die_at: Point | None = None
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def points(self) -> list[Point]:
        """Return every place to die at that this life came by."""
        return [
            Point(kind, number, before)
            for kind, count in sorted(self.seen.items())
            for number in range(1, min(count, MOST_OF_A_KIND) + 1)
            for before in (True, False)
        ]

    def around(self, kind: str, step: Any) -> Any:
        """Take ``step``, which is one of ``kind``; dies on the way if that is the plan."""
        with self.lock:
            self.seen[kind] += 1
            number = self.seen[kind]
        self._die(Point(kind, number, before=True))
        result = step()
        self._die(Point(kind, number, before=False))
        return result

    def _die(self, point: Point) -> None:
        if point == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


def watch(plan: Plan) -> None:
    """Count every step of this process from now on; there is no way back."""
    _watch_database(plan)
    for name in ("fsync", "fdatasync", "rename", "replace", "link", "unlink"):
        _watch_call(plan, name)


def kind_of(sql: str, before: str) -> str | None:
    """Return what kind of step a statement is, None for one that changes nothing.

    A commit is known by the last statement that it makes durable.
    """
    words = re.sub(r"\s+", " ", sql.strip())
    if words.startswith(READS) or words == "BEGIN":
        return None
    if words in {"COMMIT", "ROLLBACK"}:
        return f"{words} of {before}"
    return words[:110]


def _watch_database(plan: Plan) -> None:
    from postlude.ledger import sqlite

    library = sqlite.library()

    class Cursor(library.Cursor):
        def execute(self, sql: str, *values: Any) -> Any:
            return self._take(sql, functools.partial(super().execute, sql, *values))

        def executemany(self, sql: str, values: Any) -> Any:
            return self._take(sql, functools.partial(super().executemany, sql, values))

        def _take(self, sql: str, take: Any) -> Any:
            kind = kind_of(sql, self.connection.last)
            if kind is None:
                return take()
            self.connection.last = kind
            return plan.around(kind, take)

    class Connection(library.Connection):
        last = "nothing"

        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, *values: Any) -> Any:
            return self.cursor().execute(sql, *values)

        def commit(self) -> None:
            if not self.in_transaction:
                return super().commit()
            return plan.around(f"COMMIT of {self.last}", super().commit)

    library.connect = functools.partial(library.connect, factory=Connection)
    # Engines of applications derive theirs from these.
    library.Connection, library.Cursor = Connection, Cursor


def _watch_call(plan: Plan, name: str) -> None:
    call = getattr(os, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        return plan.around(f"{name} {_file(arguments)}", lambda: call(*arguments, **options))

    setattr(os, name, watched)


def _file(arguments: tuple[Any, ...]) -> str:
    """Return which kind of file a call is about: its folder, without the names that differ."""
    first = arguments[0] if arguments else ""
    path = Path(first) if not isinstance(first, int) else Path(f"/proc/self/fd/{first}").readlink()
    ending = path.suffix if len(path.suffix) < LONGEST_ENDING else ""
    folder = path.parent.name if path.parent != Path(os.environ["POSTLUDE_DATA_DIR"]) else "."
    return f"{folder}/*{ending}"
