"""APScheduler's executor, which here runs nothing: it makes the ticks of a due schedule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from apscheduler.executors.base import BaseExecutor

from postlude.broker import unique
from postlude.ledger.clock import now
from postlude.ledger.task import NewTask
from postlude.ledger.transitions.tick import Tick, task_id

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.queries.schedules import DueSchedule
    from postlude.policy.misfire import Plan
    from postlude.scheduler.job import DueJob


class TickExecutor(BaseExecutor):  # type: ignore[misc] # APScheduler ships no types
    """Called by the scheduler's loop. A task in the ledger outlives any pool of threads."""

    def submit_job(self, job: DueJob, _run_times: list[datetime]) -> None:
        """Leave on ``job`` what the pass is to write about it."""
        job.ticks = ticks(job.row, job.plan, now())

    def _do_submit_job(self, job: DueJob, run_times: list[datetime]) -> None:
        self.submit_job(job, run_times)


def ticks(schedule: DueSchedule, plan: Plan, now: datetime) -> tuple[Tick, ...]:
    """Return the ticks that ``plan`` makes, in order; the same plan makes the same task ids."""
    options = json.loads(schedule.options)
    queue, priority = options.pop("queue"), options.pop("priority", 0)
    made = [Tick(skipped.at, None, skipped.reason) for skipped in plan.skipped]
    for at in plan.run:
        task = NewTask(
            id=task_id(schedule.incarnation, at),
            actor=schedule.actor,
            queue=queue,
            arguments=schedule.arguments,
            options=json.dumps(options),
            priority=priority,
            run_at=None,
            created_at=now,
            unique=unique.wanted(schedule.actor, options, now),
        )
        made.append(Tick(at, task))
    return tuple(sorted(made, key=lambda tick: tick.scheduled_for))
