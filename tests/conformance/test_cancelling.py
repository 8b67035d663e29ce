"""Cancelling and trying again by request, with real workers, over each broker."""

from __future__ import annotations

import time

import pytest

from postlude import interventions, process
from postlude.errors import NotRetryable, TaskFinished, UnknownTask
from postlude.states import Reason, State


def cancel(message) -> State:
    return interventions.cancel(process.current().ledger, message.message_id)


def retry(message) -> State:
    return interventions.retry(process.current().ledger, message.message_id)


def cancelled(crew, message):
    view = crew.ended(message)
    assert (view.state, view.reason, view.cancel_requested) == (
        State.CANCELLED,
        Reason.BY_REQUEST,
        False,
    )
    return view


def test_a_running_actor_is_interrupted_and_may_tidy_up(crew, actors):
    message = actors.hold_and_tidy_up.send("work")
    crew.noted("work")
    asked = time.monotonic()

    assert cancel(message) is State.RUNNING
    cancelled(crew, message)

    assert time.monotonic() - asked < 4
    crew.noted("work tidied up")
    assert [attempt.outcome for attempt in crew.attempts(message)] == ["cancelled"]


def test_an_async_actor_is_interrupted(crew, actors):
    message = actors.hold_async.send("sleep")
    crew.noted("sleep")

    cancel(message)

    cancelled(crew, message)


def test_a_task_whose_code_cannot_be_stopped_is_cancelled_over_its_head(crew, actors):
    message = actors.hold_in_c.send("c", 4)
    crew.noted("c")
    asked = time.monotonic()

    cancel(message)
    cancelled(crew, message)

    assert time.monotonic() - asked < 3.9
    crew.noted("c left")
    cancelled(crew, message)
    assert actors.add.send(1).get_result(block=True, timeout=10_000) == 3


def test_an_actor_that_breaks_while_it_tidies_up_is_cancelled_and_not_tried_again(crew, actors):
    message = actors.hold_and_break.send("work")
    crew.noted("work")

    cancel(message)

    cancelled(crew, message)
    assert [a.error_type for a in crew.attempts(message)] == ["OSError"]


def test_what_has_ended_cannot_be_cancelled(crew, actors):
    message = actors.add.send(1)
    crew.ended(message)

    with pytest.raises(TaskFinished, match="succeeded already"):
        cancel(message)
    with pytest.raises(UnknownTask):
        interventions.cancel(process.current().ledger, "nobody")


def test_a_failed_task_is_tried_again_with_all_its_retries_and_its_age_anew(crew, actors):
    message = actors.fail_always.send_with_options(args=("x",), max_retries=1, max_backoff=1)
    crew.ended(message)
    created = crew.view(message).created_at

    assert retry(message) is State.QUEUED
    view = crew.ended(message)

    assert (view.state, view.reason) == (State.FAILED, Reason.RETRIES_EXHAUSTED)
    assert view.created_at == created
    assert [(a.number, a.outcome) for a in crew.attempts(message)] == [
        (1, "retried"),
        (2, "failed"),
        (3, "retried"),
        (4, "failed"),
    ]


def test_a_delayed_task_and_one_in_back_off_run_now(crew, actors):
    delayed = actors.jot.send_with_options(args=("now",), delay=3_600_000)
    failing = actors.fail_always.send_with_options(
        args=("x",), max_retries=5, min_backoff=3_600_000, max_backoff=3_600_000
    )
    crew.until(lambda: crew.view(failing).state is State.SCHEDULED)

    retry(delayed)
    retry(failing)

    assert crew.ended(delayed).state is State.SUCCEEDED
    crew.until(lambda: crew.view(failing).attempts == 2)
    cancel(failing)


def test_a_cancelled_task_may_be_tried_again(crew, actors):
    message = actors.jot.send_with_options(args=("again",), delay=3_600_000)
    cancel(message)

    retry(message)

    assert crew.ended(message).state is State.SUCCEEDED


def test_what_has_succeeded_or_runs_cannot_be_tried_again(crew, actors):
    done, running = actors.add.send(1), actors.hold.send("held")
    crew.ended(done)
    crew.noted("held")

    with pytest.raises(NotRetryable, match="has succeeded"):
        retry(done)
    with pytest.raises(NotRetryable, match="is running"):
        retry(running)
    with pytest.raises(UnknownTask):
        interventions.retry(process.current().ledger, "nobody")
    crew.let_go("held")
