"""arq on Redis."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SETTINGS = RedisSettings.from_dsn(os.environ["REDIS_URL"])
_pools: list[ArqRedis] = []


async def note_run(_context: dict[str, Any], number: int) -> int:
    """Note this run."""
    ran(number)
    return number


class WorkerSettings:
    """What ``arq`` reads."""

    functions = (note_run,)
    redis_settings = SETTINGS
    queue_name = QUEUE


async def send(number: int) -> None:
    """Enqueue a task."""
    await _pools[0].enqueue_job("note_run", number, _queue_name=QUEUE)


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    """Keep a pool of connections open."""
    _pools.append(await create_pool(SETTINGS))
    yield
    await _pools.pop().aclose()
