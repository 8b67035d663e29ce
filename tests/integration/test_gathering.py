"""What many threads want stored at once: few writes, each told of once, only the guilty struck."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from postlude.broker.ending import Ending, record
from postlude.errors import LedgerBusy
from postlude.ledger import migrate
from postlude.ledger.gathering import Gathering
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, claim
from postlude.ledger.transitions.outcome import Outcome
from postlude.settings import load
from postlude.states import State
from postlude.worker.holdings import Held

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATIENCE_S = 20
DONE = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW, result="1")
UNFIT = replace(DONE, result="half a character: \ud800")
"""No result gets here like this: it stands for whatever a driver may refuse."""


class Site:
    """A ledger with tasks in hand, and what was told of their endings."""

    def __init__(self, folder) -> None:
        settings = load(data_dir=folder)
        migrate.upgrade(settings)
        self.ledger = Ledger(settings)
        self.writes = 0
        self.told: list[tuple[int, bool | BaseException | None]] = []
        self.endings = self.gather()

    def gather(self, **options):
        return Gathering(self.ledger, self._record, self._done, patient=True, **options)

    def hold(self, count: int) -> list[Held]:
        for number in range(count):
            task = NewTask(f"{number:04}", "a", "q", "{}", "{}", 0, None, NOW)
            self.ledger.submit(partial(accept.enqueue, task=task, now=NOW))
        held = self.ledger.write(
            partial(
                claim.claim, queue="q", actors=["a"], owner="w", token="t", now=NOW, limit=count
            )
        )
        return [Held(task, 0.0) for task in held]

    def occupy(self) -> threading.Event:
        """Have the writer wait until the event is set, and return when it does."""
        there, go_on = threading.Event(), threading.Event()

        def wait(_tx: object) -> None:
            there.set()
            go_on.wait(PATIENCE_S)

        self.ledger.submit(wait)
        assert there.wait(PATIENCE_S)
        return go_on

    def settle(self) -> None:
        """Return when the writer has done all that was to do, and what followed from that."""
        for _ in range(2):
            self.ledger.write(lambda _tx: None)

    def states(self) -> list[State]:
        with self.ledger.read() as connection:
            found, _ = queries.page(connection, limit=500)
        return [task.state for task in reversed(found)]

    def _record(self, tx, endings):
        self.writes += 1
        return record(tx, endings, worker="w")

    def _done(self, endings, stored, error) -> None:
        each = [error] * len(endings) if stored is None else stored
        self.told += [(held.task.seq, how) for (held, _), how in zip(endings, each, strict=True)]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.ledger.close()


def test_what_is_settled_meanwhile_is_one_write(site):
    held = site.hold(200)
    go_on = site.occupy()
    threads = [
        threading.Thread(
            target=lambda mine=held[start::4]: [site.endings.add(Ending(h, DONE)) for h in mine]
        )
        for start in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    go_on.set()
    site.settle()

    assert sorted(site.told) == [(each.task.seq, True) for each in held]
    assert site.writes <= len(threads), (
        "one, unless several threads have announced themselves at once"
    )
    assert site.states() == [State.SUCCEEDED] * 200


def test_what_comes_after_a_write_is_written_too(site):
    for each in site.hold(20):
        site.endings.add(Ending(each, DONE))
        site.settle()

    assert site.states() == [State.SUCCEEDED] * 20


def test_late_news_is_told_from_what_is_stored(site):
    held = site.hold(3)
    held[1].task = replace(held[1].task, token="another")
    go_on = site.occupy()
    for each in held:
        site.endings.add(Ending(each, DONE))
    go_on.set()
    site.settle()

    assert [how for _, how in sorted(site.told)] == [True, False, True]
    assert site.states() == [State.SUCCEEDED, State.RUNNING, State.SUCCEEDED]


def test_an_outcome_that_cannot_be_written_strikes_nobody_else(site):
    held = site.hold(3)
    go_on = site.occupy()
    for each, outcome in zip(held, (DONE, UNFIT, DONE), strict=True):
        site.endings.add(Ending(each, outcome))
    go_on.set()
    site.settle()

    (first, second, third) = (how for _, how in sorted(site.told, key=lambda told: told[0]))
    assert (first, third) == (True, True)
    assert isinstance(second, ValueError)
    assert site.states() == [State.SUCCEEDED, State.RUNNING, State.SUCCEEDED]


def test_who_comes_when_the_ledger_is_closing_is_told(site):
    (held,) = site.hold(1)
    site.ledger.close()

    site.endings.add(Ending(held, DONE))

    assert [seq for seq, _ in site.told] == [held.task.seq]
    assert isinstance(site.told[0][1], LedgerBusy)


def test_an_error_that_is_said_to_strike_all_does(site):
    endings = site.gather(strikes_all=(ValueError,))
    held = site.hold(2)
    go_on = site.occupy()
    for each, outcome in zip(held, (DONE, UNFIT), strict=True):
        endings.add(Ending(each, outcome))
    go_on.set()
    site.settle()

    assert [isinstance(how, ValueError) for _, how in site.told] == [True, True]
    assert site.states() == [State.RUNNING] * 2


def test_no_more_wait_than_there_is_room_for(site):
    endings = site.gather(capacity=2)
    held = site.hold(3)
    go_on = site.occupy()
    for each in held:
        endings.add(Ending(each, DONE))
    refused = list(site.told)
    go_on.set()
    site.settle()

    assert [(seq, type(how)) for seq, how in refused] == [(held[2].task.seq, LedgerBusy)]
    assert site.states() == [State.SUCCEEDED, State.SUCCEEDED, State.RUNNING]


def test_who_has_not_been_written_can_be_taken_back(site):
    first, second = site.hold(2)
    go_on = site.occupy()
    kept, withdrawn = Ending(first, DONE), Ending(second, DONE)
    site.endings.add(kept)
    site.endings.add(withdrawn)
    assert site.endings.take_back(withdrawn)
    go_on.set()
    site.settle()

    assert not site.endings.take_back(kept)
    assert site.told == [(first.task.seq, True)]
    assert site.states() == [State.SUCCEEDED, State.RUNNING]


@pytest.mark.parametrize("stale_first", [True, False])
def test_of_a_task_held_twice_the_valid_token_counts(site, stale_first):
    (held,) = site.hold(1)
    stale = Held(replace(held.task, token="before", attempt=7), 0.0)
    go_on = site.occupy()
    for each in (stale, held) if stale_first else (held, stale):
        site.endings.add(Ending(each, DONE))
    go_on.set()
    site.settle()

    assert [how for _, how in site.told] == ([False, True] if stale_first else [True, False])
    with site.ledger.read() as connection:
        assert [each.number for each in queries.attempts(connection, held.task.id)] == [1]
