"""``/cache/{key}``: the last answer at once, however old, and a newer one in the background."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Path, Request, Response

from actors.cache import refresh_cache, store
from actors.cache.contract import Cache, Entry
from actors.cache.errors import CacheUnavailable
from actors.cache.loaders import Loader, find
from api.idempotency import KeyRoute
from api.openapi import ADDS, IDEMPOTENCY_KEY, READS, responses
from api.openapi import LOCATION as LOCATION_OF_TASK
from api.resources import Accepted, CacheEntry, reference
from postlude import BackgroundTasks
from postlude.errors import LedgerError
from postlude.ledger import clock

log = structlog.get_logger()
router = APIRouter(prefix="/cache", tags=["use cases"], route_class=KeyRoute)

PAUSE = timedelta(seconds=10)
"""How often readers of a stale value have it refreshed, however many they are."""

Key = Annotated[
    str, Path(description="What is cached.", examples=["analytics-summary", "file-stats"])
]
IfNoneMatch = Annotated[
    str | None,
    Header(
        description="ETag of what the client has: 304 if that is still what there is.",
        examples=['"0c3f1d"'],
    ),
]
_TEXT = {"type": "string"}
_HEADERS: dict[str, Any] = {
    "ETag": {"schema": _TEXT, "description": "Changes whenever anything in the body does."},
    "Age": {"schema": {"type": "integer"}, "description": "Of the value, in seconds."},
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"headers": _HEADERS},
    304: {"description": "The client has it already.", "headers": _HEADERS},
}


@router.get(
    "/{key}",
    operation_id="get_cached",
    summary="Read from the cache",
    response_description="The last value that was loaded.",
    response_model=CacheEntry,
    responses=_ANSWERS
    | responses(*READS, "ledger-busy", "accept-unknown", "unknown-cache-key", "cache-unavailable"),
)
def get_cached(
    response: Response,
    background_tasks: BackgroundTasks,
    key: Key,
    if_none_match: IfNoneMatch = None,
) -> CacheEntry | Response:
    """Answer with the last value at once, and have a stale one refreshed in the background.

    `stale` says that it is older than it should be, `error` that the last attempt to refresh it
    failed; `refreshed_at` is null, and so is `value`, until there is a first one.
    """
    loader, now, cache = find(key), clock.now(), store.current()
    entry = cache.get(key, now)
    found = _resource(loader, entry, now)
    if found.stale and _asks(cache, key, entry, now):
        background_tasks.add_task(refresh_cache, key, as_of=now - loader.fresh_for)
    headers = _headers(found, entry.age(now))
    if if_none_match is not None and _matches(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return found


@router.post(
    "/{key}/refresh",
    status_code=202,
    operation_id="refresh_cached",
    summary="Refresh a value in the cache",
    response_description="Accepted: the value is loaded once this response is out.",
    responses=LOCATION_OF_TASK | responses(*ADDS, "unknown-cache-key"),
    openapi_extra=IDEMPOTENCY_KEY,
)
def refresh_cached(
    request: Request, response: Response, background_tasks: BackgroundTasks, key: Key
) -> Accepted:
    """Have a value loaded anew in the background, whatever its age.

    Many requests at once cost one or two loads; when a task is done, the value is as of its request.
    """
    find(key)
    task = reference(request, background_tasks.add_task(refresh_cache, key, as_of=clock.now()))
    response.headers["location"] = task.url
    return Accepted(message="The value is refreshed in the background", tasks=[task])


def _asks(cache: Cache, key: str, entry: Entry, now: datetime) -> bool:
    """Say whether this reader is to have a stale value refreshed.

    A cache that can be read but not written (full, a replica) serves the values that it has.
    """
    if not entry.may_ask(now, PAUSE):
        return False
    try:
        return cache.ask(key, now=now, pause=PAUSE)
    except (CacheUnavailable, LedgerError) as error:
        if entry.as_of is None:
            raise
        log.warning("cache.not_written", key=key, error=str(error))
        return False


def _resource(loader: Loader, entry: Entry, now: datetime) -> CacheEntry:
    age = entry.age(now)
    return CacheEntry(
        key=loader.key,
        value=entry.value,
        refreshed_at=entry.as_of,
        stale=age is None or age > loader.fresh_for,
        refreshing=entry.loading,
        error=entry.error,
        failed_at=entry.failed_at,
    )


def _headers(found: CacheEntry, age: timedelta | None) -> dict[str, str]:
    digest = sha256(found.model_dump_json().encode()).hexdigest()[:32]
    headers = {"etag": f'"{digest}"', "cache-control": "no-cache"}
    if age is not None:
        headers["age"] = str(int(age.total_seconds()))
    return headers


def _matches(if_none_match: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
