"""What the supervisor runs: one role is one command that must stay alive."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from postlude.policy.restart import LONGEST

if TYPE_CHECKING:
    from postlude.settings import Settings

WORKER_RESTART = timedelta(seconds=2)
"""A task that kills its worker is quarantined by the ledger; the others need not wait for that."""
_IDLE = "dramatiq_restart_delay"
"""Dramatiq's variable: how long a consumer stands idle when the ledger did not answer, or its worker was
frozen and begins a new life; 3000 ms of its own accord."""
_IDLE_MS = "500"


@dataclass(frozen=True, slots=True)
class Role:
    """A command to keep alive; ``name`` stands before each line that it prints."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """What is added to our own environment."""
    longest_restart: timedelta = LONGEST
    """How far the delay before a restart may grow."""
    beats: bool = False
    """It reports to the ledger, so its silence means that it hangs."""
    is_master: bool = False
    """It does nothing itself: the one process that it starts does."""
    once: bool = False
    """It is not restarted: its end ends everything, and its exit code is the supervisor's."""


@dataclass(frozen=True, slots=True)
class Application:
    """What the roles load: an ASGI application, and the modules that declare its actors."""

    app: str = "api:app"
    actors: tuple[str, ...] = ("actors",)

    @property
    def is_ours(self) -> bool:
        """Say whether it is the application of this repository."""
        return self == Application()


def stack(
    settings: Settings, environment: Mapping[str, str], application: Application
) -> list[Role]:
    """Return API, workers and scheduler of ``application`` as ``settings`` wants them."""
    names = ["worker"]
    if settings.workers > 1:
        names = [f"worker-{number}" for number in range(1, settings.workers + 1)]
    commands = {
        "api": _api(settings, application),
        **dict.fromkeys(names, _worker(settings, application)),
        "scheduler": _scheduler(application),
    }
    return [
        Role(
            name,
            command,
            environment=_for_worker(environment) if name in names else environment,
            longest_restart=WORKER_RESTART if name in names else LONGEST,
            # Another's app reports when it adds its first task, which may be never.
            beats=name != "api" or application.is_ours,
            is_master=name in names,
        )
        for name, command in commands.items()
    ]


def _for_worker(environment: Mapping[str, str]) -> dict[str, str]:
    return {_IDLE: os.environ.get(_IDLE, _IDLE_MS), **environment}


def _api(settings: Settings, application: Application) -> tuple[str, ...]:
    grace = max(1, math.ceil(settings.shutdown_timeout.total_seconds()))
    return _python(
        "uvicorn",
        application.app,
        f"--host={settings.host}",
        f"--port={settings.port}",
        f"--timeout-graceful-shutdown={grace}",
        "--no-access-log",
        "--no-proxy-headers",  # who is a stranger is judged by the real peer
        "--log-level=warning",  # until the application sets up its own logging
    )


def _worker(settings: Settings, application: Application) -> tuple[str, ...]:
    """One Dramatiq master with one process: one that dies takes no other with it."""
    return (
        *_dramatiq(),
        # Another's module may declare actors without a word of us: then the broker must be here first.
        *(application.actors if application.is_ours else ("postlude", *application.actors)),
        "--processes=1",
        f"--threads={settings.worker_threads}",
        f"--worker-shutdown-timeout={settings.shutdown_timeout.total_seconds() * 1000:.0f}",
        "--skip-logging",  # the worker sets up ours
    )


def _scheduler(application: Application) -> tuple[str, ...]:
    if application.is_ours:
        return _python("scheduler")
    return _python("postlude.cli", "scheduler", *application.actors)


def _dramatiq() -> tuple[str, ...]:
    """Return the command of this environment: as a module, it would not find back here (SIGHUP)."""
    script = Path(sys.executable).with_name("dramatiq")
    return (str(script),) if os.access(script, os.X_OK) else _python("dramatiq")


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
