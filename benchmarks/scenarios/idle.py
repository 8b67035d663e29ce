"""A system that has nothing to do: what that costs, and how long a task waits for its start then.

Tasks come one by one, unevenly spaced. The wait is from the call of ``send`` (so storing or
publishing is part of it) to the first line of the task; for Postlude also from the moment at which
an HTTP client has its answer. The CPU is that of a worker with eight threads, with no task at all.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.lineup import LINEUP, POSTLUDE_1X8, POSTLUDE_2X8, POSTLUDE_FULL
from benchmarks.percentile import percentile

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.lineup import Contestant
    from benchmarks.program import Program
    from benchmarks.stage import Stage

EVERY_S = 0.025
WARM_UP = 5
"""The first tasks find connections and caches cold."""
SETTLE_S = 1.0
"""What a worker still does after a task, such as importing."""
PATIENCE_S = 30.0
PARTS = {"p50": 50, "p99": 99}


def measure(bench: Bench) -> None:
    """Measure each contestant once; the figures are percentiles over many tasks."""
    for each in LINEUP:
        if each in {POSTLUDE_2X8, POSTLUDE_FULL}:
            continue
        keys = [f"latency.{each.name}.{part}" for part in PARTS]
        if bench.takes_part(keys, each.service, quick=not each.peer):
            bench.attempt(keys[0], partial(_sent, bench, each), peer=each.peer)
    _answered(bench)
    bench.say("idle: done")


def _sent(bench: Bench, contestant: Contestant) -> None:
    count = bench.plan.latency_tasks
    with bench.stage(f"idle-{contestant.name}", count, contestant.service) as stage:
        if not contestant.peer:
            stage.make_ledger()
        stage.send(contestant.path, prepare=True)
        with stage.workers(contestant) as programs:
            stage.send(contestant.path, "--count", f"{WARM_UP}")
            stage.wait_for_runs(WARM_UP, programs, PATIENCE_S)
            stage.send(contestant.path, "--count", f"{count}", "--every", f"{EVERY_S}")
            stage.wait_for_runs(WARM_UP + count, programs, PATIENCE_S)
            _note_waits(bench, stage, contestant.name, f"{contestant.title}, from send()")
            if not contestant.peer:
                _note_cpu(bench, programs[0])


def _answered(bench: Bench) -> None:
    """Measure from the client's side of HTTP."""
    count = bench.plan.latency_tasks
    with bench.stage("idle-http", count) as stage:
        stage.make_ledger()
        with stage.served("postlude_sqlite") as (_, url), stage.workers(POSTLUDE_1X8) as programs:
            stage.load(url, connections=1, rate=1 / EVERY_S, count=WARM_UP)
            stage.wait_for_runs(WARM_UP, programs, PATIENCE_S)
            stage.load(url, connections=1, rate=1 / EVERY_S, count=count)
            stage.wait_for_runs(WARM_UP + count, programs, PATIENCE_S)
        _note_waits(bench, stage, "http", f"{POSTLUDE_1X8.title}, from the HTTP answer")


def _note_waits(bench: Bench, stage: Stage, name: str, title: str) -> None:
    tally = stage.tally
    waits = [
        (tally.started[number] - tally.since[number]) * 1000
        for number in range(WARM_UP, tally.capacity)
    ]
    for part, percent in PARTS.items():
        value = percentile(waits, percent)
        bench.note(f"latency.{name}.{part}", value, title=f"{title}, {part}", unit="ms")


def _note_cpu(bench: Bench, worker: Program) -> None:
    seconds = bench.plan.idle_s
    time.sleep(SETTLE_S)
    before = worker.consumption()
    time.sleep(seconds)
    after = worker.consumption()
    if before is None or after is None:
        bench.measurements.lacks("idle.cpu", "this system does not tell in /proc")
        return
    percent = (after.cpu_s - before.cpu_s) / seconds * 100
    title = f"idle worker, 1 × 8 threads, over {seconds:g} s, of one core"
    bench.note("idle.cpu", percent, title=title, unit="%")
