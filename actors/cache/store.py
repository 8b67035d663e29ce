"""Where the cache is kept: in a table of the ledger, or in the Redis that POSTLUDE_CACHE_URL names."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from actors.cache import server
from actors.cache.in_ledger import InLedger
from postlude.errors import SettingsError
from postlude.process import current as this_process

if TYPE_CHECKING:
    from actors.cache.contract import Cache
    from postlude.settings import Settings


def check(settings: Settings) -> None:
    """Raise SettingsError, naming the variable, if there is no such cache as ``settings`` ask for.

    Whether a server answers there is found out by those who use it.
    """
    if settings.cache_url:
        _in_redis(settings.cache_url)


def current() -> Cache:
    """Return this process's cache; raises what :func:`postlude.process.current` does."""
    process = this_process()
    url = process.settings.cache_url
    return _in_redis(url) if url else InLedger(process.ledger)


@lru_cache(maxsize=1)  # one pool of connections a process
def _in_redis(url: str) -> Cache:
    chosen = server.parse(url)
    try:
        from actors.cache.in_redis import InRedis  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        message = (
            "POSTLUDE_CACHE_URL: the library for Redis is not installed; run "
            "`pip install 'redis>=8.1'`, or leave it unset for a table of the ledger"
        )
        raise SettingsError(message) from None
    return InRedis(chosen)
