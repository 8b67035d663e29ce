"""APScheduler's job store over the ledger's schedules: one pass of its loop, one transaction.

A pass reads what is due, lets APScheduler's loop walk through it, gathers what comes of that and
writes all of it at once. Nothing is locked in between, so a scheduler that stops in the middle
holds up nobody; when two have read the same schedule, the guarded write settles who takes it. Rows
are JSON and columns; nothing is pickled, and what cannot be read is kept and flagged.
"""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import structlog
from apscheduler.jobstores.base import BaseJobStore

from postlude.ledger.clock import now
from postlude.ledger.queries import schedules
from postlude.ledger.transitions import schedule, tick
from postlude.policy import misfire
from postlude.scheduler.job import DueJob
from postlude.schedules import spec
from postlude.schedules.trigger import build

if TYPE_CHECKING:
    from datetime import datetime

    from postlude.ledger.ledger import Ledger
    from postlude.ledger.queries.schedules import DueSchedule

log = structlog.get_logger()

POLL = timedelta(seconds=1)
"""How soon a schedule that another process has made or changed is noticed."""
AT_ONCE = 500
"""Schedules in one pass, so that its transaction stays short; with more due, the next follows."""


class LedgerJobStore(BaseJobStore):  # type: ignore[misc] # APScheduler ships no types
    """Used by the thread of APScheduler's loop alone, in the order of the methods below."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._due: list[DueJob] = []
        self._firings: list[tick.Firing] = []

    def begin(self) -> None:
        """Forget an abandoned pass and read what is due, claiming nothing; raises LedgerError."""
        self._due, self._firings = [], []
        self._ledger.must_fit()
        at = now()
        with self._ledger.read() as connection:
            rows = schedules.due(connection, now=at, limit=AT_ONCE)
        for row in rows:
            self._read(row, at)

    def get_due_jobs(self, _now: datetime) -> list[DueJob]:
        """Return what is due, the longest due first."""
        return self._due

    def update_job(self, job: DueJob) -> None:
        """Let the schedule go on to its next time."""
        self._gather(job, job.next_run_time)

    def remove_job(self, job_id: str) -> None:
        """Let a schedule that has no further time rest; its row stays, so that it never repeats."""
        for job in self._due:
            if job.id == job_id:
                self._gather(job, None)

    def get_next_run_time(self) -> datetime:
        """Write the pass and say when to look again. Raises LedgerError; then all is still due."""
        if self._firings:
            _announce(self._ledger.write(partial(tick.record, firings=self._firings, now=now())))
        if len(self._due) >= AT_ONCE:
            return now()
        with self._ledger.read() as connection:
            upcoming = schedules.next_at(connection)
        latest = now() + POLL
        return min(upcoming, latest) if upcoming else latest

    def lookup_job(self, _job_id: str) -> None:
        """Return nothing: a job lives for one pass."""

    def get_all_jobs(self) -> list[DueJob]:
        """Return nothing: a job lives for one pass."""
        return []

    def add_job(self, job: object) -> NoReturn:
        """Refuse."""
        message = f"{job} cannot be added here; declare a schedule with @cron or @every"
        raise NotImplementedError(message)

    def remove_all_jobs(self) -> NoReturn:
        """Refuse."""
        message = "schedules are not removed through APScheduler"
        raise NotImplementedError(message)

    def _read(self, row: DueSchedule, at: datetime) -> None:
        """Turn a row into a job. One that makes no sense is set aside, and stops no other."""
        try:
            trigger = build(
                spec.read(json.loads(row.trigger)),
                zone=spec.zone(row.timezone),
                anchor=row.created_at,
            )
            plan = misfire.plan(
                trigger,
                first=row.next_at,
                now=at,
                policy=spec.misfire(row.misfire),
                window=row.misfire_window,
            )
        except Exception as error:
            log.exception("schedule.broken", schedule=row.id)
            self._set_aside(row, f"{type(error).__name__}: {error}")
        else:
            self._due.append(DueJob(row, trigger, plan))

    def _gather(self, job: DueJob, next_at: datetime | None) -> None:
        """Note what the pass will write about ``job``; nothing without ticks is ever advanced."""
        row = job.row
        if job.ticks is None:
            self._set_aside(row, "its tick could not be made; the scheduler's log says why")
        else:
            self._firings.append(
                tick.Firing(row.id, row.incarnation, row.next_at, next_at, job.ticks)
            )

    def _set_aside(self, row: DueSchedule, reason: str) -> None:
        flag = partial(
            schedule.set_aside, id_=row.id, incarnation=row.incarnation, reason=reason, now=now()
        )
        self._ledger.write(flag)


def _announce(recorded: list[tuple[tick.Firing, tick.Tick]]) -> None:
    """Log each tick that this pass has won."""
    for firing, each in recorded:
        at = each.scheduled_for.isoformat()
        if each.task:
            log.info(
                "schedule.ticked", schedule=firing.schedule, scheduled_for=at, task_id=each.task.id
            )
        else:
            log.warning(
                "schedule.skipped", schedule=firing.schedule, scheduled_for=at, reason=each.reason
            )
