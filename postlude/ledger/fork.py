"""A forked child of a process that has the ledger open cannot have one (docs/decisions/0005).

SQLite keeps its locks in memory that the child inherits without the locks: what the child commits can
be lost, and what it closes can take the parent's log along.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event

from postlude.errors import LedgerError

if TYPE_CHECKING:
    from sqlalchemy import Engine

_watched: WeakSet[Engine] = WeakSet()
_open: set[int] = set()
_kept: list[object] = []
"""What a child inherited: it must neither use it nor close it, nor let the garbage collector do so."""
_lost = False


def watch(engine: Engine) -> None:
    """Keep a child that is forked while ``engine`` has connections from ever opening the ledger."""
    _watched.add(engine)
    event.listen(engine, "do_connect", lambda *_: refuse())
    event.listen(engine, "connect", lambda connection, _record: _open.add(id(connection)))
    event.listen(engine, "close", lambda connection, _record: _open.discard(id(connection)))


def lose(inherited: object = None) -> None:
    """Note, in a child, that its parent had the ledger open; ``inherited`` is kept as it is."""
    global _lost  # noqa: PLW0603 # true of a process as a whole, and for ever
    _lost = True
    _kept.append(inherited)


def refuse() -> None:
    """Raise LedgerError in a child that must not open the ledger."""
    if _lost:
        message = (
            "this process was forked from one that has the ledger open, which SQLite does not "
            "survive; start it with the method 'spawn' or 'forkserver', or as a program"
        )
        raise LedgerError(message)


def _after_fork() -> None:
    for engine in list(_watched):
        pool: Any = engine.pool
        engine.dispose(close=False)  # the next checkout connects anew, and so is refused
        _kept.append(pool)
    if _open:
        lose()


os.register_at_fork(after_in_child=_after_fork)
