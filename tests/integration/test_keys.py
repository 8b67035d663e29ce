"""Unique keys in the ledger: who has one, until when, and that of any number who try one gets it."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from postlude.ledger import migrate
from postlude.ledger.key import Answer, Hold, KeptAnswer, UniqueKey
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import keys as kept_keys
from postlude.ledger.queries import tasks
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import (
    accept,
    bury,
    cancel,
    claim,
    hand_back,
    key,
    outcome,
    release,
    retain,
)
from postlude.ledger.transitions.outcome import Outcome
from postlude.settings import load
from postlude.states import Reason, State

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATER = NOW + 10 * MINUTE
ME = "me"
UNFINISHED = UniqueKey("actor:a", "k", Hold.UNFINISHED)
QUEUED = UniqueKey("actor:a", "k", Hold.QUEUED)
PERIOD = UniqueKey("actor:a", "k", Hold.PERIOD, LATER)


@pytest.fixture
def ledger(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


def task(id_, unique, **changes) -> NewTask:
    return replace(NewTask(id_, "a", "q", '{"x": 1}', "{}", 0, None, NOW, unique=unique), **changes)


def add(ledger, new, now=NOW):
    assert ledger.write(partial(accept.enqueue, task=new, now=now)) is True


def found(ledger, id_="second"):
    with ledger.read() as connection:
        view = tasks.get(connection, id_)
    return view.state, view.reason, view.duplicate_of


def rows(ledger):
    with ledger.read() as connection:
        query = text("SELECT scope, key, task FROM postlude_keys ORDER BY scope, key")
        return [tuple(row) for row in connection.execute(query)]


# How far the first task may have come


def stay_accepted(ledger, unique):
    ledger.write(partial(accept.accept, task=task("first", unique), owner=ME))


def be_released(ledger, unique):
    stay_accepted(ledger, unique)
    assert ledger.write(partial(release.release, task="first", owner=ME, now=NOW))


def be_withdrawn(ledger, unique):
    stay_accepted(ledger, unique)
    assert ledger.write(partial(release.withdraw, task="first", owner=ME, now=NOW))


def be_scheduled(ledger, unique):
    add(ledger, task("first", unique, run_at=LATER))


def be_queued(ledger, unique):
    add(ledger, task("first", unique))


def be_cancelled(ledger, unique):
    be_queued(ledger, unique)
    assert ledger.write(partial(cancel.cancel_queue, queue="q", now=NOW)) == 1


def run(ledger, unique):
    be_queued(ledger, unique)
    taking = partial(claim.claim, queue="q", actors=["a"], owner=ME, token="t", now=NOW, limit=1)
    (held,) = ledger.write(taking)
    return held


def be_handed_back(ledger, unique):
    held = run(ledger, unique)
    assert ledger.write(partial(hand_back.hand_back, task=held, now=NOW))


def be_taken_back(ledger, unique):
    run(ledger, unique)
    assert ledger.write(partial(bury.adopt, now=NOW)) == 1


def end(ledger, unique, ending):
    held = run(ledger, unique)
    assert ledger.write(partial(outcome.finish, task=held, outcome=ending, worker=ME))


be_interrupted = partial(end, ending=Outcome(State.QUEUED, "interrupted", NOW, NOW))
be_retried = partial(
    end, ending=Outcome(State.SCHEDULED, "retried", NOW, NOW, run_at=LATER, retries=1)
)
succeed = partial(end, ending=Outcome(State.SUCCEEDED, "succeeded", NOW, NOW))
fail = partial(
    end, ending=Outcome(State.FAILED, "failed", NOW, NOW, reason=Reason.RETRIES_EXHAUSTED)
)

STAGES = {
    "accepted": stay_accepted,
    "released": be_released,
    "scheduled": be_scheduled,
    "queued": be_queued,
    "handed back": be_handed_back,
    "running": run,
    "taken back": be_taken_back,
    "interrupted": be_interrupted,
    "retried": be_retried,
    "succeeded": succeed,
    "failed": fail,
    "cancelled": be_cancelled,
    "withdrawn": be_withdrawn,
}
FREE = {
    UNFINISHED: {"succeeded", "failed", "cancelled", "withdrawn"},
    QUEUED: {
        *("running", "taken back", "interrupted", "retried"),
        *("succeeded", "failed", "cancelled", "withdrawn"),
    },
    PERIOD: {"cancelled", "withdrawn"},
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("unique", FREE, ids=lambda unique: unique.held)
def test_who_has_a_key_lets_go_of_it_when_it_said(ledger, unique, stage):
    STAGES[stage](ledger, unique)

    add(ledger, task("second", unique, created_at=NOW + MINUTE), now=NOW + MINUTE)

    if stage in FREE[unique]:
        assert found(ledger) == (State.QUEUED, None, None)
        assert rows(ledger) == [("actor:a", "k", "second")]
    else:
        assert found(ledger) == (State.CANCELLED, Reason.DUPLICATE, "first")
        assert rows(ledger) == [("actor:a", "k", "first")]


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - FREE[PERIOD]))
@pytest.mark.parametrize(
    ("since", "free"), [(timedelta(microseconds=-1), False), (timedelta(), True)]
)
def test_a_period_is_over_at_its_end_and_not_before(ledger, stage, since, free):
    STAGES[stage](ledger, PERIOD)

    add(ledger, task("second", PERIOD, created_at=LATER + since))

    assert found(ledger)[0] is (State.QUEUED if free else State.CANCELLED)


def test_a_period_outlives_its_task(ledger):
    succeed(ledger, PERIOD)
    deleting = partial(retain.delete_finished, before=LATER, limit=9, now=NOW)
    assert ledger.write(partial(deleting, state=State.SUCCEEDED)) == 1

    add(ledger, task("second", PERIOD))

    assert found(ledger) == (State.CANCELLED, Reason.DUPLICATE, "first")


def test_a_period_that_a_cancelled_task_gave_back_stays_free_when_that_is_deleted(ledger):
    long = replace(PERIOD, expires_at=NOW + timedelta(days=30))
    be_cancelled(ledger, long)
    week = NOW + timedelta(days=7)
    delete = partial(retain.delete_finished, state=State.CANCELLED, before=week, limit=9, now=week)
    assert ledger.write(delete) == 1

    add(ledger, task("second", long, created_at=week), now=week)

    assert found(ledger) == (State.QUEUED, None, None)


@pytest.mark.parametrize("unique", [UNFINISHED, QUEUED], ids=lambda unique: unique.held)
def test_a_key_whose_task_is_gone_is_free(ledger, unique):
    be_queued(ledger, unique)
    connection = ledger.connect()
    connection._cursor.execute("DELETE FROM postlude_tasks")
    connection.close()

    add(ledger, task("second", unique))

    assert found(ledger)[0] is State.QUEUED


def test_the_one_who_has_the_key_decides_how_long_not_the_one_who_wants_it(ledger):
    run(ledger, UNFINISHED)

    add(ledger, task("second", QUEUED))

    assert found(ledger) == (State.CANCELLED, Reason.DUPLICATE, "first")


@pytest.mark.parametrize(
    "other",
    [None, replace(UNFINISHED, key="K"), replace(UNFINISHED, scope="actor:b")],
    ids=["none", "other key", "other actor"],
)
def test_other_keys_and_none_at_all_are_nobodys_business(ledger, other):
    be_queued(ledger, UNFINISHED)

    add(ledger, task("second", other))

    assert found(ledger)[0] is State.QUEUED


@pytest.mark.parametrize("run_at", [None, LATER])
def test_a_duplicate_is_never_claimed_released_or_withdrawn(ledger, run_at):
    be_queued(ledger, UNFINISHED)
    second = task("second", UNFINISHED, run_at=run_at)

    assert ledger.write(partial(accept.accept, task=second, owner=ME)) is True
    for move in (release.release, release.withdraw):
        assert ledger.write(partial(move, task="second", owner=ME, now=LATER)) is False
    taking = partial(claim.claim, queue="q", actors=["a"], owner=ME, token="t", now=LATER, limit=9)
    taken = ledger.write(taking)

    assert [held.id for held in taken] == ["first"]
    assert found(ledger) == (State.CANCELLED, Reason.DUPLICATE, "first")


def test_what_follows_from_a_task_may_have_the_key_that_it_had(ledger):
    held = run(ledger, UNFINISHED)
    next_one = task("second", UNFINISHED)
    ending = Outcome(State.SUCCEEDED, "succeeded", NOW, NOW, follow_ups=(next_one,))

    ledger.write(partial(outcome.finish, task=held, outcome=ending, worker=ME))

    assert found(ledger)[0] is State.QUEUED


# Replays


def accepting(new):
    return partial(accept.accept, task=new, owner=ME)


def enqueuing(new):
    return partial(accept.enqueue, task=new, now=NOW)


@pytest.mark.parametrize("storing", [accepting, enqueuing])
@pytest.mark.parametrize("unique", FREE, ids=lambda unique: unique.held)
def test_a_task_that_is_stored_again_is_no_duplicate_of_itself(ledger, storing, unique):
    write = storing(task("first", unique))

    assert [ledger.write(write), ledger.write(write)] == [True, True]

    assert found(ledger, "first")[1:] == (None, None)


def test_a_task_that_is_stored_again_does_not_take_back_its_key(ledger):
    succeed(ledger, UNFINISHED)
    add(ledger, task("second", UNFINISHED))

    add(ledger, task("first", UNFINISHED))

    assert found(ledger, "first") == (State.SUCCEEDED, None, None)
    assert rows(ledger) == [("actor:a", "k", "second")]


def test_a_duplicate_that_is_stored_again_stays_one_though_the_key_is_free_by_now(ledger):
    be_queued(ledger, UNFINISHED)
    add(ledger, task("second", UNFINISHED))
    ledger.write(partial(cancel.cancel_queue, queue="q", now=NOW))

    add(ledger, task("second", UNFINISHED))

    assert found(ledger) == (State.CANCELLED, Reason.DUPLICATE, "first")
    assert rows(ledger) == [("actor:a", "k", "first")]


# Several at once


def test_of_two_ledgers_that_race_for_a_key_each_time_one_gets_it(ledger, tmp_path):
    other = Ledger(load(data_dir=tmp_path))
    start = threading.Barrier(2)

    def race(ours, name):
        for number in range(50):
            unique = replace(UNFINISHED, key=f"{number}")
            start.wait(20)
            ours.write(enqueuing(task(f"{name}-{number}", unique)))

    racers = [
        threading.Thread(target=race, args=args) for args in ((ledger, "this"), (other, "that"))
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    other.close()

    with ledger.read() as connection:
        views, _ = tasks.page(connection, limit=500)
    states = {view.id: view.state for view in views}
    assert len(states) == 100
    for number in range(50):
        pair = sorted(str(states[f"{name}-{number}"]) for name in ("this", "that"))
        assert pair == ["cancelled", "queued"], number


RACE = """
import sys
from functools import partial
from datetime import UTC, datetime
from postlude.ledger.key import Hold, UniqueKey
from postlude.ledger.ledger import Ledger
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept
from postlude.settings import load

