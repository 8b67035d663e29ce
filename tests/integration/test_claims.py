"""Claims: each task goes to one worker, the best first, and only to who can run it."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import ready
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, bury, hand_back, incarnation
from postlude.ledger.transitions.claim import claim
from postlude.policy.crash import Death, Suspicion
from postlude.settings import load
from postlude.states import State

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def opened(tmp_path):
    ledgers = []

    def open_ledger() -> Ledger:
        settings = load(data_dir=tmp_path)
        if not ledgers:
            migrate.upgrade(settings)
        ledgers.append(Ledger(settings))
        return ledgers[-1]

    yield open_ledger
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened):
    return opened()


def enqueue(ledger, id_: str, **changes) -> None:
    task = NewTask(id_, "a", "q", '{"x": 1}', '{"max_retries": 3}', 0, None, NOW)
    ledger.write(partial(accept.enqueue, task=replace(task, **changes), now=NOW))


def take(ledger, **changes):
    asked = {
        "queue": "q",
        "actors": ["a"],
        "owner": "me",
        "token": "t",
        "now": NOW,
        "limit": 9,
        **changes,
    }
    return ledger.write(partial(claim, **asked))


def ids(claimed) -> list[str]:
    return [task.id for task in claimed]


def test_a_claimed_task_has_all_that_its_run_needs(ledger):
    enqueue(ledger, "mail", priority=3)
    later = NOW + timedelta(seconds=5)

    (held,) = take(ledger, now=later, owner="worker", token="proof")

    assert (held.id, held.actor, held.queue, held.priority) == ("mail", "a", "q", 3)
    assert (held.arguments, held.options) == ('{"x": 1}', '{"max_retries": 3}')
    assert (held.attempt, held.retries, held.generation, held.token) == (1, 0, 1, "proof")
    assert (held.created_at, held.claimed_at, held.suspect) == (NOW, later, False)
    with ledger.read() as connection:
        view = queries.get(connection, "mail")
    assert (view.state, view.holder, view.started_at) == (State.RUNNING, "worker", None)


def test_the_best_priority_comes_first_and_then_the_oldest(ledger):
    for id_, priority in (("c", 5), ("d", 5), ("a", -7), ("b", 0)):
        enqueue(ledger, id_, priority=priority)

    assert ids(take(ledger, limit=3)) == ["a", "b", "c"]
    assert ids(take(ledger)) == ["d"]


def test_a_task_that_was_handed_back_keeps_its_place(ledger):
    enqueue(ledger, "old")
    enqueue(ledger, "young")
    (held,) = take(ledger, limit=1)
    ledger.write(partial(hand_back.hand_back, task=held, now=NOW))

    assert ids(take(ledger)) == ["old", "young"]


def test_no_more_than_asked_for(ledger):
    for n in range(5):
        enqueue(ledger, f"{n}")

    assert [len(take(ledger, limit=n)) for n in (0, 2, 9)] == [0, 2, 3]


def test_other_queues_and_unknown_actors_are_left_to_those_who_know_them(ledger):
    enqueue(ledger, "elsewhere", queue="other")
    enqueue(ledger, "unknown", actor="new in the next release")
    enqueue(ledger, "mine")

    assert ids(take(ledger)) == ["mine"]
    assert take(ledger, actors=[]) == []
    assert ids(take(ledger, actors=["a", "new in the next release"])) == ["unknown"]


def test_names_of_actors_and_queues_are_data(ledger):
    hostile = """'"; DROP TABLE postlude_tasks; -- %s :queue ü"""
    enqueue(ledger, "mail", actor=hostile, queue=hostile)

    assert ids(take(ledger, actors=[hostile, "a"], queue=hostile)) == ["mail"]


def test_a_task_that_has_to_wait_is_not_claimed(ledger):
    enqueue(ledger, "tomorrow", run_at=NOW + timedelta(days=1))

    assert take(ledger, now=NOW + timedelta(days=2)) == []


def test_a_clock_that_is_set_back_hides_nothing_that_may_run_now(ledger):
    enqueue(ledger, "now")

    assert ids(take(ledger, now=NOW - timedelta(days=1))) == ["now"]


def test_suspects_are_only_for_those_who_ask_for_them(ledger):
    enqueue(ledger, "suspect")
    ledger.write(
        partial(
            incarnation.appear,
            incarnation="me",
            kind="worker",
            host="h",
            pid=1,
            version="1",
            queues=[],
            now=NOW,
        )
    )
    take(ledger)
    ledger.write(partial(bury.bury, incarnation="me", now=NOW, death=Death.PROVEN))
    enqueue(ledger, "innocent")

    with closing(ledger.connect()) as reader:
        assert ready.suspicion(reader, "q", ["a"]) == Suspicion.APART
        assert ready.suspicion(reader, "q", ["b"]) == Suspicion.NONE
    assert ids(take(ledger, limit=1)) == ["innocent"]
    assert [(task.id, task.suspect, task.attempt) for task in take(ledger, suspects=1)] == [
        ("suspect", Suspicion.APART, 2)
    ]
    with closing(ledger.connect()) as reader:
        assert ready.suspicion(reader, "q", ["a"]) == Suspicion.NONE
        assert not ready.has_ready(reader, "q", ["a"])


def test_of_many_workers_that_claim_at_once_each_task_goes_to_one(opened):
    ledgers = [opened() for _ in range(4)]
    for n in range(400):
        ledgers[0].submit(
            partial(
                accept.enqueue, task=NewTask(f"{n}", "a", "q", "{}", "{}", 0, None, NOW), now=NOW
            )
        )
    ledgers[0].write(lambda _tx: None)
    taken: dict[str, list[str]] = {f"worker {n}": [] for n in range(4)}
    go = threading.Barrier(4)

    def work(ledger: Ledger, name: str) -> None:
        go.wait()
        for turn in itertools.count():
            found = take(ledger, owner=name, token=f"{name}, {turn}", limit=7)
            taken[name].extend(ids(found))
            if not found:
                return

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(ledgers, taken, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, itertools.chain(*taken.values()))) == list(range(400))
    with ledgers[0].read() as connection:
        for name, mine in taken.items():
            assert sorted(queries.held_by(connection, name)) == sorted(mine)
