"""Outcomes that the ledger does not take as they are: kept and tried again, at last without the rest.

What the task did may not be repeated, so how it ended must not be forgotten. While one is kept, this
worker claims nothing: each further task would do its work, too, and fail to say so. The worker does
not leave before the last one is stored, unless its time is up.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from postlude.ledger.commit import NoRoom
from postlude.ledger.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from postlude.ledger.transitions.outcome import Outcome
    from postlude.worker.holdings import Held, Holdings

log = structlog.get_logger()

PATIENCE_S = 5.0
"""How long an outcome is tried as it is before something is left out of it."""
RETRY_S = 0.25


@dataclass(slots=True)
class _Kept:
    outcome: Outcome
    since: float = field(default_factory=time.monotonic)


class Unstored:
    """The kept outcomes of one desk, and a thread that lives while there are any.

    ``store`` submits an outcome, None when the ledger is closing; ``done`` is told of one that is stored,
    or that never will be.
    """

    def __init__(
        self,
        holdings: Holdings,
        store: Callable[[Held, Outcome], Future[bool] | None],
        done: Callable[[Held, Outcome, Future[bool]], None],
    ) -> None:
        self._holdings = holdings
        self._store = store
        self._done = done
        self._lock = threading.Lock()
        self._kept: dict[Held, _Kept] = {}
        self._none = threading.Event()
        self._none.set()

    def keep(self, held: Held, outcome: Outcome) -> None:
        """Keep ``outcome`` until it is stored. Claims nothing until then; never waits."""
        log.warning(
            "task.outcome_kept",
            task_id=held.task.id,
            actor=held.task.actor,
            hint="the ledger has no room for it; nothing is claimed until it is stored",
        )
        with self._lock:  # in here, as is resume(): of the two, the later one counts
            self._holdings.suspend()
            self._kept[held] = _Kept(outcome)
            idle = self._none.is_set()
            self._none.clear()
        if idle:
            threading.Thread(target=self._loop, name="unstored", daemon=True).start()

    def wait(self) -> None:
        """Return when nothing is kept any more."""
        self._none.wait()

    def ids(self) -> list[str]:
        """Return the ids of the tasks whose outcomes are kept."""
        with self._lock:
            return [held.task.id for held in self._kept]

    def _loop(self) -> None:
        while not self._is_empty():
            time.sleep(RETRY_S)
            with self._lock:
                kept = list(self._kept.items())
            for held, entry in kept:
                if self._try(held, entry):
                    with self._lock:
                        del self._kept[held]

    def _is_empty(self) -> bool:
        with self._lock:
            if self._kept:
                return False
            self._none.set()
            self._holdings.resume()
        return True

    def _try(self, held: Held, entry: _Kept) -> bool:
        """Try to store an outcome, in every form that is due; True when that is over."""
        for outcome in self._forms(entry):
            stored = self._store(held, outcome)
            if stored is None:
                self._holdings.forget(held)
                return True
            if not isinstance(stored.exception(), NoRoom):
                self._done(held, outcome, stored)
                return True
        return False

    def _forms(self, entry: _Kept) -> Iterator[Outcome]:
        yield entry.outcome
        if self._holdings.closed or time.monotonic() - entry.since >= PATIENCE_S:
            yield lightened(entry.outcome)


def bare(outcome: Outcome) -> Outcome:
    """Return ``outcome`` without whatever the ledger may have refused in it; what it decides stays."""
    note = "the ledger refused what belongs to this outcome; the log of its worker says why"
    return replace(
        outcome,
        result=None,
        passed_on=None,
        logs=None,
        failure=Failure("NotStorable", note, ""),
        follow_ups=(),
    )


def lightened(outcome: Outcome) -> Outcome:
    """Return ``outcome`` without result, logs and traceback, and with a note that says so."""
    sizes = {"its result": outcome.result, "its logs": outcome.logs}
    dropped = [f"{name} ({len(text.encode())} bytes)" for name, text in sizes.items() if text]
    if outcome.failure and outcome.failure.traceback:
        dropped.append("its traceback")
    note = f"the ledger had no room for {', '.join(dropped)}"
    line = {
        "at": outcome.finished_at.isoformat(),
        "level": "warning",
        "logger": "postlude",
        "message": note,
    }
    failure = outcome.failure
    return replace(
        outcome,
        result=None,
        logs=json.dumps([line]) if dropped else None,
        failure=replace(failure, traceback="") if failure else Failure(NoRoom.__name__, note, ""),
    )
