"""Whatever compositions there are, and however their tasks end: nobody waits in vain, nothing runs early."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from postlude.ledger import migrate
from postlude.ledger.ledger import Ledger
from postlude.ledger.statement import Statement
from postlude.ledger.task import NewTask
from postlude.ledger.transitions import accept, claim, outcome
from postlude.ledger.transitions.outcome import Outcome
from postlude.settings import load
from postlude.states import Reason, State

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
CLEAN = [Statement(text(f"DELETE FROM postlude_{name}")) for name in ("attempts", "tasks")]
STRANDED = """
    SELECT id FROM postlude_tasks w WHERE state = 'waiting' AND NOT EXISTS (
        SELECT 1 FROM postlude_tasks u
        WHERE u.finished_at IS NULL AND w.waits_for IN (u.id, u.group_id))"""
ENDINGS = {
    "done": Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW, passed_on="1"),
    "odd": Outcome(State.SUCCEEDED, "succeeded", started_at=NOW, finished_at=NOW),
    "skipped": Outcome(State.SUCCEEDED, "skipped", started_at=NOW, finished_at=NOW),
    "failed": Outcome(
        State.FAILED, "failed", started_at=NOW, finished_at=NOW, reason=Reason.TIME_LIMIT
    ),
    "again": Outcome(State.QUEUED, "retried", started_at=NOW, finished_at=NOW, retries=1),
}
LENGTHS = st.lists(st.integers(1, 4), min_size=1, max_size=4)
GROUPS = st.lists(st.tuples(LENGTHS, LENGTHS), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    chosen = load(data_dir=tmp_path_factory.mktemp("any"))
    migrate.upgrade(chosen)
    ledger = Ledger(chosen)
    yield ledger
    ledger.close()


def chain(name: str, length: int, *, waits_for=None, group_id=None) -> list[NewTask]:
    steps = []
    for number in range(length):
        last = number == length - 1
        steps.append(
            NewTask(
                f"{name}.{number}",
                *("a", "q", "{}", "{}", 0, None, NOW),
                waits_for=f"{name}.{number - 1}" if number else waits_for,
                followed=not last or group_id is not None,
                group_id=group_id if last else None,
                pipe_into="x" if number else None,
            )
        )
    return steps


def unfolded(groups) -> list[NewTask]:
    """Return groups of pipelines, whose callbacks are pipelines."""
    found = []
    for g, (members, callbacks) in enumerate(groups):
        for m, length in enumerate(members):
            found += chain(f"{g}.m{m}", length, group_id=f"g{g}")
        for c, length in enumerate(callbacks):
            found += chain(f"{g}.c{c}", length, waits_for=f"g{g}")
    return found


def read(ledger, query: str) -> list:
    with ledger.read() as connection:
        return connection.exec_driver_sql(query).fetchall()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(groups=GROUPS, data=st.data())
def test_everything_ends_and_callbacks_run_when_their_group_is_complete(ledger, groups, data):
    tasks = unfolded(groups)
    ledger.write(lambda tx: [tx.run(statement) for statement in CLEAN])
    ledger.write(lambda tx: [accept.enqueue(tx, task, now=NOW) for task in tasks])
    taking = partial(claim.claim, queue="q", actors=["a"], owner="w", token="t", now=NOW, limit=99)
    held, retried = [], 0
    while held := [*held, *ledger.write(taking)]:
        for task in held:
            if ".c" in task.id and task.id.endswith(".0") and task.attempt == 1:
                group = f"g{task.id[0]}"
                members = f"SELECT id FROM postlude_tasks WHERE group_id = '{group}'"
                assert read(ledger, f"{members} AND finished_at IS NULL") == []
        task = held.pop(data.draw(st.integers(0, len(held) - 1)))
        ending = data.draw(st.sampled_from(sorted(ENDINGS)))
        retried += ending == "again"
        ending = "done" if ending == "again" and retried > 5 else ending
        write = partial(outcome.finish, task=task, outcome=ENDINGS[ending], worker="w")
        assert [ledger.write(write), ledger.write(write)] == [True, False]
        assert read(ledger, STRANDED) == []

    assert read(ledger, "SELECT id FROM postlude_tasks WHERE finished_at IS NULL") == []
    assert read(ledger, "SELECT count(*) FROM postlude_tasks") == [(len(tasks),)]
    firsts = "id LIKE '%.c_.0'"
    assert read(ledger, f"SELECT id FROM postlude_tasks WHERE {firsts} AND attempts = 0") == []
    early = """
        SELECT s.id FROM postlude_tasks s JOIN postlude_tasks u ON u.id = s.waits_for
        WHERE s.attempts > 0 AND u.state <> 'succeeded'"""
    assert read(ledger, early) == []
