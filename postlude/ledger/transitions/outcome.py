"""``running`` → succeeded, failed, scheduled or queued: how an attempt ended, under its token.

Everything that follows from the outcome (the attempt's record, callbacks, the next try, the next
step) is in the same transaction, so a crash leaves either all of it or none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pydantic_core
from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions import follow
from postlude.ledger.transitions.accept import enqueue
from postlude.states import FINAL, Reason, State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from postlude.ledger.failure import Failure
    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed, NewTask

FINISH = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = :state, reason = :reason, run_at = :run_at,
        generation = generation + :queued, published_at = NULL,
        token = NULL, owner = NULL, attempts = :attempt, retries = :retries,
        suspect = :suspect, crashes = crashes + :crashed, cancel_requested = 0,
        result = :result, started_at = :started_at, finished_at = :finished_at
    WHERE seq = :seq AND state = 'running' AND token = :token AND cancel_requested <= :final""")
)
RECORD = Statement(
    text("""
    INSERT INTO postlude_attempts (
        task, number, worker, claimed_at, started_at, finished_at, outcome,
        error_type, error_message, traceback, fingerprint, logs)
    VALUES (
        :task, :number, :worker, :claimed_at, :started_at, :finished_at, :outcome,
        :error_type, :error_message, :traceback, :fingerprint, :logs)
    ON CONFLICT (task, number) DO NOTHING""")
)
# The two below take any number of plain successes as one JSON document: 9 µs for each instead of 16
# (measured, batches of 256). And the driver lets go of the interpreter's lock once, where row by row
# it does so for each, and must get it back from all the threads of a worker.
SUCCEED = Statement(
    text("""
    UPDATE postlude_tasks NOT INDEXED
    SET state = 'succeeded', reason = NULL, run_at = NULL, published_at = NULL,
        token = NULL, owner = NULL, attempts = ended.value->>2, suspect = 0,
        cancel_requested = 0, result = ended.value->>3, started_at = ended.value->>4,
        finished_at = ended.value->>5
    FROM json_each(:ended) AS ended
    WHERE seq = ended.value->>0 AND state = 'running' AND token = ended.value->>1
    RETURNING seq""")
)
RECORD_SUCCESSES = Statement(
    text("""
    INSERT INTO postlude_attempts (
        task, number, worker, claimed_at, started_at, finished_at, outcome, logs)
    SELECT value->>0, value->>2, :worker, value->>6, value->>4, value->>5, value->>7, value->>8
    FROM json_each(:ended) WHERE true
    ON CONFLICT (task, number) DO NOTHING""")
)
SHORT = 2_000
"""Characters of result and logs in a plain success: together they are a document in memory."""


@dataclass(slots=True)  # not frozen: that costs a call for every field, 3 µs a task
class Outcome:
    """How an attempt ended and where its task goes. Never changed once it is made.

    ``word`` is the attempt's own outcome: succeeded, retried, failed, skipped, interrupted, cancelled,
    unfit, which means that the worker's code could not run it, or child-died. ``deadly``: it is a death
    on the task's account. ``suspect`` is how far it is suspected from now on, ``logs`` what it logged, a
    JSON list. ``passed_on`` is the result as JSON text for the step that waits for it, which gets it
    whether or not ``result`` is stored.
    """

    state: State
    word: str
    started_at: datetime | None
    finished_at: datetime
    reason: Reason | None = None
    run_at: datetime | None = None
    retries: int = 0
    deadly: bool = False
    suspect: int = 0
    result: str | None = None
    passed_on: str | None = None
    failure: Failure | None = None
    logs: str | None = None
    follow_ups: tuple[NewTask, ...] = ()


def finish(tx: Tx, task: Claimed, outcome: Outcome, *, worker: str) -> bool:
    """Record ``outcome`` and all that follows from it.

    False, and nothing stored, when the token is no longer valid: the task was given to another
    worker or has ended, so this is late news.
    """
    return finish_all(tx, [(task, outcome)], worker=worker)[0]


