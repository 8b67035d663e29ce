"""Every transition function against every state: only the moves in ``TRANSITIONS`` ever happen.

Each row carries an owner, a token and a generation whatever its state, so that nothing but the guard
on the state stands between a transition and a wrong move.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text

from postlude.ledger import migrate
from postlude.ledger.clock import to_micros
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.ledger.task import Claimed, NewTask
from postlude.ledger.transitions import (
    accept,
    bury,
    cancel,
    claim,
    follow,
    hand_back,
    mark,
    outcome,
    promote,
    publish,
    release,
    retain,
    retry,
    tick,
)
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy.crash import Death
from postlude.settings import load
from postlude.states import FINAL, TRANSITIONS, State

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
LATER = NOW + timedelta(hours=1)
GENERATION = 7
OWNER, TOKEN = "owner", "token"
SCHEDULE = "0197d4f6-0000-7000-8000-000000000000"
TASK_ID = tick.task_id(SCHEDULE, NOW)

INSERT = Statement(
    text("""
    INSERT INTO postlude_tasks (
        seq, id, actor, queue, arguments, options, priority, state, run_at, generation, token, owner,
        attempts, retries, crashes, suspect, cancel_requested, followed, waits_for, pipe_into,
        created_at, claimed_at, finished_at)
    VALUES (
        1, :id, 'a', 'q', '{}', '{}', 0, :state, :run_at, :generation, :token, :owner,
        2, 1, :crashes, :suspect, 0, 0, 'upstream', 'x', :at, :at, :finished_at)""")
)
CLEAN = [
    Statement(text(f"DELETE FROM postlude_{name}"))
    for name in ("tasks", "attempts", "incarnations", "ticks", "schedules")
]
ALIVE = Statement(
    text("""
    INSERT INTO postlude_incarnations
        (id, kind, host, pid, version, queues, heartbeat, started_at, beat_at)
    VALUES (:id, 'worker', 'h', 1, '1', '[]', 0, 0, 0)""")
)
SCHEDULED = Statement(
    text("""
    INSERT INTO postlude_schedules (
        id, incarnation, actor, arguments, options, "trigger", timezone, misfire, misfire_window,
        overlap, jitter, declared_by, next_at, paused, created_at, updated_at)
    VALUES (
        's', :id, 'a', '{}', '{}', '{}', 'UTC', 'latest', 0, 'allow', 0, 'code', :at, 0, 0, 0)""")
)
NEW = NewTask(
    id=TASK_ID,
    actor="another",
    queue="q",
    arguments="{}",
    options="{}",
    priority=0,
    run_at=None,
    created_at=LONG_AGO + timedelta(seconds=1),
)
HELD = Claimed(
    seq=1,
    id=TASK_ID,
    actor="a",
    queue="q",
    arguments="{}",
    options="{}",
    priority=0,
    generation=GENERATION,
    token=TOKEN,
    attempt=3,
    retries=1,
    suspect=False,
    created_at=LONG_AGO,
    claimed_at=NOW,
)
FIRING = tick.Firing("s", SCHEDULE, NOW, LATER, (tick.Tick(NOW, NEW),))
ENDS = sorted(TRANSITIONS[State.RUNNING])
CLAIM = {"owner": "new owner", "token": "new token", "now": NOW}


def ended(state: State) -> Outcome:
    run_at = LATER if state is State.SCHEDULED else None
    return Outcome(state, "whatever", started_at=NOW, finished_at=NOW, run_at=run_at, retries=1)


def ends(state: State):
    return partial(outcome.finish, task=HELD, outcome=ended(state), worker=OWNER)


MOVES = {
    "accept": (partial(accept.accept, task=NEW, owner=OWNER), {}),
    "enqueue": (partial(accept.enqueue, task=NEW, now=NOW), {}),
    "release": (
        partial(release.release, task=TASK_ID, owner=OWNER, now=NOW),
        {State.ACCEPTED: State.QUEUED},
    ),
    "withdraw": (
        partial(release.withdraw, task=TASK_ID, owner=OWNER, now=NOW),
        {State.ACCEPTED: State.CANCELLED},
    ),
    "follow, with a result": (
        partial(follow.succeeded, task="upstream", result="1", now=NOW),
        {State.WAITING: State.QUEUED},
    ),
    "follow, without one": (
        partial(follow.succeeded, task="upstream", result=None, now=NOW),
        {State.WAITING: State.FAILED},
    ),
    "follow, not": (
        partial(follow.ended, tasks=["upstream"], now=NOW),
        {State.WAITING: State.CANCELLED},
    ),
    "follow, withdrawn": (
        partial(follow.withdrawn, task="upstream", now=NOW),
        {State.WAITING: State.CANCELLED},
    ),
    "promote": (
        partial(promote.promote, now=NOW, limit=9),
        {State.SCHEDULED: State.QUEUED},
    ),
    "claim": (
        partial(claim.claim, queue="q", actors=["a"], limit=9, **CLAIM),
        {State.QUEUED: State.RUNNING},
    ),
    "claim_message": (
        partial(claim.claim_message, task=TASK_ID, generation=GENERATION, **CLAIM),
        {State.QUEUED: State.RUNNING},
    ),
    "hand_back": (partial(hand_back.hand_back, task=HELD, now=NOW), {State.RUNNING: State.QUEUED}),
    "forgotten": (
        partial(hand_back.forgotten, task=TASK_ID, owner=OWNER),
        {State.RUNNING: State.QUEUED},
    ),
    "mark_started": (partial(mark.mark_started, task=HELD, at=NOW), {}),
    "mark_progress": (partial(mark.mark_progress, task=HELD, progress="1"), {}),
    "mark_published": (
        partial(publish.mark_published, task=TASK_ID, generation=GENERATION, now=NOW),
        {},
    ),
    "cancel_queue": (
        partial(cancel.cancel_queue, queue="q", now=NOW),
        {State.QUEUED: State.CANCELLED, State.SCHEDULED: State.CANCELLED},
    ),
    "cancel": (
        partial(cancel.cancel, task=TASK_ID, now=NOW),
        {
            State.ACCEPTED: State.CANCELLED,
            State.WAITING: State.CANCELLED,
            State.SCHEDULED: State.CANCELLED,
            State.QUEUED: State.CANCELLED,
        },
    ),
    "retry": (
        partial(retry.retry, task=TASK_ID, now=NOW),
        {State.FAILED: State.QUEUED, State.SCHEDULED: State.QUEUED},
    ),
    "bury, silent": (
        partial(bury.bury, incarnation=OWNER, now=NOW, death=Death.STOPPED),
        {State.RUNNING: State.QUEUED, State.ACCEPTED: State.QUEUED},
    ),
    "bury, proven": (
        partial(bury.bury, incarnation=OWNER, now=NOW, death=Death.PROVEN),
        {State.RUNNING: State.QUEUED, State.ACCEPTED: State.QUEUED},
    ),
    "leave": (
        partial(bury.leave, incarnation=OWNER, now=NOW),
        {State.RUNNING: State.QUEUED, State.ACCEPTED: State.QUEUED},
    ),
    "tick": (partial(tick.record, firings=[FIRING], now=NOW), {}),
    **{f"finish, {state}": (ends(state), {State.RUNNING: state}) for state in ENDS},
}


MARKS = {"mark_started", "mark_progress", "mark_published", "cancel"}
"""Moves that may leave a task where it is, and say something about it."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    settings = load(data_dir=tmp_path_factory.mktemp("transitions"))
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