ledger = Ledger(load())
now = datetime.now(UTC)
print("ready", flush=True)
sys.stdin.readline()
stored = []
for number in range(200):
    unique = UniqueKey("actor:a", str(number), Hold.UNFINISHED)
    task = NewTask(f"{sys.argv[1]}-{number}", "a", "q", "{}", "{}", 0, None, now, unique=unique)
    stored.append(ledger.submit(partial(accept.enqueue, task=task, now=now)))
assert all(each.result(30) for each in stored)
ledger.close()
"""


def test_of_two_processes_that_race_for_keys_one_gets_each(ledger, tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, name],
            env={"PYTHONPATH": str(ROOT), "POSTLUDE_DATA_DIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("this", "that")
    ]
    for racer in racers:
        assert racer.stdout.readline() == b"ready\n"
    for racer in racers:
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=60)
        assert racer.returncode == 0

    with ledger.read() as connection:
        query = text("SELECT id, duplicate_of FROM postlude_tasks")
        pairs = [tuple(row) for row in connection.execute(query)]
    queued = [id_ for id_, duplicate_of in pairs if duplicate_of is None]
    assert sorted(id_.partition("-")[2] for id_ in queued) == sorted(map(str, range(200)))
    assert sorted(of for _, of in pairs if of) == sorted(queued)


# Retention


def test_a_cancelled_task_that_is_deleted_takes_its_keys_along(ledger):
    for id_, unique in (("first", UNFINISHED), ("other", replace(PERIOD, key="p"))):
        add(ledger, task(id_, unique))
    ledger.write(partial(cancel.cancel_queue, queue="q", now=NOW))
    add(ledger, task("third", replace(UNFINISHED, key="third")))

    deleting = partial(retain.delete_finished, before=LATER, limit=9, now=NOW)
    assert ledger.write(partial(deleting, state=State.CANCELLED)) == 2

    assert rows(ledger) == [("actor:a", "third", "third")]


def test_expired_keys_are_deleted_oldest_first_and_a_few_at_a_time(ledger):
    for minute in range(1, 6):
        unique = UniqueKey("actor:a", f"{minute}", Hold.PERIOD, NOW + minute * MINUTE)
        add(ledger, task(f"t{minute}", unique))
    add(ledger, task("unfinished", UNFINISHED))
    deleting = partial(retain.delete_expired_keys, limit=2, now=NOW + 3 * MINUTE)

    assert [ledger.write(deleting) for _ in range(3)] == [2, 1, 0]

    assert [row[1] for row in rows(ledger)] == ["4", "5", "k"]


# Answers


def answer(fingerprint="f", text="{}", at=NOW):
    return Answer("request:x", "k", fingerprint, text, at, at + MINUTE)


def look(ledger, now):
    with ledger.read() as connection:
        return kept_keys.kept(connection, "request:x", "k", now)


def test_an_answer_is_kept_until_it_expires(ledger):
    assert look(ledger, NOW) is None
    assert ledger.write(partial(key.keep, answer=answer(), task="t")) is None

    assert look(ledger, NOW) == KeptAnswer("f", "{}")
    assert look(ledger, NOW + MINUTE - timedelta(microseconds=1)) == KeptAnswer("f", "{}")
    assert look(ledger, NOW + MINUTE) is None


def test_an_answer_that_is_stored_again_is_the_same_one(ledger):
    write = partial(key.keep, answer=answer(), task="t")

    assert [ledger.write(write), ledger.write(write)] == [None, None]

    assert rows(ledger) == [("request:x", "k", "t")]


def test_another_answer_under_the_same_key_is_refused_until_the_first_has_expired(ledger):
    ledger.write(partial(key.keep, answer=answer(), task="t"))
    late = answer("g", "[]", NOW + MINUTE)

    refused = ledger.write(partial(key.keep, answer=answer("g", "[]"), task="u"))
    assert look(ledger, NOW) == KeptAnswer("f", "{}")
    kept = ledger.write(partial(key.keep, answer=late, task="u"))

    assert (refused, kept) == (KeptAnswer("f", "{}"), None)
    assert look(ledger, NOW + MINUTE) == KeptAnswer("g", "[]")
