"""Loads the application once, as its roles will, to find out whether it can be loaded at all.

Run as a program of its own: what the roles import need not stay in the supervisor's memory, and what
breaks there breaks before anything serves.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

from postlude.errors import PostludeError, SettingsError
from postlude.supervisor.role import Application

MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h."""
LONGEST_S = 60


def rehearse(application: Application) -> None:
    """Load the application in a child process. Raises SettingsError with what it says."""
    done = subprocess.run(  # noqa: S603 # our own module, our own interpreter
        [
            sys.executable,
            "-c",
            f"import sys, {__name__} as part; sys.exit(part.main(*sys.argv[1:]))",
            application.app,
            *application.actors,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode == MISCONFIGURED:
        raise SettingsError(done.stderr.strip())
    if done.returncode:
        message = f"the application cannot be loaded:\n{done.stderr.strip()}"
        raise SettingsError(message)


def main(app: str, *actors: str) -> int:
    """Import the actors and the app; returns the exit code."""
    module, _, name = app.partition(":")
    try:
        for each in (*actors, module):
            import_module(each)
        if Application(app, tuple(actors)).is_ours:
            import_module(module).create_app()  # its `app` tells a server's user, and exits
        else:
            getattr(sys.modules[module], name or "app")
    except PostludeError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the supervisor, which raises it
        return MISCONFIGURED
    return 0
