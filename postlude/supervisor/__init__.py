"""``postlude run``: API, workers and scheduler in one terminal, kept alive, drained on Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from postlude import logs
from postlude.ledger.migrate import upgrade
from postlude.settings import Settings
from postlude.supervisor.hanging import LedgerBeats, Watch, limits
from postlude.supervisor.herald import Herald, base_url, invitation, is_ready
from postlude.supervisor.output import Output
from postlude.supervisor.preflight import check_folder, check_parts, choose_port
from postlude.supervisor.rehearsal import rehearse
from postlude.supervisor.role import Application, Role, stack
from postlude.supervisor.supervisor import Supervisor

__all__ = ["Application", "prepare", "run_stack"]

log = structlog.get_logger()

_OURS = "run"
_LEAVING = timedelta(seconds=1.5)
"""What processes need on top of their tasks' time to say good-bye."""


def prepare(
    settings: Settings, application: Application | None = None, *, any_port: bool = False
) -> Settings:
    """Check what must be true and migrate the ledger; return the settings with the port in use.

    Raises SettingsError or LedgerError, each saying what to do. Nothing runs yet. ``any_port``: a
    taken port is replaced by a free one.
    """
    application = application or Application()
    if application.is_ours:
        check_parts(Path.cwd())
    check_folder(settings)
    port = choose_port(settings, another=any_port)
    rehearse(application)
    upgrade(settings)
    return settings.model_copy(update={"port": port})


def run_stack(
    settings: Settings,
    application: Application | None = None,
    *,
    guests: Sequence[Role] = (),
    environment: Mapping[str, str] | None = None,
    invite: bool = True,
) -> tuple[int, list[str]]:
    """Run everything until asked to stop; return the exit code and what a guest has reported.

    ``settings`` come from :func:`prepare`, for the same ``application``: by default that of this
    repository. A guest is one more role, typically one that runs once.
    ``environment`` is added to that of the stack's processes. ``invite``: once the API answers,
    print where it is and what to try.
    """
    application = application or Application()
    variables = {**_environment(settings), **(environment or {})}
    roles = [*stack(settings, variables, application), *guests]
    output = Output(
        sys.stdout.buffer,
        [_OURS, *(role.name for role in roles)],
        colours=logs.wants_colour(sys.stdout),
        bare=settings.log_format == "json",
    )
    logs.configure(_for_people(settings), _OURS, stream=output.stream(_OURS))
    beats = LedgerBeats(settings)

    def announce() -> None:
        log.info("stack.ready", url=base_url(settings))
        if invite and application.is_ours and settings.log_format != "json":
            output.show(invitation(settings))

    supervisor = Supervisor(
        roles,
        output,
        deadline=settings.shutdown_timeout + _LEAVING,
        hanging=Watch(beats, limits(settings)),
        each_turn=Herald(
            lambda: is_ready(base_url(settings), any_answer=not application.is_ours), announce
        ),
    )
    try:
        return supervisor.run(), supervisor.report
    finally:
        beats.close()


def _for_people(settings: Settings) -> Settings:
    """Return settings that log lines rather than JSON, unless JSON was asked for by name."""
    chosen = "json" if settings.log_format == "json" else "console"
    return settings.model_copy(update={"log_format": chosen})


def _environment(settings: Settings) -> dict[str, str]:
    """Return what children must know and cannot see: the port in use, and that people read."""
    colour = "FORCE_COLOR" if logs.wants_colour(sys.stdout) else "NO_COLOR"
    return {
        "POSTLUDE_PORT": str(settings.port),
        "POSTLUDE_DATA_DIR": str(settings.data_dir),
        "POSTLUDE_LOG_FORMAT": _for_people(settings).log_format,
        colour: "1",
    }
