"""What a task may expect of every broker: it runs, with its arguments, options and outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from dramatiq.results import ResultFailure

from postlude.states import Reason, State


def test_a_task_runs_and_its_result_is_read_by_whoever_sent_it(crew, actors):
    message = actors.add.send(1, y=4)

    assert message.get_result(block=True, timeout=10_000) == 5
    view = crew.view(message)
    assert (view.state, view.attempts, view.result) == (State.SUCCEEDED, 1, 5)
    assert view.created_at <= view.claimed_at <= view.started_at <= view.finished_at


def test_an_async_actor_runs(crew, actors):
    assert actors.add_async.send(1, 2).get_result(block=True, timeout=10_000) == 3


def test_arguments_arrive_as_the_types_that_the_actor_names(crew, actors):
    at = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)

    message = actors.describe.send(
        at=at,
        span=timedelta(minutes=5),
        key=UUID(int=7),
        price=Decimal("9.90"),
        colour=actors.Colour.RED,
        point=actors.Point(1, 2),
        order=actors.Order(number=1, at=at),
    )

    assert message.get_result(block=True, timeout=10_000) == [
        "datetime",
        "timedelta",
        "UUID",
        "Decimal",
        "Colour",
        "Point",
        "Order",
    ]


def test_of_two_tasks_with_one_key_one_runs_and_both_have_its_result(crew, actors):
    first = actors.hold.send_with_options(args=("unique",), unique_key="k")
    crew.noted("unique")
    second = actors.hold.send_with_options(args=("duplicate",), unique_key="k")
    crew.let_go("unique")

    assert second.get_result(block=True, timeout=10_000) == "unique"
    third = actors.hold.send_with_options(args=("unique",), unique_key="k")
    assert third.get_result(block=True, timeout=10_000) == "unique"
    assert crew.journal() == ["unique", "unique"]
    assert [crew.view(message).reason for message in (first, second, third)] == [
        None,
        Reason.DUPLICATE,
        None,
    ]


def test_a_delayed_task_waits(crew, actors):
    message = actors.add.send_with_options(args=(1,), delay=700)
    waiting = crew.view(message)
    message.get_result(block=True, timeout=10_000)

    assert waiting.state is State.SCHEDULED
    done = crew.view(message)
    assert done.started_at - done.created_at >= timedelta(milliseconds=700)
    assert done.started_at - done.created_at < timedelta(milliseconds=2500)


def test_a_failing_task_is_retried_and_then_failed_with_every_attempt_on_record(crew, actors):
    message = actors.fail_always.send("mail")

    view = crew.ended(message)
    assert (view.state, view.reason) == (State.FAILED, Reason.RETRIES_EXHAUSTED)
    assert crew.journal() == ["mail"] * 3
    attempts = crew.attempts(message)
    assert [a.outcome for a in attempts] == ["retried", "retried", "failed"]
    assert {(a.error_type, a.error_message) for a in attempts} == {("ValueError", "mail failed")}
    assert "raise ValueError(message)" in attempts[0].traceback
    with pytest.raises(ResultFailure, match="ValueError: mail failed"):
        message.get_result()


def test_what_throws_names_is_not_retried(crew, actors):
    message = actors.throw.send()

    assert crew.ended(message).attempts == 1


def test_retry_when_decides_over_retries(crew, actors):
    message = actors.fail_once_more.send()

    assert crew.ended(message).attempts == 2


def test_an_actor_can_ask_to_be_retried_at_a_time(crew, actors):
    message = actors.come_back.send(400)

    assert crew.ended(message).state is State.FAILED
    first, second = crew.attempts(message)
    assert second.started_at - first.finished_at >= timedelta(milliseconds=400)


def test_exhausted_retries_are_told(crew, actors):
    actors.exhaust.send()

    crew.noted("told exhaust {'retries': 0, 'max_retries': 0}")


def test_success_and_failure_are_told(crew, actors):
    actors.add.send_with_options(args=(1, 1), on_success=actors.told)
    actors.fail_always.send_with_options(args=("x",), on_failure=actors.told, max_retries=0)

    crew.noted("told add 2")
    crew.noted("told fail_always {'type': 'ValueError', 'message': 'x failed'}")


def test_an_actor_is_interrupted_at_its_time_limit(crew, actors):
    view = crew.ended(message := actors.overrun.send())

    assert (view.state, view.reason) == (State.FAILED, Reason.TIME_LIMIT)
    assert crew.attempts(message)[0].error_type == "TimeLimitExceeded"
    assert actors.add.send(1).get_result(block=True, timeout=10_000) == 3


def test_a_task_that_is_too_old_is_not_run(crew, actors):
    message = actors.jot.send_with_options(args=("late",), max_age=1)
    view = crew.ended(message)

    assert (view.state, view.reason) == (State.FAILED, Reason.EXPIRED)
    assert crew.journal() == []


def test_an_actor_sends_other_tasks_and_knows_its_own_id(crew, actors):
    parent = actors.send_on.send("child")
    me = actors.whoami.send()

    crew.noted("child")
    child_id = parent.get_result(block=True, timeout=10_000)
    assert child_id not in {parent.message_id, me.message_id}
    assert me.get_result(block=True, timeout=10_000) == me.message_id


def test_progress_is_visible_while_the_task_runs(crew, actors):
    message = actors.hold_with_progress.send("half way")
    crew.noted("half way")

    view = crew.until(lambda: (v := crew.view(message)).progress and v.started_at and v)
    assert (view.state, view.progress) == (State.RUNNING, {"done": 1, "of": 2})
    crew.let_go("half way")
    assert crew.ended(message).state is State.SUCCEEDED


def test_a_hook_that_wants_to_exit_costs_neither_the_outcome_nor_the_thread(crew, actors):
    messages = [actors.before_a_deadly_hook.send() for _ in range(8)]

    assert [message.get_result(block=True, timeout=10_000) for message in messages] == ["done"] * 8
    assert actors.add.send(1).get_result(block=True, timeout=10_000) == 3


def test_a_broken_hook_keeps_the_actor_from_running(crew, actors):
    view = crew.ended(message := actors.behind_a_broken_hook.send())

    assert view.state is State.FAILED
    assert "this hook is broken" in crew.attempts(message)[0].error_message
    assert crew.journal() == []
