"""The fleet's actors in a worker whose ledger has room for a few more pages, and then none (SQLITE_FULL)."""

from __future__ import annotations

import os

from fleet_actors import *  # noqa: F403 - the actors are what this is for
from sqlalchemy import event
from sqlalchemy.pool import Pool

PAGES = int(os.environ["FLEET_PAGES"])


@event.listens_for(Pool, "connect")
def _leave_little_room(connection, _record) -> None:
    """Let each connection of this process add so many pages to what is there when it is made."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + PAGES}")
