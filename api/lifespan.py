"""What an API process holds from its start to its end: logs, ledger, incarnation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import inspect
from starlette.concurrency import run_in_threadpool

import actors  # noqa: F401 # declares what can be triggered
from actors.analytics.tables import metadata as analytics_tables
from actors.cache.tables import metadata as cache_tables
from actors.files.tables import metadata as files_tables
from api.edge import REFUSAL
from postlude import logs, process
from postlude.broker import broker
from postlude.broker.intake import signature
from postlude.errors import LedgerTooOld, PostludeError
from postlude.process import Process

_TABLES = (analytics_tables, cache_tables, files_tables)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what the process needs, and close it again.

    Raises LedgerTooOld (run ``postlude migrate``) or another LedgerError, and BadArguments when an
    actor has a signature that cannot travel as JSON: then nothing is served.
    """
    logs.configure(app.state.settings, "api")
    try:
        await run_in_threadpool(_open)
    except PostludeError as error:
        setattr(app.state, REFUSAL, str(error))
        raise
    try:
        yield
    finally:
        await run_in_threadpool(process.close)


def _open() -> None:
    current = process.open_as("api")
    try:
        _must_have_tables(current)
        current.incarnation  # noqa: B018 # begins with being asked for
        for actor in broker().actors.values():
            signature(actor).compile()
    except PostludeError:
        process.close()
        raise


def _must_have_tables(current: Process) -> None:
    """Raise LedgerTooOld if a use case has no table yet: each has migrations beside the ledger's own."""
    with current.ledger.read() as connection:
        present = inspect(connection).get_table_names()
    missing = sorted({name for each in _TABLES for name in each.tables}.difference(present))
    if missing:
        message = (
            f"the ledger has no tables {', '.join(missing)}, which this application needs: run"
            " `postlude migrate`"
        )
        raise LedgerTooOld(message)
