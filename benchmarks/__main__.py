"""``python -m benchmarks [SCENARIO …]``: measures, prints, writes, and fails where a goal is missed.

``QUICK=1`` measures less, with eased goals. Only a full run of all scenarios replaces the results
that are part of the repository; any other is written to ``build/benchmarks``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from tempfile import mkdtemp

from benchmarks import machine, results
from benchmarks.bench import Bench
from benchmarks.lineup import LINEUP
from benchmarks.plan import FULL, QUICK
from benchmarks.program import ROOT, BenchError
from benchmarks.report import FIGURES_HEAD, GOALS_HEAD, figure_rows, goal_rows, plain
from benchmarks.scenarios import SCENARIOS
from benchmarks.services import Services
from benchmarks.verdict import exit_code

BROKEN = 2


def main(arguments: list[str]) -> int:
    """Run the benchmark; returns 0, 1 if a goal was missed, 2 if Postlude could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    chosen = parser.parse_args(arguments).scenario or list(SCENARIOS)
    if unknown := set(chosen) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    plan = QUICK if os.environ.get("QUICK") else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(BROKEN))  # cleaning up all the same
    name = f"bench{os.getpid()}"
    folder = Path(mkdtemp(prefix=name))
    services = Services({each.service for each in LINEUP if each.service}, name)
    bench = Bench(plan, services, folder, name)
    for kind, reason in services.absent.items():
        bench.say(f"{kind} takes no part: {reason}")
    try:
        for each in SCENARIOS:
            if each in chosen:
                SCENARIOS[each](bench)
    except BenchError as error:
        bench.say(str(error))
        return BROKEN
    finally:
        services.close()
        shutil.rmtree(folder, ignore_errors=True)
    run = results.Run(machine.describe(), plan.slack, bench.measurements)
    sys.stdout.write(_tables(run))
    whole = not plan.quick and len(set(chosen)) == len(SCENARIOS)
    _store(run, whole=whole)
    return exit_code(run.verdicts)


def _tables(run: results.Run) -> str:
    parts = []
    for prefix, title in results.SECTIONS.items():
        rows = figure_rows(run.measurements, prefix)
        if rows:
            parts.append(f"{title}\n{plain(FIGURES_HEAD, rows)}")
    parts.append(f"Goals\n{plain(GOALS_HEAD, goal_rows(run.verdicts))}")
    return "\n" + "\n\n".join(parts) + "\n"


def _store(run: results.Run, *, whole: bool) -> None:
    folder = ROOT / "build" / "benchmarks"
    if whole:
        files = (
            ROOT / "benchmarks" / "results.json",
            ROOT / "docs" / "benchmarks.svg",
            ROOT / "docs" / "benchmarks.md",
        )
    else:
        files = (folder / "results.json", folder / "benchmarks.svg", folder / "benchmarks.md")
    results.write(run, *files)
    sys.stdout.write(f"\nwritten: {', '.join(str(each.relative_to(ROOT)) for each in files)}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
