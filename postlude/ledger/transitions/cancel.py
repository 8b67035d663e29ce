"""→ cancelled, because somebody asks. A task in a worker's hands is the worker's to make final."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import follow
from postlude.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx

_STANDS = "coalesce(renewed_at, 0) NOT BETWEEN :now AND :now + 60000000"
"""Not while a replay may be meant, which comes within seconds: whoever looks further ahead than that
would take every retry before the clock was set back for one that came after."""
_CANCEL = """
    UPDATE postlude_tasks
    SET state = 'cancelled', reason = 'by-request', owner = NULL, finished_at = :now
    WHERE id = :id AND {which}
    RETURNING followed"""
CANCEL_ACCEPTED = Statement(text(_CANCEL.format(which="state = 'accepted'")))
CANCEL = Statement(
    text(_CANCEL.format(which=f"state IN ('waiting', 'scheduled', 'queued') AND {_STANDS}"))
)
REQUEST = Statement(
    text(f"""
    UPDATE postlude_tasks SET cancel_requested = 1
    WHERE id = :id AND state = 'running' AND {_STANDS}""")  # noqa: S608 - ours
)
STATE = Statement(text("SELECT state FROM postlude_tasks WHERE id = :id"))
_CANCEL_QUEUE = """
    UPDATE postlude_tasks SET state = 'cancelled', reason = 'by-request', finished_at = :now
    WHERE queue = :queue AND state IN ('queued', 'scheduled') AND followed = {followed}"""
CANCEL_QUEUE = Statement(text(_CANCEL_QUEUE.format(followed=0)))
CANCEL_FOLLOWED = Statement(text(_CANCEL_QUEUE.format(followed=1) + " RETURNING id"))


def cancel(tx: Tx, task: str, *, now: datetime) -> State | None:
    """Cancel ``task`` if it has not ended; returns where it is afterwards, None if there is none.

    ``running`` means that its holder has been asked: it interrupts the actor and makes the task final
    within a second or so, or the reaper does if the holder dies. An actor that ends by itself before
    it is reached has ended; one that would be tried again is cancelled instead. With it go the steps
    that wait for it. May be replayed: what somebody has retried since is left alone.
    """
    at = to_micros(now)
    for (followed,) in tx.rows(CANCEL_ACCEPTED, id=task, now=at):
        if followed:
            follow.unpromised(tx, task, now=now)
        return State.CANCELLED
    for (followed,) in tx.rows(CANCEL, id=task, now=at):
        if followed:
            follow.ended(tx, [task], now=now)
        return State.CANCELLED
    tx.run(REQUEST, id=task, now=at)
    rows = tx.rows(STATE, id=task)
    return State(rows[0][0]) if rows else None


def cancel_queue(tx: Tx, *, queue: str, now: datetime) -> int:
    """Cancel every task that waits in ``queue``, and the steps after it; running tasks go on.

    A group whose last members are cancelled is complete: its callbacks are released. Returns how many
    were waiting in the queue.
    """
    at = to_micros(now)
    cancelled = tx.run(CANCEL_QUEUE, queue=queue, now=at)
    followed = [id_ for (id_,) in tx.rows(CANCEL_FOLLOWED, queue=queue, now=at)]
    follow.ended(tx, followed, now=now)
    return cancelled + len(followed)
