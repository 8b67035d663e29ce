"""The goals for the embedded topology, as ratios in one run and as limits.

A goal names figures by their keys (``docs/benchmarks.md`` lists them). Ratios hold from machine to
machine; a limit in milliseconds or megabytes is a promise about an ordinary one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """``subject`` is at least ``at_least`` times ``against``, or not above ``at_most``."""

    title: str
    subject: str
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "×"


def _ratio(title: str, subject: str, against: str, at_least: float) -> Goal:
    return Goal(title, subject, against=against, at_least=at_least)


def _limit(title: str, subject: str, at_most: float, unit: str) -> Goal:
    return Goal(title, subject, at_most=at_most, unit=unit)


_ACCEPT = "accept of one task over HTTP"
_RUN = "run rate"
_STARTED = "start of a task on an idle system"

GOALS = (
    _ratio(f"{_ACCEPT}, against a bare endpoint", "accept.postlude", "accept.bare", 0.5),
    _ratio(
        f"{_ACCEPT}, against BackgroundTasks", "accept.postlude", "accept.background-tasks", 2.0
    ),
    _ratio(f"{_ACCEPT}, against Celery's .delay()", "accept.postlude", "accept.celery", 3.0),
    _limit("accept p99 beside busy workers", "accept-busy.p99", 50.0, "ms"),
    _ratio(f"{_RUN}, against Dramatiq on RabbitMQ", "run.postlude-2x8", "run.dramatiq", 2.5),
    _ratio(f"{_RUN}, against Celery", "run.postlude-2x8", "run.celery", 5.0),
    _ratio(f"{_RUN}, against huey on SQLite", "run.postlude-2x8", "run.huey", 4.0),
    _ratio(
        f"{_RUN} in a full ledger, against an empty one",
        "run.postlude-full",
        "run.postlude-2x8",
        0.8,
    ),
    _limit(f"{_STARTED}, from .send(), p50", "latency.postlude-1x8.p50", 5.0, "ms"),
    _limit(f"{_STARTED}, from .send(), p99", "latency.postlude-1x8.p99", 25.0, "ms"),
    _limit(f"{_STARTED}, from the HTTP answer, p50", "latency.http.p50", 5.0, "ms"),
    _limit(f"{_STARTED}, from the HTTP answer, p99", "latency.http.p99", 25.0, "ms"),
    _limit("CPU of an idle worker", "idle.cpu", 1.0, "%"),
    _limit("10,000 schedules due at once, all ticked after", "schedules.last", 2.0, "s"),
    _limit("memory of a worker process", "memory.worker", 80.0, "MB"),
    _limit("growth of a worker over 1,000,000 tasks", "memory.growth", 5.0, "MB"),
)
