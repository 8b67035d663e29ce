"""Whatever a task's code logs, raises, binds or is called with, it ends, and once; others go on."""

from __future__ import annotations

from uuid import UUID

import pytest

from postlude.states import Reason, State


@pytest.fixture(scope="module")
def crew_module():
    return "odd_actors"


@pytest.fixture(scope="module")
def odd(actors):
    import odd_actors

    return odd_actors


def ended(crew, message):
    """Return the task, and its only attempt, when its worker has had time to run it again."""
    view = crew.ended(message)
    crew.beats(3)
    (attempt,) = crew.attempts(message)
    return view, attempt


def test_a_logger_and_a_level_may_have_any_name(crew, odd):
    view, attempt = ended(crew, odd.log_of_a_file.send())

    assert (view.state, crew.journal()) == (State.SUCCEEDED, ["logged"])
    (line,) = attempt.logs
    assert line["logger"] == "files.half \\udcff"
    assert line["level"] == "half \\udcff"


def test_a_correlation_id_may_be_of_any_type(crew, odd):
    view, attempt = ended(crew, odd.fail_with_an_id.send())

    assert (view.state, crew.journal().count("failed")) == (State.FAILED, 1)
    assert attempt.error_type == "ValueError"
    crew.until(lambda: crew.count(f"correlation_id = '{UUID(int=7)}' AND state = 'succeeded'"))


def test_a_callback_is_told_of_an_error_whatever_it_says(crew, odd):
    odd.fail_about_a_file.send()

    crew.noted("fail_about_a_file: no such file: half \\udcff")


def test_an_error_may_be_of_a_type_with_any_name(crew, odd):
    view, attempt = ended(crew, odd.raise_odd.send())

    assert (view.state, crew.journal()) == (State.FAILED, ["odd"])
    assert attempt.error_type == "OddError.half \\udcff"


def test_what_cannot_be_stored_of_an_outcome_is_left_out_and_the_task_has_ended(crew, odd):
    view, attempt = ended(crew, odd.send_what_cannot_be_stored.send())

    assert (view.state, view.result, crew.journal()) == (State.SUCCEEDED, None, ["sent"])
    assert (attempt.outcome, attempt.error_type) == ("succeeded", "NotStorable")
    assert crew.logged("task.outcome_reduced") == 1


def test_a_validator_that_breaks_fails_its_task_and_keeps_nobody_waiting(crew, odd):
    broken = odd.read.send(odd.Picky(number=13))
    others = [odd.read.send(odd.Picky(number=number)) for number in range(3)]

    for message in others:
        assert crew.ended(message).state is State.SUCCEEDED
    view = crew.ended(broken)
    assert (view.state, view.reason) == (State.FAILED, Reason.BAD_ARGUMENTS)
    (attempt,) = crew.attempts(broken)
    assert "LookupError: 13" in attempt.error_message


def test_what_a_task_binds_for_its_log_lines_ends_with_it(crew, odd):
    for message in [odd.bind_a_tenant.send() for _ in range(40)]:
        crew.ended(message)
    for message in [odd.tell_the_tenant.send() for _ in range(40)]:
        crew.ended(message)

    assert crew.journal() == ["bound"] * 40 + ["tenant None"] * 40
