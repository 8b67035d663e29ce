"""The README's chart: bars for two questions, as an SVG that is readable on light and dark pages."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.report import number

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement, Measurements

WIDTH, MARGIN = 880, 20
BAR_LEFT, BAR_WIDTH = 330, 450
ROW, BAR, HEAD, GAP = 42, 18, 36, 18
GROUPS = {
    "accept.": "HTTP requests per second that accept a task (one uvicorn process)",
    "run.": "Tasks per second that workers run (no-op task)",
}
HIDDEN = frozenset({"accept.dramatiq-async", "accept.celery-async", "run.rq", "run.postlude-full"})
"""Variants of a contestant that is there already; the documentation has them."""
STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
    .page { fill: #ffffff; stroke: #d1d9e0 }
    .head { font-weight: 600; font-size: 14px }
    .small { font-size: 11px; fill: #59636e }
    .peer { fill: #b1bac4 } .limit { fill: none; stroke: #818b98; stroke-dasharray: 3 3 }
    .ours { fill: #1a7f5a }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; stroke: #3d444d } text { fill: #e6edf3 } .small { fill: #9198a1 }
      .peer { fill: #57606a } .limit { stroke: #9198a1 } .ours { fill: #3fb98a }
    }"""


def draw(measurements: Measurements) -> str:
    """Return the chart of a run: Postlude's bars in colour, peers' in grey, the raw limit dashed.

    It has a ground of its own, since an image cannot know whether its page is dark, only what the
    reader's system prefers.
    """
    parts: list[str] = []
    top = MARGIN
    for prefix, title in GROUPS.items():
        found = [
            each
            for key, each in measurements.by_key.items()
            if key.startswith(prefix) and key not in HIDDEN
        ]
        if found:
            parts += _group(title, sorted(found, key=lambda each: -each.median), top)
            top += HEAD + ROW * len(found) + GAP
    page = f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{top - 1}" rx="8"/>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}"'
        ' role="img" aria-label="Benchmark: Postlude and its peers">'
    )
    return "\n".join([head, f"  <style>{STYLE}\n  </style>", f"  {page}", *parts, "</svg>\n"])


def _group(title: str, found: list[Measurement], top: int) -> list[str]:
    longest = found[0].median
    parts = [f'  <text class="head" x="{MARGIN}" y="{top + 16}">{escape(title)}</text>']
    for position, each in enumerate(found):
        parts += _bar(each, top + HEAD + position * ROW, each.median / longest * BAR_WIDTH)
    return parts


def _bar(measurement: Measurement, top: int, length: float) -> list[str]:
    value = number(measurement.median)
    middle, place = top + BAR - 5, f'x="{BAR_LEFT}" y="{top}"'
    return [
        f'  <text x="{MARGIN}" y="{middle}">{escape(measurement.title)}</text>',
        f'  <text class="small" x="{BAR_LEFT}" y="{middle + 16}">{escape(measurement.keeps)}</text>',
        f'  <rect class="{_kind(measurement)}" {place} width="{length:.1f}" height="{BAR}" rx="2"/>',
        f'  <text x="{BAR_LEFT + length + 8:.1f}" y="{middle}">{value}</text>',
    ]


def _kind(measurement: Measurement) -> str:
    if ".postlude" in measurement.key:
        return "ours"
    return "limit" if measurement.key == "accept.bare" else "peer"
