"""Percentiles and medians, by the nearest rank: each is a value that was really measured."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` % of ``values`` do not exceed.

    Raises ValueError for no values, or a percentage outside of (0, 100].
    """
    ordered = sorted(values)
    if not ordered or not 0 < percent <= 100:  # noqa: PLR2004 - percent
        message = f"there is no percentile {percent} of {len(ordered)} values"
        raise ValueError(message)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def median_ratio(subject: Sequence[float], against: Sequence[float]) -> float:
    """Return by which factor ``subject`` exceeds ``against``.

    Both were measured in the same alternating rounds, so each round is a ratio of its own and the
    median is taken of those: a machine that slows down half way through does not change it.
    """
    if len(subject) != len(against):
        return statistics.median(subject) / statistics.median(against)
    return statistics.median(a / b for a, b in zip(subject, against, strict=True))
