"""Who takes part in the run rates: one line each, told in data so that no library is imported here.

Each has its library's defaults, and as many processes and threads as this benchmark gives Postlude
where its kind of worker has them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contestant:
    """``module`` in benchmarks/contestants has its task; ``worker`` is the command that runs it.

    ``workers``: how many of that command. ``share``: which part of the tasks it gets, so that a slow
    one does not take all day. ``keeps``: what survives a crash.
    """

    name: str
    title: str
    module: str
    worker: tuple[str, ...]
    keeps: str
    service: str = ""
    workers: int = 1
    share: float = 1.0
    quick: bool = False

    @property
    def path(self) -> str:
        """The module's full name."""
        return f"benchmarks.contestants.{self.module}"

    @property
    def peer(self) -> bool:
        """Say whether it is somebody else's."""
        return self.module != "postlude_sqlite"


def _postlude(name: str, processes: int, *, quick: bool, where: str = "on SQLite") -> Contestant:
    return Contestant(
        f"postlude-{name}",
        f"Postlude {where}, {processes} × 8 threads",
        "postlude_sqlite",
        ("dramatiq", "benchmarks.contestants.postlude_sqlite", "-p", f"{processes}", "-t", "8"),
        keeps="durable: each commit synced; attempts and results stored",
        quick=quick,
    )


_PLANNED = "durable queue, but publishing is not confirmed; no results"
_REDIS = "as durable as Redis is configured"

POSTLUDE_2X8 = _postlude("2x8", 2, quick=True)
POSTLUDE_1X8 = _postlude("1x8", 1, quick=False)
POSTLUDE_FULL = _postlude("full", 2, quick=True, where="in a full ledger")

LINEUP = (
    POSTLUDE_2X8,
    POSTLUDE_FULL,
    POSTLUDE_1X8,
    Contestant(
        "dramatiq",
        "Dramatiq on RabbitMQ, 2 × 8 threads",
        "dramatiq_rabbitmq",
        ("dramatiq", "benchmarks.contestants.dramatiq_rabbitmq", "-p", "2", "-t", "8"),
        keeps=_PLANNED,
        service="RabbitMQ",
        quick=True,
    ),
    Contestant(
        "celery",
        "Celery on RabbitMQ, 2 processes",
        "celery_rabbitmq",
        (
            *("celery", "-A", "benchmarks.contestants.celery_rabbitmq", "worker", "-c", "2"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ),
        keeps=f"{_PLANNED}; a task is acknowledged before it runs",
        service="RabbitMQ",
    ),
    Contestant(
        "huey",
        "huey on SQLite, 8 threads",
        "huey_sqlite",
        ("huey_consumer", "benchmarks.contestants.huey_sqlite.huey", "-w", "8", "-k", "thread"),
        keeps="commits synced; a task is deleted before it runs",
        quick=True,
    ),
    Contestant(
        "taskiq",
        "taskiq on RabbitMQ, 2 processes",
        "taskiq_rabbitmq",
        ("taskiq", "worker", "benchmarks.contestants.taskiq_rabbitmq:broker", "--workers", "2"),
        keeps="quorum queue, publishing is confirmed; no results",
        service="RabbitMQ",
        share=0.5,
    ),
    Contestant(
        "arq",
        "arq on Redis, 2 processes",
        "arq_redis",
        ("arq", "benchmarks.contestants.arq_redis.WorkerSettings"),
        keeps=f"{_REDIS}; results stored",
        service="Redis",
        workers=2,
        share=0.25,
    ),
    Contestant(
        "procrastinate",
        "procrastinate on PostgreSQL, 2 processes × 8",
        "procrastinate_postgresql",
        (
            *("procrastinate", "--app", "benchmarks.contestants.procrastinate_postgresql.app"),
            *("worker", "--concurrency", "8"),
        ),
        keeps="durable: each commit synced; attempts stored",
        service="PostgreSQL",
        workers=2,
        share=0.1,
    ),
    Contestant(
        "rq-simple",
        "RQ on Redis, 2 × SimpleWorker",
        "rq_redis",
        ("python", "-m", "benchmarks.contestants.rq_redis", "--simple"),
        keeps=f"{_REDIS}; results stored",
        service="Redis",
        workers=2,
        share=0.1,
    ),
    Contestant(
        "rq",
        "RQ on Redis, 2 × Worker (a fork for each task)",
        "rq_redis",
        ("python", "-m", "benchmarks.contestants.rq_redis"),
        keeps=f"{_REDIS}; results stored",
        service="Redis",
        workers=2,
        share=0.02,
    ),
)
