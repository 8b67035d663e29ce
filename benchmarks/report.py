"""A run as tables: for the terminal and for the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.measurement import Measurement, Measurements
    from benchmarks.verdict import Verdict

MARKS = {Outcome.MET: "met", Outcome.MISSED: "MISSED", Outcome.NOT_JUDGED: "not judged"}
GOALS_HEAD = ("goal", "bar", "measured", "")
FIGURES_HEAD = (
    "what",
    "median",
    "lowest – highest",
    "own CPU",
    "p50 / p99",
    "memory",
    "what it keeps",
)


def goal_rows(verdicts: Iterable[Verdict]) -> list[tuple[str, ...]]:
    """Return a row for each goal: what, the bar, what was measured, whether that meets it."""
    return [
        (
            verdict.goal.title,
            f"{'≥' if verdict.goal.against else '≤'} {quantity(verdict.bar, verdict.goal.unit)}",
            "–" if verdict.value is None else quantity(verdict.value, verdict.goal.unit),
            MARKS[verdict.outcome] + (f": {verdict.reason}" if verdict.reason else ""),
        )
        for verdict in verdicts
    ]


def figure_rows(measurements: Measurements, prefix: str) -> list[tuple[str, ...]]:
    """Return a row for each figure whose key begins with ``prefix``, and for each that is missing."""
    rows = [
        _figure_row(measurement)
        for key, measurement in measurements.by_key.items()
        if key.startswith(prefix)
    ]
    missing = [
        (key, "–", *([""] * 4), reason)
        for key, reason in measurements.missing.items()
        if key.startswith(prefix)
    ]
    return rows + missing


def _figure_row(measurement: Measurement) -> tuple[str, ...]:
    cpu, memory = measurement.beside("cpu_us"), measurement.beside("memory_mb")
    p50, p99 = measurement.beside("p50_ms"), measurement.beside("p99_ms")
    return (
        measurement.title,
        quantity(measurement.median, measurement.unit),
        f"{number(min(measurement.samples))} – {number(max(measurement.samples))}",
        "" if cpu is None else quantity(cpu, "µs"),
        "" if p50 is None or p99 is None else f"{number(p50)} / {number(p99)} ms",
        "" if memory is None else quantity(memory, "MB"),
        measurement.keeps,
    )


def number(value: float) -> str:
    """Write a figure with three significant digits, thousands apart."""
    if abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"  # noqa: PLR2004


def quantity(value: float, unit: str) -> str:
    """Write a figure with its unit."""
    return f"{number(value)} {unit}".strip()


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay a table out for a terminal; columns that are empty in every row are left out."""
    kept = [
        index
        for index in range(len(head))
        if any(row[index] for row in rows) or index < 2  # noqa: PLR2004
    ]
    table = [[row[index] for index in kept] for row in (head, *rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(kept))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay a table out for the documentation."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
