"""While any outcome is kept that the ledger has no room for, its worker claims nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime

from postlude.broker.unstored import Unstored
from postlude.ledger.commit import NoRoom
from postlude.ledger.task import Claimed
from postlude.ledger.transitions.outcome import Outcome
from postlude.states import State
from postlude.worker.holdings import Holdings

AT = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 20
DONE = Outcome(State.SUCCEEDED, "succeeded", started_at=AT, finished_at=AT)


def claimed(number: int) -> Claimed:
    return Claimed(
        number, f"{number}", "a", "q", "{}", "{}", 0, 1, "t", 1, 0, 0, created_at=AT, claimed_at=AT
    )


class Unlucky(Holdings):
    """The next outcome without room comes at the moment in which the last one has been stored."""

    unlucky: threading.Thread | None = None

    def resume(self) -> None:
        if self.unlucky is not None:
            thread, self.unlucky = self.unlucky, None
            thread.start()
            thread.join(0.3)  # it may have to wait until this is done
        super().resume()


def test_one_that_comes_when_the_last_one_has_been_stored_is_waited_for_as_well():
    room, holdings = threading.Event(), Unlucky(2)
    (first, second), _ = holdings.take([claimed(1), claimed(2)])

    def store(held, _outcome):
        stored: Future[bool] = Future()
        if held is first or room.is_set():
            stored.set_result(True)
        else:
            stored.set_exception(NoRoom())
        return stored

    unstored = Unstored(holdings, store, lambda held, *_: holdings.forget(held))
    holdings.unlucky = coming = threading.Thread(target=unstored.keep, args=(second, DONE))

    unstored.keep(first, DONE)

    deadline = time.monotonic() + PATIENCE_S
    while first in holdings.named(["1"]) or not unstored.ids():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    coming.join(PATIENCE_S)
    assert holdings.refuses
    room.set()
    unstored.wait()
