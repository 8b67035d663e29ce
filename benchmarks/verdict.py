"""Whether the goals were met: a pure decision over what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from benchmarks.percentile import median_ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.goals import Goal
    from benchmarks.measurement import Measurements


class Outcome(StrEnum):
    """What became of a goal."""

    MET = "met"
    MISSED = "missed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal, the value that counts (a ratio, or a figure in the goal's unit) and the bar it met.

    ``bar`` is the goal's own number, eased in a quick run. ``reason`` says why it was not judged.
    """

    goal: Goal
    outcome: Outcome
    bar: float
    value: float | None = None
    reason: str = ""


def judge(goal: Goal, measurements: Measurements, *, slack: float = 1.0) -> Verdict:
    """Hold ``goal`` against the figures; ``slack`` below 1 eases it, as for a short and noisy run."""
    bar = (goal.at_least or 0.0) * slack if goal.against else (goal.at_most or 0.0) / slack
    for key in filter(None, (goal.subject, goal.against)):
        if key not in measurements.by_key:
            reason = measurements.missing.get(key, f"{key} was not measured in this run")
            return Verdict(goal, Outcome.NOT_JUDGED, bar, reason=reason)
    subject = measurements.by_key[goal.subject]
    if goal.against is None:
        value = subject.median
        met = value <= bar
    else:
        value = median_ratio(subject.samples, measurements.by_key[goal.against].samples)
        met = value >= bar
    return Verdict(goal, Outcome.MET if met else Outcome.MISSED, bar, value)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 1 if a goal was missed, else 0: what could not be judged is no failure."""
    return int(any(verdict.outcome is Outcome.MISSED for verdict in verdicts))
