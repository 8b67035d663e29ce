"""The cache as a table of the ledger: one row a key, each operation one short write.

At most one task has a lease, because it is taken by one guarded statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import from_json
from sqlalchemy import select, text

from actors.cache.contract import Entry, Verdict
from actors.cache.tables import cache
from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from postlude.ledger.ledger import Ledger
    from postlude.ledger.statement import Tx

_APPEAR = Statement(text("INSERT INTO cache (key) VALUES (:key) ON CONFLICT (key) DO NOTHING"))
_TAKE = Statement(
    text("""
    UPDATE cache SET holder = :task, loading_since = :now, held_until = :until,
        wanted = CASE WHEN holder = :task AND loading_since = :now THEN wanted END
    WHERE key = :key
        AND (held_until IS NULL OR held_until NOT BETWEEN :now AND :absurd OR holder = :task)
        AND (as_of IS NULL OR as_of < :wanted OR as_of > :absurd)""")
)
_WANT = Statement(
    text("""
    UPDATE cache SET wanted = :wanted
    WHERE key = :key AND held_until >= :now AND loading_since < :wanted
        AND (wanted IS NULL OR wanted < :wanted)""")
)
_HELD = Statement(text("SELECT 1 FROM cache WHERE key = :key AND held_until >= :now"))
_KEEP = Statement(
    text("""
    UPDATE cache SET value = :value, as_of = loading_since, error = NULL, failed_at = NULL,
        holder = NULL, loading_since = NULL, held_until = NULL
    WHERE key = :key AND holder = :task AND loading_since = :since""")
)
_WANTED = Statement(
    text("SELECT wanted FROM cache WHERE key = :key AND holder IS NULL AND as_of = :since")
)
_FAIL = Statement(
    text("""
    UPDATE cache SET error = :error, failed_at = :now,
        holder = NULL, loading_since = NULL, held_until = NULL
    WHERE key = :key AND holder = :task AND loading_since = :since""")
)
_ASK = Statement(
    text("""
    UPDATE cache SET asked_at = :now
    WHERE key = :key AND (asked_at IS NULL OR asked_at NOT BETWEEN :before AND :now)""")
)


class InLedger:
    """The :class:`~actors.cache.contract.Cache` that needs nothing but the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, key: str, now: datetime) -> Entry:
        """Return what there is under ``key``; see the contract."""
        with self._ledger.read() as connection:
            row = connection.execute(select(cache).where(cache.c.key == key)).one_or_none()
        if row is None:
            return Entry()
        return Entry(
            value=None if row.value is None else from_json(row.value),
            as_of=from_micros(row.as_of),
            loading=row.held_until is not None and row.held_until >= to_micros(now),
            error=row.error,
            failed_at=from_micros(row.failed_at),
            asked_at=from_micros(row.asked_at),
        )

    def take(
        self, key: str, *, task: str, wanted: datetime | None, now: datetime, lease: timedelta
    ) -> Verdict:
        """Take the lease for ``task``; see the contract."""
        at = {"now": to_micros(now), "wanted": to_micros(wanted or now)}
        ends = {"until": to_micros(now + lease), "absurd": to_micros(now + 2 * lease)}

        def write(tx: Tx) -> Verdict:
            tx.run(_APPEAR, key=key)
            if tx.run(_TAKE, key=key, task=task, **at, **ends):
                return Verdict.LOAD
            if wanted is not None:
                tx.run(_WANT, key=key, **at)
            return Verdict.UNDER_WAY if tx.rows(_HELD, key=key, now=at["now"]) else Verdict.FRESH

        return self._ledger.write(write)

    def keep(self, key: str, value: str, *, task: str, since: datetime) -> datetime | None:
        """Store what ``task`` has loaded; see the contract."""
        at = to_micros(since)

        def write(tx: Tx) -> datetime | None:
            tx.run(_KEEP, key=key, value=value, task=task, since=at)
            rows = tx.rows(_WANTED, key=key, since=at)
            return from_micros(rows[0][0]) if rows else None

        return self._ledger.write(write)

    def fail(self, key: str, error: str, *, task: str, since: datetime, now: datetime) -> None:
        """Note why there is no new value; see the contract."""
        at = {"since": to_micros(since), "now": to_micros(now)}
        self._ledger.write(lambda tx: tx.run(_FAIL, key=key, error=error, task=task, **at))

    def ask(self, key: str, *, now: datetime, pause: timedelta) -> bool:
        """Say whether a reader is to ask for a refresh; see the contract."""
        before = to_micros(now - pause)

        def write(tx: Tx) -> bool:
            tx.run(_APPEAR, key=key)
            return bool(tx.run(_ASK, key=key, now=to_micros(now), before=before))

        return self._ledger.write(write)