def finish_all(tx: Tx, endings: Sequence[tuple[Claimed, Outcome]], *, worker: str) -> list[bool]:
    """Record how many tasks ended; tells of each what :func:`finish` would."""
    # Of a task that this worker was given twice, no more than one token is valid; the statement that
    # takes many does not say which.
    distinct = len({task.seq for task, _ in endings}) == len(endings)
    plain = [ending for ending in endings if distinct and _is_plain(*ending)]
    moved = _succeed(tx, plain, worker) if plain else set()
    together = {task.seq for task, _ in plain}
    return [
        task.seq in moved if task.seq in together else _finish(tx, task, outcome, worker)
        for task, outcome in endings
    ]


def _is_plain(task: Claimed, outcome: Outcome) -> bool:
    """Say whether a task has succeeded and nothing follows from that."""
    return (
        outcome.state is State.SUCCEEDED
        and not (task.followed or outcome.follow_ups or outcome.failure or outcome.suspect)
        and outcome.retries == task.retries
        and len(outcome.result or "") + len(outcome.logs or "") <= SHORT
    )


def _succeed(tx: Tx, endings: Sequence[tuple[Claimed, Outcome]], worker: str) -> set[int]:
    """Record plain successes; returns the ``seq`` of those whose token was valid."""
    rows = [
        (
            task.seq,
            task.token,
            task.attempt,
            outcome.result,
            to_micros(outcome.started_at),
            to_micros(outcome.finished_at),
            to_micros(task.claimed_at),
            outcome.word,
            outcome.logs,
        )
        for task, outcome in endings
    ]
    ended = pydantic_core.to_json(rows).decode()
    moved = {seq for (seq,) in tx.rows(SUCCEED, ended=ended)}
    if len(moved) < len(rows):
        ended = pydantic_core.to_json([row for row in rows if row[0] in moved]).decode()
    tx.run(RECORD_SUCCESSES, ended=ended, worker=worker)
    return moved


def _finish(tx: Tx, task: Claimed, outcome: Outcome, worker: str) -> bool:
    moved = _move(tx, task, outcome)
    if moved is None:
        return False
    failure = outcome.failure
    tx.run(
        RECORD,
        task=task.seq,
        number=task.attempt,
        worker=worker,
        claimed_at=to_micros(task.claimed_at),
        started_at=to_micros(outcome.started_at),
        finished_at=to_micros(outcome.finished_at),
        outcome=outcome.word,
        error_type=failure and failure.type,
        error_message=failure and failure.message,
        traceback=failure and failure.traceback,
        fingerprint=failure and failure.fingerprint,
        logs=outcome.logs,
    )
    for follow_up in outcome.follow_ups:
        enqueue(tx, follow_up, now=outcome.finished_at)
    if task.followed and moved.state in FINAL:
        _follow(tx, task.id, moved)
    return True


def _move(tx: Tx, task: Claimed, outcome: Outcome) -> Outcome | None:
    """Move the task as ``outcome`` says; returns what became of it, None when it is late news.

    One that was to run again, but that somebody wants cancelled, is cancelled.
    """
    if tx.run(FINISH, **_columns(task, outcome)):
        return outcome
    if outcome.state in FINAL:
        return None
    cancelled = replace(outcome, state=State.CANCELLED, reason=Reason.BY_REQUEST, run_at=None)
    return cancelled if tx.run(FINISH, **_columns(task, cancelled)) else None


def _follow(tx: Tx, task: str, outcome: Outcome) -> None:
    now = outcome.finished_at
    if outcome.state is not State.SUCCEEDED:
        follow.ended(tx, [task], now=now)
    elif outcome.word == "skipped":
        follow.ended(tx, [task], now=now, reason=Reason.UPSTREAM_SKIPPED)
    else:
        follow.succeeded(tx, task, result=outcome.passed_on, now=now)


def _columns(task: Claimed, outcome: Outcome) -> dict[str, str | int | None]:
    return {
        "seq": task.seq,
        "token": task.token,
        "attempt": task.attempt,
        "state": outcome.state.value,
        "final": int(outcome.state in FINAL),
        "queued": int(outcome.state is State.QUEUED),
        "reason": outcome.reason,
        "run_at": to_micros(outcome.run_at),
        "retries": outcome.retries,
        "suspect": outcome.suspect,
        "crashed": int(outcome.deadly),
        "result": outcome.result,
        "started_at": to_micros(outcome.started_at),
        "finished_at": to_micros(outcome.finished_at) if outcome.state in FINAL else None,
    }
