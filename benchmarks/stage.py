"""A stage: a folder, a queue and a tally for one contestant, and the programs that play on it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.program import PATIENCE_S, Program, command, environment, wait_until
from benchmarks.tally import Tally
from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.lineup import Contestant

POSTLUDE = "benchmarks.contestants.postlude_sqlite"
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log")
"""The same under every endpoint: what `pip install uvicorn[standard]` chooses."""


class Stage:
    """``variables`` are what the contestant's processes find everything by."""

    def __init__(
        self, folder: Path, queue: str, capacity: int, services: dict[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.queue = queue
        self.tally = self.clear(capacity)
        self.variables = environment(
            BENCH_TALLY=str(folder / "tally"),
            BENCH_FOLDER=str(folder),
            BENCH_QUEUE=queue,
            POSTLUDE_DATA_DIR=str(folder / "var"),
            **(services or {}),
        )
        self._settings = load(data_dir=folder / "var")
        self._started = 0

    def clear(self, capacity: int) -> Tally:
        """Begin a new tally; no process may be using the old one."""
        self.tally = Tally.create(self.folder / "tally", capacity)
        return self.tally

    def make_ledger(self) -> None:
        """Create Postlude's tables."""
        migrate.upgrade(self._settings)

    def send(self, module: str, *options: str, prepare: bool = False) -> list[dict[str, float]]:
        """Send tasks as ``benchmarks.sender`` does; returns what it prints."""
        argv = ["-m", "benchmarks.sender", module, *options, *(["--prepare"] if prepare else [])]
        output = self._start("sender", command("python", *argv)).finish(10 * PATIENCE_S)
        found: list[dict[str, float]] = json.loads(_last_line(output))
        return found

    @contextmanager
    def workers(self, contestant: Contestant) -> Iterator[list[Program]]:
        """Run the contestant's workers for a while.

        They are killed: what they have done is measured by then, and leaving takes some three seconds.
        """
        argv = command(*contestant.worker)
        programs = []
        try:
            for _ in range(contestant.workers):
                programs.append(self._start("worker", argv))  # noqa: PERF401 - stop what has started
            yield programs
        finally:
            for program in programs:
                program.kill()

    @contextmanager
    def run(self, name: str, *argv: str, **variables: str) -> Iterator[Program]:
        """Run a command for a while."""
        with self._start(name, command(*argv), **variables) as program:
            yield program

    @contextmanager
    def served(self, endpoint: str) -> Iterator[tuple[Program, str]]:
        """Run an endpoint under uvicorn; yields it and the URL of its tasks."""
        app = f"benchmarks.endpoints.{endpoint}:app"
        with self.run("server", "uvicorn", app, "--port", "0", *UVICORN) as server:
            yield server, server.wait_for(r"running on (http://\S+)")[1] + "/tasks"

    def load(self, url: str, **options: float) -> dict[str, float]:
        """Load ``url`` as ``benchmarks.load_client`` does; returns what it prints."""
        argv = ["-m", "benchmarks.load_client", url]
        for name, value in options.items():
            argv += [f"--{name.replace('_', '-')}", str(value)]
        output = self._start("client", command("python", *argv)).finish(PATIENCE_S)
        found: dict[str, float] = json.loads(_last_line(output))
        return found

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open Postlude's ledger here, to fill it or to look into it."""
        ledger = Ledger(self._settings)
        try:
            yield ledger
        finally:
            ledger.close()

    def wait_for_runs(self, count: int, programs: list[Program], patience_s: float) -> None:
        """Return when so many runs are counted; BenchError if that takes too long or a worker ends."""

        def done() -> bool:
            for program in programs:
                program.check()
            return self.tally.total() >= count

        wait_until(done, patience_s, f"{count} tasks did not run")

    def _start(self, name: str, argv: list[str], **variables: str) -> Program:
        self._started += 1
        log = self.folder / f"{name}{self._started}.log"
        return Program(argv, {**self.variables, **variables}, log)


def _last_line(output: str) -> str:
    """Return the last line: a library may have said something before."""
    return output.rstrip().rpartition("\n")[2]
