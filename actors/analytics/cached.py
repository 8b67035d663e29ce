"""``analytics-summary`` in the cache: the most frequent events of the last 24 hours."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from actors.analytics.summary import Window, totals
from actors.cache.loaders import loader

KEY = "analytics-summary"
NAMES = 100


@loader(KEY, fresh_for="1m")
def load_summary(connection: Connection, now: datetime) -> dict[str, Any]:
    """Count the events of the last 24 hours by name, the most frequent 100 names first."""
    window = Window.of(None, None, now=now)
    return {
        "since": window.since.isoformat(),
        "until": window.until.isoformat(),
        "counts": totals(connection, window, limit=NAMES),
    }
