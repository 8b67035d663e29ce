"""A task handle reads the ledger: where its task is, what it returned."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from dramatiq.results import ResultMissing

from postlude import TaskHandle, process
from postlude.errors import UnknownTask
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.ledger.queries.tasks import was_deleted
from postlude.ledger.task import NewTask
from postlude.ledger.transitions.accept import enqueue
from postlude.ledger.transitions.cancel import cancel_queue
from postlude.ledger.transitions.retain import delete_finished
from postlude.settings import settings
from postlude.states import State


@pytest.fixture
def ledger(monkeypatch, tmp_path):
    monkeypatch.setenv("POSTLUDE_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    upgrade(settings())
    yield process.current().ledger
    process.close()
    settings.cache_clear()


def test_a_handle_says_where_its_task_is(ledger):
    task = NewTask("a-task", "greet", "default", "{}", "{}", 0, None, clock.now())
    ledger.write(lambda tx: enqueue(tx, task, now=task.created_at))

    handle = TaskHandle("a-task")

    assert handle.state() is State.QUEUED
    with pytest.raises(ResultMissing):
        handle.get_result()


def test_a_handle_of_a_task_that_never_was_says_so(ledger):
    with pytest.raises(UnknownTask, match="there is no task nobody"):
        TaskHandle("nobody").state()


@pytest.mark.parametrize(
    "task_id",
    [
        "8c3a9e0e-5d0c-4f0e-9a55-0e6d0b8a9d11",  # Dramatiq's own, which has no time in it
        "0193b0a0-0000-7000-8000-000000000000",
    ],
)
def test_an_id_whose_task_was_deleted_is_known_to_have_been(ledger, task_id):
    at = clock.now()
    task = NewTask(task_id, "greet", "default", "{}", "{}", 0, None, at)
    ledger.write(lambda tx: enqueue(tx, task, now=at))
    ledger.write(lambda tx: cancel_queue(tx, queue="default", now=at))

    later = at + timedelta(days=8)
    gone = ledger.write(
        lambda tx: delete_finished(tx, State.CANCELLED, before=later, limit=9, now=later)
    )

    with ledger.read() as connection:
        assert gone == 1
        assert was_deleted(connection, task_id, settings(), later)
        assert not was_deleted(connection, str(uuid4()), settings(), later)
