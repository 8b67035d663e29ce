"""Instants as the ledger stores them: whole microseconds since 1970 UTC, in both databases.

An integer sorts, indexes and compares the same in SQLite and PostgreSQL, and needs no conversion on
the hot path. Everything outside the ledger sees aware datetimes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now() -> datetime:
    """Return the present as an aware UTC datetime; effects pass it on to decisions."""
    return datetime.now(UTC)


@overload
def to_micros(at: datetime) -> int: ...
@overload
def to_micros(at: None) -> None: ...
def to_micros(at: datetime | None) -> int | None:
    """Return ``at`` in microseconds since 1970 UTC."""
    return None if at is None else (at - _EPOCH) // _MICROSECOND


@overload
def from_micros(micros: int) -> datetime: ...
@overload
def from_micros(micros: None) -> None: ...
def from_micros(micros: int | None) -> datetime | None:
    """Return the aware UTC datetime that ``micros`` stands for."""
    # In two parts: one large number of microseconds takes a timedelta three times as long.
    return None if micros is None else _EPOCH + timedelta(0, *divmod(micros, 1_000_000))
