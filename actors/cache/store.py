"""The rows of the cache: one a key, with the value, its age, and the lease of whoever loads anew.

At most one task loads a key at a time: the lease is taken by one guarded statement. Each function
is one short write that can be replayed, for a task takes the lease under its own id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from sqlalchemy import select, text

from actors.cache.tables import cache
from postlude.errors import SettingsError
from postlude.ledger.clock import from_micros, to_micros
from postlude.ledger.statement import Statement

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from postlude.ledger.statement import Tx
    from postlude.settings import Settings

_APPEAR = Statement(text("INSERT INTO cache (key) VALUES (:key) ON CONFLICT (key) DO NOTHING"))
_TAKE = Statement(
    text("""
    UPDATE cache SET holder = :task, loading_since = :now, held_until = :until, wanted = NULL
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
    WHERE key = :key AND holder = :task AND loading_since = :since
    RETURNING wanted""")
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


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache has under one key. ``as_of`` None: nothing yet, and ``value`` means nothing."""

    value: Any = None
    as_of: datetime | None = None
    loading: bool = False
    error: str | None = None
    failed_at: datetime | None = None
    asked_at: datetime | None = None

    def age(self, now: datetime) -> timedelta | None:
        """Return how old the value is, None if there is none."""
        return None if self.as_of is None else max(timedelta(0), now - self.as_of)

    def may_ask(self, now: datetime, pause: timedelta) -> bool:
        """Say whether :func:`ask` is worth the write."""
        return self.asked_at is None or not now - pause <= self.asked_at <= now


class Verdict(StrEnum):
    """What a task that wants to load finds."""

    LOAD = "load"
    """The lease is its own."""
    UNDER_WAY = "under way"
    """Another task is loading; if that began too early for us, it sees to a further one."""
    FRESH = "fresh"
    """The value is as new as it was asked for."""


def check(settings: Settings) -> None:
    """Raise SettingsError, naming the variable, if there is no such cache as ``settings`` ask for."""
    if settings.cache_url:
        message = (
            "POSTLUDE_CACHE_URL: only the ledger's own table can be the cache yet, Redis comes "
            "later; leave it unset"
        )
        raise SettingsError(message)


def get(connection: Connection, key: str, now: datetime) -> Entry:
    """Return what there is under ``key``, an empty entry if nothing."""
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
    tx: Tx, key: str, *, task: str, wanted: datetime | None, now: datetime, lease: timedelta
) -> Verdict:
    """Take the lease for ``task`` unless another has it, or the value is as of ``wanted`` already.

    While another has it and began before ``wanted``, that is noted for it. Without ``wanted``, what
    another is loading will do. Instants that are further ahead than a lease can be are those of a
    clock that was set back since; they hold nobody up.
    """
    tx.run(_APPEAR, key=key)
    at = {"key": key, "now": to_micros(now), "wanted": to_micros(wanted or now)}
    until, absurd = to_micros(now + lease), to_micros(now + 2 * lease)
    if tx.run(_TAKE, **at, task=task, until=until, absurd=absurd):
        return Verdict.LOAD
    if wanted is not None:
        tx.run(_WANT, **at)
    held = tx.rows(_HELD, key=key, now=to_micros(now))
    return Verdict.UNDER_WAY if held else Verdict.FRESH


def keep(tx: Tx, key: str, value: str, *, task: str, since: datetime) -> datetime | None:
    """Store what ``task`` has loaded and end the lease that it took at ``since``.

    Does nothing if that has run out and was taken since, be it by another run of the same task.
    Returns the instant that somebody wants the value to be as of by now, if it is not.
    """
    rows = tx.rows(_KEEP, key=key, value=value, task=task, since=to_micros(since))
    return from_micros(rows[0][0]) if rows else None


def fail(tx: Tx, key: str, error: str, *, task: str, since: datetime, now: datetime) -> None:
    """Keep the old value, note why there is no new one, and end the lease as :func:`keep` does."""
    at = {"since": to_micros(since), "now": to_micros(now)}
    tx.run(_FAIL, key=key, error=error, task=task, **at)


def ask(tx: Tx, key: str, *, now: datetime, pause: timedelta) -> bool:
    """Say whether a reader is to ask for a refresh: True once in ``pause``."""
    tx.run(_APPEAR, key=key)
    return bool(tx.run(_ASK, key=key, now=to_micros(now), before=to_micros(now - pause)))
