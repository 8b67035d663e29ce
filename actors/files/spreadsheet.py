"""A table in CSV, profiled in one pass: memory depends on its columns, never on its rows."""

from __future__ import annotations

import csv
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from actors.files.column import Column, type_of
from actors.files.errors import UnusableFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actors.files.reading import Lines

MOST_COLUMNS = 1_000
_DELIMITERS = ",;\t|"
_SAMPLE = 20
_LONGEST_NAME = 60


def profile(lines: Lines, encoding: str) -> dict[str, Any]:
    """Describe the columns of a table; raise UnusableFile, naming the line, if it is none.

    The first row holds the names, unless one of its values is a number or a date.
    """
    source = iter(lines)
    sample = list(islice(source, _SAMPLE))
    delimiter = _delimiter(sample)
    rows = _rows(sample, source, lines, delimiter)
    first = next(rows, None)
    if first is None:
        message = "the table has no row"
        raise UnusableFile(message)
    has_names = all(type_of(value.strip()) in {"text", "boolean"} for value in first)
    columns = [Column(name) for name in _names(first, given=has_names)]
    count = uneven = 0
    if not has_names:
        rows = chain([first], rows)
    for row in rows:
        count += 1
        uneven += _add(columns, row)
    return {
        "encoding": encoding,
        "delimiter": delimiter,
        "header": has_names,
        "rows": count,
        "uneven_rows": uneven,
        "columns": [column.profile() for column in columns],
    }


def _rows(
    sample: list[str], source: Iterator[str], lines: Lines, delimiter: str
) -> Iterator[list[str]]:
    reader = csv.reader(chain(sample, source), delimiter=delimiter, strict=True)
    while True:
        lines.begin_record()
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"line {reader.line_num} is no row of a table: {error}; are its quotes right?"
            raise UnusableFile(message) from None
        if len(row) > MOST_COLUMNS:
            message = f"line {reader.line_num} has {len(row)} columns; {MOST_COLUMNS} are looked at"
            raise UnusableFile(message)
        if row:
            yield row


def _delimiter(sample: list[str]) -> str:
    """Return what parts the sample into most columns, the same number in each row if possible."""

    def fitness(delimiter: str) -> tuple[bool, int]:
        try:
            found = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            return False, 0
        even = len(set(found)) == 1 and found[0] > 1
        return even, min(found, default=0)

    return max(_DELIMITERS, key=fitness)


def _names(first: list[str], *, given: bool) -> Iterator[str]:
    seen: set[str] = set()
    for number, value in enumerate(first, start=1):
        name = value.strip()[:_LONGEST_NAME] if given else ""
        if not name or name in seen:
            name = f"{name} column {number}".strip()
        seen.add(name)
        yield name


def _add(columns: list[Column], row: list[str]) -> bool:
    """Add a row, short ones with gaps; returns whether it had too few values, or too many."""
    for column, value in zip(columns, row, strict=False):
        column.add(value)
    for column in columns[len(row) :]:
        column.add("")
    return len(row) != len(columns)
