"""Reading keys: what a request was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from postlude.ledger.clock import to_micros
from postlude.ledger.key import KeptAnswer
from postlude.ledger.schema import keys

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


def kept(connection: Connection, scope: str, key: str, now: datetime) -> KeptAnswer | None:
    """Return the answer that is kept under this key, None if there is none (any more)."""
    query = select(keys.c.fingerprint, keys.c.answer).where(
        keys.c.scope == scope, keys.c.key == key, keys.c.expires_at > to_micros(now)
    )
    row = connection.execute(query).one_or_none()
    return KeptAnswer(row.fingerprint, row.answer) if row else None
