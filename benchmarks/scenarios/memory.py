"""The memory of a worker of this application (`dramatiq actors`), and how it grows over many tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import ledger_rows
from benchmarks.stage import POSTLUDE

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.program import Program

WARM_UP = 50_000
"""Tasks after which caches and pools are filled; what comes on top is growth."""
SLOWEST = 1000
"""Tasks per second."""
MEGABYTE = 1_000_000
KEYS = ("memory.worker", "memory.growth")


def measure(bench: Bench) -> None:
    """Run tasks that were queued by SQL, and look at the worker early and late."""
    count = bench.plan.memory_tasks or bench.plan.tasks
    warm_up = min(WARM_UP, count // 2)
    with bench.stage("memory", ledger_rows.DISTINCT) as stage:
        stage.make_ledger()
        with stage.ledger() as ledger:
            ledger_rows.queued(ledger, stage.queue, count)
        argv = ("dramatiq", "actors", "-p", "1", "-t", "8")
        with stage.run("worker", *argv, POSTLUDE_ACTORS=POSTLUDE) as worker:
            stage.wait_for_runs(warm_up, [worker], 60 + warm_up / SLOWEST)
            early = _megabytes(worker)
            stage.wait_for_runs(count, [worker], count / SLOWEST)
            late = _megabytes(worker)
    if not (early and late):
        for key in KEYS:
            bench.measurements.lacks(key, "this system does not tell in /proc")
        return
    title = f"resident memory of a worker after {count:,} tasks"
    bench.note("memory.worker", late, title=title, unit="MB")
    if bench.plan.memory_tasks:
        title = f"its growth from task {warm_up:,} to task {count:,}"
        bench.note("memory.growth", late - early, title=title, unit="MB")
    else:
        bench.measurements.lacks("memory.growth", "a quick run has too few tasks to tell")
    bench.say("memory: done")


def _megabytes(worker: Program) -> float | None:
    used = worker.consumption()
    return used.largest / MEGABYTE if used else None
