"""What the supervisor runs: one role is one command that must stay alive."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from postlude.policy.restart import LONGEST

if TYPE_CHECKING:
    from postlude.settings import Settings

WORKER_RESTART = timedelta(seconds=2)
"""A task that kills its worker is quarantined by the ledger; the others need not wait for that."""


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
    once: bool = False
    """It is not restarted: its end ends everything, and its exit code is the supervisor's."""


def stack(settings: Settings, environment: Mapping[str, str]) -> list[Role]:
    """Return API, workers and scheduler as ``settings`` wants them."""
    names = ["worker"]
    if settings.workers > 1:
        names = [f"worker-{number}" for number in range(1, settings.workers + 1)]
    commands = {
        "api": _api(settings),
        **dict.fromkeys(names, _worker(settings)),
        "scheduler": _python("scheduler"),
    }
    return [
        Role(
            name,
            command,
            environment=environment,
            longest_restart=WORKER_RESTART if name in names else LONGEST,
            beats=True,
        )
        for name, command in commands.items()
    ]


def _api(settings: Settings) -> tuple[str, ...]:
    grace = max(1, math.ceil(settings.shutdown_timeout.total_seconds()))
    return _python(
        "uvicorn",
        "api:app",
        f"--host={settings.host}",
        f"--port={settings.port}",
        f"--timeout-graceful-shutdown={grace}",
        "--no-access-log",
        "--no-proxy-headers",  # who is a stranger is judged by the real peer
        "--log-level=warning",  # until the application sets up its own logging
    )


def _worker(settings: Settings) -> tuple[str, ...]:
    """One Dramatiq master with one process: one that dies takes no other with it."""
    return _python(
        "dramatiq",
        "actors",
        "--processes=1",
        f"--threads={settings.worker_threads}",
        f"--worker-shutdown-timeout={settings.shutdown_timeout.total_seconds() * 1000:.0f}",
        "--skip-logging",  # the worker sets up ours
    )


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
