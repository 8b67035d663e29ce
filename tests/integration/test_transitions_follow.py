"""When a task ends, those who wait for it are released or cancelled, in the same transaction, once."""

from __future__ import annotations

from contextlib import closing
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
    cancel,
    claim,
    incarnation,
    outcome,
    release,
    retain,
)
from postlude.ledger.transitions.outcome import Outcome
from postlude.policy.crash import DEADLY, Death, Suspicion
from postlude.settings import load
from postlude.states import Reason, State

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
DONE = Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW, passed_on="1")
FAILED = Outcome(
    State.FAILED, "failed", started_at=NOW, finished_at=NOW, reason=Reason.RETRIES_EXHAUSTED
)
CANCELLED = replace(FAILED, state=State.CANCELLED, word="cancelled", reason=Reason.BY_REQUEST)
SKIPPED = replace(DONE, word="skipped", passed_on=None)
AGAIN = Outcome(State.QUEUED, "interrupted", started_at=NOW, finished_at=NOW)
LATER = Outcome(
    State.SCHEDULED,
    "retried",
    started_at=NOW,
    finished_at=NOW,
    run_at=NOW + timedelta(seconds=9),
    retries=1,
)


def task(id_: str, **more) -> NewTask:
    return NewTask(id_, "a", more.pop("queue", "q"), "{}", "{}", 0, None, NOW, **more)


