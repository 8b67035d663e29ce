"""What is measured, in order; each scenario notes its figures under keys that begin with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.scenarios import (
    accept,
    accept_busy,
    idle,
    limits,
    memory,
    run,
    schedules,
    work,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.bench import Bench

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "limits": limits.measure,
    "accept": accept.measure,
    "accept-busy": accept_busy.measure,
    "run": run.measure,
    "idle": idle.measure,
    "schedules": schedules.measure,
    "memory": memory.measure,
    "work": work.measure,
}
