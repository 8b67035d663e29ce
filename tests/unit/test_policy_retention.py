"""How long finished tasks are kept."""

from datetime import UTC, datetime, timedelta

from postlude.policy.retention import cutoffs
from postlude.settings import load
from postlude.states import State

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def test_by_default_failed_tasks_are_kept_and_the_others_go_after_a_week():
    week_ago = NOW - timedelta(days=7)

    assert cutoffs(load(), NOW) == {State.SUCCEEDED: week_ago, State.CANCELLED: week_ago}


def test_each_state_has_a_retention_of_its_own():
    settings = load(keep_succeeded="1h", keep_cancelled="never", keep_failed="30d")

    assert cutoffs(settings, NOW) == {
        State.SUCCEEDED: NOW - timedelta(hours=1),
        State.FAILED: NOW - timedelta(days=30),
    }
