"""A claim is proven by its token: whoever wakes too late changes nothing. And who pays for a death."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import tasks as queries
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import (
    accept,
    bury,
    claim,
    hand_back,
    incarnation,
    mark,
    outcome,
    publish,
    retain,
)
from postlude.ledger.transitions.outcome import Failure, Outcome
from postlude.settings import load
from postlude.states import Reason, State

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
DONE = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW, result='"late"')
AGAIN = Outcome(State.QUEUED, "interrupted", started_at=NOW, finished_at=NOW)


class Site:
    """A ledger with workers that come, claim and die."""

    def __init__(self, ledger) -> None:
        self.ledger = ledger
        self.lives = 0

    def enqueue(self, *ids: str) -> None:
        for id_ in ids:
            task = NewTask(
                id=id_,
                actor="a",
                queue="q",
                arguments="{}",
                options="{}",
                priority=0,
                run_at=None,
                created_at=NOW,
            )
            self.ledger.write(partial(accept.enqueue, task=task, now=NOW))

    def worker(self) -> str:
        self.lives += 1
        name = f"worker {self.lives}"
        self.ledger.write(
            partial(
                incarnation.appear,
                incarnation=name,
                kind="worker",
                host="h",
                pid=self.lives,
                version="1",
                queues=[],
                now=NOW,
            )
        )
        return name

    def claim(self, worker: str, *, suspects: bool = False, limit: int = 100):
        write = partial(
            claim.claim,
            queue="q",
            actors=["a"],
            owner=worker,
            token=f"token of {worker}",
            now=NOW,
            limit=limit,
            suspects=suspects,
        )
        return self.ledger.write(write)

    def die(self, worker: str, *, proven: bool):
        return self.ledger.write(partial(bury.bury, incarnation=worker, now=NOW, proven=proven))

    def finish(self, held, ending=DONE) -> bool:
        return self.ledger.write(partial(outcome.finish, task=held, outcome=ending, worker="w"))

    def view(self, id_: str):
        with self.ledger.read() as connection:
            return queries.get(connection, id_)

    def outcomes(self, id_: str) -> list[str]:
        with self.ledger.read() as connection:
            return [attempt.outcome for attempt in queries.attempts(connection, id_)]

    def numbers(self, id_: str) -> list[int]:
        with self.ledger.read() as connection:
            return [attempt.number for attempt in queries.attempts(connection, id_)]


@pytest.fixture
def site(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield Site(ledger)
    ledger.close()


def test_a_worker_that_wakes_late_writes_nothing_over_its_successor(site):
    site.enqueue("mail")
    frozen, successor = site.worker(), site.worker()
    (late,) = site.claim(frozen)
    site.die(frozen, proven=False)
    (held,) = site.claim(successor)
    before = site.view("mail")

    told = [
        site.ledger.write(write)
        for write in (
            partial(mark.mark_started, task=late, at=NOW),
            partial(mark.mark_progress, task=late, progress="99"),
            partial(outcome.finish, task=late, outcome=DONE, worker=frozen),
            partial(hand_back.hand_back, task=late),
            partial(hand_back.forgotten, task="mail", owner=frozen),
        )
    ]

    assert told == [False] * 5
    assert site.view("mail") == before
    assert site.finish(held, replace(DONE, result='"mine"')) is True
    assert site.finish(late) is False
    assert (site.view("mail").result, site.outcomes("mail")) == (
        "mine",
        ["worker-silent", "succeeded"],
    )


def test_a_late_confirm_does_not_mark_a_task_that_was_queued_anew(site):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    site.finish(held, AGAIN)
    for generation, marks in ((1, False), (2, True)):
        write = partial(publish.mark_published, task="mail", generation=generation, now=NOW)
        assert site.ledger.write(write) is marks


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_a_redelivered_message_finds_nothing_to_claim(site, state):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    site.finish(held, replace(DONE, state=state))

    for generation in range(4):
        write = partial(
            claim.claim_message, task="mail", generation=generation, owner="o", token="t", now=NOW
        )
        assert site.ledger.write(write) is None
    assert site.claim(site.worker()) == []


def test_attempts_are_numbered_without_gaps_whatever_happens(site):
    site.enqueue("mail")
    endings = [
        AGAIN,
        replace(AGAIN, state=State.QUEUED, word="retried", retries=1),
        replace(AGAIN, state=State.FAILED, word="failed", failure=Failure("E", "m", "t")),
    ]
    for ending in endings:
        worker = site.worker()
        site.claim(worker)
        site.die(worker, proven=False)
        (held,) = site.claim(site.worker())
        site.finish(held, ending)

    assert site.numbers("mail") == [1, 2, 3, 4, 5, 6]
    assert site.view("mail").attempts == 6
    assert site.outcomes("mail") == [
        "worker-silent",
        "interrupted",
        "worker-silent",
        "retried",
        "worker-silent",
        "failed",
    ]


def test_a_proven_death_makes_all_that_the_dead_held_suspect_and_accuses_nobody(site):
    site.enqueue("poison", "innocent")
    worker = site.worker()
    site.claim(worker)

    site.die(worker, proven=True)

    assert site.claim(site.worker()) == []
    assert {t.id for t in site.claim(site.worker(), suspects=True)} == {"poison", "innocent"}
    assert (site.view("poison").crashes, site.view("innocent").crashes) == (0, 0)


def test_the_third_death_that_only_one_task_can_have_caused_quarantines_it(site):
    site.enqueue("poison")
    first = site.worker()
    site.claim(first)
    site.die(first, proven=True)
    for crashes in (1, 2, 3):
        worker = site.worker()
        (held,) = site.claim(worker, suspects=True, limit=1)
        assert (held.id, held.suspect) == ("poison", True)
        buried = site.die(worker, proven=True)
        assert (site.view("poison").crashes, buried.quarantined) == (crashes, int(crashes == 3))

    poison = site.view("poison")
    assert (poison.state, poison.reason) == (State.FAILED, Reason.CRASH_LOOP)
    assert (poison.finished_at, poison.holder) == (NOW, None)
    assert site.outcomes("poison") == ["worker-died"] * 4


def test_the_innocent_do_not_wait_for_the_guilty(site):
    site.enqueue("poison", "innocent")
    first, second = site.worker(), site.worker()
    site.claim(first)
    site.die(first, proven=True)
    site.claim(second, suspects=True, limit=1)
    site.die(second, proven=True)

    assert site.view("poison").crashes == 1
    assert [t.id for t in site.claim(site.worker(), suspects=True, limit=1)] == ["innocent"]


def test_silence_does_not_quarantine_who_was_alone_in_two_deaths(site):
    site.enqueue("mail")
    for number, proven in enumerate([True, True, True, False]):
        worker = site.worker()
        site.claim(worker, suspects=number > 0)
        buried = site.die(worker, proven=proven)

    view = site.view("mail")
    assert (buried.quarantined, view.state, view.crashes) == (0, State.QUEUED, 2)


def test_a_suspect_that_survives_is_one_of_many_again(site):
    site.enqueue("innocent")
    first = site.worker()
    site.claim(first)
    site.die(first, proven=True)
    (held,) = site.claim(site.worker(), suspects=True)
    site.finish(held, AGAIN)

    assert [t.suspect for t in site.claim(site.worker())] == [False]


def test_silence_and_announced_shutdowns_never_count(site):
    site.enqueue("mail")
    for _ in range(10):
        silent, leaving = site.worker(), site.worker()
        assert [t.id for t in site.claim(silent)] == ["mail"]
        site.die(silent, proven=False)
        assert [t.id for t in site.claim(leaving)] == ["mail"]
        site.ledger.write(partial(bury.leave, incarnation=leaving, now=NOW))

    view = site.view("mail")
    assert (view.state, view.crashes, view.retries) == (State.QUEUED, 0, 0)


def test_a_suspect_that_falls_silent_stays_one_and_is_not_accused(site):
    site.enqueue("mail")
    for proven in (True, False):
        worker = site.worker()
        site.claim(worker, suspects=not proven)
        site.die(worker, proven=proven)

    assert site.claim(site.worker()) == []
    assert site.view("mail").crashes == 0


def test_what_was_handed_back_or_forgotten_counts_as_no_attempt(site):
    site.enqueue("mail")
    worker = site.worker()
    (held,) = site.claim(worker)
    site.ledger.write(partial(hand_back.hand_back, task=held))
    site.claim(worker)
    site.ledger.write(partial(hand_back.forgotten, task="mail", owner=worker))
    (held,) = site.claim(worker)

    assert (held.attempt, site.numbers("mail")) == (1, [])


def test_a_new_attempt_does_not_show_the_progress_of_the_last_one(site):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    site.ledger.write(partial(mark.mark_progress, task=held, progress='{"done": 9}'))
    site.finish(held, AGAIN)
    site.claim(site.worker())

    assert site.view("mail").progress is None


def test_what_a_leaving_worker_still_held_was_interrupted(site):
    site.enqueue("mail")
    worker = site.worker()
    site.claim(worker)
    site.ledger.write(partial(bury.leave, incarnation=worker, now=NOW))

    assert (site.view("mail").attempts, site.outcomes("mail")) == (1, ["interrupted"])


def test_what_the_buried_took_before_they_knew_counts_as_a_death_of_theirs(site):
    site.enqueue("mail")
    worker = site.worker()
    site.die(worker, proven=False)
    (late,) = site.claim(worker)
    adopted = site.ledger.write(partial(bury.adopt, now=NOW))

    assert (adopted, site.ledger.write(partial(bury.adopt, now=NOW))) == (1, 0)
    assert (site.view("mail").attempts, site.outcomes("mail")) == (1, ["worker-silent"])
    assert site.view("mail").crashes == 0
    assert site.finish(late) is False


def test_deleting_a_task_deletes_its_attempts(site):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    site.finish(held)
    later = NOW + timedelta(seconds=1)
    write = partial(retain.delete_finished, state=State.SUCCEEDED, before=later, limit=1, now=later)

    assert site.ledger.write(write) == 1
    with site.ledger.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM postlude_attempts")
        assert count.scalar_one() == 0
