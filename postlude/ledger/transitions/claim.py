"""``queued`` → running: a worker takes tasks, under a token that nobody else has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.task import Claimed

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
        suspect, created_at"""

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
        WHERE state = 'queued' AND queue = :queue AND suspect = 1
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
    suspects: bool = False,
) -> list[Claimed]:
    """Take up to ``limit`` queued tasks of ``actors``, best priority first, then oldest first.

    ``suspects`` asks for tasks whose last holder died; the caller takes one and runs it alone. Those
    that have killed nobody alone come first, so that innocents need not wait for the guilty. Of any
    number of workers that do this at once, each task goes to one.
    """
    rows = tx.rows(
        CLAIM_SUSPECT if suspects else CLAIM,
        queue=queue,
        actors=json.dumps(sorted(actors)),
        owner=owner,
        token=token,
        now=to_micros(now),
        limit=limit,
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
    retries, suspect, created_at = rest
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
        suspect=bool(suspect),
        created_at=from_micros(created_at),
        claimed_at=now,
    )
