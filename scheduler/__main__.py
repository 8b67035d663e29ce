"""``python -m scheduler``: runs until SIGTERM or SIGINT, and then leaves within two seconds."""

from __future__ import annotations

import signal
import sys
from datetime import timedelta
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import structlog

from postlude import logs
from postlude.broker import broker
from postlude.errors import LedgerError, LedgerTooNew, LedgerTooOld, PostludeError, UnsafeSQLite
from postlude.ledger.clock import now
from postlude.process import close, current, open_as
from postlude.schedules.declare import declarations
from postlude.settings import settings
from scheduler.service import Service
from scheduler.sync import sync

if TYPE_CHECKING:
    from postlude.ledger.ledger import Ledger

log = structlog.get_logger()

STOPPED, FAILED, MISCONFIGURED = 0, 1, 2
GRACE = timedelta(seconds=1.5)
"""How long a stopping scheduler waits for the pass under way; cut short, it loses nothing."""
LOOK_S = 1.0


def main() -> int:
    """Run a scheduler; returns the exit code: 2 when a restart would not help, 1 when it may."""
    try:
        return _run()
    except PostludeError as error:
        print(f"scheduler: {error}", file=sys.stderr)  # noqa: T201 - a person reads this one
        passing = isinstance(error, LedgerError) and not isinstance(
            error, LedgerTooOld | LedgerTooNew | UnsafeSQLite
        )
        return FAILED if passing else MISCONFIGURED


def _run() -> int:
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The queue is safe in a handler; an Event is not: the handler may interrupt its own lock.
        signal.signal(number, lambda received, _frame: signals.put(received))
    logs.configure(settings(), "scheduler")
    import_module("actors")  # not at the top: a fault in there is reported like any other
    open_as("scheduler")
    sync(_ledger(), declarations(), broker(), now())
    service = Service(_ledger)
    service.start()
    log.info("scheduler.started", incarnation=current().incarnation.id)
    code = _wait(service, signals)
    if not service.stop(GRACE):
        log.warning("scheduler.pass_cut_short", hint="what it has not written is still due")
    close()
    log.info("scheduler.stopped")
    return code


def _wait(service: Service, signals: SimpleQueue[int]) -> int:
    """Return when a signal has come, or when the loop has ended although nothing should end it."""
    while service.alive:
        try:
            received = signals.get(timeout=LOOK_S)
        except Empty:
            continue
        log.info("scheduler.stopping", signal=signal.Signals(received).name)
        return STOPPED
    log.critical("scheduler.loop_ended", hint="this is a bug; the log has its error")
    return FAILED


def _ledger() -> Ledger:
    """Return this process's ledger, seeing to it that the process is on record as alive.

    After somebody has declared it dead (it was stopped for too long) it begins a new life.
    """
    process = current()
    _ = process.incarnation
    return process.ledger


if __name__ == "__main__":
    sys.exit(main())
