"""What a worker has in hand: each task is started or handed back, settled once, and never both."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from postlude.ledger.task import Claimed
from postlude.policy.crash import Suspicion
from postlude.worker.holdings import Held, Holdings

AT = datetime(2026, 11, 24, tzinfo=UTC)
QUEUE = "q"


def claimed(number: int, *, alone: bool = False, token: str = "t") -> Claimed:
    return Claimed(
        seq=number,
        id=f"task-{number}",
        actor="a",
        queue=QUEUE,
        arguments="{}",
        options="{}",
        priority=0,
        generation=1,
        token=token,
        attempt=1,
        retries=0,
        suspect=Suspicion.ALONE if alone else Suspicion.NONE,
        created_at=AT,
        claimed_at=AT,
    )


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def hold(holdings: Holdings, tasks: list[Claimed]) -> list[Held]:
    """Take ``tasks``, all of which fit."""
    kept, refused = holdings.take(tasks)
    assert refused == []
    return kept


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def holdings(clock):
    return Holdings(4, clock)


def test_a_task_starts_once(holdings):
    (held,) = hold(holdings, [claimed(1)])

    assert [holdings.start(held), holdings.start(held)] == [True, False]
    assert held.started_at.tzinfo is UTC


def test_a_task_that_was_handed_back_does_not_start(holdings):
    (held,) = hold(holdings, [claimed(1)])

    assert holdings.take_back() == [held]
    assert holdings.start(held) is False
    assert holdings.settle(held) is False
    assert holdings.take_back() == []


def test_while_it_is_suspended_nothing_is_claimed_and_what_was_claimed_meanwhile_goes_back(
    holdings,
):
    holdings.suspend()
    kept, refused = holdings.take([claimed(1)])

    assert holdings.budget(QUEUE) == 0
    assert (kept, [held.task.id for held in refused]) == ([], ["task-1"])
    holdings.forget(*refused)
    assert holdings.budget(QUEUE) == 0
    holdings.resume()
    assert holdings.room.is_set()
    assert holdings.budget(QUEUE) == 4


def test_after_as_many_tasks_as_it_may_finish_nothing_is_claimed(holdings):
    holdings.most = 2
    for number in range(2):
        assert holdings.budget(QUEUE) > 0
        (held,) = hold(holdings, [claimed(number)])
        holdings.settle(held)
        holdings.forget(held)

    assert holdings.budget(QUEUE) == 0
    assert holdings.finished == 2


def test_what_was_handed_back_counts_as_no_task_of_ours(holdings):
    (held,) = hold(holdings, [claimed(1)])
    holdings.take_back()
    holdings.forget(held)

    assert holdings.finished == 0


def test_a_task_that_was_started_is_not_handed_back(holdings):
    (held,) = hold(holdings, [claimed(1)])
    holdings.start(held)

    assert holdings.take_back() == []
    assert [holdings.settle(held), holdings.settle(held)] == [True, False]


def test_a_running_task_that_was_cut_short_cannot_settle_afterwards(holdings):
    running, waiting = hold(holdings, [claimed(1), claimed(2)])
    holdings.start(running)

    assert holdings.interrupt() == [running]
    assert holdings.settle(running) is False
    assert holdings.take_back() == [waiting]


def test_only_what_has_waited_for_long_is_handed_back(holdings, clock):
    (old,) = hold(holdings, [claimed(1)])
    clock.now += 0.9
    hold(holdings, [claimed(2)])
    early = holdings.take_back(older_than=1.0)
    clock.now += 0.2

    assert (early, holdings.take_back(older_than=1.0)) == ([], [old])


def test_a_task_is_in_hand_until_the_ledger_has_confirmed_its_end(holdings):
    (held,) = hold(holdings, [claimed(1)])
    holdings.start(held)
    holdings.settle(held)
    before = holdings.ids()
    holdings.forget(held)

    assert (before, holdings.ids()) == ({"task-1"}, set())


def test_a_second_claim_of_the_same_task_is_another_one(holdings):
    (first,) = hold(holdings, [claimed(1, token="t1")])
    holdings.take_back()
    (second,) = hold(holdings, [claimed(1, token="t2")])
    holdings.forget(first)

    assert holdings.start(second)
    assert holdings.ids() == {"task-1"}


def test_long_running_tasks_are_told_once(holdings):
    running, _waiting = hold(holdings, [claimed(1), claimed(2)])
    holdings.start(running)

    assert [holdings.long_running(), holdings.long_running()] == [[running], []]


def test_a_fresh_worker_claims_what_its_threads_can_take(holdings):
    before = holdings.budget(QUEUE)
    held = hold(holdings, [claimed(n) for n in range(4)])

    assert (before, holdings.budget(QUEUE)) == (4, 0)
    holdings.forget(held[0])
    assert holdings.budget(QUEUE) == 1


def test_a_fast_worker_claims_ahead(holdings, clock):
    for _ in range(20):
        for held in hold(holdings, [claimed(n) for n in range(100)]):
            holdings.start(held)
            holdings.settle(held)
            holdings.forget(held)
        clock.now += 0.1
        found = holdings.budget(QUEUE)

    assert 90 <= found <= 104


def test_what_was_handed_back_does_not_count_as_fast(holdings, clock):
    for _ in range(20):
        for held in hold(holdings, [claimed(n) for n in range(100)]):
            holdings.take_back()
            holdings.forget(held)
        clock.now += 0.1

    assert holdings.budget(QUEUE) == 4


def test_whoever_waits_for_room_is_woken_when_there_is_some(holdings):
    (held,) = hold(holdings, [claimed(1)])
    holdings.budget(QUEUE)
    before = holdings.room.is_set()
    holdings.forget(held)

    assert (before, holdings.room.is_set()) == (False, True)


def test_nothing_is_claimed_beside_what_runs_alone(holdings):
    (first,) = hold(holdings, [claimed(1, alone=True)])
    beside = holdings.budget(QUEUE)
    holdings.settle(first)
    until_stored = holdings.budget(QUEUE)
    holdings.forget(first)

    assert (beside, until_stored, holdings.budget(QUEUE)) == (0, 0, 4)


def test_a_worker_that_waits_to_be_empty_takes_nothing_from_other_queues(holdings):
    (held,) = hold(holdings, [claimed(1)])

    assert holdings.reserve(QUEUE) is False
    assert holdings.reserve("other") is False
    assert holdings.budget("other") == 0
    holdings.forget(held)
    assert holdings.reserve(QUEUE) is True
    holdings.unreserve("other")
    assert holdings.budget("other") == 0
    holdings.unreserve(QUEUE)
    assert holdings.budget("other") == 4


def test_a_worker_that_stops_claims_nothing_any_more(holdings):
    holdings.close()

    assert holdings.closed
    assert holdings.budget(QUEUE) == 0
    assert holdings.reserve(QUEUE) is False


def test_what_was_claimed_while_the_worker_began_to_stop_is_handed_back(holdings):
    holdings.close()
    kept, refused = holdings.take([claimed(1), claimed(2)])

    assert (kept, [held.task.seq for held in refused]) == ([], [1, 2])
    assert [holdings.start(held) for held in refused] == [False, False]
    assert holdings.ids() == {"task-1", "task-2"}
    assert holdings.take_back() == []


def test_what_was_claimed_while_one_was_taken_that_runs_alone_is_handed_back(holdings):
    (first,) = hold(holdings, [claimed(1, alone=True)])
    kept, refused = holdings.take([claimed(2)])

    assert (kept, [held.task.seq for held in refused]) == ([], [2])
    assert holdings.start(first)


def test_one_that_runs_alone_and_was_claimed_while_others_were_taken_is_handed_back(holdings):
    hold(holdings, [claimed(1)])
    kept, refused = holdings.take([claimed(2, alone=True)])

    assert (kept, [held.task.seq for held in refused]) == ([], [2])
    assert holdings.budget(QUEUE) == 2


def test_suspects_of_the_first_degree_run_beside_others(holdings):
    kept, refused = holdings.take([claimed(1), replace(claimed(2), suspect=Suspicion.APART)])

    assert ([held.task.seq for held in kept], refused) == ([1, 2], [])


def test_of_two_that_run_alone_one_is_kept(holdings):
    kept, refused = holdings.take([claimed(1, alone=True), claimed(2, alone=True)])

    assert ([held.task.seq for held in kept], [held.task.seq for held in refused]) == ([1], [2])


def test_of_threads_that_race_for_a_task_one_wins():
    holdings = Holdings(8)
    held = hold(holdings, [claimed(n) for n in range(3000)])
    started: list[list] = [[] for _ in range(4)]
    returned: list[list] = [[] for _ in range(2)]
    go = threading.Barrier(6)

    def start(mine: list) -> None:
        go.wait()
        mine.extend(item for item in held if holdings.start(item))

    def take_back(mine: list) -> None:
        go.wait()
        while found := holdings.take_back():
            mine.extend(found)

    threads = [threading.Thread(target=start, args=(mine,)) for mine in started]
    threads += [threading.Thread(target=take_back, args=(mine,)) for mine in returned]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ends = [item.task.seq for mine in started + returned for item in mine]
    assert sorted(ends) == list(range(3000))


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, each task comes to one end."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.holdings = Holdings(4, self.clock)
        self.ends: dict[int, str] = {}
        self.started: set[int] = set()
        self.lingering: set[int] = set()
        self.taken = 0
        self.gone: set[int] = set()
        self.alone: set[int] = set()

    @rule(target=tasks, alone=st.booleans())
    def take(self, alone):
        self.taken += 1
        kept, refused = self.holdings.take([claimed(self.taken, alone=alone)])
        for held in refused:
            assert self.holdings.closed or alone or self.alone
            self._returned(held)
        for held in kept:
            assert not self.holdings.closed
            assert not self.alone
            self.alone.update([held.task.seq] if alone else [])
        return (kept + refused)[0]

    @rule(held=tasks)
    def start(self, held):
        fresh = held.task.seq not in self.ends and held.task.seq not in self.started
        assert self.holdings.start(held) == fresh
        self.started.add(held.task.seq) if fresh else None

    @rule(held=tasks)
    def settle(self, held):
        assert self.holdings.settle(held) == (held.task.seq not in self.ends)
        self.ends.setdefault(held.task.seq, "settled")
        if held.task.seq in self.lingering:
            self.lingering.discard(held.task.seq)
            self._gone(held)

    @rule(held=tasks)
    def overrule(self, held):
        fresh = held.task.seq not in self.ends
        assert self.holdings.overrule(held) == fresh
        self.ends.setdefault(held.task.seq, "overruled")
        if fresh and held.task.seq in self.started:
            self.lingering.add(held.task.seq)

    @rule(age=st.sampled_from([-1.0, 0.5]))
    def take_back(self, age):
        for held in self.holdings.take_back(older_than=age):
            assert held.task.seq not in self.started
            self._returned(held)

    @rule()
    def interrupt(self):
        for held in self.holdings.interrupt():
            assert held.task.seq in self.started
            self._returned(held)

    @rule(held=consumes(tasks))
    def forget(self, held):
        self.holdings.forget(held)
        self.ends.setdefault(held.task.seq, "forgotten")
        if held.task.seq not in self.lingering:
            self._gone(held)

    @rule(span=st.floats(0, 1))
    def wait(self, span):
        self.clock.now += span

    @rule()
    def close(self):
        self.holdings.close()

    @invariant()
    def everything_is_accounted_for(self):
        assert len(self.holdings.ids()) == self.taken - len(self.gone)
        if self.holdings.closed:
            assert self.holdings.budget(QUEUE) == 0

    def _gone(self, held):
        self.gone.add(held.task.seq)
        self.alone.discard(held.task.seq)

    def _returned(self, held):
        assert held.task.seq not in self.ends
        self.ends[held.task.seq] = "returned"
        self.alone.discard(held.task.seq)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
