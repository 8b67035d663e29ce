"""One task in a child of this very process, cancelled at the moments that are hard to hit from outside."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime

import pytest

from postlude.broker import broker
from postlude.broker.delivery import Delivery, message_of
from postlude.isolation.pool import close_pool
from postlude.isolation.process import ChildProcess
from postlude.isolation.run import Run
from postlude.ledger.task import Claimed
from postlude.middleware.cancelled import Cancelled
from postlude.policy.crash import Suspicion
from postlude.worker.holdings import Holdings

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ACTORS = """
import dramatiq, postlude

@dramatiq.actor(actor_name="test-run-one")
def actor() -> str:
    return "done"
"""


@pytest.fixture(scope="module")
def actor(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("run")
        (folder / "run_one.py").write_text(ACTORS)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("POSTLUDE_DATA_DIR", str(folder))
        importlib.import_module("run_one")
        yield broker().get_actor("test-run-one")
        close_pool()


@pytest.fixture
def run(actor):
    """Make the run of a suspect."""

    def make():
        suspect = int(Suspicion.APART)
        task = Claimed(
            1, "1", actor.actor_name, "default", "{}", "{}", 0, 1, "t", 1, 0, suspect, NOW, NOW
        )
        holdings = Holdings(1)
        ((held,), _) = holdings.take([task])
        return Run(actor, Delivery(message_of(task, (), {}), held, holdings))

    return make


def test_a_task_that_is_cancelled_before_its_child_is_ready_is_cancelled_and_not_a_failure(run):
    cancelled = run()

    cancelled.cancel()

    with pytest.raises(Cancelled):
        cancelled()
    assert run()() == "done"


def test_a_child_that_is_killed_as_it_answers_is_nobody_elses_death(run, monkeypatch):
    hear = ChildProcess.hear
    cancelled = run()

    def cancel_as_it_answers(child, deadline):
        frame = hear(child, deadline)
        if frame and frame["say"] == "returned":
            cancelled.cancel()
        return frame

    with monkeypatch.context() as patched:
        patched.setattr(ChildProcess, "hear", cancel_as_it_answers)
        with pytest.raises(Cancelled):
            cancelled()

    assert run()() == "done"
