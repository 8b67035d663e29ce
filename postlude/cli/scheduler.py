"""``postlude scheduler``: ticks the schedules that modules of any application declare."""

from __future__ import annotations

from typing import Annotated

import typer


def scheduler(
    modules: Annotated[
        list[str],
        typer.Argument(help="Modules whose actors have @every or @cron.", metavar="MODULE…"),
    ],
) -> None:
    """Make tasks when their time comes, until SIGTERM or Ctrl-C.

    Run one or more on one ledger. What is no longer declared is retired by the scheduler of the
    application that had declared it, which is known by its first MODULE.
    """
    from postlude.cli.modules import look_here
    from postlude.scheduler.life import main

    look_here()
    raise typer.Exit(main(modules))
