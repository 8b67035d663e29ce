"""Tasks per second: sent with no worker there, then run by workers that find them waiting.

The first tenth warms up and is not counted. A peer's clock stops when its last task has been
entered, Postlude's when the last outcome is on disk. Postlude also runs in a ledger that is full of
finished and scheduled tasks, where what has run stays.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks import ledger_rows
from benchmarks.consumption import Usage
from benchmarks.lineup import LINEUP, POSTLUDE_FULL
from benchmarks.program import wait_until

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.lineup import Contestant
    from benchmarks.program import Program
    from benchmarks.stage import Stage

SENDERS = (1, 8)
"""Threads, or coroutines where the library has those, that send half of the tasks each."""
WARM_UP = 0.1
SLOWEST = 20
"""Tasks per second below which a contestant counts as stuck."""
PATIENCE_S = 30.0
_UNFINISHED = text("SELECT 1 FROM postlude_tasks WHERE state IN ('queued', 'running') LIMIT 1")


def measure(bench: Bench) -> None:
    """Let all contestants run in turn, in as many rounds as planned."""
    with ExitStack() as stack:
        full = stack.enter_context(bench.stage(POSTLUDE_FULL.name, 1))
        _fill(bench, full)
        for number in range(bench.plan.rounds):
            for each in LINEUP:
                keys = [f"run.{each.name}", *(f"send-{n}.{each.name}" for n in SENDERS)]
                if bench.takes_part(keys, each.service, quick=each.quick):
                    bench.attempt(keys[0], partial(_round, bench, each, full), peer=each.peer)
            bench.say(f"run: round {number + 1}")


def _fill(bench: Bench, stage: Stage) -> None:
    rows = bench.plan.rows
    stage.make_ledger()
    with stage.ledger() as ledger:
        ledger_rows.finished(ledger, stage.queue, rows)
        ledger_rows.scheduled(ledger, stage.queue, rows)
    bench.say(f"run: {rows:,} finished and as many scheduled tasks are there")


def _round(bench: Bench, contestant: Contestant, full: Stage) -> None:
    count = max(100, round(bench.plan.tasks * contestant.share / 2) * 2)
    if contestant is POSTLUDE_FULL:
        full.clear(count)
        _perform(bench, contestant, full)
        return
    with bench.stage(f"run-{contestant.name}", count, contestant.service) as stage:
        if not contestant.peer:
            stage.make_ledger()
        _perform(bench, contestant, stage)


def _perform(bench: Bench, contestant: Contestant, stage: Stage) -> None:
    count = stage.tally.capacity
    options = ("--count", f"{count}", "--senders", *(f"{senders}" for senders in SENDERS))
    sent = stage.send(contestant.path, *options, prepare=True)
    for senders, used in zip(SENDERS, sent, strict=True):
        bench.note(
            f"send-{senders}.{contestant.name}",
            used["rate"],
            title=contestant.title,
            unit="tasks/s",
            keeps=contestant.keeps,
            cpu_us=used["cpu_s"] / (count / len(SENDERS)) * 1e6,
        )
    with stage.workers(contestant) as programs:
        _run(bench, contestant, stage, programs)


def _run(bench: Bench, contestant: Contestant, stage: Stage, programs: list[Program]) -> None:
    count = stage.tally.capacity
    stage.wait_for_runs(1, programs, PATIENCE_S)
    used = Usage(*programs)
    seen = stage.tally.total()
    stage.wait_for_runs(count, programs, PATIENCE_S + count / SLOWEST)
    usage = used.per(max(1, count - seen))
    ended = 0.0 if contestant.peer else _settled(stage)
    memory = [each.largest / 1e6 for program in programs if (each := program.consumption())]
    bench.note(
        f"run.{contestant.name}",
        rate(list(stage.tally.started), ended),
        title=contestant.title,
        unit="tasks/s",
        keeps=contestant.keeps,
        memory_mb=max(memory, default=None),
        **usage,
    )


def _settled(stage: Stage) -> float:
    """Return when the ledger has the outcome of every task."""
    with stage.ledger() as ledger:

        def done() -> bool:
            with ledger.read() as connection:
                return connection.execute(_UNFINISHED).first() is None

        wait_until(done, PATIENCE_S, "not every outcome was stored")
    return time.monotonic()


def rate(started: list[float], ended: float = 0.0) -> float:
    """Return tasks per second from the instants at which they were entered, less the warm-up.

    ``ended`` is when the last of them was done, if that is known.
    """
    ordered = sorted(started)
    skipped = int(len(ordered) * WARM_UP)
    return (len(ordered) - skipped) / (max(ended, ordered[-1]) - ordered[skipped])
