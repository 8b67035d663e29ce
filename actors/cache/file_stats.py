"""``file-stats``: how many files there are, how large they are together, and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, column, func, select, table

from actors.cache.loaders import loader

_files = table("files", column("size"), column("type"), column("fault"), column("processed_at"))
"""What is needed of the table that ``actors.files`` owns."""


@loader("file-stats", fresh_for="5m")
def load_file_stats(connection: Connection, now: datetime) -> dict[str, Any]:
    """Count the files and their bytes: by outcome, and the processed ones by type."""
    del now
    outcome = case(
        (_files.c.fault.is_not(None), "faulty"),
        (_files.c.processed_at.is_not(None), "processed"),
        else_="waiting",
    ).label("outcome")
    size = func.coalesce(func.sum(_files.c.size), 0)
    query = select(outcome, _files.c.type, func.count(), size).group_by(outcome, _files.c.type)
    stats: dict[str, Any] = {"count": 0, "bytes": 0, "waiting": 0, "processed": 0, "faulty": 0}
    types: dict[str, int] = {}
    for what, type_, count, total in connection.execute(query.order_by(outcome, _files.c.type)):
        stats["count"] += count
        stats["bytes"] += int(total)
        stats[what] += count
        if what == "processed":
            types[type_ or "unknown"] = types.get(type_ or "unknown", 0) + count
    return stats | {"types": types}
