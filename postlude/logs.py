"""How a process logs: events with fields, one line each, ours and the libraries' alike.

Lines for people (coloured on a terminal) or JSON for machines, on stderr unless told otherwise.
Context variables (task_id, correlation_id) are merged into every line. Nothing is set up at import:
each process calls :func:`configure` once it knows its settings.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from postlude.settings import unknown_variables

if TYPE_CHECKING:
    from structlog.typing import Processor

    from postlude.settings import Settings

log = structlog.get_logger()

_PASSWORD = re.compile(r"(://[^:/?#@\s]*:)\S*@|(\b(?:password|passwd|secret)=)[^&\s]+")
_LIBRARIES = {  # logger: the level below which it is noise
    "uvicorn": logging.INFO,
    "uvicorn.error": logging.INFO,
    "uvicorn.access": logging.WARNING,  # one line a request; the API's metrics count them
    "uvicorn.asgi": logging.WARNING,
    "dramatiq": logging.INFO,
    "dramatiq.middleware.asyncio": logging.WARNING,  # four lines about its loop, a process
    "pika": logging.CRITICAL,  # a dozen lines for one refused connection; the broker logs one
    "apscheduler": logging.WARNING,  # two lines a tick
    "alembic": logging.WARNING,  # two lines a start
    "watchdog": logging.WARNING,
    "boto3": logging.WARNING,
    "botocore": logging.WARNING,
    "urllib3": logging.WARNING,
    "asyncio": logging.WARNING,
}
_INDISCREET = {"boto3", "botocore"}
"""Libraries that tell signatures and session tokens at debug."""
_announced: set[tuple[int, str]] = set()


def configure(
    settings: Settings, role: str, *, stream: TextIO | None = None, announce: bool = True
) -> None:
    """Route all logging of this process to ``stream`` (stderr by default) in the settings' format.

    ``role`` says what the process is: api, worker, scheduler, run, migrate. May run again, also
    with other settings: the last one counts. The first time it logs one line that says where this
    process keeps its data, unless ``announce`` says no.
    """
    target = stream or sys.stderr
    level = logging.getLevelName(settings.log_level.upper())
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(settings, role, target))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    _hush_libraries(level)
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_named_logger,
        cache_logger_on_first_use=False,  # a module that logged before this call must follow it too
    )
    if announce:
        _announce(settings, role)


def masked(text: str) -> str:
    """Return ``text`` with the passwords in its addresses replaced by ``***``."""
    return _PASSWORD.sub(lambda found: f"{found[1] or found[2]}***{'@' if found[1] else ''}", text)


def wants_colour(stream: TextIO) -> bool:
    """Tell whether to colour what goes to ``stream``: NO_COLOR, FORCE_COLOR, else a terminal.

    Both are conventions across programs (no-color.org, force-color.org), hence no settings of ours.
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or on_terminal(stream)


def on_terminal(stream: TextIO) -> bool:
    """Tell whether a person reads ``stream``.

    Dramatiq replaces a worker's stderr by a pipe to its master, which copies it to its own: so for
    anything that stands in for stderr, the question is where file descriptor 2 leads.
    """
    if stream in {sys.stdout, sys.__stdout__}:
        return stream.isatty()
    try:
        return os.isatty(2) if stream is sys.stderr else stream.isatty()
    except (OSError, AttributeError):
        return False


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _named_logger(*names: Any) -> logging.Logger:
    """Return the logger under ``names[0]``; events carry their own name, so most pass none."""
    return logging.getLogger(names[0] if names else "postlude")


def _formatter(
    settings: Settings, role: str, stream: TextIO
) -> structlog.stdlib.ProcessorFormatter:
    as_json = settings.log_format == "json"
    if settings.log_format == "auto":
        as_json = not on_terminal(stream)
    last = _json(role) if as_json else _console(colours=wants_colour(stream))
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _json(role: str) -> list[Processor]:
    def add_role(_logger: Any, _method: str, event: Any) -> Any:
        return {"role": role, "pid": os.getpid(), **event}

    return [
        add_role,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]


def _console(*, colours: bool) -> list[Processor]:
    return [
        _clock_time,
        structlog.dev.ConsoleRenderer(
            colors=colours,
            exception_formatter=structlog.dev.plain_traceback,
            pad_level=False,
            sort_keys=False,
        ),
    ]


def _clock_time(_logger: Any, _method: str, event: Any) -> Any:
    """Shorten the ISO time to the time of day: a person knows which day it is."""
    event["timestamp"] = event["timestamp"][11:23]
    return event


def _hush_libraries(level: int) -> None:
    """Let every library's records reach our handler alone, from the level at which they matter."""
    known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _LIBRARIES]
    for name in {*known, *_LIBRARIES}:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name, quiet in _LIBRARIES.items():
        detailed = level <= logging.DEBUG and name not in _INDISCREET
        logging.getLogger(name).setLevel(level if detailed else max(level, quiet))


def _announce(settings: Settings, role: str) -> None:
    from postlude import __version__  # noqa: PLC0415 # the package is half loaded while this module is

    if (os.getpid(), role) in _announced:
        return
    _announced.add((os.getpid(), role))
    log.info(
        "process.started",
        role=role,
        pid=os.getpid(),
        version=__version__,
        python=platform.python_version(),
        data_dir=str(settings.data_dir),
        ledger=masked(settings.ledger_url),
        broker=masked(settings.broker_url) or "ledger",
        # Their kind only: in a URL that is wrong yet, a secret may stand anywhere.
        files="bucket" if settings.storage_url.lower().startswith("s3:") else "folder",
        cache="redis" if settings.cache_url else "ledger",
    )
    if unknown := unknown_variables():
        log.warning("settings.unknown", variables=unknown, hint="misspelt? they have no effect")
