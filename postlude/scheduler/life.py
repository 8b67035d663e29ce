"""One scheduler process: runs until SIGTERM or SIGINT, and then leaves within two seconds."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import structlog

from postlude import logs
from postlude.broker import broker
from postlude.broker.registry import close_delivery
from postlude.broker.relay import Relay
from postlude.errors import (
    LedgerError,
    LedgerTooNew,
    LedgerTooOld,
    PostludeError,
    SettingsError,
    UnsafeSQLite,
)
from postlude.ledger.clock import now
from postlude.policy.restart import OUTGROWN
from postlude.process import open_as
from postlude.scheduler.service import Service
from postlude.scheduler.sync import sync
from postlude.schedules.declare import declarations
from postlude.settings import settings
from postlude.worker.chores import Chores
from postlude.worker.reaper import Reaper
from postlude.worker.retention import SLOW_S, Retention
from postlude.worker.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from postlude.process import Process

log = structlog.get_logger()

STOPPED, FAILED, MISCONFIGURED = 0, 1, 2
GRACE = timedelta(seconds=1.5)
"""How long a stopping scheduler waits for the pass under way; cut short, it loses nothing."""
LOOK_S = 1.0
"""How soon it notices that its life is over."""


def main(modules: Sequence[str]) -> int:
    """Run a scheduler for the schedules that ``modules`` declare.

    Returns the exit code: 2 when a restart would not help, 1 when it may, 76 (OUTGROWN) when only newer
    code would help.
    """
    try:
        return _run(modules)
    except LedgerTooNew as error:
        print(f"scheduler: {error}", file=sys.stderr)  # noqa: T201 - a person reads this one
        return OUTGROWN
    except PostludeError as error:
        print(f"scheduler: {error}", file=sys.stderr)  # noqa: T201 - a person reads this one
        passing = isinstance(error, LedgerError) and not isinstance(
            error, LedgerTooOld | UnsafeSQLite
        )
        return FAILED if passing else MISCONFIGURED


def _run(modules: Sequence[str]) -> int:
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The queue is safe in a handler; an Event is not: the handler may interrupt its own lock.
        signal.signal(number, lambda received, _frame: signals.put(received))
    logs.configure(settings(), "scheduler")
    for module in modules:  # here, so that a fault in there is reported like any other
        _import(module)
    while (code := _live(signals, modules[0])) is None:
        log.warning("scheduler.born_again", hint="it was silent for longer than the lease")
    log.info("scheduler.stopped")
    return code


def _live(signals: SimpleQueue[int], source: str) -> int | None:
    """Live one incarnation for the application that ``source`` names; returns the exit code.

    None when somebody has declared it dead.
    """
    owner = open_as("scheduler")
    with ExitStack() as leaving:
        leaving.callback(owner.close)
        leaving.callback(close_delivery)
        sync(owner.ledger, declarations(), broker(), now(), source=source)
        _do_chores(owner, leaving)
        service = Service(owner.ledger)
        service.start()
        leaving.callback(_stop, service)
        log.info("scheduler.started", incarnation=owner.incarnation.id)
        return _wait(owner, service, signals)


def _do_chores(owner: Process, leaving: ExitStack) -> None:
    """Do what every worker and scheduler does on the side."""
    owner.tend(Retention(owner).look, slow_s=SLOW_S)
    every_s = owner.settings.heartbeat.total_seconds()
    leaving.callback(Relay(owner).stop)
    leaving.callback(Chores(every_s, [Reaper(owner).look, Upkeep(owner.ledger).look]).stop)


def _wait(owner: Process, service: Service, signals: SimpleQueue[int]) -> int | None:
    """Return when a signal has come, this life is over, or the loop has ended, which it must not.

    Or when the ledger has become too new for this code: then nothing is ticked any more.
    """
    while service.alive and not owner.ended:
        if owner.ledger.outgrown:
            return OUTGROWN
        try:
            received = signals.get(timeout=LOOK_S)
        except Empty:
            continue
        log.info("scheduler.stopping", signal=signal.Signals(received).name)
        return STOPPED
    if owner.ended:
        return None
    log.critical("scheduler.loop_ended", hint="this is a bug; the log has its error")
    return FAILED


def _stop(service: Service) -> None:
    if not service.stop(GRACE):
        log.warning("scheduler.pass_cut_short", hint="what it has not written is still due")


def _import(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module and not module.startswith(f"{error.name}."):
            raise
        message = f"there is no module {module!r}; check its name and PYTHONPATH"
        raise SettingsError(message) from None
