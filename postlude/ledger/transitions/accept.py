"""Storing new tasks: promised by a response (``accepted``), or to run at once (``queued``).

Or as a duplicate, at once ``cancelled``, while another task has its unique key: see :mod:`.key`.
A task that waits for another one is ``waiting`` either way: it belongs to nobody and is released by
what it waits for (:mod:`postlude.ledger.transitions.follow`), which is stored with it.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import key
from postlude.states import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import NewTask

INSERT = Statement(
    text("""
    INSERT INTO postlude_tasks (
        id, actor, queue, arguments, options, priority, run_at, created_at, correlation_id,
        waits_for, followed, group_id, pipe_into, state, generation, owner,
        attempts, retries, crashes, suspect, cancel_requested)
    SELECT
        value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12,
        value ->> 13, value ->> 14, value ->> 15,
        0, 0, 0, 0, 0
    FROM json_each(:rows)
    WHERE true  -- or ON would be read as a join's
    ON CONFLICT (id) DO NOTHING""")
)
"""Many rows by one statement: the interpreter's lock is free meanwhile, and is asked for once."""
AT_ONCE = 64
"""Rows in one statement; more would gain nothing, and hold more arguments in memory."""
SAME = Statement(text("SELECT 1 FROM postlude_tasks WHERE id = :id AND created_at = :created_at"))


def accept(tx: Tx, task: NewTask, *, owner: str) -> bool:
    """Store ``task`` for the incarnation ``owner``, which releases it once the response is out.

    May be replayed. Returns False when another task has this id.
    """
    return accept_all(tx, [task], owner=owner) is None


def accept_all(tx: Tx, tasks: Sequence[NewTask], *, owner: str) -> NewTask | None:
    """Store ``tasks`` as :func:`accept` does; returns one whose id another task has, if there is one."""
    return _insert(tx, tasks, State.ACCEPTED, owner)


def enqueue(tx: Tx, task: NewTask, *, now: datetime) -> bool:
    """Store ``task`` accepted and released at once: ``queued``, or ``scheduled`` if it has to wait.

    May be replayed. Returns False when another task has this id.
    """
    waits = task.run_at is not None and task.run_at > now
    state = State.SCHEDULED if waits else State.QUEUED
    return _insert(tx, [task], state, None) is None


def _insert(tx: Tx, tasks: Sequence[NewTask], state: State, owner: str | None) -> NewTask | None:
    """Store ``tasks`` in their order; those with a unique key by statements of their own."""
    parts = groupby(enumerate(tasks), key=lambda pair: (pair[0] // AT_ONCE, pair[1].unique))
    for (_, unique), numbered in parts:
        some = [task for _, task in numbered]
        rows = json.dumps([_row(task, state, owner) for task in some], ensure_ascii=False)
        if tx.run(INSERT, rows=rows) < len(some):
            taken = next((task for task in some if not _is_there(tx, task)), None)
            if taken is not None:
                return taken
        elif unique is not None:
            for task in some:
                key.take(tx, unique, task=task.id, now=task.created_at)
    return None


def _row(task: NewTask, state: State, owner: str | None) -> list[str | int | None]:
    if task.waits_for is not None:
        state, owner = State.WAITING, None
    return [*task.columns(), state.value, int(state is State.QUEUED), owner]


def _is_there(tx: Tx, task: NewTask) -> bool:
    return bool(tx.rows(SAME, id=task.id, created_at=to_micros(task.created_at)))
