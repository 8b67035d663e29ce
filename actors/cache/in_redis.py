"""The cache in Redis: one hash a key, each operation one script, so one atomic step.

Nothing here is in a transaction of the ledger's: a task may load, and die before its outcome is
stored; then it runs again, under the same lease, and loads again. Redis may forget everything, or a
lease alone (a failover, an eviction): then two tasks may load a key at once, and the one whose lease
is gone leaves no value. What is lost is loaded again when somebody reads it.

Entries do not expire: an old value is better than none, and there are as many as there are loaders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from pydantic_core import from_json
from redis.backoff import NoBackoff
from redis.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry

from actors.cache import scripts
from actors.cache.contract import Entry, Verdict
from actors.cache.errors import CacheUnavailable
from postlude.arguments.faults import clean
from postlude.ledger.clock import from_micros, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from actors.cache.server import Server

MOST_CONNECTIONS = 2048
"""More than the threads of any process of ours; each of them takes one only while it asks."""

_CONNECTIONS = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}


class InRedis:
    """The :class:`~actors.cache.contract.Cache` that several machines can share. Connects on first use.

    One pool of connections, for all threads. A forked child has no cache, as it has no ledger.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._redis = redis.Redis(connection_pool=_pool(server))
        self._take = self._redis.register_script(scripts.TAKE)
        self._keep = self._redis.register_script(scripts.KEEP)
        self._fail = self._redis.register_script(scripts.FAIL)
        self._ask = self._redis.register_script(scripts.ASK)

    def get(self, key: str, now: datetime) -> Entry:
        """Return what there is under ``key``; see the contract."""
        found = self._call(key, self._redis.hgetall, self._name(key))
        try:
            return _entry(found, now)
        except (ValueError, OverflowError):
            raise self._foreign(key) from None

    def take(
        self, key: str, *, task: str, wanted: datetime | None, now: datetime, lease: timedelta
    ) -> Verdict:
        """Take the lease for ``task``; see the contract."""
        wish = "" if wanted is None else to_micros(wanted)
        ends = to_micros(now + lease), to_micros(now + 2 * lease)
        return Verdict(self._run(self._take, key, task, to_micros(now), wish, *ends))

    def keep(self, key: str, value: str, *, task: str, since: datetime) -> datetime | None:
        """Store what ``task`` has loaded; see the contract."""
        wanted = self._run(self._keep, key, task, to_micros(since), value)
        return None if wanted is None else from_micros(int(wanted))

    def fail(self, key: str, error: str, *, task: str, since: datetime, now: datetime) -> None:
        """Note why there is no new value; see the contract."""
        self._run(self._fail, key, task, to_micros(since), to_micros(now), error)

    def ask(self, key: str, *, now: datetime, pause: timedelta) -> bool:
        """Say whether a reader is to ask for a refresh; see the contract."""
        return bool(self._run(self._ask, key, to_micros(now), to_micros(now - pause)))

    def _name(self, key: str) -> str:
        return f"{self._server.prefix}{key}"

    def _run(self, script: Any, key: str, *arguments: Any) -> Any:
        return self._call(key, script, keys=[self._name(key)], args=arguments)

    def _call(self, key: str, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except UnicodeDecodeError:
            raise self._foreign(key) from None
        except redis.RedisError as error:
            words = clean(str(error).rstrip("."), 300)
            message = f"the cache at {self._server.name}: {words}; {self._remedy(key, error)}"
            # Without its cause: the frames of redis-py hold the password.
            raise CacheUnavailable(message) from None

    def _foreign(self, key: str) -> CacheUnavailable:
        return CacheUnavailable(f"the cache at {self._server.name}: {self._not_ours(key)}")

    def _not_ours(self, key: str) -> str:
        return (
            f"{self._name(key)} is not an entry of this cache; delete it, or choose another "
            "database or prefix in POSTLUDE_CACHE_URL"
        )

    def _remedy(self, key: str, error: redis.RedisError) -> str:
        match error:
            case redis.AuthenticationError() | redis.exceptions.NoPermissionError():
                return "correct the user and password in POSTLUDE_CACHE_URL, or the user's ACL"
            case redis.exceptions.OutOfMemoryError():
                return "give it more memory, or let it evict something (maxmemory-policy)"
            case redis.exceptions.ReadOnlyError():
                return "name the primary in POSTLUDE_CACHE_URL, not a replica"
            case redis.ResponseError() if "WRONGTYPE" in str(error):
                return self._not_ours(key)
            case redis.ConnectionError() | redis.TimeoutError():
                return "bring it back, or correct POSTLUDE_CACHE_URL"
            case _:
                return "look at its log"


def _pool(server: Server) -> ConnectionPool:
    """Return a pool that has not connected yet.

    A connection that turns out to be closed is made anew once, for an operation may be repeated;
    who has waited in vain for an answer is not made to wait again. That an idle connection leads
    nowhere any more the system finds out (keepalive), without a further round trip.
    """
    alive: dict[str, Any] = {} if server.scheme == "unix" else {"socket_keepalive": True}
    return ConnectionPool(
        connection_class=_CONNECTIONS[server.scheme],
        max_connections=MOST_CONNECTIONS,
        retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        decode_responses=True,
        protocol=2,  # any server speaks it, and it needs no greeting
        **alive,
        **server.options,
    )


def _entry(found: dict[str, str], now: datetime) -> Entry:
    """Read an entry; ValueError or OverflowError if somebody else wrote it."""
    at = {
        name: from_micros(int(found[name])) if name in found else None
        for name in ("as_of", "held_until", "failed_at", "asked_at")
    }
    held = at.pop("held_until")
    value = from_json(found["value"]) if "value" in found else None
    loading = held is not None and held >= now
    return Entry(value=value, loading=loading, error=found.get("error"), **at)
