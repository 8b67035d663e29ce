"""The list of commands, and what an error of ours looks like to a person at a terminal."""

from __future__ import annotations

import sys

import typer

from postlude.cli.demo import demo
from postlude.cli.health import health
from postlude.cli.migrate import migrate
from postlude.cli.run import run
from postlude.cli.scheduler import scheduler
from postlude.cli.settings import settings
from postlude.cli.tasks import tasks
from postlude.cli.version import version
from postlude.errors import PostludeError

app = typer.Typer(
    name="postlude",
    help="Background tasks that survive: run, look after and look into them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (run, demo, scheduler, migrate, health, settings, version):
    app.command()(command)
app.add_typer(tasks, name="tasks")


def main() -> None:
    """Run the command that ``sys.argv`` names.

    An error that we raise on purpose becomes one line on stderr and exit code 1; anything else is a
    bug and keeps its traceback.
    """
    try:
        app(prog_name="postlude")
    except PostludeError as error:
        sys.exit(f"postlude: {error}")
