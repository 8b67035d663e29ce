"""Cache: answers that take a while, loaded before they are asked for. ``refresh_cache`` loads one."""

from datetime import UTC, datetime, timedelta

import dramatiq
import structlog
import uuid_utils
from dramatiq.middleware import CurrentMessage, TimeLimitExceeded
from pydantic import AwareDatetime

from actors.cache import file_stats, store  # noqa: F401 - the first for the loader it registers
from actors.cache.contract import Cache, Verdict
from actors.cache.errors import CacheUnavailable
from actors.cache.loaders import Key, Loader, UnknownKey, find
from postlude import every
from postlude.arguments.faults import clean
from postlude.arguments.results import encode_result
from postlude.process import current

log = structlog.get_logger()

LARGEST = 1024 * 1024
"""Largest value, in bytes of JSON."""
SOON = timedelta(seconds=1)
LIMIT = timedelta(minutes=1)
"""How long a loader may take."""
LEASE = LIMIT * 1.5
"""How long nobody else loads the same key: whoever has not come back by then is dead."""
TRIES = 3
"""How often a load that failed is tried again."""
OUTAGE_TRIES = 30
"""How often if the cache was away, which is five minutes: a restart or a failover fails no task."""


def _again(retries: int, error: BaseException) -> bool:
    return retries < (OUTAGE_TRIES if isinstance(error, CacheUnavailable) else TRIES)


@every("1m", id="refresh-analytics-summary", args=["analytics-summary"], misfire="skip")
@every("5m", id="refresh-file-stats", args=["file-stats"], first="10s", misfire="skip")
@dramatiq.actor(
    throws=UnknownKey,
    retry_when=_again,
    min_backoff=1_000,
    max_backoff=10_000,
    time_limit=int(LIMIT.total_seconds() * 1000),
)
def refresh_cache(key: Key, as_of: AwareDatetime | None = None) -> str:
    """Load ``key`` anew, unless it is being loaded or, with ``as_of``, is as new as that already.

    ``refresh_soon("file-stats", as_of=datetime.now(UTC))`` after a write: many of these at once cost
    one load, and the value they leave has seen all of those writes. Returns what was done.

    May run twice, also at once: yes, one of them loads. When that fails, the old value stays, with
    the error beside it.
    """
    loader, task, now = find(key), _task_id(), datetime.now(UTC)
    # Nothing can be newer than the present, whoever asks for it.
    wanted = None if as_of is None else min(as_of, now)
    cache = store.current()
    verdict = cache.take(key, task=task, wanted=wanted, now=now, lease=LEASE)
    if verdict is not Verdict.LOAD:
        return verdict
    missed = _load(cache, loader, task, now)
    if missed is not None:
        refresh_soon(key, as_of=missed)
    return "loaded"


def refresh_soon(key: str, *, as_of: datetime) -> None:
    """Have ``key`` loaded in a second, which is one load for all the writes until then."""
    refresh_cache.send_with_options(args=(key,), kwargs={"as_of": as_of}, delay=SOON)


def _load(cache: Cache, loader: Loader, task: str, now: datetime) -> datetime | None:
    """Load and store the value; returns an instant it should be as of, but is not."""
    try:
        with current().ledger.read() as connection:
            value = encode_result(loader.load(connection, now), LARGEST)
    except (Exception, TimeLimitExceeded) as error:
        words = clean(f"{type(error).__name__}: {error}", 1000)
        cache.fail(loader.key, words, task=task, since=now, now=datetime.now(UTC))
        raise
    return cache.keep(loader.key, value, task=task, since=now)


def _task_id() -> str:
    """Return the id of the running task, or a new one where the function is called directly."""
    message = CurrentMessage.get_current_message()
    return message.message_id if message else str(uuid_utils.uuid7())
