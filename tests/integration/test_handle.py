"""A task handle reads the ledger: where its task is, what it returned."""

from __future__ import annotations

import pytest
from dramatiq.results import ResultMissing

from postlude import TaskHandle, process
from postlude.errors import UnknownTask
from postlude.ledger import clock
from postlude.ledger.migrate import upgrade
from postlude.ledger.task import NewTask
from postlude.ledger.transitions.accept import enqueue
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
