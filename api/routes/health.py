"""Health: whether this process is alive (``/livez``) and can do its work (``/readyz``).

A process that is alive but not ready must not be killed for it: the ledger's outage would become a
restart of everything. So liveness asks nothing but this process itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import Connection, select

from api.openapi import ANY, responses
from api.problems import Code, HttpProblem
from postlude import process
from postlude.errors import LedgerError, LedgerTooNew
from postlude.ledger import clock, schema
from postlude.ledger.compatible import must_fit
from postlude.ledger.queries import incarnations
from postlude.process import Process

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """All is well; anything else is a problem."""

    status: Literal["ok"] = "ok"


@router.get(
    "/livez",
    operation_id="get_liveness",
    response_description="It is alive.",
    summary="Is this process alive?",
    responses=responses("stranger", "payload-too-large", "internal-error"),
)
async def livez() -> Health:
    """Answer as long as this process can answer at all; needs no key and asks nobody."""
    return Health()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    response_description="It is ready.",
    summary="Can this process serve requests?",
    responses=responses(*ANY, "not-ready", "ledger-too-new"),
)
def readyz() -> Health:
    """Check that the ledger can be read and written and that its schema is the one needed here.

    In the middle of a deploy, `ledger-too-new` says that only newer processes can serve.
    """
    try:
        current = process.current()
        with current.ledger.read() as connection:
            faults = [*_schema_faults(connection), *_heartbeat_faults(connection, current)]
    except LedgerTooNew:
        raise
    except LedgerError as error:
        faults = [f"ledger: {error}"]
    if faults:
        raise HttpProblem(Code.NOT_READY, "; ".join(faults))
    return Health()


def _schema_faults(connection: Connection) -> Iterator[str]:
    version, compatible_from = connection.execute(
        select(schema.meta.c.version, schema.meta.c.compatible_from)
    ).one()
    if version < schema.VERSION:
        yield f"schema: it is {version}, this code needs {schema.VERSION}: run `postlude migrate`"
    must_fit(compatible_from)


def _heartbeat_faults(connection: Connection, current: Process) -> Iterator[str]:
    """Look for a fresh heartbeat: a committed write of this process, so it proves that it can."""
    own = current.incarnation.id
    beats = [i.beat_at for i in incarnations.alive(connection) if i.id == own]
    if not beats:
        yield "heartbeat: this process is not on record in the ledger"
    elif (silence := clock.now() - beats[0]) > current.settings.lease:
        yield f"heartbeat: the last one was stored {silence.total_seconds():.0f} s ago"
