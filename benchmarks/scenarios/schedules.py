"""Ten thousand schedules that are due at the same instant: how long until all have ticked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks import ledger_rows
from benchmarks.program import wait_until
from benchmarks.stage import POSTLUDE
from postlude.ledger import clock

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.stage import Stage

AHEAD = timedelta(seconds=2)
"""How far in the future they are due: a scheduler notices new ones within a second."""
PATIENCE_S = 60.0
_COUNT = text("SELECT count(*) FROM postlude_ticks WHERE schedule LIKE 'bench-%'")


def measure(bench: Bench) -> None:
    """Run one scheduler and no worker; every tick makes a task."""
    for number in range(1 if bench.plan.quick else bench.plan.rounds):
        with bench.stage("schedules", 1) as stage:
            _round(bench, stage)
        bench.say(f"schedules: round {number + 1}")


def _round(bench: Bench, stage: Stage) -> None:
    count = bench.plan.schedules
    stage.make_ledger()
    argv = ("python", "-m", "scheduler")
    with stage.run("scheduler", *argv, POSTLUDE_ACTORS=POSTLUDE) as scheduler:
        scheduler.wait_for("scheduler.started")
        with stage.ledger() as ledger:
            due = clock.now() + AHEAD
            ledger_rows.schedules(ledger, stage.queue, count, due=due, name="bench-")

            def done() -> bool:
                scheduler.check()
                with ledger.read() as connection:
                    return int(connection.execute(_COUNT).scalar_one()) >= count

            wait_until(done, PATIENCE_S, f"{count} schedules did not tick")
            late = (clock.now() - due).total_seconds()
    title = f"{count:,} schedules due at once, until the last tick"
    bench.note("schedules.last", late, title=title, unit="s")
