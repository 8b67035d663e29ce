"""How much is measured: a full run for figures to quote, a quick one to see that nothing has broken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a run; durations in seconds."""

    quick: bool
    rounds: int
    """Alternating rounds; medians are taken over them."""
    slack: float
    """Factor that eases the goals."""
    tasks: int
    """In each measurement of a run rate."""
    load_s: float
    """Of load over HTTP in one round, after ``warm_up_s`` that do not count."""
    warm_up_s: float
    connections: int
    latency_tasks: int
    idle_s: float
    rows: int
    """Finished ones, and as many scheduled ones, in the full ledger."""
    schedules: int
    memory_tasks: int
    """Over which a worker's growth is watched; 0: it is not."""
    work_batches: int
    """Of 128 rows each, when the ledger's own work is timed."""


FULL = Plan(
    quick=False,
    rounds=3,
    slack=1.0,
    tasks=20_000,
    load_s=4.0,
    warm_up_s=1.0,
    connections=32,
    latency_tasks=400,
    idle_s=20.0,
    rows=1_000_000,
    schedules=10_000,
    memory_tasks=1_000_000,
    work_batches=80,
)
QUICK = Plan(
    quick=True,
    rounds=3,
    slack=0.8,
    tasks=2_000,
    load_s=0.8,
    warm_up_s=0.2,
    connections=32,
    latency_tasks=45,
    idle_s=3.0,
    rows=50_000,
    schedules=10_000,
    memory_tasks=0,
    work_batches=20,
)
