"""A run on disk: results.json, and what is drawn and written from it.

Everything but the samples follows from them, so a page or a chart is always made anew from the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import chart
from benchmarks.goals import GOALS
from benchmarks.measurement import Measurement, Measurements
from benchmarks.report import FIGURES_HEAD, GOALS_HEAD, figure_rows, goal_rows, markdown
from benchmarks.verdict import Verdict, judge

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = "<!-- results: written by make bench -->"
SECTIONS = {
    "accept.": "Accepting a task over HTTP",
    "run.": "Running tasks",
    "send-1.": "Sending, one sender",
    "send-8.": "Sending, eight senders",
    "latency.": "Waiting for the start, idle system",
    "accept-busy.": "Accepting beside busy workers",
    "idle.": "Doing nothing",
    "schedules.": "Schedules",
    "memory.": "Memory",
    "work.": "The ledger's work for a task",
    "limits.": "Raw limits",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run; ``slack`` has eased its goals."""

    machine: dict[str, str]
    slack: float
    measurements: Measurements

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of each goal."""
        return [judge(goal, self.measurements, slack=self.slack) for goal in GOALS]

    def document(self) -> dict[str, Any]:
        """Return it as JSON; the verdicts are there for readers, :func:`read` judges anew."""
        return {
            "machine": self.machine,
            "slack": self.slack,
            "goals": [
                {
                    "goal": each.goal.title,
                    "subject": each.goal.subject,
                    "against": each.goal.against,
                    "bar": each.bar,
                    "value": each.value,
                    "unit": each.goal.unit,
                    "outcome": each.outcome.value,
                    "reason": each.reason,
                }
                for each in self.verdicts
            ],
            "figures": [
                {
                    "key": each.key,
                    "title": each.title,
                    "unit": each.unit,
                    "keeps": each.keeps,
                    "samples": each.samples,
                    "extras": each.extras,
                }
                for each in self.measurements.by_key.values()
            ],
            "missing": self.measurements.missing,
        }


def read(document: dict[str, Any]) -> Run:
    """Return the run that ``document`` tells of."""
    measurements = Measurements()
    measurements.by_key = {each["key"]: Measurement(**each) for each in document["figures"]}
    measurements.missing = document["missing"]
    return Run(document["machine"], document["slack"], measurements)


def page(run: Run) -> str:
    """Return the results as Markdown: the machine, the goals, every figure."""
    machine = "; ".join(f"{name} {value}" for name, value in run.machine.items())
    parts = [f"Measured: {machine}.", "### Goals", markdown(GOALS_HEAD, goal_rows(run.verdicts))]
    for prefix, title in SECTIONS.items():
        rows = figure_rows(run.measurements, prefix)
        if rows:
            parts += [f"### {title}", markdown(FIGURES_HEAD, rows)]
    return "\n\n".join(parts) + "\n"


def write(run: Run, json_file: Path, svg_file: Path, page_file: Path) -> None:
    """Store the run; in ``page_file`` everything from the marker on is replaced."""
    text = json.dumps(run.document(), indent=1, ensure_ascii=False) + "\n"
    for folder in {json_file.parent, svg_file.parent, page_file.parent}:
        folder.mkdir(parents=True, exist_ok=True)
    json_file.write_text(text, encoding="utf-8")
    svg_file.write_text(chart.draw(run.measurements), encoding="utf-8")
    before = page_file.read_text(encoding="utf-8") if page_file.exists() else ""
    before = before.partition(BEGIN)[0]
    page_file.write_text(f"{before}{BEGIN}\n\n{page(run)}", encoding="utf-8")
