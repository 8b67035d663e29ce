"""The ledger's own work for one task: each transition timed inside its transaction, in batches.

Python and SQLite together, in one thread that has nothing else to do, by the calls that an API and a
worker make under load; the commit is told apart, and is the only part that waits for the disk.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import uuid_utils

from postlude.ledger import clock
from postlude.ledger.task import NewTask
from postlude.ledger.transitions.accept import accept_all
from postlude.ledger.transitions.claim import claim
from postlude.ledger.transitions.mark import mark_started
from postlude.ledger.transitions.outcome import Outcome, finish_all
from postlude.ledger.transitions.release import release_all
from postlude.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench
    from postlude.ledger.ledger import Ledger
    from postlude.ledger.statement import Tx
    from postlude.ledger.task import Claimed

BATCH = 128
OWNER = str(uuid_utils.uuid7())
ACTOR = "note_run"
TITLES = {
    "accept": "accept, a row",
    "release": "release, a row",
    "claim": "claim, a row",
    "mark": "mark as started, a row (long tasks only)",
    "outcome": "outcome and attempt, a row",
    "commit": f"commit of {BATCH} rows, a row",
}
PAID_ONCE = ("accept", "release", "claim", "outcome")
"""What every task that is added over HTTP pays, besides its share of four commits."""


class _Work:
    """Runs batches through their transitions, and knows what each cost."""

    def __init__(self, ledger: Ledger, queue: str) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in TITLES}
        self._ledger = ledger
        self._queue = queue

    def batch(self) -> None:
        """Take one batch from its acceptance to its outcomes."""
        tasks = [self._task(number) for number in range(BATCH)]
        now = clock.now()
        self._time("accept", lambda tx: accept_all(tx, tasks, owner=OWNER))
        ids = [task.id for task in tasks]
        self._time("release", lambda tx: release_all(tx, ids, owner=OWNER, now=now))
        held: list[Claimed] = []
        self._time("claim", lambda tx: held.extend(self._claim(tx)))
        self._time("mark", lambda tx: [mark_started(tx, task, at=now) for task in held])
        outcome = Outcome(
            State.SUCCEEDED, "succeeded", started_at=now, finished_at=now, result="null"
        )
        endings = [(task, outcome) for task in held]
        self._time("outcome", lambda tx: finish_all(tx, endings, worker=OWNER))

    def _time(self, name: str, work: Callable[[Tx], object]) -> None:
        began = time.perf_counter()

        def timed(tx: Tx) -> None:
            inside = time.perf_counter()
            work(tx)
            self.seconds[name].append(time.perf_counter() - inside)

        self._ledger.write(timed)
        self.seconds["commit"].append(time.perf_counter() - began - self.seconds[name][-1])

    def _claim(self, tx: Tx) -> list[Claimed]:
        token = str(uuid_utils.uuid7())
        return claim(
            tx,
            queue=self._queue,
            actors=[ACTOR],
            owner=OWNER,
            token=token,
            now=clock.now(),
            limit=BATCH,
        )

    def _task(self, number: int) -> NewTask:
        return NewTask(
            id=str(uuid_utils.uuid7()),
            actor=ACTOR,
            queue=self._queue,
            arguments=f'{{"number": {number}}}',
            options="{}",
            priority=0,
            run_at=None,
            created_at=clock.now(),
        )


def measure(bench: Bench) -> None:
    """Time each transition; a sample is the mean of a batch."""
    with bench.stage("work", 1) as stage:
        stage.make_ledger()
        with stage.ledger() as ledger:
            work = _Work(ledger, stage.queue)
            for _ in range(bench.plan.work_batches):
                work.batch()
    for name, samples in work.seconds.items():
        for seconds in samples:
            bench.note(f"work.{name}", seconds / BATCH * 1e6, title=TITLES[name], unit="µs")
    total = sum(bench.measurements.by_key[f"work.{name}"].median for name in PAID_ONCE)
    bench.note("work.total", total, title="accept to outcome, without commits", unit="µs")
    bench.say("work: done")
