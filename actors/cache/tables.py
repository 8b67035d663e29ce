"""The table of the cache. A column lives here and in a migration, nowhere else.

Instants are microseconds since 1970 UTC (:mod:`postlude.ledger.clock`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, String, Table, Text

metadata = MetaData()

cache = Table(
    "cache",
    metadata,
    Column("key", String(100), primary_key=True),
    Column("value", Text, comment="JSON; NULL: never loaded"),
    Column("as_of", BigInteger, comment="everything committed before then is in value"),
    Column("holder", String(36), comment="the task that is loading"),
    Column("loading_since", BigInteger, comment="what as_of becomes when holder has loaded"),
    Column("held_until", BigInteger, comment="then the holder is dead, and others may load"),
    Column("wanted", BigInteger, comment="an as_of that somebody asked for while holder loaded"),
    Column("asked_at", BigInteger, comment="when a reader last had a stale value refreshed"),
    Column("error", Text, comment="why the last attempt to load failed; NULL: it did not"),
    Column("failed_at", BigInteger),
)
