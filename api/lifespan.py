"""What an API process holds from its start to its end: logs, ledger, incarnation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

import actors  # noqa: F401 # declares what can be triggered
from api.edge import REFUSAL
from postlude import logs, process
from postlude.broker import broker
from postlude.broker.intake import signature
from postlude.errors import PostludeError


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
    process.open_as("api").incarnation  # noqa: B018 # begins with being asked for
    for actor in broker().actors.values():
        signature(actor).compile()
