"""The tables of events. A column lives here and in a migration, nowhere else.

Instants are microseconds since 1970 UTC (:mod:`postlude.ledger.clock`); an hour is its first instant.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("id", String(100), primary_key=True, comment="the sender's, or given at the door"),
    Column("name", String(200), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("hour", BigInteger, nullable=False, comment="the hour of at, in UTC"),
    Column("data", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False, comment="what retention goes by"),
)
Index("events_hour", events.c.hour, events.c.name)
Index("events_recorded", events.c.recorded_at, events.c.id)

rollups = Table(
    "event_rollups",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(200), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("archived", BigInteger, nullable=False, comment="those of count that were deleted"),
)

stale_hours = Table(
    "event_stale_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    comment="hours with events that their roll-up does not count yet",
)