class Site:
    """A ledger, and what happens to the tasks in it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._lives = 0
        self._held = {}

    def add(self, *tasks: NewTask, owner: str | None = None) -> None:
        """Store ``tasks`` in one transaction: accepted for ``owner``, or released at once."""

        def write(tx):
            for each in tasks:
                if owner:
                    assert accept.accept(tx, each, owner=owner)
                else:
                    assert accept.enqueue(tx, each, now=NOW)

        self.ledger.write(write)

    def worker(self) -> str:
        self._lives += 1
        name = f"worker {self._lives}"
        born = {"kind": "worker", "host": "h", "pid": 1, "version": "1", "queues": [], "now": NOW}
        self.ledger.write(partial(incarnation.appear, incarnation=name, **born))
        return name

    def take(self, id_: str, *, owner: str = "w", suspects: bool = False):
        """Return the task as a worker holds it, who claims all that is queued."""
        take = partial(claim.claim, queue="q", actors=["a"], owner=owner, token=owner, now=NOW)
        found = self.ledger.write(partial(take, limit=99, suspects=suspects))
        self._held.update((held.id, held) for held in found)
        return self._held[id_]

    def finish(self, held, ending: Outcome = DONE) -> bool:
        return self.ledger.write(partial(outcome.finish, task=held, outcome=ending, worker="w"))

    def end(self, id_: str, ending: Outcome = DONE) -> None:
        held = self._held.get(id_) or self.take(id_)
        del self._held[id_]
        assert self.finish(held, ending)

    def view(self, id_: str):
        with self.ledger.read() as connection:
            return queries.get(connection, id_)

    def state(self, id_: str) -> tuple[State, Reason | None]:
        found = self.view(id_)
        return found.state, found.reason

    def states(self, *ids: str) -> list[str]:
        return [str(self.view(id_).state) for id_ in ids]

    def everything(self) -> list[tuple]:
        with self.ledger.read() as connection:
            return [
                tuple(row) for row in connection.exec_driver_sql("SELECT * FROM postlude_tasks")
            ]


@pytest.fixture
def site(tmp_path):
    settings = load(data_dir=tmp_path)
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield Site(ledger)
    ledger.close()


def chain(*ids: str, member_of: str | None = None, **last) -> list[NewTask]:
    """Return the steps of a pipeline that pass their results into ``x``."""
    steps = []
    for before, id_, after in zip([None, *ids], ids, [*ids[1:], None], strict=False):
        followed = after is not None or member_of is not None
        pipe_into = "x" if before else None
        steps.append(task(id_, waits_for=before, followed=followed, pipe_into=pipe_into))
    steps[-1] = replace(steps[-1], group_id=member_of, **last)
    return steps


def members(*ids: str, callback: str = "told", group: str = "g") -> list[NewTask]:
    found = [task(id_, followed=True, group_id=group) for id_ in ids]
    return [*found, task(callback, waits_for=group)]


def test_the_next_step_waits_and_is_then_queued_with_the_result(site):
    site.add(*chain("first", "second", "third"))
    before = site.states("first", "second", "third")

    site.end("first")

    assert before == ["queued", "waiting", "waiting"]
    assert site.states("first", "second", "third") == ["succeeded", "queued", "waiting"]
    assert site.view("second").arguments == {"x": 1}
    held = site.take("second")
    assert (held.generation, held.followed, held.attempt) == (1, True, 1)


@pytest.mark.parametrize(
    ("stored", "passed_on", "arguments"),
    [
        ("{}", "null", {"x": None}),
        (
            '{"y":[1,{"x":2}]}',
            '{"é":[1.0,"\\"\\\\u"]}',
            {"y": [1, {"x": 2}], "x": {"é": [1.0, '"\\u']}},
        ),
        ('{"x":[]}', "[2]", {"x": [[2]]}),
        ('{"w":0,"x":[1]}', '"2"', {"w": 0, "x": [1, "2"]}),
        ("{}", "123456789012345678901234567890", {"x": 123456789012345678901234567890}),
        ("{}", "1.10", {"x": 1.1}),
    ],
)
def test_a_result_becomes_an_argument_or_the_last_one_of_many(site, stored, passed_on, arguments):
    first, second = chain("first", "second")
    site.add(first, replace(second, arguments=stored))

    site.end("first", replace(DONE, passed_on=passed_on))

    assert site.view("second").arguments == arguments


def test_a_parameter_may_have_any_name_that_python_allows(site):
    first, second = chain("first", "second")
    site.add(first, replace(second, pipe_into="größe_名"))

    site.end("first")

    assert site.view("second").arguments == {"größe_名": 1}


def test_a_step_that_ignores_the_result_is_left_as_it_is(site):
    first, second = chain("first", "second")
    site.add(first, replace(second, pipe_into=None, arguments='{"y":  1.0}'))

    site.end("first", replace(DONE, passed_on=None))

    assert site.take("second").arguments == '{"y":  1.0}'


def test_a_step_with_a_delay_waits_for_that_after_its_release(site):
    first, second = chain("first", "second")
    site.add(first, replace(second, options='{"delay":1500.5}'))

    site.end("first")

    found = site.view("second")
    assert found.state is State.SCHEDULED
    assert found.run_at - NOW == timedelta(milliseconds=1500.5)


@pytest.mark.parametrize("ending", [AGAIN, LATER])
def test_an_attempt_that_does_not_end_the_task_releases_and_cancels_nothing(site, ending):
    site.add(*chain("first", "second"))

    site.end("first", ending)

    assert site.states("second") == ["waiting"]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (FAILED, Reason.UPSTREAM_FAILED),
        (CANCELLED, Reason.UPSTREAM_FAILED),
        (SKIPPED, Reason.UPSTREAM_SKIPPED),
    ],
    ids=["failed", "cancelled", "skipped"],
)
def test_all_that_is_downstream_of_a_failure_is_cancelled(site, ending, reason):
    site.add(*chain("first", "second", "third", "fourth"))
    site.end("first")

    site.end("second", ending)

    assert site.state("third") == (State.CANCELLED, reason)
    assert site.state("fourth") == (State.CANCELLED, reason)
    assert site.view("fourth").finished_at == NOW


@pytest.mark.parametrize("passed_on", [None, "", "{", "NaN", "1 2"])
def test_a_result_that_cannot_be_passed_on_fails_the_step_that_wants_it(site, passed_on):
    site.add(*chain("first", "second", "third"))

    site.end("first", replace(DONE, passed_on=passed_on))

    assert site.states("first") == ["succeeded"]
    assert site.state("second") == (State.FAILED, Reason.BAD_ARGUMENTS)
    assert site.state("third") == (State.CANCELLED, Reason.UPSTREAM_FAILED)


@pytest.mark.parametrize(
    "endings", [(DONE, DONE), (FAILED, DONE), (DONE, SKIPPED), (FAILED, CANCELLED)]
)
def test_the_end_of_its_last_member_releases_a_groups_callbacks_however_it_ends(site, endings):
    site.add(*members("one", "two"), task("also", waits_for="g", followed=True))

    site.end("one", endings[0])
    early = site.states("told", "also")
    site.end("two", endings[1])

    assert early == ["waiting", "waiting"]
    assert site.states("told", "also") == ["queued", "queued"]


def test_a_member_that_is_tried_again_keeps_its_group_open(site):
    site.add(*members("one"))

    site.end("one", AGAIN)
    again = site.states("told")
    site.end("one")

    assert (again, site.states("told")) == (["waiting"], ["queued"])


def test_a_pipeline_in_a_group_counts_with_its_last_step(site):
    site.add(*members("alone"), *chain("first", "last", member_of="g"))

    site.end("alone")
    site.end("first")
    early = site.states("last", "told")
    site.end("last")

    assert (early, site.states("told")) == (["queued", "waiting"], ["queued"])


def test_a_pipeline_that_fails_in_a_group_counts_as_ended(site):
    site.add(*members("alone"), *chain("first", "second", "last", member_of="g"))

    site.end("alone")
    site.end("first", FAILED)

    assert site.states("second", "last", "told") == ["cancelled", "cancelled", "queued"]


def test_a_pipeline_may_be_the_callback_of_a_group(site):
    first, second = chain("told", "further")
    site.add(task("one", followed=True, group_id="g"), replace(first, waits_for="g"), second)

    site.end("one")
    early = site.states("told", "further")
    site.end("told")

    assert (early, site.states("further")) == (["queued", "waiting"], ["queued"])


def test_groups_do_not_mix(site):
    site.add(*members("one"))
    site.add(*members("two", callback="other", group="h"))

    site.end("one")

    assert site.states("told", "other") == ["queued", "waiting"]


@pytest.mark.parametrize("ending", [DONE, FAILED, SKIPPED], ids=lambda ending: ending.word)
def test_what_is_written_twice_follows_once(site, ending):
    site.add(*members("one"), *chain("first", "second", "third", member_of="h"))
    site.add(task("other", waits_for="h"))
    site.end("one")
    held = site.take("first")
    finishing = partial(outcome.finish, task=held, outcome=ending, worker="w")

    told = [site.ledger.write(finishing)]
    after = site.everything()
    told += [
        site.ledger.write(finishing),
        site.ledger.write(lambda tx: [finishing(tx), finishing(tx)]),
    ]

    assert told == [True, False, [False, False]]
    assert site.everything() == after


def test_storing_a_composition_again_changes_nothing_however_far_it_is(site):
    steps = [*members("one"), *chain("first", "second", "third")]
    site.add(*steps)
    for move in (lambda: site.end("first"), lambda: site.end("one"), lambda: site.end("second")):
        move()
        before = site.everything()
        site.add(*steps)
        assert site.everything() == before


def test_the_late_outcome_of_a_lost_claim_releases_nothing(site):
    site.add(*chain("first", "second"), *members("one"))
    frozen, successor = site.worker(), site.worker()
    late = [site.take("first", owner=frozen), site.take("one", owner=frozen)]
    site.ledger.write(partial(bury.bury, incarnation=frozen, now=NOW, death=Death.STOPPED))
    site.take("first", owner=successor)

    told = [site.finish(held, ending) for held in late for ending in (DONE, FAILED)]

    assert told == [False] * 4
    assert site.states("second", "told") == ["waiting", "waiting"]


def dead_of_it(site, *ids: str) -> str:
    """Return a worker that runs these tasks, of which others have died; its death is one too many."""
    worker = site.worker()
    site.take(ids[0], owner=worker)
    guilty = f"suspect = {Suspicion.INSIDE}, crashes = {DEADLY - 1}, started_at = 1"
    with closing(site.ledger.connect()) as connection, connection.transaction() as tx:
        tx._cursor.execute(f"UPDATE postlude_tasks SET {guilty} WHERE owner = '{worker}'")
    return worker


def test_a_quarantine_is_followed_like_any_failure(site):
    site.add(*chain("first", "second"), *members("one"))
    worker = dead_of_it(site, "first", "one")

    buried = site.ledger.write(partial(bury.bury, incarnation=worker, now=NOW, death=Death.PROVEN))

    assert buried.quarantined == 2
    assert site.state("first") == (State.FAILED, Reason.CRASH_LOOP)
    assert site.state("second") == (State.CANCELLED, Reason.UPSTREAM_FAILED)
    assert site.states("told") == ["queued"]


def test_of_two_reapers_one_cancels_what_follows_a_quarantine(site):
    site.add(*chain("first", "second"))
    worker = dead_of_it(site, "first")
    burying = partial(
        bury.bury,
        incarnation=worker,
        now=NOW,
        death=Death.PROVEN,
        callbacks={"first": task("news")},
    )

    both = site.ledger.write(lambda tx: [burying(tx), burying(tx)])
    after = site.everything()
    third = site.ledger.write(burying)

    assert [both[0].quarantined, both[1], third] == [1, None, None]
    assert site.everything() == after
    assert site.states("second", "news") == ["cancelled", "queued"]


def test_a_callback_for_a_quarantine_that_does_not_come_is_not_queued(site):
    site.add(task("innocent"))
    worker = site.worker()
    site.take("innocent", owner=worker)
    burying = partial(bury.bury, incarnation=worker, now=NOW, callbacks={"innocent": task("news")})

    site.ledger.write(partial(burying, death=Death.PROVEN))

    assert site.view("news") is None


def test_what_is_handed_back_taken_back_or_adopted_has_not_ended(site):
    site.add(*chain("first", "second"), *members("one"))
    worker, other = site.worker(), site.worker()
    moves = [
        partial(bury.bury, incarnation=worker, now=NOW, death=Death.STOPPED),
        partial(bury.adopt, now=NOW),
        partial(bury.leave, incarnation=other, now=NOW),
    ]
    for owner, move in zip([worker, worker, other], moves, strict=True):
        site.take("first", owner=owner)
        site.ledger.write(move)

        assert site.states("first", "one", "second", "told") == ["queued"] * 2 + ["waiting"] * 2


def test_cancelling_a_queue_cancels_the_steps_after_it_and_completes_groups(site):
    elsewhere = {"queue": "another"}
    first, second = chain("first", "second")
    site.add(first, replace(second, **elsewhere), *members("one", "two"), task("plain"))
    cancelling = partial(cancel.cancel_queue, queue="q", now=NOW)

    counts = [site.ledger.write(cancelling)]
    states = site.states("first", "second", "one", "two", "plain", "told")
    before = site.everything()
    counts.append(site.ledger.write(partial(cancel.cancel_queue, queue="nothing", now=NOW)))

    assert counts == [4, 0]
    assert states == ["cancelled"] * 5 + ["queued"]
    assert site.state("second") == (State.CANCELLED, Reason.UPSTREAM_FAILED)
    assert site.everything() == before


def test_a_step_that_waits_in_a_cancelled_queue_is_left_alone(site):
    first, second = chain("first", "second")
    site.add(replace(first, queue="another"), second)

    site.ledger.write(partial(cancel.cancel_queue, queue="q", now=NOW))

    assert site.states("first", "second") == ["queued", "waiting"]


def test_accepted_compositions_belong_to_their_request_but_for_what_waits(site):
    site.add(*chain("first", "second"), *members("one"), owner="api")
    with site.ledger.read() as connection:
        owed = queries.accepted_by(connection, "api")
        owned = connection.exec_driver_sql("SELECT id FROM postlude_tasks WHERE owner = 'api'")
        assert sorted(owned.scalars()) == ["first", "one"]

    for id_ in ("first", "second", "one", "told"):
        site.ledger.write(partial(release.release, task=id_, owner="api", now=NOW))

    assert sorted(owed) == ["first", "one"]
    assert site.states("first", "second", "one", "told") == ["queued", "waiting"] * 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_withdrawn_composition_never_runs_not_even_its_callbacks(site, order):
    steps = [*chain("first", "second", "third"), *members("one", "two")]
    steps += chain("head", "last", member_of="g")
    site.add(*steps, owner="api")
    withdrawing = [partial(release.withdraw, task=s.id, owner="api", now=NOW) for s in steps][
        ::order
    ]

    first = [site.ledger.write(move) for move in withdrawing]
    after = site.everything()
    second = [site.ledger.write(move) for move in withdrawing]

    assert (first.count(True), second.count(True)) == (4, 0)
    assert {site.state(s.id) for s in steps} == {(State.CANCELLED, Reason.REQUEST_FAILED)}
    assert site.everything() == after


def test_a_composition_that_a_dead_process_had_accepted_is_released(site):
    api = site.worker()
    site.add(*chain("first", "second"), *members("one"), owner=api)

    site.ledger.write(partial(bury.bury, incarnation=api, now=NOW, death=Death.PROVEN))
    site.end("first")
    site.end("one")

    assert site.states("second", "told") == ["queued", "queued"]


def test_nothing_ever_waits_for_what_has_ended_so_retention_strands_nobody(site):
    site.add(*chain("a", "b", "c"), *chain("d", "e"), *members("one", "two"))
    endings = {"a": DONE, "d": FAILED, "one": FAILED, "two": DONE, "b": SKIPPED}
    for id_, ending in endings.items():
        site.end(id_, ending)
        with site.ledger.read() as connection:
            stranded = connection.exec_driver_sql(
                "SELECT id FROM postlude_tasks w WHERE state = 'waiting' AND NOT EXISTS ("
                " SELECT 1 FROM postlude_tasks u WHERE u.finished_at IS NULL"
                " AND w.waits_for IN (u.id, u.group_id))"
            )
            assert stranded.fetchall() == []
    later = NOW + timedelta(days=1)
    for state in (State.FAILED, State.SUCCEEDED, State.CANCELLED):
        deleting = partial(retain.delete_finished, state=state, before=later, limit=99, now=later)
        site.ledger.write(deleting)

    assert [row[1] for row in site.everything()] == ["told"]


def delete_all(site, *states: State) -> None:
    later = NOW + timedelta(days=1)
    for state in states:
        deleting = partial(retain.delete_finished, state=state, before=later, limit=99, now=later)
        site.ledger.write(deleting)


def test_what_a_failure_cancelled_is_deleted_after_it_one_after_the_other(site):
    site.add(*chain("a", "b", "c"))
    site.end("a", FAILED)
    left = []

    for states in ([State.CANCELLED], [State.FAILED], [State.CANCELLED], [State.CANCELLED]):
        delete_all(site, *states)
        left.append([row[1] for row in site.everything()])

    assert left == [["a", "b", "c"], ["b", "c"], ["c"], []]


def test_callbacks_of_a_group_that_was_cancelled_before_its_response_are_deleted_after_it(site):
    api = site.worker()
    site.add(*members("one", "two"), owner=api)
    for member in ("one", "two"):
        site.ledger.write(partial(cancel.cancel, task=member, now=NOW))
    assert site.state("told") == (State.CANCELLED, Reason.UPSTREAM_FAILED)

    delete_all(site, State.CANCELLED, State.CANCELLED)

    assert site.everything() == []
