"""``queued`` → running: a worker takes tasks, under a token that nobody else has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.task import Claimed
from postlude.policy.crash import Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from postlude.ledger.statement import Tx

_TAKE = """
    UPDATE postlude_tasks
    SET state = 'running', token = :token, owner = :owner, claimed_at = :now, started_at = NULL,
        progress = NULL
    WHERE {which}
    RETURNING seq, id, actor, queue, arguments, options, priority, generation, attempts, retries,
        suspect, crashes, followed, COALESCE(renewed_at, created_at)"""

CLAIM = Statement(
    text(
        _TAKE.format(
            which="""seq IN (
        SELECT seq FROM postlude_tasks INDEXED BY postlude_tasks_ready
        WHERE state = 'queued' AND queue = :queue AND suspect = 0
            AND actor IN (SELECT value FROM json_each(:actors))
        ORDER BY priority, seq LIMIT :limit)"""
        )
    )
)
CLAIM_SUSPECT = Statement(
    text(
        _TAKE.format(
            which="""seq IN (
        SELECT seq FROM postlude_tasks INDEXED BY postlude_tasks_ready
        WHERE state = 'queued' AND queue = :queue AND suspect = :suspect
            AND actor IN (SELECT value FROM json_each(:actors))
        ORDER BY crashes, priority, seq LIMIT :limit)"""
        )
    )
)
CLAIM_MESSAGE = Statement(
    text(_TAKE.format(which="id = :id AND state = 'queued' AND generation = :generation"))
)


def claim(
    tx: Tx,
    *,
    queue: str,
    actors: Iterable[str],
    owner: str,
    token: str,
    now: datetime,
    limit: int,
    suspects: int = Suspicion.NONE,
) -> list[Claimed]:
    """Take up to ``limit`` queued tasks of ``actors``, best priority first, then oldest first.

    ``suspects`` asks for tasks that are suspected so far instead; the caller runs each as that demands.
    Those with no death on their account come first, so that innocents need not wait for the guilty.
    Of any number of workers that do this at once, each task goes to one.
    """
    rows = tx.rows(
        CLAIM_SUSPECT if suspects else CLAIM,
        queue=queue,
        actors=json.dumps(sorted(actors)),
        owner=owner,
        token=token,
        now=to_micros(now),
        limit=limit,
        **({"suspect": int(suspects)} if suspects else {}),
    )
    tasks = [_claimed(row, token, now) for row in rows]
    return tasks if suspects else sorted(tasks, key=lambda task: (task.priority, task.seq))


def claim_message(
    tx: Tx,
    *,
    task: str,
    generation: int,
    owner: str,
    token: str,
    now: datetime,
) -> Claimed | None:
    """Take the task that a broker's message stands for, if this message is its latest.

    None when the task was cancelled, taken, finished or published anew meanwhile: the message is
    then late news, and the caller acknowledges it.
    """
    rows = tx.rows(
        CLAIM_MESSAGE, id=task, generation=generation, owner=owner, token=token, now=to_micros(now)
    )
    return _claimed(rows[0], token, now) if rows else None


def _claimed(row: tuple[Any, ...], token: str, now: datetime) -> Claimed:
    seq, id_, actor, queue, arguments, options, priority, generation, attempts, *rest = row
    retries, suspect, crashes, followed, created_at = rest
    return Claimed(
        seq=seq,
        id=id_,
        actor=actor,
        queue=queue,
        arguments=arguments,
        options=options,
        priority=priority,
        generation=generation,
        token=token,
        attempt=attempts + 1,
        retries=retries,
        suspect=suspect,
        created_at=from_micros(created_at),
        claimed_at=now,
        crashes=crashes,
        followed=bool(followed),
    )
