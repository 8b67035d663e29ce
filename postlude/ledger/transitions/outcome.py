"""``running`` → succeeded, failed, scheduled or queued: how an attempt ended, under its token.

Everything that follows from the outcome (the attempt's record, callbacks, the next try) is in the
same transaction, so a crash leaves either all of it or none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

from postlude.ledger.clock import to_micros
from postlude.ledger.statement import Statement
from postlude.ledger.transitions.accept import enqueue
from postlude.states import FINAL, Reason, State

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed, NewTask

FINISH = Statement(
    text("""
    UPDATE postlude_tasks
    SET state = :state, reason = :reason, run_at = :run_at,
        generation = generation + :queued, published_at = NULL,
        token = NULL, owner = NULL, attempts = :attempt, retries = :retries, suspect = 0,
        result = :result, started_at = :started_at, finished_at = :finished_at
    WHERE seq = :seq AND state = 'running' AND token = :token""")
)
RECORD = Statement(
    text("""
    INSERT INTO postlude_attempts (
        task, number, worker, claimed_at, started_at, finished_at, outcome,
        error_type, error_message, traceback)
    VALUES (
        :task, :number, :worker, :claimed_at, :started_at, :finished_at, :outcome,
        :error_type, :error_message, :traceback)
    ON CONFLICT (task, number) DO NOTHING""")
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What an attempt raised, as text."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended and where its task goes.

    ``word`` is the attempt's own outcome: succeeded, retried, failed, skipped or interrupted.
    """

    state: State
    word: str
    started_at: datetime | None
    finished_at: datetime
    reason: Reason | None = None
    run_at: datetime | None = None
    retries: int = 0
    result: str | None = None
    failure: Failure | None = None
    follow_ups: tuple[NewTask, ...] = field(default=())


def finish(tx: Tx, task: Claimed, outcome: Outcome, *, worker: str) -> bool:
    """Record ``outcome`` and all that follows from it.

    False, and nothing stored, when the token is no longer valid: the task was given to another
    worker or has ended, so this is late news.
    """
    if not tx.run(FINISH, **_columns(task, outcome)):
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
    )
    for follow_up in outcome.follow_ups:
        enqueue(tx, follow_up, now=outcome.finished_at)
    return True


def _columns(task: Claimed, outcome: Outcome) -> dict[str, str | int | None]:
    return {
        "seq": task.seq,
        "token": task.token,
        "attempt": task.attempt,
        "state": outcome.state.value,
        "queued": int(outcome.state is State.QUEUED),
        "reason": outcome.reason,
        "run_at": to_micros(outcome.run_at),
        "retries": outcome.retries,
        "result": outcome.result,
        "started_at": to_micros(outcome.started_at),
        "finished_at": to_micros(outcome.finished_at) if outcome.state in FINAL else None,
    }
