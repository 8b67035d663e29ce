"""What was measured: named series of samples, one sample a round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass(slots=True)
class Measurement:
    """One figure of one contestant; ``extras`` are series beside it, such as CPU seconds.

    ``keeps`` says what of a task survives a crash with this contestant, if that is the question.
    """

    key: str
    title: str
    unit: str
    keeps: str = ""
    samples: list[float] = field(default_factory=list)
    extras: dict[str, list[float]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The figure that is quoted."""
        return statistics.median(self.samples)

    def beside(self, name: str) -> float | None:
        """Return the median of a series beside it; None if there is none."""
        return statistics.median(self.extras[name]) if self.extras.get(name) else None


class Measurements:
    """All of a run, by key, and why others are missing."""

    def __init__(self) -> None:
        self.by_key: dict[str, Measurement] = {}
        self.missing: dict[str, str] = {}

    def note(
        self,
        key: str,
        value: float,
        *,
        title: str,
        unit: str,
        keeps: str = "",
        **extras: float | None,
    ) -> None:
        """Add one sample to the series ``key``, which begins with it if it is the first."""
        series = self.by_key.setdefault(key, Measurement(key, title, unit, keeps))
        series.samples.append(value)
        for name, extra in extras.items():
            if extra is not None:
                series.extras.setdefault(name, []).append(extra)

    def lacks(self, key: str, reason: str) -> None:
        """Say why there is no figure ``key``; what has been measured of it counts no more."""
        self.by_key.pop(key, None)
        self.missing[key] = reason
