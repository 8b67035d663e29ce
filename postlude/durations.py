"""Durations as people write them: "250ms", "5s", "10m", "2h", "7d", "1h30m"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = timedelta(days=3650)
_LONGEST_TEXT = 40


def parse_duration(text: str | float | timedelta) -> timedelta:
    """Return the span that ``text`` names; a bare number counts seconds.

    Raises ValueError, naming the text and the accepted form, for anything else, for a negative span,
    for one over ten years and for fractions of a millisecond.
    """
    if isinstance(text, timedelta):
        span = text
    else:
        written = str(text).strip().lower()
        number = re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", written)
        if number:
            written += "s"
        if len(written) > _LONGEST_TEXT or not _WHOLE.fullmatch(written):
            message = f"{text!r} is not a duration; write '500ms', '30s', '5m', '1h30m' or '7d'"
            raise ValueError(message)
        try:
            span = sum((float(n) * _UNITS[u] for n, u in _PART.findall(written)), timedelta())
        except OverflowError:
            span = timedelta.max
    if not timedelta() <= span <= _LONGEST:
        message = f"{text!r} is out of range; a duration lies between 0 and ten years"
        raise ValueError(message)
    if span % _UNITS["ms"]:
        message = f"{text!r} is too fine; a duration is a whole number of milliseconds"
        raise ValueError(message)
    return span


def format_duration(span: timedelta) -> str:
    """Write ``span`` so that :func:`parse_duration` reads it back: ``timedelta(seconds=90)`` → "1m30s"."""
    left, parts = span, []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]