@pytest.fixture
def ledger(opened):
    opened.write(lambda tx: [tx.run(statement) for statement in CLEAN])
    return opened


def insert(ledger, state: State, *, run_at=LONG_AGO, crashes=0, suspect=0) -> None:
    """Put the task there, its owner alive and its schedule about to make it."""

    def write(tx):
        tx.run(ALIVE, id=OWNER)
        tx.run(SCHEDULED, id=SCHEDULE, at=to_micros(NOW))
        tx.run(
            INSERT,
            id=TASK_ID,
            state=state.value,
            run_at=to_micros(run_at),
            generation=GENERATION,
            token=TOKEN,
            owner=OWNER,
            crashes=crashes,
            suspect=suspect,
            at=to_micros(LONG_AGO),
            finished_at=to_micros(LONG_AGO) if state in FINAL else None,
        )

    ledger.write(write)


def row(ledger) -> dict:
    with ledger.read() as connection:
        found = connection.exec_driver_sql("SELECT * FROM postlude_tasks")
        return dict(found.mappings().one())


def attempts(ledger) -> list[tuple]:
    with ledger.read() as connection:
        query = "SELECT number, worker, outcome FROM postlude_attempts ORDER BY number"
        return [tuple(found) for found in connection.exec_driver_sql(query)]


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("name", MOVES)
def test_a_transition_makes_the_move_it_is_for_and_no_other(ledger, name, before):
    write, moves = MOVES[name]
    insert(ledger, before)
    untouched = row(ledger)

    ledger.write(write)

    after = row(ledger)
    state = State(after["state"])
    assert state is moves.get(before, before)
    assert state is before or state in TRANSITIONS[before]
    if state is before and name not in MARKS:
        assert after == untouched


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("name", MOVES)
def test_the_generation_rises_with_every_move_to_queued_and_only_then(ledger, name, before):
    write, moves = MOVES[name]
    insert(ledger, before)

    ledger.write(write)

    risen = row(ledger)["generation"] - GENERATION
    assert risen == int(moves.get(before) is State.QUEUED)


