"""A worker that a newer ledger has outgrown: it drains, leaves, and says why by its exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from postlude.policy.restart import OUTGROWN
from postlude.worker import master, signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from postlude.errors import LedgerTooNew

_outgrown = False


def leave(drain: Callable[[], object]) -> None:
    """Drain and have the ``dramatiq`` command stop, siblings too: they run the same code.

    A worker that was started in some other way claims nothing more; whoever started it must stop it.
    """
    global _outgrown  # noqa: PLW0603 - a process is outgrown once and for all
    _outgrown = True
    drain()
    master.stop()


def exit_code() -> int:
    """Return with which code this process leaves after it has drained."""
    return OUTGROWN if _outgrown else 0


def end() -> None:
    """End a process of the ``dramatiq`` command with that code, if it is not 0; to be called last."""
    if _outgrown and signals.in_dramatiq():
        raise SystemExit(OUTGROWN)


def refuse(error: LedgerTooNew) -> None:
    """End a process of the ``dramatiq`` command that cannot even start; others go on from here.

    It says why past Dramatiq's pipe, which drops what a worker says that ends at once.
    """
    if signals.in_dramatiq():
        print(f"dramatiq: {error}", file=sys.__stderr__, flush=True)
        raise SystemExit(OUTGROWN)
