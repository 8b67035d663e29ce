"""One run of the benchmark: its plan, its servers, its folder, and what it has measured so far."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.measurement import Measurements
from benchmarks.program import BenchError
from benchmarks.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from benchmarks.plan import Plan
    from benchmarks.services import Services


class Bench:
    """What the scenarios share."""

    def __init__(self, plan: Plan, services: Services, folder: Path, name: str) -> None:
        self.plan = plan
        self.services = services
        self.measurements = Measurements()
        self.note = self.measurements.note
        self._folder = folder
        self._name = name
        self._stages = 0
        self._began = time.monotonic()

    @contextmanager
    def stage(self, name: str, capacity: int, service: str = "") -> Iterator[Stage]:
        """Give a contestant an empty stage; afterwards nothing is left of it."""
        self._stages += 1
        folder = self._folder / f"{self._stages}-{name}"
        queue = f"{self._name}-{name}"
        server = self.services.found.get(service)
        if server:
            server.empty(queue)
        try:
            yield Stage(folder, queue, capacity, self.services.variables)
        finally:
            if server:
                server.empty(queue)
            shutil.rmtree(folder, ignore_errors=True)

    def takes_part(self, keys: Iterable[str], service: str, *, quick: bool) -> bool:
        """Say whether somebody who needs ``service`` is measured; if not, note why ``keys`` are not."""
        reason = self.services.absent.get(service)
        if self.plan.quick and not quick:
            reason = "not part of a quick run"
        for key in keys if reason else ():
            self.measurements.lacks(key, reason or "")
        return reason is None

    def attempt(self, key: str, measure: Callable[[], None], *, peer: bool) -> None:
        """Measure somebody. A peer that fails is missing and named, and stops nobody else."""
        if key in self.measurements.missing:
            return
        try:
            measure()
        except BenchError as error:
            if not peer:
                raise
            self.say(f"{key}: {error}")
            self.measurements.lacks(key, f"failed: {str(error).splitlines()[0]}")

    def say(self, text: str) -> None:
        """Tell whoever waits how far it is."""
        sys.stderr.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