@pytest.mark.parametrize("name", [name for name, (_, moves) in MOVES.items() if moves])
def test_what_waits_or_has_ended_is_in_nobodys_hands(ledger, name):
    write, moves = MOVES[name]
    for before, after in moves.items():
        ledger.write(lambda tx: [tx.run(statement) for statement in CLEAN])
        insert(ledger, before)
        ledger.write(write)
        found = row(ledger)

        assert found["published_at"] is None
        if before in {State.RUNNING, State.ACCEPTED} and after is not State.RUNNING:
            assert found["owner"] is None
        if before is State.RUNNING:
            assert found["token"] is None
        assert (found["finished_at"] == to_micros(NOW)) == (after in FINAL)


@pytest.mark.parametrize(
    ("move", "before"),
    [
        *[(name, State.ACCEPTED) for name in ("release", "bury, silent", "bury, proven", "leave")],
        ("follow, with a result", State.WAITING),
    ],
)
def test_a_task_that_has_to_wait_after_its_release_is_scheduled(ledger, move, before):
    insert(ledger, before, run_at=LATER)

    ledger.write(MOVES[move][0])

    assert (row(ledger)["state"], row(ledger)["run_at"]) == ("scheduled", to_micros(LATER))


def test_a_scheduled_task_is_not_promoted_before_its_time(ledger):
    insert(ledger, State.SCHEDULED, run_at=NOW + timedelta(microseconds=1))
    early = ledger.write(MOVES["promote"][0])
    on_time = ledger.write(partial(promote.promote, now=NOW + timedelta(microseconds=1), limit=9))

    assert (early, on_time) == ([], [(TASK_ID, "q", GENERATION + 1)])


@pytest.mark.parametrize("state", State)
def test_only_ended_tasks_of_the_asked_for_state_and_age_are_deleted(ledger, state):
    insert(ledger, state)
    for asked in State:
        too_young = partial(retain.delete_finished, state=asked, before=LONG_AGO, limit=9, now=NOW)
        assert ledger.write(too_young) == 0
        if asked is not state:
            other = partial(retain.delete_finished, state=asked, before=NOW, limit=9, now=NOW)
            assert ledger.write(other) == 0

    gone = ledger.write(partial(retain.delete_finished, state=state, before=NOW, limit=9, now=NOW))

    assert gone == int(state in FINAL)


WRONG = {"another token": replace(HELD, token="another"), "another task": replace(HELD, seq=2)}


@pytest.mark.parametrize("held", WRONG)
@pytest.mark.parametrize("state", ENDS)
def test_news_under_a_wrong_token_changes_nothing_and_leaves_no_attempt(ledger, held, state):
    insert(ledger, State.RUNNING)
    before = row(ledger)
    stale = WRONG[held]
    follow_up = replace(NEW, id="follow-up")

    told = [
        ledger.write(write)
        for write in (
            partial(
                outcome.finish,
                task=stale,
                outcome=replace(ended(state), follow_ups=(follow_up,)),
                worker=OWNER,
            ),
            partial(hand_back.hand_back, task=stale, now=NOW),
            partial(mark.mark_started, task=stale, at=NOW),
            partial(mark.mark_progress, task=stale, progress="1"),
        )
    ]

    assert told == [False] * 4
    assert (row(ledger), attempts(ledger)) == (before, [])


def test_a_stranger_can_neither_release_withdraw_nor_forget(ledger):
    for state, write in (
        (State.ACCEPTED, partial(release.release, task=TASK_ID, owner="stranger", now=NOW)),
        (State.ACCEPTED, partial(release.withdraw, task=TASK_ID, owner="stranger", now=NOW)),
        (State.RUNNING, partial(hand_back.forgotten, task=TASK_ID, owner="stranger")),
    ):
        ledger.write(lambda tx: [tx.run(statement) for statement in CLEAN])
        insert(ledger, state)
        before = row(ledger)

        assert ledger.write(write) is False
        assert row(ledger) == before


@pytest.mark.parametrize("generation", [GENERATION - 1, GENERATION + 1])
def test_a_message_of_another_generation_claims_and_confirms_nothing(ledger, generation):
    insert(ledger, State.QUEUED)
    before = row(ledger)

    claimed = ledger.write(
        partial(claim.claim_message, task=TASK_ID, generation=generation, **CLAIM)
    )
    confirmed = ledger.write(
        partial(publish.mark_published, task=TASK_ID, generation=generation, now=NOW)
    )

    assert (claimed, confirmed, row(ledger)) == (None, False, before)


def test_burying_somebody_else_takes_nothing_back(ledger):
    insert(ledger, State.RUNNING)
    ledger.write(lambda tx: tx.run(ALIVE, id="other"))
    before = row(ledger)

    buried = ledger.write(partial(bury.bury, incarnation="other", now=NOW, death=Death.PROVEN))

    assert (buried.taken_back, buried.released, row(ledger)) == (0, 0, before)
