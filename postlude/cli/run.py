"""``postlude run``."""

from __future__ import annotations

import typer


def run() -> None:
    """Run API, workers and scheduler in this terminal; Ctrl-C drains and stops.

    Migrates the ledger first. What dies or hangs is started again. Settings are POSTLUDE_*
    variables; `postlude settings` shows them.
    """
    from postlude import supervisor
    from postlude.settings import load

    code, _ = supervisor.run_stack(supervisor.prepare(load()))
    raise typer.Exit(code)
