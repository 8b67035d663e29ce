"""One column of a table: its type, its gaps, its smallest and largest value, seen in one pass."""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from typing import Any

_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}[0-9:.+Z-]{0,24}")
_WIDER = {
    frozenset({"integer", "number"}): "number",
    frozenset({"date", "datetime"}): "datetime",
}
_NUMERIC = frozenset({"integer", "number"})
_SHOWN = 60
_COMPARED = 200


def type_of(value: str) -> str:
    """Return the narrowest of integer, number, boolean, date, datetime and text that takes it.

    A leading zero makes a text: a telephone number or a postcode is not to lose it.
    """
    if _INTEGER.fullmatch(value):
        return "integer"
    if _NUMBER.fullmatch(value) and math.isfinite(float(value)):
        return "number"
    if value.lower() in {"true", "false"}:
        return "boolean"
    if _DATE.fullmatch(value):
        return "date" if _parses(date, value) else "text"
    if _DATETIME.fullmatch(value) and _parses(datetime, value):
        return "datetime"
    return "text"


class Column:
    """What is known of a column after the values so far. Dates compare as their text does."""

    __slots__ = ("_high", "_largest", "_low", "_smallest", "name", "nulls", "type", "values")

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = ""
        self.values = self.nulls = 0
        self._low = self._high = 0.0
        self._smallest = self._largest = ""

    def add(self, raw: str) -> None:
        """Take one more value into account; a blank one is a gap."""
        value = raw.strip()
        if not value:
            self.nulls += 1
            return
        if self.type != "text":
            self._widen(type_of(value))
        if self.type in _NUMERIC:
            self._compare(int(value) if self.type == "integer" else float(value))
        value = value[:_COMPARED]
        if not self.values or value < self._smallest:
            self._smallest = value
        if not self.values or value > self._largest:
            self._largest = value
        self.values += 1

    def _widen(self, found: str) -> None:
        if self.type in {"", found}:
            self.type = found
        else:
            self.type = _WIDER.get(frozenset({self.type, found}), "text")

    def _compare(self, number: float) -> None:
        if not self.values or number < self._low:
            self._low = number
        if not self.values or number > self._high:
            self._high = number

    def profile(self) -> dict[str, Any]:
        """Describe it; ``min`` and ``max`` are null where there is no value."""
        low: Any = None
        high: Any = None
        if self.type in _NUMERIC:
            low, high = self._low, self._high
        elif self.values:
            low, high = self._smallest[:_SHOWN], self._largest[:_SHOWN]
        return {
            "name": self.name,
            "type": self.type or "empty",
            "nulls": self.nulls,
            "min": low,
            "max": high,
        }


def _parses(cls: type[date], value: str) -> bool:
    try:
        cls.fromisoformat(value)
    except ValueError:
        return False
    return True
