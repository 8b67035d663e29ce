"""procrastinate on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.contestants.place import QUEUE
from benchmarks.tally import ran

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URL = os.environ["POSTGRES_URL"]
app = App(connector=PsycopgConnector(conninfo=URL))


@app.task(queue=QUEUE)
async def note_run(number: int) -> int:
    """Note this run."""
    ran(number)
    return number


async def send(number: int) -> None:
    """Defer a task."""
    await note_run.defer_async(number=number)


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    """Keep a pool of connections open."""
    async with app.open_async():
        yield


def prepare() -> None:
    """Create its tables, or empty them."""
    with psycopg.connect(URL) as connection:
        if connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone() != (None,):
            connection.execute("TRUNCATE procrastinate_jobs CASCADE")
            return
    asyncio.run(_create())


async def _create() -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
