"""How the attempt of a task in hand ended: what a worker has the ledger record, by the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from postlude.ledger.transitions.outcome import finish_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postlude.ledger.statement import Tx
    from postlude.ledger.transitions.outcome import Outcome
    from postlude.worker.holdings import Held


class Ending(NamedTuple):
    """A task in hand, and its outcome."""

    held: Held
    outcome: Outcome


def record(tx: Tx, endings: Iterable[Ending], *, worker: str) -> list[bool]:
    """Record how these ended; tells of each whether ``worker`` still held it. May be replayed."""
    return finish_all(tx, [(held.task, outcome) for held, outcome in endings], worker=worker)
