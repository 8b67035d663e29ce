"""A due schedule in the shape that APScheduler's loop handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apscheduler.job import Job

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.queries.schedules import DueSchedule
    from postlude.ledger.transitions.tick import Tick
    from postlude.policy.misfire import Plan
    from postlude.schedules.trigger import Trigger


class DueJob(Job):  # type: ignore[misc] # APScheduler ships no types
    """Lives for one pass and calls nothing. ``ticks`` is None until the executor has had it."""

    def __init__(self, row: DueSchedule, trigger: Trigger, plan: Plan) -> None:
        self.row, self.trigger, self.plan = row, trigger, plan
        self.ticks: tuple[Tick, ...] | None = None
        self.id = self.name = row.id
        self.executor = "default"
        self.coalesce = False
        self.next_run_time = row.next_at

    def _get_run_times(self, _now: datetime) -> list[datetime]:
        """Return how far the plan reaches, where APScheduler would list every missed time."""
        return [self.plan.last]

    def _modify(self, *, next_run_time: datetime) -> None:
        self.next_run_time = next_run_time
