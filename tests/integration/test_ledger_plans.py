"""How the database looks things up: by an index, whatever the size of the ledger.

The plans are those of a database without statistics, as everybody has it who never runs ANALYZE.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.queries import incarnations, keys, ready, schedules, tasks, versions
from postlude.ledger.statement import dialect_named
from postlude.ledger.task import Claimed
from postlude.ledger.transitions import (
    accept,
    bury,
    cancel,
    claim,
    follow,
    hand_back,
    incarnation,
    key,
    mark,
    outcome,
    promote,
    publish,
    release,
    retain,
    retry,
)
from postlude.settings import load
from postlude.states import State

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CLAIMED = Claimed(
    1, "x", "a", "q", "{}", "{}", 0, 1, "t", 1, 0, suspect=False, created_at=NOW, claimed_at=NOW
)
STATEMENTS = {
    "suspicion": ready.SUSPICION,
    "ready": ready.READY,
    "due": ready.DUE,
    "claim": claim.CLAIM,
    "claim by message": claim.CLAIM_MESSAGE,
    "accept": accept.SAME,
    "take a key": key.TAKE,
    "duplicate": key.DUPLICATE,
    "kept answer": key.KEPT,
    "delete keys": retain.KEYS_OF,
    "delete expired keys": retain.EXPIRED_KEYS,
    "release": release.RELEASE,
    "withdraw": release.WITHDRAW,
    "finish": outcome.FINISH,
    "succeed": outcome.SUCCEED,
    "record successes": outcome.RECORD_SUCCESSES,
    "hand back": hand_back.HAND_BACK,
    "forget": hand_back.FORGOTTEN,
    "cancel in hand": hand_back.CANCEL,
    "cancel": cancel.CANCEL,
    "cancel, accepted": cancel.CANCEL_ACCEPTED,
    "request cancel": cancel.REQUEST,
    "state": cancel.STATE,
    "retry": retry.RETRY,
    "retried": retry.SAME,
    "fit for a retry": retry.IS_FIT,
    "start": mark.STARTED,
    "progress": mark.PROGRESS,
    "publish": publish.PUBLISHED,
    "beat": incarnation.BEAT,
    "bury: record": bury._RECORD,
    "bury: cancel": bury._CANCEL,
    "bury: accuse": bury._ACCUSE,
    "bury: quarantine": bury._QUARANTINE,
    "bury: suspect": bury._SUSPECT,
    "bury: take back": bury._TAKE_BACK,
    "bury: release": bury._RELEASE,
    "adopt": bury._ORPHANS,
    "promote": promote.PROMOTE,
    "delete": retain.DELETE,
    "delete: cut loose": retain.FREE,
    "cancel a queue": cancel.CANCEL_QUEUE,
    "cancel: followed": cancel.CANCEL_FOLLOWED,
    "follow: release": follow.RELEASE,
    "follow: end": follow.END,
    "follow: revive": follow.REVIVE,
    "follow: group": follow.GROUP_OF,
    "follow: unfinished": follow.UNFINISHED,
}
QUERIES = {
    "get": lambda c: tasks.get(c, "x"),
    "attempts": lambda c: tasks.attempts(c, "x"),
    "by state": lambda c: tasks.page(c, state=State.FAILED),
    "by state, next": lambda c: tasks.page(c, state=State.FAILED, before=9),
    "by actor": lambda c: tasks.page(c, actor="a"),
    "by actor, next": lambda c: tasks.page(c, actor="a", before=9),
    "by queue": lambda c: tasks.page(c, queue="q"),
    "by queue, next": lambda c: tasks.page(c, queue="q", before=9),
    "by all": lambda c: tasks.page(c, state=State.QUEUED, actor="a", queue="q", before=9),
    "accepted_by": lambda c: tasks.accepted_by(c, "me"),
    "cancelling": lambda c: tasks.cancelling(c, "me"),
    "held_by": lambda c: tasks.held_by(c, "me"),
    "doomed": lambda c: tasks.doomed(c, "me"),
    "missing": lambda c: tasks.missing(c, "g"),
    "unfinished": lambda c: tasks.unfinished(c, "q"),
    "kept": lambda c: keys.kept(c, "s", "k", NOW),
    "versions": lambda c: versions.find(c, CLAIMED, now=NOW),
    "due schedules": lambda c: schedules.due(c, now=NOW, limit=9),
    "next schedule": schedules.next_at,
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    settings = load(data_dir=tmp_path_factory.mktemp("plans"))
    migrate.upgrade(settings)
    ledger = Ledger(settings)
    yield ledger
    ledger.close()


def plan_of_statement(ledger, statement) -> list[str]:
    sql = statement.text(dialect_named("sqlite"))
    values = {
        name: "[]" if name in {"actors", "ended"} else 1 for name in re.findall(r":(\w+)", sql)
    }
    with ledger.read() as connection:
        cursor = connection.connection.cursor()
        return [row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


def plan_of_query(ledger, query) -> list[str]:
    seen = []

    def note(_connection, _cursor, sql, values, _context, _many):
        seen.append((sql, values))

    with ledger.read() as connection:
        event.listen(connection, "before_cursor_execute", note)
        query(connection)
        event.remove(connection, "before_cursor_execute", note)
        selects = [(sql, values) for sql, values in seen if "SELECT" in sql]
        assert selects
        plan = []
        for sql, values in selects:
            plan += connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    return [row[3] for row in plan]


def scans(plan: list[str]) -> list[str]:
    """Return the lines that read a whole table, or sort what an index could have sorted.

    The index of the living is read as a whole: they are as many as there are processes.
    """
    bad = [line for line in plan if line.startswith("SCAN postlude") or "B-TREE FOR ORDER" in line]
    return [line for line in bad if "postlude_incarnations_alive" not in line]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_transition_reads_no_table_as_a_whole_and_sorts_nothing(ledger, name):
    plan = plan_of_statement(ledger, STATEMENTS[name])

    assert plan
    assert scans(plan) == []


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_reads_no_table_as_a_whole_and_sorts_nothing(ledger, name):
    plan = plan_of_query(ledger, QUERIES[name])

    assert plan
    assert scans(plan) == []


def test_the_newest_tasks_are_read_from_the_end_of_the_table(ledger):
    assert plan_of_query(ledger, tasks.page) == ["SCAN postlude_tasks"]
    (next_page,) = plan_of_query(ledger, lambda c: tasks.page(c, before=9))
    assert "INTEGER PRIMARY KEY (rowid<?)" in next_page


def test_a_claim_reads_only_the_index_of_what_is_ready(ledger):
    plan = plan_of_statement(ledger, claim.CLAIM)

    wanted = "USING COVERING INDEX postlude_tasks_ready (queue=? AND suspect=?)"
    assert any(wanted in line for line in plan)


def test_successes_are_found_by_their_row_numbers(ledger):
    plan = plan_of_statement(ledger, outcome.SUCCEED)

    assert "SEARCH postlude_tasks USING INTEGER PRIMARY KEY (rowid=?)" in plan


def test_the_next_due_task_is_the_first_one_of_its_index(ledger):
    (line,) = plan_of_statement(ledger, ready.DUE)

    assert line.endswith("USING COVERING INDEX postlude_tasks_due")


@pytest.mark.parametrize("name", ["held_by", "accepted_by", "doomed"])
def test_what_a_process_owns_is_read_from_the_index_of_owners(ledger, name):
    plan = plan_of_query(ledger, QUERIES[name])

    assert any("postlude_tasks_owner (owner=?)" in line for line in plan)


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name.startswith("bury")])
def test_what_the_dead_owned_is_read_from_the_index_of_owners(ledger, name):
    plan = plan_of_statement(ledger, STATEMENTS[name])

    assert any("postlude_tasks_owner (owner=?)" in line for line in plan)


def test_who_has_a_key_is_found_by_its_id(ledger):
    plan = plan_of_statement(ledger, key.TAKE)

    assert "SEARCH postlude_tasks USING INDEX postlude_tasks_id (id=?)" in plan


@pytest.mark.parametrize(
    "name", ["follow: release", "follow: end", "follow: revive", "delete: cut loose"]
)
def test_who_waits_for_a_task_is_read_from_the_index_of_the_waiting(ledger, name):
    plan = plan_of_statement(ledger, STATEMENTS[name])

    assert any("postlude_tasks_waiting (waits_for=?)" in line for line in plan)


def test_what_may_be_deleted_is_a_range_of_its_index(ledger):
    plan = plan_of_statement(ledger, retain.DELETE)

    wanted = "postlude_tasks_finished (state=? AND finished_at>? AND finished_at<?)"
    assert any(wanted in line for line in plan)


def test_whether_a_group_is_complete_is_read_from_the_index_of_unfinished_members(ledger):
    (line,) = plan_of_statement(ledger, follow.UNFINISHED)

    assert "postlude_tasks_members (group_id=?)" in line


def test_who_lives_is_read_from_the_index_of_the_living(ledger):
    plan = plan_of_query(ledger, incarnations.alive)

    assert plan[0] == "SCAN postlude_incarnations USING INDEX postlude_incarnations_alive"
