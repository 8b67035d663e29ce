"""Whatever is written twice, because nobody knew whether it was stored, is stored once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text

from postlude.ledger import migrate
from postlude.ledger.failure import Failure
from postlude.ledger.key import Answer, Hold, UniqueKey
from postlude.ledger.ledger import Ledger
from postlude.ledger.schema import VERSION
from postlude.ledger.statement import Statement
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import (
    accept,
    bury,
    cancel,
    claim,
    hand_back,
    incarnation,
    key,
    mark,
    outcome,
    promote,
    publish,
    release,
    retain,
    tick,
)
from postlude.ledger.transitions.incarnation import KnownActor
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy.crash import Death
from postlude.settings import load
from postlude.states import Reason, State

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ME = "me"
SCHEDULE = "0197d4f6-0000-7000-8000-000000000000"
TABLES = ("tasks", "attempts", "keys", "incarnations", "actors", "schedules", "ticks")
UNIQUE = [UniqueKey("s", "k", Hold(held)) for held in ("unfinished", "queued")]
UNIQUE.append(UniqueKey("s", "k", Hold.PERIOD, LATER))
ADD_SCHEDULE = Statement(
    text("""
    INSERT INTO postlude_schedules (
        id, incarnation, actor, arguments, options, "trigger", timezone, misfire, misfire_window,
        overlap, jitter, declared_by, next_at, paused, created_at, updated_at)
    VALUES (
        's', :id, 'a', '{}', '{}', '{}', 'UTC', 'latest', 0, 'allow', 0, 'code', :at, 0, 0, 0)""")
)


@pytest.fixture
def ledger(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    ledger.write(appear())
    yield ledger
    ledger.close()


def appear():
    return partial(
        incarnation.appear,
        incarnation=ME,
        kind="worker",
        host="h",
        pid=1,
        version="1",
        queues=["q"],
        now=NOW,
    )


def task(id_: str = "t", **changes) -> NewTask:
    whole = NewTask(
        id=id_,
        actor="a",
        queue="q",
        arguments='{"x": 1}',
        options="{}",
        priority=0,
        run_at=None,
        created_at=NOW,
    )
    return replace(whole, **changes)


def everything(ledger) -> dict[str, list]:
    with ledger.read() as connection:
        return {
            name: [
                tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM postlude_{name}")
            ]
            for name in TABLES
        }


def claimed(ledger, *, token="token", owner=ME):
    write = partial(
        claim.claim, queue="q", actors=["a"], owner=owner, token=token, now=NOW, limit=9
    )
    return ledger.write(write)


def replayed(ledger, write) -> list:
    """Run ``write`` twice and return both answers; the second time nothing may change."""
    first = ledger.write(write)
    after = everything(ledger)
    second = ledger.write(write)
    assert everything(ledger) == after
    return [first, second]


def test_accepting(ledger):
    assert replayed(ledger, partial(accept.accept, task=task(), owner=ME)) == [True, True]


@pytest.mark.parametrize("run_at", [None, LATER])
def test_enqueuing(ledger, run_at):
    write = partial(accept.enqueue, task=task(run_at=run_at), now=NOW)

    assert replayed(ledger, write) == [True, True]


@pytest.mark.parametrize("unique", UNIQUE, ids=lambda unique: unique.held)
def test_storing_what_has_a_unique_key_and_what_finds_it_taken(ledger, unique):
    for id_ in ("first", "second"):
        new = task(id_, unique=unique)
        assert replayed(ledger, partial(accept.accept, task=new, owner=ME)) == [True, True]
        assert replayed(ledger, partial(accept.enqueue, task=new, now=NOW)) == [True, True]

    assert [row[7] for row in everything(ledger)["tasks"]] == [None, "duplicate"]


def test_keeping_an_answer(ledger):
    write = partial(key.keep, answer=Answer("s", "k", "f", "{}", NOW, LATER), task="t")

    assert replayed(ledger, write) == [None, None]


def test_accepting_after_the_task_has_moved_on_does_not_bring_it_back(ledger):
    accepting = partial(accept.accept, task=task(), owner=ME)
    ledger.write(accepting)
    ledger.write(partial(release.release, task="t", owner=ME, now=NOW))
    (held,) = claimed(ledger)
    done = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW)
    ledger.write(partial(outcome.finish, task=held, outcome=done, worker=ME))
    before = everything(ledger)

    assert ledger.write(accepting) is True
    assert everything(ledger) == before


def test_another_task_of_the_same_id_is_refused_and_changes_nothing(ledger):
    ledger.write(partial(accept.accept, task=task(), owner=ME))
    before = everything(ledger)
    impostor = task(created_at=NOW + timedelta(microseconds=1), arguments="{}")

    assert ledger.write(partial(accept.accept, task=impostor, owner=ME)) is False
    assert ledger.write(partial(accept.enqueue, task=impostor, now=NOW)) is False
    assert everything(ledger) == before


@pytest.mark.parametrize("run_at", [None, LATER])
def test_releasing(ledger, run_at):
    ledger.write(partial(accept.accept, task=task(run_at=run_at), owner=ME))

    assert replayed(ledger, partial(release.release, task="t", owner=ME, now=NOW)) == [True, False]


def test_withdrawing(ledger):
    ledger.write(partial(accept.accept, task=task(), owner=ME))

    assert replayed(ledger, partial(release.withdraw, task="t", owner=ME, now=NOW)) == [True, False]


@pytest.mark.parametrize(
    ("first", "second"),
    [(release.release, release.withdraw), (release.withdraw, release.release)],
    ids=["released", "withdrawn"],
)
def test_what_was_released_cannot_be_withdrawn_nor_the_other_way_round(ledger, first, second):
    ledger.write(partial(accept.accept, task=task(), owner=ME))

    told = [ledger.write(partial(move, task="t", owner=ME, now=NOW)) for move in (first, second)]

    assert told == [True, False]


def test_promoting(ledger):
    ledger.write(partial(accept.enqueue, task=task(run_at=LATER), now=NOW))

    assert replayed(ledger, partial(promote.promote, now=LATER, limit=5)) == [[("t", "q", 1)], []]


def test_claiming_takes_nothing_twice(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    write = partial(claim.claim, queue="q", actors=["a"], owner=ME, token="token", now=NOW, limit=5)

    first, second = replayed(ledger, write)

    assert ([t.id for t in first], second) == (["t"], [])


def test_claiming_by_message(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    write = partial(claim.claim_message, task="t", generation=1, owner=ME, token="token", now=NOW)

    first, second = replayed(ledger, write)

    assert (first.id, first.generation, second) == ("t", 1, None)


def test_handing_back(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    (held,) = claimed(ledger)

    assert replayed(ledger, partial(hand_back.hand_back, task=held, now=NOW)) == [True, False]


@pytest.mark.parametrize(
    "ending",
    [
        Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW, result="1"),
        Outcome(
            State.FAILED,
            "failed",
            started_at=NOW,
            finished_at=NOW,
            reason=Reason.RETRIES_EXHAUSTED,
            failure=Failure("E", "m", "t"),
        ),
        Outcome(
            State.SCHEDULED, "retried", started_at=NOW, finished_at=NOW, run_at=LATER, retries=1
        ),
        Outcome(State.QUEUED, "interrupted", started_at=NOW, finished_at=NOW),
    ],
    ids=lambda ending: ending.word,
)
def test_finishing_with_all_that_follows(ledger, ending):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    (held,) = claimed(ledger)
    ending = replace(ending, follow_ups=(task("callback"), task("later", run_at=LATER)))
    write = partial(outcome.finish, task=held, outcome=ending, worker=ME)

    assert replayed(ledger, write) == [True, False]
    found = everything(ledger)
    assert {row[1] for row in found["tasks"]} == {"t", "callback", "later"}
    assert [(row[1], row[6]) for row in found["attempts"]] == [(1, ending.word)]


def test_marking(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    ledger.write(partial(publish.mark_published, task="t", generation=1, now=NOW))
    (held,) = claimed(ledger)

    assert replayed(ledger, partial(mark.mark_started, task=held, at=NOW)) == [True, True]
    assert replayed(ledger, partial(mark.mark_progress, task=held, progress="1")) == [True, True]


def test_publishing(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    write = partial(publish.mark_published, task="t", generation=1, now=NOW)

    assert replayed(ledger, write) == [True, True]


def test_cancelling_a_queue(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))

    assert replayed(ledger, partial(cancel.cancel_queue, queue="q", now=NOW)) == [1, 0]


@pytest.mark.parametrize("death", Death)
def test_burying(ledger, death):
    ledger.write(partial(accept.enqueue, task=task("held"), now=NOW))
    claimed(ledger)
    ledger.write(partial(accept.accept, task=task("owed"), owner=ME))

    first, second = replayed(ledger, partial(bury.bury, incarnation=ME, now=NOW, death=death))

    suspected = int(death.suspects)
    buried = bury.Buried(taken_back=1, suspected=suspected, quarantined=0, released=1)
    assert (first, second) == (buried, None)


def test_leaving(ledger):
    ledger.write(partial(accept.enqueue, task=task(), now=NOW))
    claimed(ledger)

    assert replayed(ledger, partial(bury.leave, incarnation=ME, now=NOW)) == [True, False]


def test_appearing_and_telling_what_is_known(ledger):
    actors = [KnownActor("a", "f" * 16, "q", {"max_retries": 3}, {"type": "object"})]

    replayed(ledger, appear())
    replayed(ledger, partial(incarnation.know, incarnation=ME, actors=actors))

    found = everything(ledger)
    assert (len(found["incarnations"]), len(found["actors"])) == (1, 1)
    assert json.loads(found["actors"][0][4]) == {"max_retries": 3}


def test_a_dead_heart_does_not_beat_again(ledger):
    alive = ledger.write(partial(incarnation.beat, incarnation=ME, now=NOW))
    ledger.write(partial(bury.bury, incarnation=ME, now=NOW, death=Death.STOPPED))
    before = everything(ledger)
    ledger.write(appear())

    assert alive == VERSION
    assert ledger.write(partial(incarnation.beat, incarnation=ME, now=NOW)) is None
    assert everything(ledger) == before


def test_ticking(ledger):
    id_ = tick.task_id(SCHEDULE, NOW)
    ticks = (tick.Tick(NOW, task(id_)), tick.Tick(NOW + timedelta(minutes=1), None, "skip"))
    firing = tick.Firing("s", SCHEDULE, NOW, LATER, ticks)
    at = int(NOW.timestamp()) * 1_000_000
    ledger.write(lambda tx: tx.run(ADD_SCHEDULE, id=SCHEDULE, at=at))

    first, second = replayed(ledger, partial(tick.record, firings=[firing], now=NOW))

    assert ([found for _, found in first], second) == (list(ticks), [])


def test_deleting_and_sweeping(ledger):
    for id_, unique in zip("abc", UNIQUE, strict=True):
        new = task(id_, unique=replace(unique, key=id_))
        ledger.write(partial(accept.enqueue, task=new, now=NOW))
    ledger.write(partial(cancel.cancel_queue, queue="q", now=NOW))
    ledger.write(partial(bury.leave, incarnation=ME, now=NOW))
    deleting = partial(
        retain.delete_finished, state=State.CANCELLED, before=LATER, limit=5, now=LATER
    )

    expiring = partial(retain.delete_expired_keys, limit=5, now=LATER)

    assert replayed(ledger, deleting) == [3, 0]
    assert replayed(ledger, expiring) == [0, 0]
    assert replayed(ledger, partial(incarnation.sweep, before=LATER)) == [1, 0]
    assert set(map(len, everything(ledger).values())) == {0}
