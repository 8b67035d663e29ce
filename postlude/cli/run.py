"""``postlude run``."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    app: Annotated[
        str, typer.Argument(help="Your ASGI application, as uvicorn wants it: shop:app.")
    ] = "",
    actors: Annotated[
        list[str] | None,
        typer.Option(help="A module that declares actors; by default the app's. May be repeated."),
    ] = None,
) -> None:
    """Run API, workers and scheduler in this terminal; Ctrl-C drains and stops.

    Without APP it is the application in this folder, with its packages api and actors. Migrates the
    ledger first. What dies or hangs is started again. Settings are POSTLUDE_* variables;
    `postlude settings` shows them.
    """
    from postlude import supervisor
    from postlude.cli.modules import look_here
    from postlude.settings import load

    look_here()
    application = supervisor.Application()
    if app:
        application = supervisor.Application(app, tuple(actors or [app.partition(":")[0]]))
    settings = supervisor.prepare(load(), application)
    code, _ = supervisor.run_stack(settings, application)
    raise typer.Exit(code)
