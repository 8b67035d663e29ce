"""A claim is proven by its token: whoever wakes too late changes nothing. And who pays for a death."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text

from postlude.ledger import migrate
from postlude.ledger.failure import Failure
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import tasks as queries
from postlude.ledger.statement import Statement
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import (
    accept,
    bury,
    cancel,
    claim,
    hand_back,
    incarnation,
    mark,
    outcome,
    publish,
    retain,
    retry,
)
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy.crash import Death, Suspicion
from postlude.settings import load
from postlude.states import Reason, State

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
DONE = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW, result='"late"')
AGAIN = Outcome(State.QUEUED, "interrupted", started_at=NOW, finished_at=NOW)
CANNOT_BE_APART = replace(AGAIN, suspect=Suspicion.INSIDE)
CHILD_DIED = replace(AGAIN, word="child-died", deadly=True, suspect=Suspicion.ALONE)


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

    def claim(self, worker: str, *, suspects: int = 0, limit: int = 100):
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

    def start(self, held) -> None:
        self.ledger.write(partial(mark.mark_started, task=held, at=NOW))

    def die(self, worker: str, *, death: Death):
        return self.ledger.write(partial(bury.bury, incarnation=worker, now=NOW, death=death))

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
    site.die(frozen, death=Death.STOPPED)
    (held,) = site.claim(successor)
    before = site.view("mail")

    told = [
        site.ledger.write(write)
        for write in (
            partial(mark.mark_started, task=late, at=NOW),
            partial(mark.mark_progress, task=late, progress="99"),
            partial(outcome.finish, task=late, outcome=DONE, worker=frozen),
            partial(hand_back.hand_back, task=late, now=NOW),
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
        site.die(worker, death=Death.STOPPED)
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


@pytest.mark.parametrize("death", [Death.PROVEN, Death.HUNG, Death.UNSEEN])
def test_a_death_makes_all_that_the_dead_held_suspect_and_accuses_nobody(site, death):
    site.enqueue("poison", "innocent")
    worker = site.worker()
    site.claim(worker)

    site.die(worker, death=death)

    assert site.claim(site.worker()) == []
    assert {t.id for t in site.claim(site.worker(), suspects=Suspicion.APART)} == {
        "poison",
        "innocent",
    }
    assert (site.view("poison").crashes, site.view("innocent").crashes) == (0, 0)


def test_a_worker_that_dies_while_its_suspects_run_in_children_accuses_nobody(site):
    site.enqueue("innocent")
    for suspects in (0, 1):
        worker = site.worker()
        (held,) = site.claim(worker, suspects=suspects)
        site.start(held)
        buried = site.die(worker, death=Death.PROVEN)
        assert (site.view("innocent").crashes, buried.quarantined) == (0, 0)

    assert [t.id for t in site.claim(site.worker(), suspects=Suspicion.APART)] == ["innocent"]


def test_whoever_was_in_the_hands_of_three_dead_workers_runs_alone(site):
    site.enqueue("mail")
    for number in range(3):
        worker = site.worker()
        assert len(site.claim(worker, suspects=min(number, Suspicion.APART))) == 1
        site.die(worker, death=Death.PROVEN)

    assert site.claim(site.worker(), suspects=Suspicion.APART) == []
    assert [t.id for t in site.claim(site.worker(), suspects=Suspicion.ALONE)] == ["mail"]
    assert site.view("mail").crashes == 0


def test_ten_dead_workers_are_too_many_even_if_no_child_is_known_to_have_died(site):
    site.enqueue("poison")
    for number in range(10):
        worker = site.worker()
        (held,) = site.claim(worker, suspects=(0, 1, 1, 2)[min(number, 3)])
        site.start(held)
        buried = site.die(worker, death=Death.PROVEN)
        assert buried.quarantined == int(number == 9)

    view = site.view("poison")
    assert (view.state, view.reason) == (State.FAILED, Reason.CRASH_LOOP)


@pytest.mark.parametrize(
    ("death", "word"), [(Death.PROVEN, "worker-died"), (Death.HUNG, "worker-silent")]
)
def test_the_third_worker_whose_death_only_one_task_can_have_caused_is_the_last(site, death, word):
    site.enqueue("poison")
    (held,) = site.claim(site.worker())
    site.finish(held, CANNOT_BE_APART)
    for crashes in (1, 2, 3):
        worker = site.worker()
        (held,) = site.claim(worker, suspects=Suspicion.INSIDE, limit=1)
        assert (held.id, held.suspect, held.crashes) == ("poison", Suspicion.INSIDE, crashes - 1)
        site.start(held)
        buried = site.die(worker, death=death)
        assert (site.view("poison").crashes, buried.quarantined) == (crashes, int(crashes == 3))

    poison = site.view("poison")
    assert (poison.state, poison.reason) == (State.FAILED, Reason.CRASH_LOOP)
    assert (poison.finished_at, poison.holder) == (NOW, None)
    assert site.outcomes("poison") == ["interrupted", *[word] * 3]


def test_a_worker_that_dies_before_the_suspect_has_started_accuses_nobody(site):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    site.finish(held, CANNOT_BE_APART)
    worker = site.worker()
    site.claim(worker, suspects=Suspicion.INSIDE)
    site.die(worker, death=Death.PROVEN)

    assert site.view("mail").crashes == 0
    assert [t.id for t in site.claim(site.worker(), suspects=Suspicion.INSIDE)] == ["mail"]


def test_the_death_of_a_child_is_on_the_account_of_the_task_that_ran_in_it(site):
    site.enqueue("poison")
    (held,) = site.claim(site.worker())
    site.finish(held, CHILD_DIED)

    (held,) = site.claim(site.worker(), suspects=Suspicion.ALONE)
    assert (held.crashes, held.attempt) == (1, 2)
    site.finish(held, replace(CHILD_DIED, state=State.FAILED, reason=Reason.CRASH_LOOP))
    assert (site.view("poison").crashes, site.view("poison").reason) == (2, Reason.CRASH_LOOP)


def test_the_innocent_do_not_wait_for_the_guilty(site):
    site.enqueue("poison", "innocent")
    for id_ in ("poison", "innocent"):
        (held,) = site.claim(site.worker(), limit=1)
        site.finish(
            held, CHILD_DIED if id_ == "poison" else replace(AGAIN, suspect=Suspicion.ALONE)
        )

    waiting = site.claim(site.worker(), suspects=Suspicion.ALONE, limit=1)

    assert [t.id for t in waiting] == ["innocent"]


@pytest.mark.parametrize("last", [Death.STOPPED, Death.UNSEEN])
def test_silence_does_not_quarantine_who_was_alone_in_two_deaths(site, last):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    site.finish(held, CANNOT_BE_APART)
    for death in (Death.PROVEN, Death.PROVEN, last):
        worker = site.worker()
        (held,) = site.claim(worker, suspects=Suspicion.INSIDE)
        site.start(held)
        buried = site.die(worker, death=death)

    view = site.view("mail")
    assert (buried.quarantined, view.state, view.crashes) == (0, State.QUEUED, 2)


def test_a_suspect_that_survives_is_one_of_many_again(site):
    site.enqueue("innocent")
    first = site.worker()
    site.claim(first)
    site.die(first, death=Death.PROVEN)
    (held,) = site.claim(site.worker(), suspects=Suspicion.APART)
    site.finish(held, AGAIN)

    assert [t.suspect for t in site.claim(site.worker())] == [Suspicion.NONE]


def test_ten_workers_that_hung_do_not_quarantine_who_ran_in_a_child_or_beside_others(site):
    site.enqueue("innocent")
    for number in range(12):
        worker = site.worker()
        (held,) = site.claim(worker, suspects=min(number, Suspicion.APART))
        site.start(held)
        site.die(worker, death=(Death.HUNG, Death.UNSEEN)[number % 2])

    view = site.view("innocent")
    assert (view.state, view.crashes, view.retries) == (State.QUEUED, 0, 0)
    assert [t.id for t in site.claim(site.worker(), suspects=Suspicion.APART)] == ["innocent"]


def test_being_stopped_and_announced_shutdowns_never_count(site):
    site.enqueue("mail")
    for _ in range(10):
        silent, leaving = site.worker(), site.worker()
        assert [t.id for t in site.claim(silent)] == ["mail"]
        site.die(silent, death=Death.STOPPED)
        assert [t.id for t in site.claim(leaving)] == ["mail"]
        site.ledger.write(partial(bury.leave, incarnation=leaving, now=NOW))

    view = site.view("mail")
    assert (view.state, view.crashes, view.retries) == (State.QUEUED, 0, 0)


def test_a_suspect_that_falls_silent_stays_one_and_is_not_accused(site):
    site.enqueue("mail")
    for death in (Death.PROVEN, Death.STOPPED):
        worker = site.worker()
        site.claim(worker, suspects=int(death is Death.STOPPED))
        site.die(worker, death=death)

    assert site.claim(site.worker()) == []
    assert site.view("mail").crashes == 0


def test_what_was_handed_back_or_forgotten_counts_as_no_attempt(site):
    site.enqueue("mail")
    worker = site.worker()
    (held,) = site.claim(worker)
    site.ledger.write(partial(hand_back.hand_back, task=held, now=NOW))
    site.claim(worker)
    site.ledger.write(partial(hand_back.forgotten, task="mail", owner=worker))
    (held,) = site.claim(worker)

    assert (held.attempt, site.numbers("mail")) == (1, [])


@pytest.mark.parametrize("claimed", [False, True])
def test_a_task_that_was_retried_is_cancelled_although_the_clock_was_set_back(site, claimed):
    site.enqueue("mail")
    site.ledger.write(partial(cancel.cancel, task="mail", now=NOW))
    site.ledger.write(partial(retry.retry, task="mail", now=NOW + timedelta(seconds=1)))
    if claimed:
        site.claim(site.worker())

    site.ledger.write(partial(cancel.cancel, task="mail", now=NOW - timedelta(hours=1)))

    view = site.view("mail")
    expected = (State.RUNNING, True) if claimed else (State.CANCELLED, False)
    assert (view.state, view.cancel_requested) == expected


def test_a_cancellation_that_is_replayed_does_not_undo_a_retry(site):
    site.enqueue("mail")
    cancelling = partial(cancel.cancel, task="mail", now=NOW)
    site.ledger.write(cancelling)
    site.ledger.write(partial(retry.retry, task="mail", now=NOW + timedelta(seconds=1)))

    assert site.ledger.write(cancelling) is State.QUEUED


def test_the_first_word_of_a_start_counts_and_the_second_is_told_that_it_is_ours(site):
    site.enqueue("mail")
    (held,) = site.claim(site.worker())
    later = partial(mark.mark_started, task=held, at=NOW + timedelta(seconds=1))
    site.start(held)

    assert site.ledger.write(later)
    assert site.view("mail").started_at == NOW


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
    site.die(worker, death=Death.STOPPED)
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


def test_of_several_that_ended_at_once_each_is_judged_by_its_own_token(site):
    site.enqueue("done", "late", "long", "again")
    done, late, long, again = site.claim(site.worker())
    endings = [
        (done, DONE),
        (replace(late, token="of somebody else"), DONE),
        (long, replace(DONE, result='"' + "x" * outcome.SHORT + '"')),
        (again, AGAIN),
    ]

    stored = site.ledger.write(partial(outcome.finish_all, endings=endings, worker="w"))

    assert stored == [True, False, True, True]
    states = [site.view(id_).state for id_ in ("done", "late", "long", "again")]
    assert states == [State.SUCCEEDED, State.RUNNING, State.SUCCEEDED, State.QUEUED]
    assert [site.numbers(id_) for id_ in ("done", "late", "long", "again")] == [[1], [], [1], [1]]


def test_a_plain_success_is_stored_as_any_other_outcome_is(site, monkeypatch):
    site.enqueue("plain", "general")
    plain, general = (replace(held, retries=2) for held in site.claim(site.worker()))
    site.ledger.write(
        lambda tx: tx.run(
            Statement(
                text(
                    "UPDATE postlude_tasks SET cancel_requested = 1, published_at = 5, run_at = 7,"
                    " suspect = 1, crashes = 1, retries = 2, reason = 'expired', progress = '1'"
                )
            )
        )
    )
    ending = replace(DONE, retries=2, logs='[{"message": "ö"}]', result='"\U0001f600"')
    site.finish(plain, ending)
    monkeypatch.setattr(outcome, "SHORT", 0)
    site.finish(general, ending)

    with site.ledger.read() as connection:
        one, other = (
            {**row, "seq": 0, "id": ""}
            for row in connection.execute(text("SELECT * FROM postlude_tasks")).mappings()
        )
        first, second = (
            {**row, "task": 0}
            for row in connection.execute(text("SELECT * FROM postlude_attempts")).mappings()
        )
    assert one == other
    assert first == second
