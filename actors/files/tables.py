"""The table of files. A column lives here and in a migration, nowhere else.

Instants are microseconds since 1970 UTC, as everywhere in the ledger's database.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, MetaData, String, Table, Text

metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False, comment="for people; no path is ever made of it"),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("task", String(36), nullable=False, comment="the task that processes it"),
    Column("created_at", BigInteger, nullable=False),
    Column("type", Text, comment="media type, found in the content; NULL: not looked at yet"),
    Column("profile", Text, comment="JSON: what was found in it"),
    Column("fault", Text, comment="why it cannot be used"),
    Column("processed_at", BigInteger),
)
Index("files_created", files.c.created_at)
