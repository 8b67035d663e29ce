"""``waiting`` → queued, scheduled, failed, cancelled, and back: those who wait for a task that ends.

Every transition that ends a task calls this in its own transaction if the task is ``followed``: by
the next step of its pipeline, or by its group's callbacks. So there is no moment at which a task has
ended and somebody waits for it in vain, and late news, which ends nothing, releases nothing.

A group has no counter: it is complete when no member is unfinished. Two members that end at the same
moment must not both miss that. SQLite has one writer at a time; a database with more has to lock the
waiting callbacks before it looks for unfinished members, so that the later of the two looks last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from postlude.ledger.statement import Tx

_AT = "coalesce(:now + CAST(json_extract(options, '$.delay') * 1000 AS INTEGER), run_at)"
"""When a released task may run: after the delay among its options, in ms, counted from its release."""
_PARAMETER = """'$."' || pipe_into || '"'"""
RELEASE = Statement(
    text(f"""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_waiting
    SET state = CASE WHEN {_AT} IS NULL OR {_AT} <= :now THEN 'queued' ELSE 'scheduled' END,
        run_at = {_AT}, generation = generation + 1,
        arguments = CASE
            WHEN pipe_into IS NULL THEN arguments
            WHEN json_type(arguments, {_PARAMETER}) IS NULL
                THEN json_insert(arguments, {_PARAMETER}, json(:result))
            ELSE json_insert(arguments, {_PARAMETER} || '[#]', json(:result)) END
    WHERE waits_for = :upstream AND state = 'waiting'
        AND (pipe_into IS NULL OR json_valid(:result) AND json_valid(arguments))""")  # noqa: S608 - ours
)
END = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_waiting
    SET state = :state, reason = :reason, finished_at = :now
    WHERE waits_for = :upstream AND state = 'waiting'
    RETURNING id, followed, group_id""")
)
REVIVE = Statement(
    text("""
    UPDATE postlude_tasks INDEXED BY postlude_tasks_waiting
    SET state = 'waiting', reason = NULL, finished_at = NULL
    WHERE waits_for = :upstream AND state = 'cancelled' AND reason = 'upstream-failed'
    RETURNING id, followed""")
)
GROUP_OF = Statement(
    text("SELECT group_id FROM postlude_tasks WHERE id = :id AND group_id IS NOT NULL")
)
UNFINISHED = Statement(
    text("""
    SELECT 1 FROM postlude_tasks INDEXED BY postlude_tasks_members
    WHERE group_id = :group_id AND finished_at IS NULL LIMIT 1""")
)


def succeeded(tx: Tx, task: str, *, result: str | None, now: datetime) -> None:
    """Release what waits for ``task``, which has just succeeded.

    ``result`` is what it returned, as JSON text: a step that takes it gets it as an argument, the last
    one of ``*args`` if that is what its signature says. None: it has no such form. A step that could
    not be given what it wants has failed.
    """
    at = to_micros(now)
    tx.run(RELEASE, upstream=task, result=result, now=at)
    groups = _groups_of(tx, [task]) | _end(tx, [task], State.FAILED, Reason.BAD_ARGUMENTS, at)
    _complete(tx, groups, at)


def ended(
    tx: Tx, tasks: Iterable[str], *, now: datetime, reason: Reason = Reason.UPSTREAM_FAILED
) -> None:
    """Cancel all that is downstream of ``tasks``, which have just failed or been cancelled.

    A group whose last member ends here, itself or because it was downstream, is complete.
    """
    at = to_micros(now)
    tasks = list(tasks)
    groups = _groups_of(tx, tasks) | _end(tx, tasks, State.CANCELLED, reason, at)
    _complete(tx, groups, at)


def withdrawn(tx: Tx, task: str, *, now: datetime) -> None:
    """Cancel all that was added together with ``task``, whose request has failed: callbacks, too."""
    at, reason = to_micros(now), Reason.REQUEST_FAILED
    groups = _groups_of(tx, [task]) | _end(tx, [task], State.CANCELLED, reason, at)
    _end(tx, groups, State.CANCELLED, reason, at)


def unpromised(tx: Tx, task: str, *, now: datetime) -> None:
    """Cancel all downstream of ``task``, which somebody has cancelled before its response was out.

    A group whose members were all cancelled so early has no callbacks: its request may still fail.
    """
    at, reason = to_micros(now), Reason.UPSTREAM_FAILED
    groups = _groups_of(tx, [task]) | _end(tx, [task], State.CANCELLED, reason, at)
    empty = [group for group in groups if not tx.rows(UNFINISHED, group_id=group)]
    _end(tx, empty, State.CANCELLED, reason, at)


def revive(tx: Tx, task: str) -> None:
    """Let all wait again that was cancelled because ``task`` had failed: it is tried once more."""
    pending = [task]
    while pending:
        steps = tx.rows(REVIVE, upstream=pending.pop())
        pending += [step for step, followed in steps if followed]


def _end(tx: Tx, upstream: Iterable[str], state: State, reason: Reason, at: int) -> set[str]:
    """End what waits for ``upstream``, and cancel what waits for that; returns the groups they are in."""
    groups, pending = set(), [(id_, state, reason) for id_ in upstream]
    while pending:
        id_, state, reason = pending.pop()
        for step, followed, group in tx.rows(
            END, upstream=id_, state=state.value, reason=reason.value, now=at
        ):
            if group is not None:
                groups.add(group)
            if followed:
                further = Reason.UPSTREAM_FAILED if state is State.FAILED else reason
                pending.append((step, State.CANCELLED, further))
    return groups


def _groups_of(tx: Tx, tasks: Iterable[str]) -> set[str]:
    return {group for task in tasks for (group,) in tx.rows(GROUP_OF, id=task)}


def _complete(tx: Tx, groups: Iterable[str], at: int) -> None:
    """Release the callbacks of those ``groups`` that have no unfinished member."""
    for group in sorted(groups):
        if not tx.rows(UNFINISHED, group_id=group):
            tx.run(RELEASE, upstream=group, result=None, now=at)
