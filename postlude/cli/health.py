"""``postlude health``: for health checks of processes that serve no HTTP."""

from __future__ import annotations

from typing import Annotated

import typer


def health(
    kind: Annotated[str, typer.Argument(help="worker, scheduler or api.", metavar="KIND")],
) -> None:
    """Exit with 0 if such a process on this machine has reported to the ledger within the lease."""
    from postlude.errors import LedgerError
    from postlude.ledger import clock
    from postlude.ledger.engine import build_engine, reading
    from postlude.ledger.queries import incarnations
    from postlude.settings import load
    from postlude.worker.incarnation import hostname

    settings = load()
    engine = build_engine(settings)
    with reading(engine) as connection:
        beats = [
            life.beat_at
            for life in incarnations.alive(connection)
            if life.kind == kind and life.host == hostname()
        ]
    engine.dispose()
    if not beats or clock.now() - max(beats) > settings.lease:
        last = (
            f"its last heartbeat was at {max(beats):%H:%M:%S} UTC" if beats else "none is on record"
        )
        message = f"no live {kind} on this machine: {last}"
        raise LedgerError(message)
