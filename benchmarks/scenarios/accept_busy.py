"""How long accepting takes while workers run flat out on the same SQLite file.

Requests come at a steady rate over all connections, and each latency counts from when its request
was due. The backlog that keeps the workers busy is made by SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import ledger_rows
from benchmarks.lineup import POSTLUDE_2X8
from benchmarks.program import BenchError

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.stage import Stage

RATE = 200
"""Requests per second: a busy site's, not a stress test's."""
MOST_PER_SECOND = 20_000
"""Tasks that the workers may get done in a second; the backlog must outlast the load."""
OVERHEAD_S = 1.0
"""Of starting the client, in each round."""
PATIENCE_S = 30.0


def measure(bench: Bench) -> None:
    """Load the API beside two busy workers, in as many rounds as planned."""
    plan = bench.plan
    seconds = plan.rounds * (plan.warm_up_s + plan.load_s + OVERHEAD_S)
    backlog = int(seconds * MOST_PER_SECOND)
    with bench.stage("accept-busy", ledger_rows.DISTINCT) as stage:
        stage.make_ledger()
        with stage.ledger() as ledger:
            ledger_rows.queued(ledger, stage.queue, backlog)
        with stage.served("postlude_sqlite") as (_, url), stage.workers(POSTLUDE_2X8) as workers:
            stage.wait_for_runs(1000, workers, PATIENCE_S)
            stage.load(url, connections=1, count=1)
            for _ in range(plan.rounds):
                _load(bench, stage, url)
            if stage.tally.total() >= backlog:
                message = f"the backlog of {backlog} tasks was gone before the load ended"
                raise BenchError(message)
    bench.say("accept-busy: done")


def _load(bench: Bench, stage: Stage, url: str) -> None:
    plan = bench.plan
    figures = stage.load(
        url, connections=plan.connections, warm_up=plan.warm_up_s, seconds=plan.load_s, rate=RATE
    )
    for name in ("p50", "p99", "max"):
        title = f"accept at {RATE}/s beside 2 × 8 busy threads, {name}"
        bench.note(f"accept-busy.{name}", figures[name], title=title, unit="ms")
