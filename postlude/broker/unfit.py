"""What becomes of a task that this worker has claimed and its code cannot run.

It waits for a worker whose code can, if there is one; only if not has it failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from postlude.broker.delivery import put_off, refused
from postlude.errors import LedgerError, UnknownActor
from postlude.ledger import clock
from postlude.ledger.queries.versions import Versions, find
from postlude.policy import unfit
from postlude.states import Reason

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.task import Claimed
    from postlude.ledger.transitions.outcome import Outcome
    from postlude.process import Process

log = structlog.get_logger()


def outcome_of(owner: Process, task: Claimed, error: BaseException, version: str | None) -> Outcome:
    """Return the outcome of a ``task`` for which there is ``error`` instead of a call.

    ``version`` is ours of its actor, None for an actor that is not known here: the error is an
    UnknownActor then.
    """
    now = clock.now()
    try:
        with owner.ledger.read() as connection:
            versions = find(connection, task, now=now)
    except LedgerError as trouble:
        log.warning("task.versions_unreadable", task_id=task.id, error=str(trouble))
        return put_off(task, error, version, unfit.FIRST)
    if _is_final(owner, versions, version, now):
        log.error("task.refused", task_id=task.id, actor=task.actor, error=str(error))
        unknown = isinstance(error, UnknownActor)
        return refused(task, error, Reason.UNKNOWN_ACTOR if unknown else Reason.BAD_ARGUMENTS)
    wait = unfit.delay(versions.refusals + 1)
    log.warning(
        "task.unfit",
        task_id=task.id,
        actor=task.actor,
        error=str(error),
        again_in_s=wait.total_seconds(),
        hint="it waits for a worker with another version of the code",
    )
    return put_off(task, error, version, wait)


def _is_final(owner: Process, versions: Versions, version: str | None, now: datetime) -> bool:
    if version is not None:
        return not unfit.may_fit(own=version, live=versions.live, refused=versions.refused)
    return not unfit.may_come(
        now=now,
        refused_since=versions.refused_since,
        known_until=versions.known_until,
        grace=owner.settings.unknown_actor_grace,
    )
